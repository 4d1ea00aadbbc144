"""Every option that a role gives one of our modules is one that the module takes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
MODULE = "llmd.gke."


def tasks_of(node: Any) -> list[dict[str, Any]]:
    """Every task in a list of tasks, blocks opened."""
    found: list[dict[str, Any]] = []
    for task in node or []:
        found.append(task)
        for part in ("block", "rescue", "always", "tasks"):
            found += tasks_of(task.get(part))
    return found


def calls() -> list[tuple[str, str, set[str]]]:
    """(file, module, options given) of every task of roles and playbooks that calls a module of ours."""
    files = [
        *ROOT.glob("roles/*/tasks/*.yml"),
        *ROOT.glob("playbooks/*.yml"),
        *ROOT.glob("tests/sandbox/playbooks/*.yml"),
    ]
    return [
        (str(path.relative_to(ROOT)), name.removeprefix(MODULE), set(options))
        for path in sorted(files)
        for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8")))
        for name, options in task.items()
        if name.startswith(MODULE) and isinstance(options, dict)
    ]


def options_of(name: str) -> set[str]:
    """Options in a module's documentation, fragments included."""
    base = "ansible_collections.llmd.gke.plugins"
    text = yaml.safe_load(importlib.import_module(f"{base}.modules.{name}").DOCUMENTATION)
    known = set(text.get("options") or {})
    for fragment in text.get("extends_documentation_fragment") or []:
        package, _unused, part = fragment.rpartition(".")
        if package == "llmd.gke":
            module, attribute = part, "DOCUMENTATION"
            holder = importlib.import_module(f"{base}.doc_fragments.{module}").ModuleDocFragment
            known |= set(yaml.safe_load(getattr(holder, attribute)).get("options") or {})
        elif package.startswith("llmd.gke."):
            holder = importlib.import_module(f"{base}.doc_fragments.{package.rpartition('.')[2]}").ModuleDocFragment
            known |= set(yaml.safe_load(getattr(holder, part.upper())).get("options") or {})
        else:  # kubernetes.core's access options
            known |= {"kubeconfig", "context", "host", "api_key", "ca_cert", "validate_certs"}
    return known


@pytest.mark.parametrize(("path", "name", "given"), calls(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_role_gives_only_what_the_module_takes(path: str, name: str, given: set[str]) -> None:
    assert given - options_of(name) == set(), path


def test_there_are_calls_to_look_at() -> None:
    assert len({name for _path, name, _given in calls()}) > 15


def test_pools_of_a_new_cluster_are_documented_as_pools_by_themselves_are() -> None:
    base = "ansible_collections.llmd.gke.plugins"
    holder = importlib.import_module(f"{base}.doc_fragments.gcp").ModuleDocFragment
    alone = yaml.safe_load(holder.NODE_POOL)["options"]
    module = yaml.safe_load(importlib.import_module(f"{base}.modules.gke_cluster").DOCUMENTATION)
    within = dict(module["options"]["node_pools"]["suboptions"])
    assert within.pop("name")["required"] is True

    def shape(options: dict[str, Any]) -> dict[str, Any]:
        """Without the words, which may be broken into lines elsewhere."""
        return {
            name: {
                **{key: value for key, value in option.items() if key not in ("description", "suboptions")},
                "suboptions": shape(option.get("suboptions") or {}),
            }
            for name, option in options.items()
        }

    assert shape(within) == shape(alone)
