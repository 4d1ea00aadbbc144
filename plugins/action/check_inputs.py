# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ``check_inputs``: whether this Ansible can run the collection, and whether the variables can be meant so."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as core_version
from ansible.utils.vars import load_extra_vars
from ansible_collections.llmd.gke.plugins.module_utils.llmd import fleet, inputs

ROLES = Path(__file__).resolve().parents[2] / "roles"
OLDEST_CORE = (2, 19)
OLDEST_PYTHON = (3, 11)
COLLECTIONS = {"kubernetes.core": "ansible_collections.kubernetes.core"}


def read(path: Path) -> dict[str, Any]:
    """A YAML file of the collection; empty where there is none."""
    if not path.is_file():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open(encoding="utf-8") as stream:
        content: dict[str, Any] = yaml.load(stream, Loader=loader) or {}
    return content


def role_names() -> list[str]:
    """Every role of the collection."""
    return sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def options_of(role: str) -> dict[str, Any]:
    """The documented variables of a role of this collection, each with the default that the role gives it."""
    defaults = read(ROLES / role / "defaults" / "main.yml")
    options: dict[str, Any] = {}
    for entry in read(ROLES / role / "meta" / "argument_specs.yml").get("argument_specs", {}).values():
        for name, option in (entry.get("options") or {}).items():
            options[name] = {**option, "default": defaults.get(name, option.get("default"))}
    return options


def unsupported(core: str, python: tuple[int, ...], missing: Iterable[str]) -> list[str]:
    """Why this Ansible cannot run the collection, in sentences with their remedy; nothing where it can."""
    found = []
    series = tuple(int(part) for part in core.split(".")[:2])
    if series < OLDEST_CORE:
        wanted = ".".join(map(str, OLDEST_CORE))
        found.append(
            f"ANSIBLE_UNSUPPORTED: this is ansible-core {core}; {wanted} or newer is needed.\n"
            "What now: pip install 'ansible==14.5.0' (Python 3.12) or 'ansible==12.3.0' (Python 3.11)."
        )
    if python < OLDEST_PYTHON:
        shown, wanted = ".".join(map(str, python)), ".".join(map(str, OLDEST_PYTHON))
        found.append(
            f"PYTHON_UNSUPPORTED: Ansible runs on Python {shown}; {wanted} or newer is needed.\n"
            f"What now: make a virtual environment with Python {wanted} or newer and install Ansible there."
        )
    for name in missing:
        found.append(
            f"COLLECTION_MISSING: the collection {name} is not installed.\n"
            f"What now: ansible-galaxy collection install '{name}:>=6.2.0,<7.0.0' "
            "(collections/requirements.yml lists all), or pip install ansible."
        )
    return found


def role_problems(given: Mapping[str, Any]) -> list[inputs.Problem]:
    """Misspelt variables of single roles (``benchmark_concurency``). Reads only roles that a given name points at."""
    found: list[inputs.Problem] = []
    for role in role_names():
        if role == "llmd":
            continue
        prefix = f"{role}_"
        if any(inputs.is_ours(name, prefix) for name in given):
            found += inputs.misspelt(given, options_of(role), prefix, "the extra variables")
    return found


def fleet_problems(task_vars: Mapping[str, Any]) -> list[inputs.Problem]:
    """Whether the hosts of this play are deployments of their own. One host alone always is."""
    names = list(task_vars.get("ansible_play_hosts_all") or [])
    if len(names) < 2:
        return []
    defaults = read(ROLES / "llmd" / "defaults" / "main.yml")
    wanted = ("llmd_project", "llmd_region", "llmd_zone", "llmd_cluster_name", "llmd_deployment", "llmd_artifacts_dir")
    variables = task_vars["hostvars"]
    hosts = {name: {key: variables[name].get(key) for key in wanted} for name in names}
    return fleet.collisions(hosts, defaults)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Thin entry: looks, warns or fails; no module process, no connection."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        missing = [name for name, module in COLLECTIONS.items() if importlib.util.find_spec(module) is None]
        wrong = unsupported(core_version, tuple(sys.version_info[:2]), missing)
        given = load_extra_vars(self._loader)
        options, roles = options_of("llmd"), role_names()
        wrong += [one.text() for one in inputs.problems_of(given, task_vars or {}, options, roles)]
        wrong += [one.text() for one in role_problems(given)]
        wrong += [one.text() for one in fleet_problems(task_vars or {})]
        if wrong:
            raise AnsibleActionFail("\n".join(wrong))
        for name in inputs.strangers(given, options, "llmd_", [f"{role}_" for role in roles]):
            self._display.warning(f"{name}: no playbook of llmd.gke reads this variable.")
        return {**result, "changed": False}
