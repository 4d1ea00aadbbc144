# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine on the control node: in a virtual environment of its own, made on request only, pinned by us."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.engines.order import Engine, Recipe, placed
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock

# The checks of Ansible want AnsibleModule.run_command. It knows no deadline, and cannot end a whole group of processes.
# pylint: disable=ansible-bad-function
MARK = "llmd-gke-installed"
LOG = "engine.log"
LAST_LINES = 8
POLL = 0.5


@dataclass(frozen=True)
class Place:
    """Where an engine lives: a folder of ours, which Python makes it, whether we may make it, and how pip is told."""

    folder: str
    python: str = ""
    install: bool = False
    requirement: str = ""
    pip_arguments: Sequence[str] = ()


def provide(engine: Engine, place: Place, progress: Callable[[str], Any]) -> str:
    """Path of the engine's program, installed first where that is allowed. Raises ConfigurationError."""
    program = Path(place.folder) / "bin" / engine.program
    mark = Path(place.folder) / MARK
    wanted = place.requirement or engine.requirement
    if program.exists() and (not mark.exists() or mark.read_text(encoding="utf-8").strip() == wanted):
        return str(program)  # ours and complete, or an environment that somebody else made
    if not place.install:
        raise ConfigurationError(
            f"{engine.name} is not installed in {place.folder}.",
            code="ENGINE_MISSING",
            where=place.folder,
            remedy=f"Set benchmark_engine_install to true ({wanted} and what it needs, several hundred MB), or make the"
            f" environment yourself: python3 -m venv {place.folder} && {place.folder}/bin/pip install '{wanted}'",
        )
    python = place.python or sys.executable
    found = _version(python)
    if found < engine.python:
        raise ConfigurationError(
            f"{engine.name} needs Python {engine.python[0]}.{engine.python[1]} or newer.",
            code="ENGINE_PYTHON_TOO_OLD",
            where=python,
            why=f"Python {found[0]}.{found[1]}",
            remedy="Name a newer interpreter in benchmark_engine_python.",
        )
    progress(f"benchmark: installing {wanted} into {place.folder}")
    _pip(["-m", "venv", "--clear", place.folder], python, wanted)
    _pip(["-m", "pip", "install", "--quiet", *place.pip_arguments, wanted], f"{place.folder}/bin/python", wanted)
    mark.write_text(wanted + "\n", encoding="utf-8")  # last: what was cut off is made anew
    return str(program)


def _version(python: str) -> tuple[int, int]:
    try:
        done = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
        )
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise ConfigurationError(
            f"{python} is no Python interpreter.",
            code="ENGINE_PYTHON_TOO_OLD",
            where=python,
            why=str(error),
            remedy="Name an interpreter in benchmark_engine_python.",
        ) from error


def _pip(words: Sequence[str], python: str, what: str) -> None:
    try:
        done = subprocess.run([python, *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise _not_installed(what, str(error)) from error
    if done.returncode:
        raise _not_installed(what, "\n".join((done.stderr or done.stdout).strip().splitlines()[-LAST_LINES:]))


def _not_installed(what: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} could not be installed.",
        code="ENGINE_INSTALL_FAILED",
        why=why,
        remedy="Read pip's words; benchmark_engine_pip_arguments takes an index or a folder of wheels.",
    )


def version_of(engine: Engine, place: Place) -> str:
    """The installed version as the environment's own metadata tell it, "" if it does not."""
    code = f"import importlib.metadata as m; print(m.version({engine.name!r}))"
    try:
        done = subprocess.run([f"{place.folder}/bin/python", "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def run(
    engine: Engine,
    program: str,
    recipe: Recipe,
    folder: str,
    *,
    timeout: float,
    clock: Clock,
    progress: Callable[[str], Any],
) -> dict[str, str]:
    """Run it to its end and return its outputs by label. It is ended with this process, and at the timeout.

    Raises InferenceError ENGINE_FAILED, ENGINE_TIMEOUT.
    """
    work = Path(folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, mode=0o700)
    for name, text in recipe.files.items():
        with os.fdopen(os.open(work / name, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
            stream.write(placed(text, folder, folder))
    command = [program, *(placed(word, folder, folder) for word in recipe.command[1:])]
    environment = {**os.environ, **recipe.environment, **recipe.secrets}
    with open(work / LOG, "wb") as log:
        process = subprocess.Popen(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            _wait(engine.name, process, timeout, clock, progress)
        finally:
            _end(process)
            clean(work, recipe.secrets.values())
    if process.returncode:
        raise InferenceError(
            f"{engine.name} ended with status {process.returncode}.",
            code="ENGINE_FAILED",
            where=str(work / LOG),
            why=last_words((work / LOG).read_text(encoding="utf-8", errors="replace")),
            remedy="Read its log; with the built-in engine the same load tells failures by cause.",
        )
    texts = {}
    for label, path in recipe.outputs.items():
        file = Path(placed(path, folder, folder))
        if file.is_file():
            texts[label] = file.read_text(encoding="utf-8")
    return texts


def _wait(
    name: str, process: subprocess.Popen[bytes], timeout: float, clock: Clock, progress: Callable[[str], Any]
) -> None:
    start = clock.now()
    said = start
    while process.poll() is None:
        now = clock.now()
        if now - start > timeout:
            raise InferenceError(
                f"{name} did not end within {timeout:.0f} s.",
                code="ENGINE_TIMEOUT",
                remedy="Ask for fewer requests, or raise duration.",
            )
        if now - said >= 10:
            said = now
            progress(f"benchmark: {name} runs for {now - start:.0f} s, at most {timeout:.0f} s")
        clock.sleep(POLL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """No process of the engine's group is left, whatever it started."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def clean(folder: Path, secrets: Any) -> None:
    """Blot secrets out of whatever the engine left: tools print their configuration into logs and results."""
    words = [word.encode() for word in secrets if word]
    if not words:
        return
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if any(word in content for word in words):
                for word in words:
                    content = content.replace(word, b"********")
                path.write_bytes(content)


def last_words(log: str) -> str:
    """The end of a log without colours and progress bars."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", log).replace("\r", "\n")
    return "\n".join([line.rstrip() for line in plain.splitlines() if line.strip()][-LAST_LINES:])
