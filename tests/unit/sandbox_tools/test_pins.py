"""The project file and the environments' requirement files name the same versions."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


TOOLCHAIN = REPOSITORY / "sandbox/toolchain"


def frozen(name: str) -> dict[str, str]:
    lines = (TOOLCHAIN / name).read_text(encoding="utf-8").splitlines()
    pins = (line.strip().partition("==") for line in lines if line.strip() and not line.startswith("#"))
    return {package: version for package, _, version in pins}


@pytest.mark.parametrize(
    ("group", "name"), [("tools", "requirements-ansible-2.21.txt"), ("gates", "requirements-lint.txt")]
)
def test_the_pins_agree(group: str, name: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = dict(pin.split("==") for pin in project["dependency-groups"][group])
    assert wanted
    assert wanted.items() <= frozen(name).items()


@pytest.mark.parametrize("series", ["2.19", "2.21"])
def test_a_core_alone_has_the_versions_of_the_environment_with_the_bundle(series: str) -> None:
    alone, whole = frozen(f"requirements-core-{series}.txt"), frozen(f"requirements-ansible-{series}.txt")
    assert "ansible-core" in alone
    assert "pytest-ansible" not in alone  # ansible-test units does not run beside it
    assert {name: alone[name] for name in alone.keys() & whole} == {name: whole[name] for name in alone.keys() & whole}
