"""Look at .github/workflows without running it: valid YAML of the right shape, and every ``make`` target exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from sandbox.paths import REPOSITORY

_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_MAKE = re.compile(r"(?:^|&&|;)\s*make\s+(?:--\S+\s+)*([a-z][a-z-]*)", re.MULTILINE)


def problems_of(name: str, document: Any, targets: set[str]) -> list[str]:
    """What is wrong with one workflow, in sentences."""
    if not isinstance(document, dict):
        return [f"{name}: not a mapping"]
    # YAML 1.1 reads the key `on` as true, as GitHub's users know.
    problems = [f"{name}: {key} is missing" for key in ("name", "permissions", "jobs") if key not in document]
    if "on" not in document and True not in document:
        problems.append(f"{name}: on is missing")
    for job, body in (document.get("jobs") or {}).items():
        steps = body.get("steps") or []
        problems += [f"{name}: {job}: {key} is missing" for key in ("runs-on", "timeout-minutes") if key not in body]
        if not steps:
            problems.append(f"{name}: {job}: no steps")
        for step in steps:
            if ("run" in step) == ("uses" in step):
                problems.append(f"{name}: {job}: a step has neither or both of run and uses: {step}")
            if "uses" in step and not re.search(r"@(v\d+|[0-9a-f]{40})", step["uses"]):
                problems.append(f"{name}: {job}: {step['uses']} is not pinned")
            for target in _MAKE.findall(step.get("run", "")):
                if target not in targets:
                    problems.append(f"{name}: {job}: the Makefile has no target {target}")
    return problems


def check(root: Path) -> list[str]:
    """Problems of all workflow files of a checkout; no file is a problem too."""
    targets = set(_TARGET.findall((root / "Makefile").read_text(encoding="utf-8")))
    files = sorted((root / ".github" / "workflows").glob("*.yml"))
    problems = [] if files else ["there is no workflow file"]
    for path in files:
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            problems.append(f"{path.name}: {error}")
            continue
        problems += problems_of(path.name, document, targets)
    return problems


if __name__ == "__main__":
    found = check(REPOSITORY)
    print("\n".join(found))
    sys.exit(bool(found))
