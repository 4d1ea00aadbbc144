"""What the roles promise: every variable has a default, a specification and a line in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


@pytest.mark.parametrize("role", NAMES)
def test_defaults_specification_and_readme_agree(role: str) -> None:
    defaults = read(ROLES / role / "defaults/main.yml")
    options = read(ROLES / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(defaults) <= set(options)
    without_default = {name for name in options if name not in defaults}
    assert all(options[name].get("required") for name in without_default), without_default
    readme = (ROLES / role / "README.md").read_text(encoding="utf-8")
    for name, option in options.items():
        assert f"| `{name}` |" in readme
        assert name.startswith(role)
        if "default" in option and isinstance(defaults.get(name), (int, bool, float)):
            assert option["default"] == defaults[name], name


@pytest.mark.parametrize("role", NAMES)
def test_secrets_are_marked(role: str) -> None:
    options = read(ROLES / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    for name, option in options.items():
        if name.endswith("_token"):
            assert option.get("no_log"), name


def test_no_shell_and_no_command_line_of_gcloud_or_kubectl() -> None:
    for path in ROLES.rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for word in ("ansible.builtin.command", "ansible.builtin.shell", "ansible.builtin.pause"):
            assert word not in text, f"{path}: {word}"
