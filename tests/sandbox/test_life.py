"""The life of a deployment: scale, pause, resume, upgrade, drift, teardown with planted orphans; then all as before.

The tests build on one another, in this order.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY, Sandbox

sys.path.insert(0, str(REPOSITORY / "tests" / "contract" / "cloud"))

from orphan_zoo import Zoo, others, ours

pytestmark = pytest.mark.sandbox
NAMESPACE = "llm-d"
GPU_POOL = "nvidia-t4-pool"
MODEL = "google/gemma-2b-it"
PROJECT = "projects/llmd-sandbox"
SERVICES = [f"{name}.googleapis.com" for name in
            ("compute", "container", "networkservices", "monitoring", "cloudresourcemanager")]  # fmt: skip
QUESTION = json.dumps({"model": MODEL, "prompt": "hi", "max_tokens": 4})
OUT_OF_MEMORY = {"llmd_gpu_memory_utilization": 0.90, "llmd_max_model_len": 4096, "llmd_max_num_seqs": 256}


@pytest.fixture(scope="module")
def found(sandbox: Sandbox) -> dict[str, Any]:
    """The emulated project before the deployment, with the APIs on: those stay on, and networks come with them."""
    path = f"{PROJECT}/services:batchEnable"
    answer = call(sandbox, "serviceusage", "POST", path, {"serviceIds": SERVICES})
    wait_for("the APIs", lambda: call(sandbox, "serviceusage", "GET", answer["name"]).get("done"))
    return sandbox.snapshot()


@pytest.fixture(scope="module")
def deployed(sandbox: Sandbox, found: dict[str, Any]) -> Sandbox:
    run = sandbox.playbook("playbooks/pattern1.yml")
    assert run.rc == 0, run.output[-4000:]
    return sandbox


def call(sandbox: Sandbox, service: str, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A call by somebody who does not use this collection."""
    token = sandbox.exec("sh", "-c", 'cat "$CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"').strip()
    url = f"http://192.0.2.10/{service}.googleapis.com/v1/{path}"
    headers = ("-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json")
    sent = () if body is None else ("-d", json.dumps(body))
    return dict(sandbox.exec_json("curl", "-sf", "-X", verb, *headers, *sent, url))


def ask(sandbox: Sandbox) -> tuple[int, str]:
    """Status and body of a completion asked for at the endpoint."""
    url = sandbox.artifact("verify.json")["endpoint"] + "/v1/completions"
    text = sandbox.exec(
        "curl", "-s", "-m", "20", "-w", "\n%{http_code}", url, "-H", "Content-Type: application/json", "-d", QUESTION
    )
    body, _, status = text.strip().rpartition("\n")
    return int(status), body


def existing(snapshot: dict[str, Any]) -> set[tuple[str, str]]:
    return {(kind, path) for kind, items in snapshot["compute"].items() for path in items}


def wait_for(what: str, true: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.5)
    return found


def kubectl(sandbox: Sandbox, *words: str) -> Any:
    return sandbox.exec_json("kubectl", "-n", NAMESPACE, "get", *words, "-o", "json")


def servers(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Model-server pods that are not on their way out."""
    found = kubectl(sandbox, "pods", "-l", "llm-d.ai/inferenceServing=true")["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def gpu_nodes(sandbox: Sandbox) -> int:
    instances = sandbox.snapshot()["compute"].get("instances", {}).values()
    return sum(item["labels"].get("goog-k8s-node-pool-name") == GPU_POOL for item in instances)


def busy(sandbox: Sandbox, pod: dict[str, Any]) -> bool:
    """Whether a model server is answering somebody right now, by its own metrics."""
    text = sandbox.exec("curl", "-s", "-m", "5", f"http://{pod['status']['podIP']}:8000/metrics", check=False)
    lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
    return any(float(line.rsplit(" ", 1)[1]) > 0 for line in lines)


@contextlib.contextmanager
def streams(sandbox: Sandbox, folder: Path, count: int, tokens: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """Long answers on and on; the value ends them and gives the figures."""
    folder.mkdir()
    url, worker = sandbox.artifact("verify.json")["endpoint"], Path(__file__).with_name("stream_worker.py")
    state, stop = folder / "state", folder / "stop"
    command = [str(REPOSITORY / "sandbox" / "sandbox"), "exec", sys.executable, str(worker), url, MODEL]
    command += [str(count), str(tokens), str(state), str(stop)]
    child = subprocess.Popen(command, env=sandbox.environment, stdout=subprocess.PIPE, text=True, cwd="/")

    def end() -> dict[str, Any]:
        stop.touch()
        text, _ = child.communicate(timeout=240)
        assert child.returncode == 0, text
        return dict(json.loads(text))

    try:
        wait_for("the first answer", state.exists)
        yield end
    finally:
        stop.touch()
        child.wait(timeout=240)


def test_what_there_is_no_room_for_is_refused_before_anything_changes(deployed: Sandbox) -> None:
    before = deployed.snapshot()["clusters"]
    deployed.cli("fault", "plant", "gpu-quota", "1")
    refused = deployed.playbook("playbooks/scale.yml", llmd_replicas=3)
    deployed.cli("fault", "clear")
    assert refused.rc != 0
    assert "SCALE_QUOTA" in refused.output
    assert "NVIDIA_T4_GPUS in us-central1: limit 1, used 1, asked 2" in refused.output
    refused = deployed.playbook("playbooks/scale.yml", llmd_replicas=5)
    assert refused.rc != 0
    assert "SCALE_POOL_MAX" in refused.output
    assert deployed.snapshot()["clusters"] == before
    assert len(servers(deployed)) == 1


def test_scaling_out_buys_nodes_and_scaling_in_loses_no_request(deployed: Sandbox, tmp_path: Path) -> None:
    predicted = deployed.playbook("playbooks/scale.yml", "--check", "--diff", llmd_replicas=3)
    assert predicted.rc == 0, predicted.output[-4000:]
    assert predicted.count("changed") > 0
    assert "replicas: 3" in predicted.output
    assert len(servers(deployed)) == 1
    run = deployed.playbook("playbooks/scale.yml", llmd_replicas=3)
    assert run.rc == 0, run.output[-4000:]
    assert "SCALE_NOT_IN_INVENTORY" in run.output
    assert gpu_nodes(deployed) == 3
    events = kubectl(deployed, "events")["items"]
    bought = [item["message"] for item in events if item["reason"] == "TriggeredScaleUp"]
    assert any("->3 (max: 3)" in message for message in bought), bought

    three = servers(deployed)
    assert len(three) == 3
    with streams(deployed, tmp_path / "streams", 9, 1500) as end:
        # Those that go must have something to finish.
        wait_for("all three are busy", lambda: all(busy(deployed, pod) for pod in three))
        run = deployed.playbook("playbooks/scale.yml", llmd_replicas=1)
        assert run.rc == 0, run.output[-4000:]
        wait_for(
            "two are gone", lambda: len(kubectl(deployed, "pods", "-l", "llm-d.ai/inferenceServing=true")["items"]) == 1
        )
        seen = end()
    assert seen["lost"] == 0, seen
    assert seen["refused"] == 0, seen
    assert seen["answered"] == seen["sent"] > 9


def test_a_pause_answers_what_is_under_way_then_503_and_its_end_restores_everything(
    deployed: Sandbox, tmp_path: Path
) -> None:
    with streams(deployed, tmp_path / "streams", 4, 1500) as end:
        wait_for("requests are under way", lambda: busy(deployed, servers(deployed)[0]))
        run = deployed.playbook("playbooks/pause.yml")
        assert run.rc == 0, run.output[-4000:]
        status, body = ask(deployed)
        seen = end()
    assert status == 503
    assert body
    assert gpu_nodes(deployed) == 0
    assert seen["lost"] == 0, seen
    assert seen["answered"] > 0
    assert seen["refused"] > 0
    assert deployed.playbook("playbooks/pause.yml").count("changed") == 0
    refused = deployed.playbook("playbooks/upgrade.yml", llmd_max_num_seqs=48)
    assert refused.rc != 0
    assert "UPGRADE_PAUSED" in refused.output

    run = deployed.playbook("playbooks/resume.yml")
    assert run.rc == 0, run.output[-4000:]
    assert "after the resume began" in run.output
    assert ask(deployed)[0] == 200
    # Nodes, limits and replicas are those of the inventory again, also after the scaling before.
    assert deployed.playbook("playbooks/pattern1.yml").count("changed") == 0


def arguments(pod: dict[str, Any]) -> list[str]:
    return list(pod["spec"]["containers"][0]["args"])


def google(sandbox: Sandbox, verb: str, path: str, body: dict[str, Any]) -> None:
    """A change of the cluster by somebody who does not use this collection."""
    place = f"{PROJECT}/locations/us-central1-a"
    operation = call(sandbox, "container", verb, f"{place}/clusters/llm-d-cluster{path}", body)["name"]
    wait_for(
        f"{verb} {path}",
        lambda: call(sandbox, "container", "GET", f"{place}/operations/{operation}")["status"] == "DONE",
    )


def resize(sandbox: Sandbox, size: int, *, least: int = 0) -> None:
    """Another size of the GPU pool, and what the autoscaler must leave it; empty nodes go first."""
    limits = {"autoscaling": {"enabled": True, "minNodeCount": least, "maxNodeCount": 3}}
    google(sandbox, "POST", f"/nodePools/{GPU_POOL}:setAutoscaling", limits)
    google(sandbox, "POST", f"/nodePools/{GPU_POOL}:setSize", {"nodeCount": size})
    assert gpu_nodes(sandbox) == size


def upgrade(sandbox: Sandbox, **variables: Any) -> tuple[Any, dict[str, Any]]:
    run = sandbox.playbook("playbooks/upgrade.yml", upgrade_watch_tokens=1500, **variables)
    return run, sandbox.artifact("upgrade.json")


def test_an_upgrade_with_a_gpu_to_spare_interrupts_nothing(deployed: Sandbox) -> None:
    resize(deployed, 2, least=2)
    run, result = upgrade(deployed, llmd_max_num_seqs=48)
    assert run.rc == 0, run.output[-4000:]
    assert (result["outcome"], result["plan"]["strategy"]) == ("upgraded", "surge")
    assert (result["traffic"]["refused"], result["traffic"]["lost"]) == (0, 0), result["traffic"]
    assert result["traffic"]["answered"] > 0


def test_an_upgrade_that_fails_gives_the_old_version_back(deployed: Sandbox) -> None:
    resize(deployed, 1)
    (before,) = servers(deployed)
    refused = deployed.playbook("playbooks/upgrade.yml", **OUT_OF_MEMORY)
    assert refused.rc != 0
    assert "recreate: no GPU is free" in refused.output
    assert "UPGRADE_NOT_CONFIRMED" in refused.output
    assert servers(deployed)[0]["metadata"]["uid"] == before["metadata"]["uid"]

    run, result = upgrade(deployed, llmd_confirm="pattern1", llmd_helmfile_failure_grace=10, **OUT_OF_MEMORY)
    assert run.rc != 0
    assert "UPGRADE_ROLLED_BACK" in run.output
    assert "CUDA out of memory" in run.output
    assert result["outcome"] == "rolled back", result
    assert result["traffic"]["lost"] == 0, result["traffic"]
    assert result["traffic"]["refused"] > 0
    assert result["traffic"]["downtime_seconds"] > 0
    assert ask(deployed)[0] == 200
    assert gpu_nodes(deployed) == 1
    # What serves is what served before: the arguments of the upgrade before it.
    (after,) = servers(deployed)
    assert arguments(after) == arguments(before)


def test_an_upgrade_on_the_only_gpu_loses_no_accepted_request(deployed: Sandbox) -> None:
    run, result = upgrade(deployed, llmd_confirm="pattern1", llmd_max_num_seqs=64)
    assert run.rc == 0, run.output[-4000:]
    assert (result["outcome"], result["plan"]["strategy"]) == ("upgraded", "recreate")
    assert result["traffic"]["lost"] == 0, result["traffic"]
    assert result["traffic"]["downtime_seconds"] > 0
    assert gpu_nodes(deployed) == 1


def test_what_somebody_changed_is_told_apart_and_put_back(deployed: Sandbox) -> None:
    picker, server = "deployment/gaie-pattern1-epp", "deployment/ms-pattern1-llm-d-modelservice-decode"
    (chart,) = (deployed.home / ".llmd/pattern1/helmfile/charts").glob("llm-d-infra-*.tgz")
    deployed.exec("kubectl", "-n", NAMESPACE, "scale", server, "--replicas=0")
    edit = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 77}}}}
    deployed.exec("kubectl", "-n", NAMESPACE, "patch", picker, "-p", json.dumps(edit))
    deployed.exec("kubectl", "-n", NAMESPACE, "delete", "httproute", "--all")
    foreign = ("--reuse-values", "--set", "gateway.annotations.team=strangers")
    deployed.exec("helm", "-n", NAMESPACE, "upgrade", "infra-pattern1", str(chart), *foreign)
    google(deployed, "POST", "/nodePools/default-pool:setSize", {"nodeCount": 1})
    limits = {"autoscaling": {"enabled": True, "minNodeCount": 0, "maxNodeCount": 7}}
    google(deployed, "POST", f"/nodePools/{GPU_POOL}:setAutoscaling", limits)

    run = deployed.playbook("playbooks/drift.yml", drift_fail=True)
    assert run.rc != 0
    assert "DRIFT_FOUND" in run.output
    found = {(item["layer"], item["what"]): item["found"] for item in deployed.artifact("drift.json")["differences"]}
    words = [f"{layer} {what}: {text}" for (layer, what), text in found.items()]
    for expected in (
        "helm release infra-pattern1: values differ (gateway.annotations",
        f"cluster Deployment {NAMESPACE}/ms-pattern1-llm-d-modelservice-decode: changed: spec.replicas",
        f"cluster Deployment {NAMESPACE}/gaie-pattern1-epp: changed: spec.template.spec.terminationGracePeriodSeconds",
        "cluster HTTPRoute llm-d-pattern1-inference-scheduling: not there",
        "google node pool default-pool size: 1",
    ):
        assert any(word.startswith(expected) for word in words), (expected, words)
    assert any(layer == "google" and text == "7" for (layer, _what), text in found.items()), words

    google(deployed, "POST", "/nodePools/default-pool:setSize", {"nodeCount": 2})
    run = deployed.playbook("playbooks/pattern1.yml")
    assert run.rc == 0, run.output[-4000:]
    clean = deployed.playbook("playbooks/drift.yml", drift_fail=True)
    assert clean.rc == 0, clean.output[-4000:]
    assert "no drift" in clean.output
    assert deployed.artifact("drift.json")["differences"] == []


def test_teardown_refuses_a_wrong_name_proves_zero_and_leaves_everything_as_it_was(
    deployed: Sandbox, found: dict[str, Any]
) -> None:
    before = existing(deployed.snapshot())
    wrong = deployed.playbook("playbooks/teardown.yml", llmd_confirm="pattern2")
    assert wrong.rc != 0
    assert "CONFIRM_WRONG" in wrong.output
    assert existing(deployed.snapshot()) == before

    zoo = Zoo()
    planted = {(kind, f"{scope}/{name}") for kind, scope, name in ours(zoo)}
    others(zoo, 60)
    seed = deployed.home / "seed.json"
    seed.write_text(json.dumps({"resources": zoo.resources}))
    deployed.exec(
        "curl", "-sf", "-H", "Content-Type: application/json", "--data", f"@{seed}", "http://192.0.2.10/control/seed"
    )
    foreign = existing(deployed.snapshot()) - before - planted
    assert len(foreign) == len(zoo.resources) - len(planted) > 30

    listed = deployed.playbook("playbooks/teardown.yml", llmd_confirm="pattern1")
    assert listed.rc != 0
    assert "TEARDOWN_LEFTOVERS" in listed.output
    assert planted <= existing(deployed.snapshot())
    done = deployed.playbook("playbooks/teardown.yml", llmd_confirm="pattern1", teardown_delete_leftovers=True)
    assert done.rc == 0, done.output[-4000:]
    assert "0 left, 0.00 USD/h" in done.output
    assert deployed.artifact("teardown.json")["proven"]

    left = deployed.snapshot()
    assert foreign <= existing(left)
    for kind, path in foreign:
        del left["compute"][kind][path]
    left["compute"] = {kind: items for kind, items in left["compute"].items() if items or kind in found["compute"]}
    for snapshot in (left, found):
        for subnet in snapshot["compute"]["subnetworks"].values():
            subnet.pop("fingerprint", None)  # of a version: the cluster's ranges came and went again
    assert left == found
