"""One deployment goes from pattern to pattern; nobody who asks its first model notices.

The tests build on one another, in this order; each leaves the deployment as the next one needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run, Sandbox
from .test_life import streams

pytestmark = [pytest.mark.sandbox, pytest.mark.long]

GEMMA, PHI = "google/gemma-2b-it", "microsoft/Phi-3-mini-4k-instruct"
PHI_POOL = "gaie-pattern1-phi-3-mini-4k-instruct"
NAMESPACE = "llm-d"


def meanwhile(sandbox: Sandbox, folder: Path, playbook: str, **variables: Any) -> str:
    """Run a playbook while two clients ask the first model on and on: no request may be lost. How many there were."""
    with streams(sandbox, folder / Path(playbook).stem, 2, 40) as end:
        completed(sandbox.playbook(playbook, **variables))
        seen = end()
    assert (seen["lost"], seen["refused"]) == (0, 0), seen
    assert seen["answered"] == seen["sent"] > 20, seen
    return f"{seen['sent']} requests meanwhile, none lost or refused"


def completed(run: Run) -> Run:
    assert run.rc == 0, run.output[-6000:]
    return run


def test_from_one_replica_to_three_and_back(sandbox: Sandbox, tmp_path: Path, figure: Callable[[str], None]) -> None:
    completed(sandbox.playbook("playbooks/pattern1.yml"))
    # Its proof has a test of its own (test_routing.py).
    figure("pattern1 to pattern3: " + meanwhile(sandbox, tmp_path, "playbooks/pattern3.yml", llmd_proof=False))

    completed(sandbox.playbook("playbooks/routing_comparison.yml"))
    found = sandbox.artifact("routing_comparison.json")
    picker, turns = found["picker"], found["round_robin"]
    for name, way in (("picker", picker), ("taking turns", turns)):
        times = f"p50 {way['ttft_p50'] * 1000:.0f} ms, p90 {way['ttft_p90'] * 1000:.0f} ms"
        figure(f"pattern3, {name}: {way['hit_ratio']:.2f} of the prompts cached, first token {times}")
    assert len(turns["pods"]) == 3
    assert picker["hit_ratio"] >= 0.8
    assert turns["hit_ratio"] <= 0.45

    figure("pattern3 to pattern1: " + meanwhile(sandbox, tmp_path, "playbooks/pattern1.yml"))


def test_a_second_model_comes_without_a_lost_request(
    sandbox: Sandbox, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    figure("pattern1 to pattern2: " + meanwhile(sandbox, tmp_path, "playbooks/pattern2.yml"))
    proof = sandbox.artifact("model_routing.json")
    assert proof["passed"]
    assert proof["claims"][0]["numbers"]["right"] == 500
    assert sandbox.artifact("verify.json")["models"] == [GEMMA, PHI]

    again = completed(sandbox.playbook("playbooks/pattern2.yml", llmd_proof=False))
    assert again.count("changed") == 0, again.output


def test_status_and_diagnosis_see_both_models(sandbox: Sandbox) -> None:
    completed(sandbox.playbook("playbooks/status.yml"))
    pools = {pool["model"]: pool for pool in sandbox.artifact("status.json")["pools"]}
    assert {name: pool["replicas"] for name, pool in pools.items()} == {
        GEMMA: {"wanted": 1, "ready": 1},
        PHI: {"wanted": 1, "ready": 1},
    }
    assert pools[PHI]["pool"] == PHI_POOL
    assert [found for found in sandbox.artifact("status.json")["findings"] if found["severity"] == "error"] == []

    sandbox.exec("kubectl", "scale", "deployment", f"{PHI_POOL}-epp", "-n", NAMESPACE, "--replicas=0")
    found = sandbox.playbook("playbooks/diagnose.yml")
    sandbox.exec("kubectl", "scale", "deployment", f"{PHI_POOL}-epp", "-n", NAMESPACE, "--replicas=1")
    assert found.rc != 0
    assert "PICKER_NOT_READY" in found.output
    assert f"{PHI_POOL}-epp" in found.output
    assert not (sandbox.home / ".llmd/pattern1/.kubeconfig-look").exists()
