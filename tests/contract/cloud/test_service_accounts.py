"""The nodes' own service account: least privilege, other people's policy untouched, found again after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .test_killed_runs import COLLECTIONS, WORKER

Module = Callable[..., dict[str, Any]]
ROLE = "roles/container.defaultNodeServiceAccount"
ACCOUNT: dict[str, Any] = {"name": "d-nodes", "deployment": "d"}
EMAIL = "d-nodes@llmd-sandbox.iam.gserviceaccount.com"
MEMBER = f"serviceAccount:{EMAIL}"
GET = "cloudresourcemanager.projects.getIamPolicy"
SET = "cloudresourcemanager.projects.setIamPolicy"
CONDITION = {"title": "until 2027", "expression": 'request.time < timestamp("2027-01-01T00:00:00Z")'}
FOREIGN = {"role": "roles/viewer", "members": ["user:person@example.com"], "condition": CONDITION}


def policy(emulated: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = emulated.control("snapshot")["policy"]
    return found


def roles(emulated: Any, member: str = MEMBER) -> set[str]:
    return {binding["role"] for binding in policy(emulated) if member in binding["members"]}


def add_foreign(emulated: Any) -> None:
    """A conditional binding of somebody else's; a write in the policy's version 1 would lose it."""
    emulated.control("seed", {"policy": {"version": 3, "bindings": [*policy(emulated), FOREIGN]}})


def accounts(emulated: Any) -> list[str]:
    found: list[str] = emulated.control("snapshot")["serviceAccounts"]
    return found


def test_an_account_comes_stays_and_goes(emulated: Any, module: Module) -> None:
    add_foreign(emulated)
    before = emulated.control("snapshot")
    predicted = module("gcp_service_account", check=True, **ACCOUNT)
    assert predicted["changed"] is True
    assert emulated.control("snapshot") == before
    made = module("gcp_service_account", **ACCOUNT)
    assert made.get("changed") is True, made
    for key in ("name", "email", "description", "roles"):
        assert made["service_account"][key] == predicted["service_account"][key], key
    assert made["service_account"]["email"] == EMAIL
    assert "llmd-deployment=d" in made["service_account"]["description"]
    assert roles(emulated) == {ROLE}
    assert FOREIGN in policy(emulated)
    again = module("gcp_service_account", **ACCOUNT)
    assert (again["changed"], again["adopted"]) == (False, False), again["diff"]
    assert again["api_calls"] == {"iam.projects.serviceAccounts.get": 1, GET: 1}
    more = {**ACCOUNT, "roles": [ROLE, "roles/artifactregistry.reader"]}
    assert module("gcp_service_account", check=True, **more)["changed"] is True
    wider = module("gcp_service_account", **more)
    assert wider["changed"] is True
    assert wider["diff"]["before"]["roles"] == [ROLE]
    assert roles(emulated) == set(more["roles"])
    assert module("gcp_service_account", **ACCOUNT, state="absent", check=True)["changed"] is True
    assert module("gcp_service_account", **{**ACCOUNT, "deployment": "other"}, state="absent")["kept"]
    assert module("gcp_service_account", **ACCOUNT, state="absent")["changed"] is True
    assert module("gcp_service_account", **ACCOUNT, state="absent")["changed"] is False
    assert emulated.control("snapshot") == before, "no binding of a deleted account is left"


def test_nodes_run_as_it_and_can_do_little(emulated: Any, module: Module) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    email = module("gcp_service_account", **ACCOUNT)["service_account"]["email"]
    cluster = {
        "name": "c",
        "location": "us-central1-a",
        "deployment": "d",
        "node_pools": [{"name": "cpu", "node_count": 1, "service_account": email}],
    }
    made = module("gke_cluster", **cluster)
    assert made.get("changed") is True, made
    assert made["cluster"]["node_pools"][0]["service_account"] == email
    (instance,) = emulated.control("snapshot")["compute"]["instances"].values()
    assert instance["serviceAccounts"][0]["email"] == email
    assert module("gke_cluster", **cluster)["changed"] is False
    token = emulated.control("seed", {"tokens": [email]})["tokens"][email]
    refused = module("gcp_services", auth_kind="accesstoken", access_token=token, services=["compute"])
    assert refused["error"]["code"] in ("PERMISSION_DENIED", "SERVICE_UNKNOWN")


def test_an_account_that_is_not_there_is_refused_by_gke(emulated: Any, module: Module) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    pools = [{"name": "cpu", "service_account": "nobody@llmd-sandbox.iam.gserviceaccount.com"}]
    made = module("gke_cluster", name="c", location="us-central1-a", node_pools=pools)
    assert made["error"]["code"] == "INVALID_REQUEST"
    assert "nobody@" in made["msg"]


def test_somebody_elses_account_is_used_and_kept(emulated: Any, module: Module) -> None:
    module("gcp_service_account", name="d-nodes", deployment="other", roles=[])
    before = emulated.control("snapshot")
    found = module("gcp_service_account", **ACCOUNT)
    assert (found["changed"], found["adopted"], found["missing"]) == (False, True, [ROLE])
    assert any("add-iam-policy-binding" in warning for warning in emulated.warnings)
    assert module("gcp_service_account", **ACCOUNT, state="absent")["kept"]
    assert emulated.control("snapshot") == before
    assert module("gcp_service_account", **ACCOUNT, state="absent", force=True)["changed"] is True


def test_two_writers_lose_nothing(emulated: Any, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our reading and our writing somebody else writes: refused by etag, read again, both are there."""
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import policies

    real, reads = policies.get, []

    def get(session: Any) -> Any:
        found = real(session)
        reads.append(found["etag"])
        if len(reads) == 1:
            add_foreign(emulated)
        return found

    monkeypatch.setattr(policies, "get", get)
    made = module("gcp_service_account", **ACCOUNT)
    assert made.get("changed") is True, made
    assert made["api_calls"][SET] == made["api_calls"][GET] == 2
    assert roles(emulated) == {ROLE}
    assert FOREIGN in policy(emulated)


def test_googles_own_words_for_a_race(emulated: Any, module: Module) -> None:
    emulated.plant(
        method=SET,
        http=409,
        times=2,
        status="ABORTED",
        message="There were concurrent policy changes. Please retry the whole read-modify-write.",
    )
    made = module("gcp_service_account", **ACCOUNT)
    assert made.get("changed") is True, made
    assert made["api_calls"][GET] == made["api_calls"][SET] == 3


def test_an_account_that_is_not_known_everywhere_yet_is_waited_for(emulated: Any, module: Module) -> None:
    message = f"Service account {EMAIL} does not exist."
    emulated.plant(method=SET, http=400, times=2, status="INVALID_ARGUMENT", message=message)
    made = module("gcp_service_account", **ACCOUNT)
    assert made.get("changed") is True, made
    assert roles(emulated) == {ROLE}


def test_a_lost_answer_makes_no_second_account(emulated: Any, module: Module) -> None:
    emulated.plant(method="iam.projects.serviceAccounts.create", answer="reset", late=True)
    made = module("gcp_service_account", **ACCOUNT)
    assert made.get("changed") is True, made
    assert made["adopted"] is False
    assert accounts(emulated).count(EMAIL) == 1
    assert roles(emulated) == {ROLE}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "Nodes"}, "SERVICE_ACCOUNT_INVALID"),
        ({"name": "short"}, "SERVICE_ACCOUNT_INVALID"),
        ({"roles": ["logWriter"]}, "SERVICE_ACCOUNT_INVALID"),
        ({"roles": ["roles/no.such"]}, "INVALID_REQUEST"),
    ],
)
def test_bad_options(emulated: Any, module: Module, options: dict[str, Any], code: str) -> None:
    result = module("gcp_service_account", **{**ACCOUNT, **options})
    assert result["error"]["code"] == code, result
    if code == "SERVICE_ACCOUNT_INVALID":
        assert result["api_calls"] == {}


def test_without_the_right_to_bind(emulated: Any, module: Module) -> None:
    emulated.plant(words=["permission-missing", "resourcemanager.projects.setIamPolicy"])
    assert module("gcp_service_account", **ACCOUNT)["error"]["code"] == "PERMISSION_DENIED"
    emulated.control("faults", verb="DELETE")
    assert module("gcp_service_account", **ACCOUNT)["changed"] is True
    assert roles(emulated) == {ROLE}


def kill(emulated: Any, method: str, options: dict[str, Any]) -> None:
    """Run the module and kill it while ``method`` hangs in a planted delay, before it did its work."""
    emulated.plant(method=method, http=503, delay=20, times=1)
    process = subprocess.Popen(
        [sys.executable, str(WORKER), "gcp_service_account"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"project": "llmd-sandbox", **options}))
    process.stdin.close()
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None and emulated.control("faults")["faults"]:
        time.sleep(0.02)
    process.kill()
    process.wait(10)
    assert process.returncode == -9, process.stdout.read() if process.stdout else ""
    assert emulated.control("faults")["faults"] == [], "the module was killed before it came to the call"


def test_a_killed_run_is_finished_by_the_next(emulated: Any, module: Module) -> None:
    before = emulated.control("snapshot")
    kill(emulated, SET, ACCOUNT)  # the account is there, its role is not
    assert (EMAIL in accounts(emulated), roles(emulated)) == (True, set())
    finished = module("gcp_service_account", **ACCOUNT)
    assert (finished["changed"], finished["adopted"], roles(emulated)) == (True, False, {ROLE})
    assert module("gcp_service_account", **ACCOUNT)["changed"] is False
    kill(emulated, "iam.projects.serviceAccounts.delete", {**ACCOUNT, "state": "absent"})  # its role is gone, it is not
    assert (EMAIL in accounts(emulated), roles(emulated)) == (True, set())
    assert module("gcp_service_account", **ACCOUNT, state="absent")["changed"] is True
    assert emulated.control("snapshot") == before


def test_preflight_knows_what_the_account_needs(emulated: Any, module: Module, tmp_path: Path) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    options = {"zone": "us-central1-a", "services": ["compute", "container"], "require_helm": False, "hf_token": ""}
    emulated.plant(words=["permission-missing", "resourcemanager.projects.setIamPolicy"])
    found = module("gcp_preflight", **options, service_account="d-nodes")
    assert found["error"]["code"] == "PERMISSION_MISSING"
    assert "roles/resourcemanager.projectIamAdmin" in found["msg"]
    assert module("gcp_preflight", **options)["passed"] is True, "nothing is made: the right is not needed"
    for given, code in (
        ("nobody@llmd-sandbox.iam.gserviceaccount.com", "SERVICE_ACCOUNT_NOT_FOUND"),
        ("Nodes", "SERVICE_ACCOUNT_INVALID"),
    ):
        assert code in module("gcp_preflight", **options, service_account=given)["msg"]
    emulated.control("faults", verb="DELETE")
    module("gcp_service_account", **ACCOUNT)
    assert module("gcp_preflight", **options, service_account=EMAIL)["passed"] is True
