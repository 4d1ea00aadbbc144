"""The project file and the environments' requirement files name the same versions."""

from __future__ import annotations

import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_pins_agree() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = set(project["dependency-groups"]["tools"])
    frozen = (REPOSITORY / "sandbox/toolchain/requirements-ansible-2.21.txt").read_text(encoding="utf-8").splitlines()
    assert wanted
    assert wanted <= {line.strip() for line in frozen}
