"""``make mutation``: whether the tests notice each flipped condition of the library's pure predicates."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from gates import mutants
from gates.running import GateError, Tools
from sandbox.paths import REPOSITORY
from sandbox.toolchain.progress import Progress

LIBRARY = "plugins/module_utils"
# The tests of the sandbox's own parts say nothing about the library.
_TESTS = "tests/unit"
_ELSEWHERE = re.compile(r"/(sandbox_\w+|gates|awx)/")
_COPIED = ("plugins", "tests", "roles", "playbooks", "meta", "docs", "inventories", "changelogs", "galaxy.yml",
           "pyproject.toml", "sandbox", "gates", "awx", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
           "execution-environment.yml", "extensions")  # fmt: skip


@dataclass(frozen=True)
class Order:
    """One mutant and the tests that should notice it: first those that name its module, then those of its part."""

    file: str
    mutant: mutants.Mutant
    near: list[str]
    far: list[str]

    @property
    def title(self) -> str:
        return f"{self.file}:{self.mutant.line} {self.mutant.function}: {self.mutant.what}"


@dataclass
class Tally:
    """What became of the mutants."""

    killed: int = 0
    survived: list[str] = field(default_factory=list)
    trouble: list[GateError] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def orders(only: str = "") -> list[Order]:
    """Every mutant of every predicate of the library."""
    files = [path for path in sorted((REPOSITORY / _TESTS).rglob("test_*.py")) if not _ELSEWHERE.search(str(path))]
    texts = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in files}
    found = []
    for path in sorted((REPOSITORY / LIBRARY).rglob("*.py")):
        name = path.relative_to(REPOSITORY).as_posix()
        if only and only not in name:
            continue
        dotted = name.removeprefix("plugins/").removesuffix(".py").replace("/", ".")
        package, _, module = dotted.rpartition(".")
        # `from ...kube import conditions`, `from ...kube.conditions import x`
        pattern = re.compile(
            rf"{re.escape(dotted)}\b|{re.escape(package)} import [^\n]*\b{module}\b|\(\s[^)]*\b{module},"
        )
        near = [test for test, text in texts.items() if pattern.search(text)]
        # Not all the others: that somewhere a playbook's test would fail, too, is no test of a predicate.
        parts = {f"{_TESTS}/{part}/" for part in path.relative_to(REPOSITORY / LIBRARY).parts[:-1]}
        far = [test for test in texts if test not in near and test.startswith(tuple(parts))]
        found += [Order(name, mutant, near, far) for mutant in mutants.mutants(path.read_text(encoding="utf-8"))]
    return found


def _copy(folder: Path) -> None:
    """The checkout's files, so that they can be mutated; the collection's link to itself points into the copy."""
    for name in _COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(source, folder / name, symlinks=True, ignore=unwanted)
        elif source.exists():
            shutil.copy(source, folder / name)


class Worker:
    """A copy of the checkout and the process that tests in it."""

    def __init__(self, tools: Tools, folder: Path) -> None:
        _copy(folder)
        self.process = subprocess.Popen(
            [str(tools.venv("ansible") / "bin" / "python"), "-m", "gates.mutation_worker"],
            cwd=folder, env=tools.environment("ansible", PYTHONPATH=str(folder)), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, file: str, source: str, tests: list[str]) -> tuple[bool, str]:
        """Whether the tests notice ``source`` in the place of ``file``, and how they ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"file": file, "source": source, "tests": tests}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise GateError(
                "The process that tests mutants has ended.", "run it alone: python -m gates.mutation_worker"
            )
        answer = json.loads(line)
        return bool(answer["killed"]), str(answer["how"])

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


class Soundness:
    """That tests pass on the unchanged source, written as mutants are: else everything would look noticed.

    Every set of tests is asked once, when it is first needed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[frozenset[str]] = set()

    def insist(self, worker: Worker, order: Order, tests: list[str]) -> None:
        with self._lock:
            if frozenset(tests) in self._known:
                return
            killed, how = worker.ask(order.file, (REPOSITORY / order.file).read_text(encoding="utf-8"), tests)
            if how != "pytest's exit code 0" or killed:
                raise GateError(
                    f"These tests do not pass in a copy of the checkout without any mutant ({how}).",
                    "make unit",
                    details="\n".join(tests),
                )
            self._known.add(frozenset(tests))


def _noticed(worker: Worker, order: Order, sound: Soundness) -> bool:
    """Whether a test fails with the mutant: those that name its module first, then those of its part of the library."""
    for tests in filter(None, (order.near, order.far)):
        sound.insist(worker, order, tests)
        if worker.ask(order.file, order.mutant.source, tests)[0]:
            return True
    return False


def _serve(tools: Tools, folder: Path, todo: queue.SimpleQueue[Order], tally: Tally, sound: Soundness) -> None:
    folder.mkdir()
    worker = Worker(tools, folder)
    try:
        while not tally.trouble:
            try:
                order = todo.get_nowait()
            except queue.Empty:
                return
            killed = _noticed(worker, order, sound)
            with tally.lock:
                tally.killed += killed
                if not killed:
                    tally.survived.append(order.title)
                    print(f"survived  {order.title}", flush=True)  # at once: the whole hunt takes a while
    except GateError as error:
        with tally.lock:
            tally.trouble.append(error)
    finally:
        worker.close()


def hunt(tools: Tools, only: str, progress: Progress) -> int:
    """Test every mutant; the survivors are printed. 0 where none survived."""
    wanted, tally, sound = orders(only), Tally(), Soundness()
    if not wanted:
        raise GateError(f"No predicate was found in a file named like {only!r}.")
    todo: queue.SimpleQueue[Order] = queue.SimpleQueue()
    for order in wanted:
        todo.put(order)
    with tempfile.TemporaryDirectory(prefix="llmd-mutants-") as folder, progress.step("mutants") as step:
        threads = [
            threading.Thread(target=_serve, args=(tools, Path(folder, f"w{number}"), todo, tally, sound), daemon=True)
            for number in range(os.cpu_count() or 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(1)
                step.note = f"{tally.killed + len(tally.survived)} of {len(wanted)}, {len(tally.survived)} survived"
    if tally.trouble:
        raise tally.trouble[0]
    print(f"mutation: {len(wanted)} flipped conditions, {tally.killed} noticed, {len(tally.survived)} survived")
    return 0 if tally.killed == len(wanted) else 1
