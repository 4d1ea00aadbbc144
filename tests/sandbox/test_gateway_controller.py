"""GKE's controllers and CRDs against a real API server: no nodes, no pods, everything else as in a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

pytest.importorskip("requests")
pytest.importorskip("cryptography")

from sandbox import fabric, processes  # noqa: E402
from sandbox.gke.envoy import binary  # noqa: E402
from sandbox.kubernetes.cleanup import cleanup, leftovers  # noqa: E402
from sandbox.paths import Paths, current  # noqa: E402

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Any]]:
    """What the worker saw, in a sandbox of this test's own."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    built = current()
    if not (built.bin / "kwokctl").exists() or not binary(built).exists():
        pytest.skip("the tools are not built: ./sandbox/sandbox tools")
    folder = Path(tempfile.mkdtemp(prefix="llmd-"))
    paths = Paths("gtest", built.cache, folder / "gtest")
    fabric.create(paths)
    try:
        yield worker(paths)
        assert not leftovers(paths)
    finally:
        cleanup(paths)
        fabric.destroy(paths)
        shutil.rmtree(folder, ignore_errors=True)


def worker(paths: Paths) -> dict[str, Any]:
    interpreter = paths.venvs / "sandbox" / "bin" / "python"
    python = str(interpreter) if interpreter.exists() else sys.executable
    script = str(REPOSITORY / "tests" / "sandbox" / "gateway_worker.py")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "LLMD_SANDBOX_NAME": paths.name,
        "LLMD_SANDBOX_CACHE": str(paths.cache),
        "LLMD_SANDBOX_STATE": str(paths.state.parent),
    }
    command = processes.in_namespace(paths.fabric, [python, script])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/", timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_api_server_takes_every_crd(seen: dict[str, Any]) -> None:
    files = (REPOSITORY / "sandbox" / "crds").rglob("*.yaml")
    shipped = {crd["metadata"]["name"] for file in files for crd in yaml.safe_load_all(file.read_text()) if crd}
    assert set(seen["established"]) == shipped
    assert set(seen["established"].values()) == {"True"}


def test_gateway_classes_are_accepted(seen: dict[str, Any]) -> None:
    assert len(seen["classes"]) == 4
    assert all(seen["classes"].values())


def test_a_missing_proxy_only_subnet_is_named(seen: dict[str, Any]) -> None:
    assert "An active proxy-only subnetwork is required" in seen["refused"]


def test_pool_defaults(seen: dict[str, Any]) -> None:
    assert seen["pool"]["failureMode"] == "FailClose"
    assert (seen["pool"]["group"], seen["pool"]["kind"]) == ("", "Service")


def test_the_shadow_service_appears(seen: dict[str, Any]) -> None:
    assert any(name.startswith("pool-ips-") for name in seen["services"])


def test_health_check_policy_generations(seen: dict[str, Any]) -> None:
    assert seen["older"] == ""
    assert "port and portName must be unset for portSpecification being USE_SERVING_PORT" in seen["newer"]
    assert seen["newer fixed"] == ""


def test_nothing_of_the_load_balancer_is_left(seen: dict[str, Any]) -> None:
    assert seen["left"] == []
