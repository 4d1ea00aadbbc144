"""Run programs: output line by line, kept for the error message, stoppable from another thread."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sandbox.toolchain.errors import Cancelled


@dataclass(frozen=True)
class Result:
    """How a program ended. ``output`` is stdout and stderr together, the last 400 lines."""

    returncode: int
    output: str

    @property
    def tail(self) -> str:
        """The last lines, for an error message."""
        return "\n".join(self.output.strip().splitlines()[-12:])


class Run(Protocol):
    """Anything that runs a program: the real ``Runner``, or a test's stand-in."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        outlive: bool = False,
    ) -> Result: ...


@dataclass
class Runner:
    """Starts programs in their own session, so that a Ctrl-C reaches them once and through us."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: set[int] = field(default_factory=set)
    _cancelled: bool = False

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        outlive: bool = False,
    ) -> Result:
        """Run ``command`` to its end. ``environment`` replaces the inherited one. A missing program: returncode 127.

        The program ends with us, so that a killed build leaves none that goes on writing into a folder that the next
        one removes; but with ``outlive`` it is always let finish (stopping a package manager half-way does harm).
        """
        if self._cancelled:
            raise Cancelled
        if not outlive and shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        try:
            child = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            return Result(127, str(error))
        with self._lock:
            if not outlive:
                self._running.add(child.pid)
        kept: deque[str] = deque(maxlen=400)
        try:
            assert child.stdout is not None
            for line in child.stdout:
                kept.append(line)
                if on_line:
                    on_line(line.rstrip("\n"))
            returncode = child.wait()
        except BaseException:
            if not outlive:
                _end(child.pid)
            child.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(child.pid)
        if self._cancelled:
            raise Cancelled
        return Result(returncode, "".join(kept))

    def cancel(self) -> None:
        """End every program that runs, and refuse to start more."""
        self._cancelled = True
        with self._lock:
            for pid in self._running:
                _end(pid)


def _end(pid: int) -> None:
    # The whole session: go starts compilers, pip starts build back-ends.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)


def clean_environment(**extra: str) -> dict[str, str]:
    """The caller's environment without what bends Python or Go builds, plus ``extra``."""
    bending = (
        "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__",
        "GOFLAGS", "GOOS", "GOARCH", "GOWORK", "GO111MODULE", "GOROOT", "GOBIN",
    )  # fmt: skip
    kept = {key: value for key, value in os.environ.items() if key not in bending}
    return {**kept, **extra}
