"""A sandbox of the tests' own, fresh for every test file, beside any that a person has running."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "LLMD_SANDBOX_TEST_PREFIX"  # a letter: two test runs side by side need other names
RECAP = re.compile(r"^\S+\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+\S+\s+failed=(?P<failed>\d+)", re.M)


def sandbox_name(name: str) -> str:
    """The name of a test's sandbox on this machine: at most seven letters, as one more tells test runs apart.

    The workers of one run are given the letters that ``.ci/run`` knows.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    return (os.environ.get(PREFIX) or (chr(ord("v") + int(worker[2:])) if worker else "")) + name


@dataclass(frozen=True)
class Run:
    """One finished ansible-playbook."""

    rc: int
    output: str
    seconds: float

    def count(self, what: str) -> int:
        """``ok``, ``changed``, ``failed`` of the recap's only host."""
        found = RECAP.search(self.output)
        assert found, self.output[-3000:]
        return int(found.group(what))


@dataclass
class Sandbox:
    """The sandbox's CLI and ansible-playbook, with the environment that belongs to them."""

    environment: dict[str, str]
    home: Path
    runs: list[Run] = field(default_factory=list)

    def cli(self, *words: str, check: bool = True, timeout: float = 900) -> str:
        done = subprocess.run(
            [str(REPOSITORY / "sandbox" / "sandbox"), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd="/",
        )
        if check:
            assert done.returncode == 0, f"sandbox {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def exec(self, *command: str, check: bool = True) -> str:
        return self.cli("exec", *command, check=check, timeout=180)

    def exec_json(self, *command: str) -> Any:
        return json.loads(self.exec(*command))

    def playbook_command(self, playbook: str, *arguments: str, **variables: Any) -> list[str]:
        path = REPOSITORY / playbook
        extra = ["-e", json.dumps(variables)] if variables else []
        return ["ansible-playbook", "-i", str(REPOSITORY / "inventories/sandbox"), str(path), *arguments, *extra]

    def environment_of(self, playbook: str) -> dict[str, str]:
        """Playbooks of the project find their collection by themselves; those of the tests are told where it is."""
        if playbook.startswith("tests/"):
            return {**self.environment, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks/collections")}
        return self.environment

    def playbook(self, playbook: str, *arguments: str, timeout: float = 900, **variables: Any) -> Run:
        started = time.monotonic()
        done = subprocess.run(
            self.playbook_command(playbook, *arguments, **variables),
            env=self.environment_of(playbook),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # warnings where they were said, not after everything else
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.home,
        )
        run = Run(done.returncode, done.stdout, time.monotonic() - started)
        self.runs.append(run)
        return run

    def playbook_killed_when(self, marker: str, playbook: str, *, timeout: float = 300) -> str:
        """Start a playbook and kill its whole session as soon as ``marker`` shows in its output."""
        child = subprocess.Popen(
            self.playbook_command(playbook),
            env=self.environment_of(playbook),
            cwd=self.home,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert child.stdout is not None
        seen, deadline = "", time.monotonic() + timeout
        for line in child.stdout:
            seen += line
            if marker in line or time.monotonic() > deadline:
                break
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        return seen

    def snapshot(self) -> dict[str, Any]:
        """Every resource of the emulated Google Cloud, as JSON."""
        return dict(self.exec_json("curl", "-sf", "http://192.0.2.10/control/snapshot"))

    def artifact(self, name: str) -> Any:
        return json.loads((self.home / ".llmd" / "pattern1" / name).read_text())


def ansible_environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    keep = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ANSIBLE_", "LLMD_", "GOOGLE_", "GCP_", "CLOUDSDK_", "K8S_", "HF_"))
    }
    return {
        **keep,
        "HOME": str(home),
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        **{key: value for key, value in os.environ.items() if key.startswith("LLMD_SANDBOX_CACHE")},
        **extra,
    }


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if os.geteuid() != 0:
        pytest.skip("the sandbox needs root: it makes network namespaces")
    if shutil.which("ansible-playbook") is None:
        pytest.skip("ansible-playbook is not on PATH: run `make test`")
    home = tmp_path_factory.mktemp("home")
    one = Sandbox(ansible_environment(home, {"LLMD_SANDBOX_NAME": sandbox_name("test")}), home)
    one.cli("down")
    one.cli("up", "--speed", "0", "--port", "0", timeout=2400)
    yield one
    one.cli("down")


@pytest.fixture(autouse=True)
def _show_logs_of_failed(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    report = getattr(request.node, "report_call", None)
    if report is not None and report.failed and "sandbox" in request.fixturenames:
        one: Sandbox = request.getfixturevalue("sandbox")
        if one.runs:
            print("last playbook run:\n" + one.runs[-1].output[-8000:])
        print(one.cli("status", check=False))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    setattr(item, f"report_{report.when}", report)
