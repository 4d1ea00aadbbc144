"""The script that begins a component of the control plane anew where it gives up."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from sandbox.kubernetes import render


def script(folder: Path, program: str) -> Path:
    real = folder / "real"
    real.write_text(program)
    real.chmod(0o755)
    keeper = folder / "keeper"
    keeper.write_text(render.keeper(real))
    keeper.chmod(0o755)
    return keeper


def test_a_question_for_the_version_is_passed_on(tmp_path: Path) -> None:
    keeper = script(tmp_path, '#!/bin/sh\necho "Kubernetes $1"\n')
    done = subprocess.run([str(keeper), "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "Kubernetes --version\n"


def test_what_gives_up_is_begun_again_with_the_same_arguments(tmp_path: Path) -> None:
    log = tmp_path / "log"
    keeper = script(tmp_path, f'#!/bin/sh\necho "$@" >> {log}\nexit 1\n')
    child = subprocess.Popen([str(keeper), "--a", "b c"])
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and len(log.read_text().splitlines()) >= 2):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert log.read_text().splitlines()[:2] == ["--a b c"] * 2
    finally:
        child.terminate()
        assert child.wait(timeout=60) == 0
