"""The life of a deployment of its own: pause, resume, scale, and teardown with planted orphans."""

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
QUESTION = json.dumps({"model": "google/gemma-2b-it", "prompt": "hi", "max_tokens": 4})


@pytest.fixture(scope="module")
def deployed(sandbox: Sandbox) -> Sandbox:
    run = sandbox.playbook("playbooks/pattern1.yml")
    assert run.rc == 0, run.output[-4000:]
    return sandbox


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


def test_a_pause_answers_503_and_its_end_restores_everything(deployed: Sandbox) -> None:
    run = deployed.playbook("playbooks/pause.yml")
    assert run.rc == 0, run.output[-4000:]
    status, body = ask(deployed)
    assert status == 503
    assert body
    assert deployed.playbook("playbooks/pause.yml").count("changed") == 0
    run = deployed.playbook("playbooks/resume.yml")
    assert run.rc == 0, run.output[-4000:]
    assert "after the resume began" in run.output
    assert ask(deployed)[0] == 200
    assert deployed.playbook("playbooks/resume.yml").count("changed") == 0
    assert deployed.playbook("playbooks/pattern1.yml").count("changed") == 0


NAMESPACE = "llm-d"
GPU_POOL = "nvidia-t4-pool"
MODEL = "google/gemma-2b-it"


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
    assert deployed.playbook("playbooks/scale.yml", llmd_replicas=3).count("changed") == 0

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
    # The inventory says one as well: nothing is left to do for it.
    assert deployed.playbook("playbooks/pattern1.yml").count("changed") == 0


def test_teardown_refuses_a_wrong_name_and_proves_zero(deployed: Sandbox) -> None:
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
    foreign = {(item["collection"], item["body"]["name"]) for item in zoo.resources} - {
        (item["collection"], item["body"]["name"]) for item in zoo.resources[: len(planted)]
    }

    listed = deployed.playbook("playbooks/teardown.yml", llmd_confirm="pattern1")
    assert listed.rc != 0
    assert "TEARDOWN_LEFTOVERS" in listed.output
    assert planted <= existing(deployed.snapshot())
    done = deployed.playbook("playbooks/teardown.yml", llmd_confirm="pattern1", teardown_delete_leftovers=True)
    assert done.rc == 0, done.output[-4000:]
    assert "0 left, 0.00 USD/h" in done.output
    left = existing(deployed.snapshot())
    assert not planted & left
    assert {name for _kind, name in foreign} <= {path.rsplit("/", 1)[1] for _kind, path in left}
    assert deployed.artifact("teardown.json")["proven"]
    again = deployed.playbook("playbooks/teardown.yml", llmd_confirm="pattern1", teardown_delete_leftovers=True)
    assert (again.rc, again.count("changed")) == (0, 0)
