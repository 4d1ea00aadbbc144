"""Two builders at once: one waits, and is told for whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.toolchain import locks
from sandbox.toolchain.errors import ToolchainError


def test_holder_is_named_once_and_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "locks" / "helm.lock"
    said: list[str] = []
    first = locks.hold(file, "build helm", say=said.append)
    first.__enter__()
    pauses = 0

    def pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 3:
            first.__exit__(None, None, None)

    with locks.hold(file, "build helm", say=said.append, pause=pause):
        assert pauses == 3
    assert len(said) == 1
    assert f"waiting for process {os.getpid()}" in said[0]
    assert "build helm" in said[0]


def test_waiting_ends_with_who_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.lock"
    with (
        locks.hold(file, "sandbox up", say=print),
        pytest.raises(ToolchainError, match=f"process {os.getpid()}") as caught,
        locks.hold(file, "sandbox down", say=print, timeout=0),
    ):
        pytest.fail("held twice")
    assert "wait" in caught.value.remedy


def test_lock_file_left_by_a_dead_holder_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "helm.lock"
    file.write_text('{"pid": 1, "command": "gone", "since": "00:00:00"}', encoding="utf-8")
    with locks.hold(file, "build helm", say=pytest.fail, timeout=0):
        assert str(os.getpid()) in file.read_text()
    assert file.read_text() == ""


def test_damaged_note_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "helm.lock"
    with locks.hold(file, "x", say=print):
        file.write_text("{", encoding="utf-8")
        descriptor = os.open(file, os.O_RDONLY)
        assert locks.describe(descriptor) == "another process"
        os.close(descriptor)
