"""``make molecule``: every scenario of extensions/molecule, on a sandbox that only they use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gates.running import GateError, Tools
from sandbox.paths import REPOSITORY

SCENARIOS = REPOSITORY / "extensions" / "molecule"
SANDBOX = "molecule"
# Of a person's settings these reach the run: another inventory, another sandbox, a real project's credentials.
_KEPT = ("MOLECULE_INVENTORY", "LLMD_SANDBOX_NAME", "LLMD_SANDBOX_STATE", "HF_TOKEN")


def known() -> list[str]:
    """Every scenario there is."""
    return sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml"))


def missing(roles: Path = REPOSITORY / "roles") -> list[str]:
    """Roles without a scenario. ``llmd`` has no tasks; ``inputs`` is what its scenario shows."""
    return sorted(path.name for path in roles.iterdir() if path.is_dir() and path.name not in {*known(), "inputs"})


def test(tools: Tools, scenarios: Sequence[str]) -> int:
    """Run the scenarios (all where none is named) with their output on the terminal; molecule's exit code."""
    unknown = sorted(set(scenarios) - set(known()))
    if unknown:
        raise GateError(f"There is no scenario {', '.join(unknown)}.", f"choose among {', '.join(known())}")
    if not scenarios and missing():
        raise GateError(
            f"No scenario shows the role {', '.join(missing())}.",
            "give it a folder in extensions/molecule with molecule.yml and verify.yml (its README says how)",
        )
    kept = {name: os.environ[name] for name in _KEPT if os.environ.get(name)}
    # molecule's own state: a run that was killed leaves word that its sandbox is up, and `create` would believe it.
    state = tools.folder / "molecule"
    shutil.rmtree(state, ignore_errors=True)
    environment = tools.environment("ansible", **{"LLMD_SANDBOX_NAME": SANDBOX, "ANSIBLE_HOME": str(state), **kept})
    chosen = [word for name in scenarios for word in ("--scenario-name", name)] or ["--all"]
    command = ["molecule", "test", *chosen, "--report"]
    program = tools.venv("ansible") / "bin" / "molecule"
    sys.stdout.flush()
    return subprocess.run([str(program), *command[1:]], cwd=REPOSITORY, env=environment, check=False).returncode
