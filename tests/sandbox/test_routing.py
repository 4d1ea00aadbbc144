"""Proof of routing on three replicas: shown for a healthy picker, not shown for one that ignores load or prefixes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Sandbox

pytestmark = pytest.mark.sandbox

PROOF = "playbooks/routing_proof.yml"
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


def test_the_counters_are_witness_enough(three: Sandbox) -> None:
    run = three.playbook(PROOF, **THREE, routing_proof_pod_header="")
    assert run.rc == 0, run.output[-4000:]
    assert three.artifact("routing_proof.json")["evidence"]["source"] == "counters"


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
