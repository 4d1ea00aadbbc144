"""Run programs of the gates' environments, and checks side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gates import stamps
from sandbox.paths import REPOSITORY, Paths
from sandbox.toolchain.errors import ToolchainError
from sandbox.toolchain.progress import Progress
from sandbox.toolchain.runner import Result, Run

# What a person has set for their own work must not bend a gate.
_BENDING = ("ANSIBLE_", "MOLECULE_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "LLMD_", "HF_", "GOOGLE_", "GCP_", "K8S_")


class GateError(ToolchainError):
    """A check that did not pass, or could not be run."""


@dataclass
class Tools:
    """Programs of the built environments."""

    paths: Paths
    run: Run

    def venv(self, name: str) -> Path:
        return self.paths.venvs / name

    @property
    def folder(self) -> Path:
        """Where the gates keep trees, homes and stamps."""
        return self.paths.cache / "gates"

    def environment(self, *venvs: str, **extra: str) -> dict[str, str]:
        """The caller's environment without what bends a check, with the programs of ``venvs`` first on PATH."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_BENDING)}
        first = [str(self.venv(name) / "bin") for name in venvs]
        path = os.pathsep.join([*first, str(self.paths.bin), os.environ.get("PATH", os.defpath)])
        return {
            **kept,
            "PATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LLMD_SANDBOX_CACHE": str(self.paths.cache),
            **extra,
        }

    def call(
        self, venv: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path = REPOSITORY
    ) -> Result:
        """Run a program of the environment ``venv`` to its end."""
        program = self.venv(venv) / "bin" / command[0]
        first = str(program) if program.exists() else command[0]
        return self.run([first, *command[1:]], cwd=cwd, environment=self.environment(venv, **(environment or {})))

    def must(
        self, venv: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path = REPOSITORY
    ) -> str:
        """As ``call``, but raises ``GateError`` with the program's own words when it fails; its output."""
        result = self.call(venv, command, environment=environment, cwd=cwd)
        if result.returncode != 0:
            shown = " ".join(Path(word).name if word.startswith("/") else word for word in command)
            raise GateError(f"{shown}: exit code {result.returncode}", details=result.output.strip())
        return result.output


@dataclass(frozen=True)
class Check:
    """One gate: what it looks at, what it runs with, and how. ``work`` raises ``GateError`` where it does not pass."""

    name: str
    inputs: tuple[str, ...]
    work: Callable[[Tools], None]
    pins: tuple[str, ...] = ("requirements-ansible-2.21.txt", "requirements-ansible-2.19.txt")
    # Rough seconds on a quiet core: the longest start first.
    weight: int = 1

    def key(self, tools: Tools) -> str:
        """What its stamp is for: inputs, the gates' own code, the pins, and the environments' builds."""
        toolchain = tuple(f"sandbox/toolchain/{name}" for name in self.pins)
        built = [os.path.realpath(path) for path in sorted(tools.paths.venvs.glob("*")) if path.is_symlink()]
        return stamps.key(REPOSITORY, (*self.inputs, "gates", *toolchain), *built)


@dataclass
class Report:
    """How each check ended: name -> "" (passed), or what it said."""

    passed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_all(checks: Sequence[Check], tools: Tools, *, fresh: bool, progress: Progress, lanes: int = 0) -> Report:
    """Run every check that has no stamp, ``lanes`` side by side (default: one a core); none stops the others."""
    report, lock = Report(), threading.Lock()
    known = stamps.Stamps(tools.folder / "stamps")

    def one(check: Check) -> None:
        check_key = check.key(tools)
        if not fresh and known.has(check.name, check_key):
            with lock:
                report.unchanged.append(check.name)
            return
        try:
            with progress.step(check.name):
                check.work(tools)
        except ToolchainError as error:
            with lock:
                report.failed[check.name] = str(error)
            return
        known.put(check.name, check_key)
        with lock:
            report.passed.append(check.name)

    ordered = sorted(checks, key=lambda check: -check.weight)
    with ThreadPoolExecutor(max_workers=lanes or os.cpu_count() or 1, thread_name_prefix="gate") as pool:
        list(pool.map(one, ordered))
    return report
