"""A stand-in for running programs, and a sandbox's folders below tmp_path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandbox.paths import Paths
from sandbox.toolchain.runner import Result

Answer = Callable[[Sequence[str]], Result | None]


@dataclass
class FakeRun:
    """Answers by the first of ``answers`` that knows the command, else success without output; remembers calls."""

    answers: list[Answer] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        outlive: bool = False,
    ) -> Result:
        self.calls.append(list(command))
        for answer in self.answers:
            result = answer(command)
            if result is not None:
                if on_line:
                    for line in result.output.splitlines():
                        on_line(line)
                return result
        return Result(0, "")


@pytest.fixture
def fake_run() -> FakeRun:
    return FakeRun()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(name="unit", cache=tmp_path / "cache", state=tmp_path / "state" / "unit")
