"""What is left of the machine's inotify instances, from a /proc of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.cli import capacity


def proc(folder: Path, limit: str, *processes: int) -> Path:
    (folder / "sys/fs/inotify").mkdir(parents=True)
    (folder / "sys/fs/inotify/max_user_instances").write_text(limit)
    for number, instances in enumerate(processes, start=100):
        fds = folder / str(number) / "fd"
        fds.mkdir(parents=True)
        (fds / "0").symlink_to("/dev/null")
        for fd in range(instances):
            (fds / str(fd + 1)).symlink_to("anon_inode:inotify")
    return folder


@pytest.mark.parametrize(("used", "short"), [(0, False), (92, False), (93, True), (128, True)])
def test_too_few_are_told_with_the_way_out(tmp_path: Path, used: int, short: bool) -> None:
    note = capacity.inotify_note(proc(tmp_path, "128\n", used, 0))
    assert bool(note) is short
    if short:
        assert f"{128 - used} of 128" in note
        assert "sysctl -w fs.inotify" in note


def test_a_kernel_without_the_limit_says_nothing(tmp_path: Path) -> None:
    assert capacity.inotify_note(tmp_path) == ""


def test_this_machine_is_counted() -> None:
    assert capacity.inotify_used() >= 0
