"""The progress callback on a real ansible-playbook: plain lines in a pipe, one live line on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.callback import progress

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHON = ["-e", f"ansible_python_interpreter={sys.executable}"]
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Wait for the thing
      ansible.builtin.command:
        argv: [sh, {program}]
      changed_when: false
    - name: Say the end
      ansible.builtin.debug:
        msg: the end
"""
# Says two states through the file, and goes on when the callback has had time to show each: its own file says so.
PROGRAM = """
say() { printf '{"message": "%s"}\\n' "$1" >> "$LLMD_GKE_PROGRESS_FILE"; sleep 1; }
[ -n "$LLMD_GKE_PROGRESS_FILE" ] || exit 3
say 'Thing: 1 of 2 ready'
echo 'not ours' >> "$LLMD_GKE_PROGRESS_FILE"
say 'Thing: 2 of 2 ready'
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "say.sh").write_text(PROGRAM)
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    (tmp_path / "play.yml").write_text(PLAY.replace("{program}", str(tmp_path / "say.sh")))
    for name, value in {
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks/collections"),
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_CALLBACKS_ENABLED": "llmd.gke.progress",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
        "LLMD_GKE_PROGRESS_HISTORY": str(tmp_path / "home/durations.json"),
        "TMPDIR": str(tmp_path),
        "TERM": "xterm",
    }.items():
        monkeypatch.setenv(name, value)
    return ["ansible-playbook", "-i", "localhost,", "-c", "local", *PYTHON, str(tmp_path / "play.yml")]


def on_a_terminal(command: list[str]) -> tuple[int, str]:
    master, slave = pty.openpty()
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal closes with its last user
        while part := os.read(master, 4096):
            seen += part
    os.close(master)
    return child.wait(60), seen.decode(errors="replace")


def screen(text: str) -> list[str]:
    """What stays on the screen: of each line what follows the last clearing."""
    return [line.rsplit(progress.CLEAR, 1)[-1].strip("\r") for line in text.split("\n")]


def test_plain_lines_where_nobody_watches(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    first = lines.index("  ... Thing: 1 of 2 ready")
    second = lines.index("  ... Thing: 2 of 2 ready")
    assert first < second < next(number for number, line in enumerate(lines) if "Say the end" in line)
    assert "not ours" not in done.stdout
    assert "\x1b[2K" not in done.stdout
    assert list(tmp_path.glob("llmd-progress-*")) == []


def test_one_live_line_on_a_terminal_that_leaves_nothing_behind(command: list[str]) -> None:
    code, text = on_a_terminal(command)
    assert code == 0, text
    assert f"{progress.CLEAR}\x1b[2m  ... " in text
    assert "Thing: 1 of 2 ready" in text
    left = screen(text)
    assert not [line for line in left if "Thing:" in line], left
    assert any("ok: [localhost]" in line for line in left)


def test_an_awx_job_shows_nothing_of_it(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWX_JOB_ID", "7")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Thing:" not in done.stdout
    assert done.returncode != 0  # the program of this test wants the file, which modules do without


def test_nothing_is_missing_without_a_place_to_write(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMD_GKE_PROGRESS_HISTORY", "/dev/null/nowhere")
    assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def test_the_usual_duration_is_the_middle_one_of_the_last(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "durations.json"
    known = progress.Durations(str(path))
    assert known.usual("x") is None
    for seconds in (500, 10, 12, 11, 14, 13):
        known.note("x", seconds)
    known.keep()
    assert progress.Durations(str(path)).usual("x") == 12
    path.write_text("broken")
    assert progress.Durations(str(path)).usual("x") is None
    path.write_text(json.dumps(["not", "a", "map"]))
    assert progress.Durations(str(path)).usual("x") is None


def test_the_live_line_fits_and_says_clock_usual_and_state() -> None:
    line = progress.live_line("Provide the cluster", "Creation of cluster c: RUNNING", 125, 391.2, 100)
    assert line == "  ... 2m05s of usually 6m31s  Creation of cluster c: RUNNING"
    assert len(progress.live_line("t", "x" * 300, 5, None, 80)) < 80
    assert progress.live_line("Provide the cluster", "", 5, None, 80) == "  ... 5 s  Provide the cluster"
