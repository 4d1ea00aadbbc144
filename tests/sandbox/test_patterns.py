"""One deployment goes from pattern to pattern; nobody who asks its first model notices.

The tests build on one another, in this order; each leaves the deployment as the next one needs it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY, Run, Sandbox

pytestmark = pytest.mark.sandbox

GEMMA, PHI = "google/gemma-2b-it", "microsoft/Phi-3-mini-4k-instruct"
PREFILL = "ms-pattern1-llm-d-modelservice-prefill"


@contextmanager
def asked(sandbox: Sandbox, model: str) -> Iterator[dict[str, Any]]:
    """Requests for a model all the while; afterwards how many there were and what failed."""
    url = sandbox.artifact("verify.json")["endpoint"]
    worker = Path(__file__).with_name("asking.py")
    command = [str(REPOSITORY / "sandbox/sandbox"), "exec", "python3", str(worker), url, model]
    result: dict[str, Any] = {}
    with subprocess.Popen(
        command, env=sandbox.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        try:
            yield result
        finally:
            out, _ = child.communicate(timeout=120)
    result.update(json.loads(out.splitlines()[-1]), lines=out.splitlines()[:-1])


def releases(sandbox: Sandbox) -> set[str]:
    """Names of the helm releases in the deployment's namespace, as their Secrets have them."""
    found = sandbox.exec("kubectl", "get", "secrets", "-n", "llm-d", "-l", "owner=helm", "-o", "json")
    return {item["metadata"]["labels"]["name"] for item in json.loads(found)["items"]}


def completed(run: Run) -> None:
    assert run.rc == 0, run.output[-6000:]


def undisturbed(result: dict[str, Any]) -> None:
    assert result["asked"] > 20
    assert result["failed"] == 0, result["lines"][:10]


@pytest.mark.parametrize(
    ("playbook", "variables", "code"),
    [
        ("pattern2", {"llmd_models": [{"name": GEMMA}, {"name": GEMMA}]}, "MODELS_DUPLICATE"),
        ("pattern2", {"llmd_models": [{"name": GEMMA}, {"name": "google/gemma-7b-it"}]}, "MODEL_DOES_NOT_FIT"),
        ("pattern3", {"llmd_replicas": 40}, "QUOTA_EXCEEDED"),
        ("pattern2", {"llmd_gateway_class": "gke-l7-gxlb"}, "GATEWAY_CLASS_UNFIT"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_made(
    sandbox: Sandbox, playbook: str, variables: dict[str, Any], code: str
) -> None:
    run = sandbox.playbook(f"playbooks/{playbook}.yml", **variables)
    assert run.rc != 0
    assert code in run.output, run.output[-3000:]
    assert "Traceback" not in run.output
    assert sandbox.snapshot()["clusters"] == {}


def test_from_one_model_to_two_and_back(sandbox: Sandbox) -> None:
    completed(sandbox.playbook("playbooks/pattern1.yml"))
    with asked(sandbox, GEMMA) as result:
        completed(sandbox.playbook("playbooks/pattern2.yml"))
    undisturbed(result)
    proof = sandbox.artifact("model_routing.json")
    assert proof["passed"]
    assert proof["claims"][0]["numbers"]["right"] == 500
    assert sandbox.artifact("verify.json")["models"] == [GEMMA, PHI]

    again = sandbox.playbook("playbooks/pattern2.yml", llmd_proof=False)
    completed(again)
    assert again.count("changed") == 0, again.output

    with asked(sandbox, GEMMA) as result:
        completed(sandbox.playbook("playbooks/pattern1.yml"))
    undisturbed(result)
    assert releases(sandbox) == {"infra-pattern1", "gaie-pattern1", "ms-pattern1"}
    left = sandbox.exec("kubectl", "get", "gcproutingextensions,deployments", "-n", "llm-d", "-o", "name")
    assert "body-based-router" not in left
    assert "llm-d-pattern1-models" not in left


def test_prefill_apart_from_decode(sandbox: Sandbox) -> None:
    completed(sandbox.playbook("playbooks/pattern5.yml"))
    claims = {claim["name"] for claim in sandbox.artifact("layout_proof.json")["claims"] if claim["ok"]}
    assert claims == {"servers_apart", "answered", "decided_apart", "prefill_reads", "cache_travels"}


def test_without_prefill_servers_decode_does_it_all(sandbox: Sandbox) -> None:
    sandbox.exec("kubectl", "scale", "deployment", PREFILL, "-n", "llm-d", "--replicas=0")
    selector = "llm-d.ai/role=prefill"
    sandbox.exec("kubectl", "wait", "pods", "-n", "llm-d", "-l", selector, "--for=delete", "--timeout=120s")
    url = sandbox.artifact("verify.json")["endpoint"]
    body = json.dumps({"model": GEMMA, "prompt": "all by itself " * 40, "max_tokens": 4})
    # The sidecar of this version fails until the picker has noticed that there is nobody to ask.
    answer = sandbox.exec(
        *("curl", "-s", "--fail", "--retry", "30", "--retry-all-errors", "--retry-delay", "1", "--max-time", "60"),
        *(f"{url}/v1/completions", "-H", "Content-Type: application/json", "-d", body),
    )
    assert json.loads(answer)["model"] == GEMMA


def test_a_group_over_several_nodes(sandbox: Sandbox) -> None:
    run = sandbox.playbook("playbooks/pattern4.yml", layout_proof_restart=True, llmd_confirm="pattern1")
    completed(run)
    claims = {claim["name"] for claim in sandbox.artifact("layout_proof.json")["claims"] if claim["ok"]}
    assert claims == {"groups_whole", "answered", "every_pod_serves", "restarts_as_one"}


def test_teardown_takes_it_all(sandbox: Sandbox) -> None:
    completed(sandbox.playbook("playbooks/teardown.yml", llmd_confirm="pattern1"))
    assert sandbox.snapshot()["clusters"] == {}
