"""Proof of routing on three replicas: shown for a healthy picker, not shown for one that ignores load or prefixes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY, Sandbox

pytestmark = pytest.mark.sandbox

PROOF = "playbooks/routing_proof.yml"
PROXY = Path(__file__).with_name("headerless_proxy.py")
PICKER = "tests/sandbox/playbooks/picker_only.yml"
GPU = {
    "pool": "nvidia-t4-pool",
    "machine_type": "n1-standard-4",
    "type": "nvidia-tesla-t4",
    "count": 1,
    "driver": "default",
    "nodes": 3,
    "min": 0,
    "max": 3,
    "spot": False,
}
THREE: dict[str, Any] = {"llmd_replicas": 3, "llmd_gpu": GPU}


def plugins(*entries: str) -> dict[str, Any]:
    """Values of the pool chart for a picker with these plugins only."""
    listed = "".join(f"- type: {entry}\n" for entry in entries)
    text = f"apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n{listed}"
    name = f"{'-'.join(entries)}.yaml"
    return {"inferenceExtension": {"pluginsConfigFile": name, "pluginsCustomConfig": {name: text}}}


@pytest.fixture(scope="module")
def three(sandbox: Sandbox) -> Iterator[Sandbox]:
    run = sandbox.playbook("playbooks/pattern1.yml", **THREE)
    assert run.rc == 0, run.output[-6000:]
    yield sandbox
    run = sandbox.playbook("playbooks/teardown.yml", llmd_confirm="pattern1")
    assert run.rc == 0, run.output[-3000:]


def claims(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {claim["name"]: claim for claim in sandbox.artifact("routing_proof.json")["claims"]}


def test_a_healthy_picker_is_proven_and_survives_losing_pods(three: Sandbox) -> None:
    run = three.playbook(PROOF, **THREE, routing_proof_disruptions=["kill_pod", "kill_picker"], llmd_confirm="pattern1")
    assert run.rc == 0, run.output[-4000:]
    found = claims(three)
    assert list(found) == ["picker", "spread", "affinity", "avoidance", "kill_pod", "kill_picker"]
    assert all(claim["ok"] for claim in found.values())
    assert all(found[name]["p_value"] < 0.01 for name in ("spread", "affinity", "avoidance"))
    assert found["kill_pod"]["numbers"]["pod"] not in found["kill_pod"]["numbers"]["answers"]
    assert found["kill_picker"]["numbers"]["behaviour"] == "refused requests"  # FailClose, the chart's default
    print("\n".join(f"{name}: {claim['detail']}" for name, claim in found.items()))


def test_the_counters_are_witness_enough_where_headers_do_not_survive(three: Sandbox) -> None:
    """Through a proxy that passes no header of picker or pod on, as a load balancer may do."""
    address = three.exec_json("kubectl", "get", "gateways", "-n", "llm-d", "-o", "json")
    target = address["items"][0]["status"]["addresses"][0]["value"]
    command = [str(REPOSITORY / "sandbox/sandbox"), "exec", sys.executable, str(PROXY), target]
    proxy = subprocess.Popen(command, env=three.environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert proxy.stdout is not None
        url = proxy.stdout.readline().strip()
        run = three.playbook(PROOF, **THREE, routing_proof_base_url=url)
    finally:
        os.killpg(proxy.pid, signal.SIGTERM)
        proxy.wait(20)
    assert run.rc == 0, run.output[-4000:]
    evidence = three.artifact("routing_proof.json")["evidence"]
    assert (evidence["source"], evidence["by_header"]) == ("counters", 0)
    picker = claims(three)["picker"]
    assert picker["numbers"]["with_header"] == 0
    assert picker["numbers"]["counted_by_picker"] >= picker["numbers"]["answered"]
    print(picker["detail"])


@pytest.mark.parametrize(
    ("values", "missing", "code"),
    [
        (plugins("random-picker"), ["affinity", "avoidance"], "ROUTING_IGNORES_PREFIX"),
        (plugins("prefix-cache-scorer", "max-score-picker"), ["avoidance"], "ROUTING_IGNORES_LOAD"),
    ],
    ids=["random", "blind to load"],
)
def test_a_broken_picker_is_found_out(three: Sandbox, values: dict[str, Any], missing: list[str], code: str) -> None:
    planted = three.playbook(PICKER, **THREE, llmd_helmfile_values_gaie=values)
    assert planted.rc == 0, planted.output[-3000:]
    run = three.playbook(PROOF, **THREE)
    assert run.rc != 0
    assert code in run.output
    found = claims(three)
    assert [name for name, claim in found.items() if not claim["ok"]] == missing
    print("\n".join(f"{name}: {claim['detail']}" for name, claim in found.items()))


def test_a_class_that_cannot_serve_a_pool_is_refused_first(three: Sandbox) -> None:
    run = three.playbook("playbooks/pattern1.yml", **THREE, llmd_gateway_class="gke-l7-global-external-managed")
    assert run.rc != 0
    assert "GATEWAY_CLASS_UNFIT" in run.output


def test_disruptions_ask_for_consent(three: Sandbox) -> None:
    run = three.playbook(PROOF, **THREE, routing_proof_disruptions=["kill_pod"])
    assert run.rc != 0
    assert "ROUTING_NOT_CONFIRMED" in run.output
