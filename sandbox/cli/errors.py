"""What the command line says when it cannot go on."""

from __future__ import annotations


class CliError(Exception):
    """One clear sentence, the way out, and the exit code (1 failed, 2 wrong usage, 3 the sandbox is not up)."""

    def __init__(self, message: str, remedy: str = "", *, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        return f"{self.message}\nWhat to do: {self.remedy}" if self.remedy else self.message


def not_up(name: str) -> CliError:
    return CliError(f"The sandbox {name!r} is not up.", "./sandbox/sandbox up", code=3)


def need_root(action: str) -> CliError:
    return CliError(
        f"Only root can {action}: the sandbox is made of network namespaces.",
        "run it as root (sudo -E ./sandbox/sandbox ...)",
    )
