"""One real cluster with two nodes, and that nothing of it is left: after deletion, and after a kill."""

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

REPOSITORY = Path(__file__).resolve().parents[2]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

pytest.importorskip("requests")
pytest.importorskip("cryptography")

from sandbox import fabric, processes  # noqa: E402
from sandbox.kubernetes import cgroups  # noqa: E402
from sandbox.kubernetes.cleanup import cleanup, leftovers, mounts_below  # noqa: E402
from sandbox.kubernetes.ociimage import write_image  # noqa: E402
from sandbox.paths import Paths, current  # noqa: E402

pytestmark = pytest.mark.sandbox
IMAGE = "ghcr.io/llmd-test/web:v1"


@pytest.fixture
def paths() -> Iterator[Paths]:
    """A sandbox of this test's own: built tools shared, images and state apart."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    built = current()
    if not (built.bin / "kubelet").exists() or not (built.bin / "pause").exists():
        pytest.skip("the tools are not built: ./sandbox/sandbox tools")
    if shutil.which("containerd") is None:
        pytest.skip("containerd is not installed")
    folder = Path(tempfile.mkdtemp(prefix="llmd-"))  # short: Unix sockets lie in it
    cache = folder / "cache"
    (cache / "images").mkdir(parents=True)
    (cache / "bin").symlink_to(built.bin.resolve())
    if built.venvs.is_dir():
        (cache / "venv").symlink_to(built.venvs.resolve())
    write_image(cache / "images" / "web.tar", IMAGE, ["/usr/bin/python3", "-m", "http.server"])
    one = Paths("ktest", cache, folder / "ktest")
    remove_everything(one)
    fabric.create(one)
    yield one
    remove_everything(one)
    shutil.rmtree(folder, ignore_errors=True)


def remove_everything(paths: Paths) -> None:
    cleanup(paths)
    fabric.destroy(paths)


def worker(paths: Paths, *arguments: str) -> subprocess.Popen[str]:
    interpreter = current().venvs / "sandbox" / "bin" / "python"
    python = str(interpreter) if interpreter.exists() else sys.executable
    script = str(REPOSITORY / "tests" / "sandbox" / "cluster_worker.py")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "LLMD_SANDBOX_NAME": paths.name,
        "LLMD_SANDBOX_CACHE": str(paths.cache),
        "LLMD_SANDBOX_STATE": str(paths.state.parent),
    }
    command = processes.in_namespace(paths.fabric, [python, script, *arguments])
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
    )


def assert_nothing_left(paths: Paths) -> None:
    assert fabric.namespaces(paths) == []
    assert leftovers(paths) == set()
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    assert mounts_below(mounts, paths.state) == []
    root = cgroups.root_of(paths).lstrip("/")
    assert [str(item.mountpoint) for item in cgroups.hierarchies() if (item.mountpoint / root).exists()] == []
    assert not paths.clusters.exists()


def test_a_cluster_from_creation_to_deletion(paths: Paths) -> None:
    child = worker(paths)
    output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors[-4000:]
    found: dict[str, Any] = json.loads(output)
    assert found["host"] == "172.16.1.2"
    assert {item["internal_ip"] for item in found["addresses"]} == {"10.128.0.10", "10.128.0.11"}
    assert found["rolled_out"]
    assert found["unknown_image_refused"]
    assert sorted(map(str, found["gpu_pods"])) == ["None", "gke-backend-gpu-0"]
    gpu_node = found["node"]
    assert gpu_node["status"]["nvidia.com/gpu"] == "1"
    assert gpu_node["status"]["cpu"] == "3920m"
    assert gpu_node["spec"]["providerID"] == "gce://llmd-sandbox/us-central1-a/gke-backend-gpu-0"
    assert gpu_node["labels"]["cloud.google.com/gke-nodepool"] == "gpu"
    assert {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"} in gpu_node["spec"]["taints"]
    assert found["exec"].split()[-1] == "200", found["exec"]
    assert "GET / HTTP/1.1" in found["logs"]
    assert "no" in found["developer"].split()
    assert found["nodes_left"] == ["gke-backend-gpu-0"]
    assert fabric.namespaces(paths) == [paths.fabric]
    assert leftovers(paths) == set()
    remove_everything(paths)
    assert_nothing_left(paths)


def test_nothing_is_left_after_a_kill(paths: Paths) -> None:
    child = worker(paths, "hold")
    assert child.stdout is not None
    line = child.stdout.readline()
    child.kill()
    _, errors = child.communicate()
    assert line, errors[-4000:]
    assert leftovers(paths), "the cluster outlives its manager"
    # One record lost: what it names is found by its control group and its command line.
    (paths.clusters / "1" / "processes" / "n1-1.pid").unlink()
    remove_everything(paths)
    assert_nothing_left(paths)
    remove_everything(paths)
    assert_nothing_left(paths)
