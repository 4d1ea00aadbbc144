"""Pause, resume and teardown with planted orphans, on a deployment of its own in the session's sandbox."""

from __future__ import annotations

import json
import sys
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
