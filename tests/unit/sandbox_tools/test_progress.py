"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from sandbox.toolchain.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_a_step_with_its_seconds() -> None:
    output, clock = io.StringIO(), Clock()
    progress = Progress(output, terminal=False, clock=clock)
    with progress.step("build helm") as step:
        clock.now = 58.04
        step.note = "812 packages"
        assert progress.line() == "build helm 58 s 812 packages"
    lines = output.getvalue().splitlines()
    assert lines[0] == "..  build helm"
    assert lines[1].split() == ["ok", "build", "helm", "58.0", "s", "812", "packages"]


def test_failed_step_is_marked() -> None:
    output = io.StringIO()
    with pytest.raises(RuntimeError), Progress(output, terminal=False).step("build helm"):
        raise RuntimeError
    assert output.getvalue().splitlines()[-1].startswith("!!  build helm")


def test_quiet_and_closed_terminal() -> None:
    output = io.StringIO()
    with Progress(output, terminal=True, quiet=True).step("x"):
        pass
    assert output.getvalue() == ""
    output.close()
    Progress(output, terminal=False).say("nobody reads this")
