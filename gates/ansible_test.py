"""ansible-test sanity and units on the built and installed collection, without containers and without Galaxy."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from gates import artifact
from gates.running import GateError, Tools
from sandbox.toolchain import locks
from sandbox.toolchain.venvs import CORES

_BOOTSTRAP = Path(__file__).resolve().parent / "offline_pip.py"
_FINDING = re.compile(r"^(ERROR|FATAL|FAILED|E  )|^_{3,} .* _{3,}$|\d+ (passed|failed)")
# ansible-test says this, and ends well, when it sees no file at all: a false green.
_NOTHING = ("All targets skipped", "No tests to run", "no tests ran")


def core_tree(tools: Tools, core: str) -> Path:
    """The installed collection for one core series, made anew when the archive's content differs.

    ansible-test writes below the collection that it tests, so each series has a copy of its own.
    """
    folder = tools.folder / f"tree-{core}"
    with locks.hold(tools.folder / f"tree-{core}.lock", "installing the built collection", say=print):
        probe = artifact.tree(tools, tools.folder / f"tree-{core}.new")
        installed = folder / probe.relative_to(tools.folder / f"tree-{core}.new")
        if (installed / "MANIFEST.json").exists() and artifact.fingerprint(installed) == artifact.fingerprint(probe):
            shutil.rmtree(tools.folder / f"tree-{core}.new")
            return installed
        shutil.rmtree(folder, ignore_errors=True)
        (tools.folder / f"tree-{core}.new").rename(folder)
    return installed


def sanity(tools: Tools, core: str) -> None:
    """Every sanity test of this core series; nothing is skipped and no ignore file is read but the collection's own."""
    _ansible_test(tools, core, ["sanity"])


def units(tools: Tools, core: str) -> None:
    """The unit tests that ship with the collection, each in a process of its own, on this core series."""
    output = _ansible_test(tools, core, ["units", "--num-workers", "2"])
    if not re.search(r"\b\d+ passed", output):
        raise GateError(f"ansible-test units ran no test on {core}.", details=output[-2000:])


def findings(output: str) -> str:
    """What is wrong, out of ansible-test's words: not how it built its environments, nor what passed."""
    lines = [line for line in output.splitlines() if _FINDING.search(line)]
    return "\n".join(lines or output.strip().splitlines()[-40:])


def _ansible_test(tools: Tools, core: str, words: list[str]) -> str:
    installed = core_tree(tools, core)
    home = tools.folder / f"home-{core}"
    _place_bootstrap(tools, core, home)
    command = ["ansible-test", *words, "--local", "--python", CORES[core], "--color", "no"]
    result = tools.call(core, command, environment={"HOME": str(home)}, cwd=installed)
    output = result.output
    if result.returncode != 0:
        raise GateError(f"ansible-test {words[0]} on {core}: exit code {result.returncode}", details=findings(output))
    for line in _NOTHING:
        if line in output:
            raise GateError(f"ansible-test {words[0]} looked at nothing ({line!r}).", details=output[-2000:])
    return output


def _place_bootstrap(tools: Tools, core: str, home: Path) -> None:
    """Put the pip bootstrap where this version of ansible-test looks for it before it would download one."""
    source = next((tools.venv(core) / "lib").glob("python3.*/site-packages/ansible_test"), None)
    if source is None:
        raise GateError(f"The environment {core} holds no ansible-test.", "./sandbox/sandbox tools --only gates")
    found = re.search(r"pip='([\d.]+)'", (source / "_internal" / "python_requirements.py").read_text(encoding="utf-8"))
    if found is None:
        raise GateError(f"ansible-test of {core} names its pip in a way that is not known here.", f"see {source}")
    place = home / ".ansible" / "test" / "cache" / f"get_pip_{found.group(1).replace('.', '_')}.py"
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists() or place.read_bytes() != _BOOTSTRAP.read_bytes():
        shutil.copyfile(_BOOTSTRAP, place)
