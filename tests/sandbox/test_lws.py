"""LeaderWorkerSets on a real cluster: what the stand-in controller makes is what the real one was seen to make."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import REPOSITORY, sandbox_name

if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

pytest.importorskip("requests")
pytest.importorskip("cryptography")

from sandbox import fabric, processes
from sandbox.images import build, oci
from sandbox.kubernetes.cleanup import cleanup
from sandbox.kubernetes.ociimage import write_image
from sandbox.paths import Paths, current

pytestmark = pytest.mark.sandbox
NAME = "ms-moe-llm-d-modelservice-decode"
HASH = re.compile(r'"?leaderworkerset.sigs.k8s.io/template-revision-hash"?')


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    """What the worker saw."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    built = current()
    if not (built.bin / "kubelet").exists() or not (built.bin / "helm").exists():
        pytest.skip("the tools are not built: ./sandbox/sandbox tools")
    if shutil.which("containerd") is None:
        pytest.skip("containerd is not installed")
    folder = Path(tempfile.mkdtemp(prefix="llmd-"))  # short: Unix sockets lie in it
    cache = folder / "cache"
    (cache / "images").mkdir(parents=True)
    (cache / "bin").symlink_to(built.bin.resolve())
    (cache / "venv").symlink_to(built.venvs.resolve())
    write_image(cache / "images" / "web.tar", "ghcr.io/llmd-test/web:v1", ["/usr/bin/python3", "-m", "http.server"])
    python = os.path.join(os.path.realpath(built.venvs / "sandbox"), "bin", "python")
    image = next(entry.name for entry in build.NAMES if entry.role == "lws")
    oci.write(build.lws(image, build.Host(python, str(REPOSITORY), {})), cache / "images")
    name = sandbox_name("lwst")
    paths = Paths(name, cache, folder / name)
    try:
        cleanup(paths)
        fabric.destroy(paths)
        fabric.create(paths)
        yield watch(paths, python)
    finally:
        cleanup(paths)
        fabric.destroy(paths)
        shutil.rmtree(folder, ignore_errors=True)


def watch(paths: Paths, python: str) -> dict[str, Any]:
    script, chart = REPOSITORY / "tests" / "sandbox" / "lws_worker.py", REPOSITORY / "sandbox" / "charts" / "lws"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(paths.state),
        "PYTHONPATH": str(REPOSITORY),
        "LLMD_SANDBOX_NAME": paths.name,
        "LLMD_SANDBOX_CACHE": str(paths.cache),
        "LLMD_SANDBOX_STATE": str(paths.state.parent),
    }
    command = processes.in_namespace(paths.fabric, [python, str(script), str(chart)])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540, check=False, cwd="/")
    assert done.returncode == 0, done.stderr[-6000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def recorded() -> Path:
    folder = REPOSITORY.parent / "shared" / "reference" / "leaderworkerset"
    if not folder.is_dir():
        pytest.skip("the recorded reference is not here")
    return folder


def same(ours: Any, theirs: Any) -> Any:
    """``ours`` cut down to the fields that were recorded, with hashes and times made equal."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: same(ours.get(key), value) for key, value in theirs.items()}
    if isinstance(theirs, list) and isinstance(ours, list) and len(ours) == len(theirs):
        return [same(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    return ours


# Of the containers' programs, which the test has changed, of the API server's version, and hashes.
OTHERS = {"spec.template.spec.containers", "spec.template.spec.terminationGracePeriodSeconds", "status.collisionCount"}


def cut(item: Any, path: str = "") -> Any:
    if isinstance(item, dict):
        found = {}
        for key, value in item.items():
            place = f"{path}.{key}".lstrip(".")
            if place in OTHERS or key in ("lastTransitionTime", "observedGeneration") or "evision" in key:
                continue
            if HASH.search(key):
                value = "HASH"
            found[key] = cut(value, place)
        return found
    return [cut(each, path + "[]") for each in item] if isinstance(item, list) else item


@pytest.mark.parametrize("name", [NAME, f"{NAME}-0"])
def test_stateful_sets(found: dict[str, Any], recorded: Path, name: str) -> None:
    theirs = cut(yaml.safe_load((recorded / f"sts-{name}.yaml").read_text(encoding="utf-8")))
    ours = cut(found["statefulsets"][name])
    del theirs["apiVersion"], theirs["kind"]  # a list's items do not say them
    notes = theirs["metadata"].pop("annotations")
    assert notes.items() <= (ours["metadata"].get("annotations") or {}).items()
    assert ours["metadata"]["labels"] == theirs["metadata"]["labels"]
    assert ours["spec"]["template"]["metadata"]["labels"] == theirs["spec"]["template"]["metadata"]["labels"]
    assert same(ours, theirs) == theirs


def test_service(found: dict[str, Any], recorded: Path) -> None:
    theirs = yaml.safe_load((recorded / f"svc-{NAME}.yaml").read_text(encoding="utf-8"))
    assert same(found["service"], theirs) == theirs


def test_status_and_defaults(found: dict[str, Any], recorded: Path) -> None:
    theirs = yaml.safe_load((recorded / f"lws-{NAME}.yaml").read_text(encoding="utf-8"))
    ours, spec = found["set"], theirs["spec"]
    spec.pop("leaderWorkerTemplate")
    assert same(ours["spec"], spec) == spec
    assert cut(ours["status"]) == cut(theirs["status"])


def test_pods(found: dict[str, Any], recorded: Path) -> None:
    text = (recorded / "pods.json").read_text(encoding="utf-8")
    decoder, position, pods = json.JSONDecoder(), 0, []
    while position < len(text.rstrip()):
        item, position = decoder.raw_decode(text, position)
        position += len(text[position:]) - len(text[position:].lstrip())
        pods.append(item)
    assert len(pods) == 2
    for theirs in pods:
        ours = found["pods"][theirs["name"]]
        labels = ours["metadata"]["labels"]  # the API server of a zonal cluster adds the node's zone and region
        mine = {key: value for key, value in labels.items() if not key.startswith("topology.kubernetes.io/")}
        assert cut(mine) == cut(theirs["labels"])
        assert ours["metadata"].get("annotations") == theirs["annotations"]
        assert ours["spec"]["containers"][0]["env"] == theirs["env"]
        assert (ours["spec"]["hostname"], ours["spec"]["subdomain"]) == (theirs["hostname"], theirs["subdomain"])
        assert [f"{each['kind']}/{each['name']}" for each in ours["metadata"]["ownerReferences"]] == theirs["owner"]


def test_the_leaders_name_resolves_in_its_workers(found: dict[str, Any]) -> None:
    assert found["resolved"] == found["leader_ip"]


def test_one_for_all(found: dict[str, Any]) -> None:
    assert found["restarted"]


def test_an_update_takes_one_group_at_a_time(found: dict[str, Any]) -> None:
    assert found["least_ready"] >= 1
    assert (found["after_update"]["updatedReplicas"], found["after_update"]["readyReplicas"]) == (2, 2)
    assert found["who"] == "2"  # a container's own variables can refer to those of the group


def test_impossible_rollouts_are_refused(found: dict[str, Any]) -> None:
    assert "may not be 0 when `maxSurge` is 0" in found["refused"]
    assert "may not be 0 when `maxSurge` is 0" in found["still_trusted"]
