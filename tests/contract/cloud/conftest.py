"""Our modules, unchanged, against the sandbox's Google emulator in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY))

from sandbox import paths  # noqa: E402
from sandbox.gcp import schema  # noqa: E402
from sandbox.gcp.discovery import Router, canonical  # noqa: E402

Json = dict[str, Any]


def sandbox_python() -> Path:
    """The sandbox venv's interpreter; the emulator needs its google-api-python-client."""
    return paths.current().venvs / "sandbox" / "bin" / "python"


@dataclass
class Emulated:
    """An emulated project. ``environment``: what a client of it needs."""

    url: str
    environment: dict[str, str]
    proxy: dict[str, str]
    warnings: list[str] = field(default_factory=list)

    def control(self, route: str, body: Json | None = None, verb: str = "") -> Json:
        data = None if body is None else json.dumps(body).encode()
        method = verb or ("GET" if body is None else "POST")
        request = urllib.request.Request(f"{self.url}/control/{route}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            result: Json = json.load(answer)
        return result

    def plant(self, **fault: Any) -> None:
        self.control("faults", fault)


def start(folder: Path, speed: float, *project: str) -> tuple[subprocess.Popen[str], Emulated]:
    python = sandbox_python()
    if not python.exists():
        pytest.skip(f"the sandbox's virtual environment is not built ({python})")
    process = subprocess.Popen(
        [str(python), str(Path(__file__).with_name("emulator_main.py")), str(folder), str(speed), *project],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        pytest.fail(f"the emulator did not start (exit code {process.wait(10)})")
    return process, Emulated(**json.loads(line))


@pytest.fixture
def emulated(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulated]:
    """A fresh, empty project; ``@pytest.mark.parametrize("emulated", [SPEED], indirect=True)`` sets the speed."""
    speed = float(getattr(request, "param", 0))
    process, found = start(tmp_path, speed)
    try:
        for name in ("GCP_PROJECT", "GCP_AUTH_KIND", "HTTPS_PROXY", "https_proxy", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in found.environment.items():
            if not name.startswith("CLOUDSDK"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield found
        assert found.control("status")["schemaViolations"] == []
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(15)


@pytest.fixture(scope="session")
def router() -> Router:
    """Google's discovery documents; a test that needs them is skipped where they are not."""
    folders = sorted(paths.current().venvs.glob("sandbox/lib/python3*/site-packages/googleapiclient/discovery_cache"))
    if not folders:
        pytest.skip("the sandbox's virtual environment is not built: no discovery documents")
    return Router(folders[0] / "documents")


def check_request(router: Router, method: str, verb: str, url: str, body: str | None) -> None:
    """A request that we send, against the documents: it is the method that we say (and count), with all it may hold."""
    parts = urlsplit(url)
    host, path = parts.netloc, parts.path
    if host.startswith("127.0.0.1"):  # an endpoint override: Google's host is the path's first part
        host, _, path = path.lstrip("/").partition("/")
    host, path = canonical(host, f"/{path.lstrip('/')}")
    found = router.find(host, verb, path)
    assert found is not None, f"{verb} {url} is no method of Google's"
    assert found[0].id == method, f"{verb} {url} is {found[0].id}, we call it {method}"
    assert schema.check_query(found[0], parse_qs(parts.query)) == [], url
    assert schema.read_request(found[0], None if body is None else json.loads(body))[1] == [], (method, body)


@pytest.fixture
def documented(router: Router, emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Every request of every module run in this process is checked; how many of each method there were."""
    transport = importlib.import_module("ansible_collections.llmd.gke.plugins.module_utils.gcp.session")
    attempt, seen = transport.GoogleSession._attempt, Counter[str]()

    def checked(self: Any, method: str, verb: str, url: str, body: str | None, timeout: float) -> Any:
        if url.startswith((emulated.url, "https://")):  # not a test's own server in Google's place
            check_request(router, method, verb, url, body)
            seen[method] += 1
        return attempt(self, method, verb, url, body, timeout)

    monkeypatch.setattr(transport.GoogleSession, "_attempt", checked)
    return seen


@pytest.fixture
def module(
    emulated: Emulated,
    documented: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Json]:
    """Run a module's main() to its JSON, with nothing replaced but the display of warnings."""
    credentials = importlib.import_module("ansible_collections.llmd.gke.plugins.module_utils.gcp.credentials")
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, warning, **_: emulated.warnings.append(warning))

    local = importlib.import_module("ansible_collections.llmd.gke.plugins.module_utils.gcp.preflight_local")
    monkeypatch.setattr(local, "_importable", lambda module: True)  # this venv's completeness is not the subject

    def run(name: str, /, *, check: bool = False, **options: Any) -> Json:
        credentials._LOADED.clear()  # each module is a process of its own in real life
        main = importlib.import_module(f"ansible_collections.llmd.gke.plugins.modules.{name}").main
        given = {"project": os.environ["GOOGLE_CLOUD_PROJECT"], "_ansible_check_mode": check, **options}
        with patch_module_args(given), pytest.raises(SystemExit):
            main()
        result: Json = json.loads(capfd.readouterr().out)
        return result

    return run
