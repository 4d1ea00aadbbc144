"""Virtual environments, each from one requirements file that pins every package.

A virtual environment cannot be moved (its scripts name its folder), so it is built in its final folder; what says
that it is whole is the marker file, written last, and the link that users go through, set after that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sandbox.toolchain import content, pythons
from sandbox.toolchain.errors import ToolchainError, disk_full, is_disk_full, says_disk_full
from sandbox.toolchain.progress import Step
from sandbox.toolchain.pythons import Python
from sandbox.toolchain.runner import Run, clean_environment

FOLDER = Path(__file__).resolve().parent
ENV_SERIES = "LLMD_ANSIBLE_SERIES"

# Ansible core series -> Pythons it runs on, best first.
ANSIBLE_PYTHONS = {"2.21": ["3.12", "3.13", "3.14"], "2.19": ["3.11", "3.12", "3.13"]}
# Made only when asked for: one core series each, without the bundle and without pytest-ansible (which ansible-test
# units does not bear beside it), on the Python that stands for that series.
CORES = {"core-2.19": "3.11", "core-2.21": "3.12"}


@dataclass(frozen=True)
class Venv:
    """One environment to be: its link's name, the requirements and the interpreter."""

    name: str
    requirements: Path
    python: Python

    def key(self) -> str:
        return content.content_key([self.requirements], self.python.version, str(self.python.path))

    def folder(self, venvs: Path) -> Path:
        return venvs / f"{self.name}-{self.python.series}-{self.key()}"


def plan(name: str, run: Run) -> Venv:
    """Choose interpreter and requirements for the environment ``name``: sandbox, envoy, ansible, lint or a core.

    Raises ``ToolchainError`` where no fitting Python runs on this machine, or ``LLMD_ANSIBLE_SERIES`` is unknown.
    """
    if name == "ansible":
        return _plan_ansible(run)
    if name == "lint":
        # The Python of the environment that holds Ansible: its compiled coverage is lent to the tests there.
        return Venv(name, FOLDER / f"requirements-{name}.txt", _plan_ansible(run).python)
    wanted = [CORES[name]] if name in CORES else ["3.11", "3.12", "3.13", "3.14"]
    python = pythons.find_first(wanted, run)
    if python is None:
        raise _no_python(
            CORES.get(name, "3.11 or newer"), for_series=name.removeprefix("core-") if name in CORES else ""
        )
    return Venv(name, FOLDER / f"requirements-{name}.txt", python)


def _plan_ansible(run: Run) -> Venv:
    series = os.environ.get(ENV_SERIES, "")
    if series and series not in ANSIBLE_PYTHONS:
        known = " or ".join(sorted(ANSIBLE_PYTHONS))
        raise ToolchainError(f"{ENV_SERIES}={series!r} is not known.", f"set it to {known}, or leave it unset")
    # Unasked: 2.21 where its first choice is there, then 2.19 on its own, then whatever newer Python there is.
    choices = (
        [(series, ANSIBLE_PYTHONS[series])]
        if series
        else [("2.21", ["3.12"]), ("2.19", ["3.11"]), ("2.21", ["3.13", "3.14"])]
    )
    for candidate, wanted in choices:
        python = pythons.find_first(wanted, run)
        if python:
            return Venv("ansible", FOLDER / f"requirements-ansible-{candidate}.txt", python)
    wanted_text = " or ".join(ANSIBLE_PYTHONS[series]) if series else "3.11 or newer"
    raise _no_python(wanted_text, for_series=series)


def _no_python(wanted: str, *, for_series: str = "") -> ToolchainError:
    purpose = f" for ansible-core {for_series}" if for_series else ""
    return ToolchainError(
        f"No working Python {wanted}{purpose} with the venv module was found (PATH, /usr/bin, pyenv, uv).",
        "on Debian: apt-get install python3 python3-venv; elsewhere install that Python and put it on PATH",
    )


def is_built(venv: Venv, folder: Path) -> bool:
    """Whole, and its interpreter still there (a removed pyenv version leaves a dangling link)."""
    return content.is_complete(folder) and (folder / "bin" / "python").exists()


def build(venv: Venv, folder: Path, run: Run, step: Step) -> None:
    """Build the environment in ``folder``: complete with a marker, or gone. The caller holds its lock."""
    what = f"building the {venv.name} environment"
    try:
        content.remove(folder)  # a folder without marker was left by a build that was killed
        folder.parent.mkdir(parents=True, exist_ok=True)
        _make(venv, folder, run, step, what)
        made_from = {"requirements": venv.requirements.name, "python": venv.python.version, "key": venv.key()}
        content.write_marker(folder, made_from)
    except OSError as error:
        content.remove(folder)
        if is_disk_full(error):
            raise disk_full(what, [folder]) from error
        raise
    except BaseException:
        content.remove(folder)
        raise


def _make(venv: Venv, folder: Path, run: Run, step: Step, what: str) -> None:
    environment = clean_environment(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    step.note = f"Python {venv.python.version}"
    made = run([str(venv.python.path), "-I", "-m", "venv", str(folder)], environment=environment)
    _check(made.returncode, made.output, folder, what, "see above; on Debian python3-venv must be installed")

    collected = 0

    def show(line: str) -> None:
        nonlocal collected
        words = line.split()
        if line.startswith("Collecting") and len(words) > 1:
            collected += 1
            step.note = f"{collected} packages, {words[1]}"
        elif line.startswith("Installing"):
            step.note = f"unpacking {collected} packages"

    python = str(folder / "bin" / "python")
    # --no-compile: the ansible bundle holds some 40 collections that we never import.
    pip = [python, "-m", "pip", "install", "--no-compile", "--prefer-binary", "--requirement", str(venv.requirements)]
    installed = run(pip, environment=environment, on_line=show)
    _check(
        installed.returncode,
        installed.output,
        folder,
        what,
        "check the network and pip's index settings (`pip config list`), then start again",
    )
    step.note = "compiling"
    unused = r"ansible_collections/(?!kubernetes/|google/|ansible/)"
    run([python, "-m", "compileall", "-q", "-j", "0", "-x", unused, str(folder / "lib")], environment=environment)
    step.note = f"{collected} packages, Python {venv.python.version}"


def _check(returncode: int, output: str, folder: Path, what: str, remedy: str) -> None:
    if returncode == 0:
        return
    if says_disk_full(output):
        raise disk_full(what, [folder, Path(os.environ.get("TMPDIR") or "/tmp")])
    details = "\n".join(output.strip().splitlines()[-12:])
    raise ToolchainError(f"{what[0].upper()}{what[1:]} failed.", remedy, details=details)
