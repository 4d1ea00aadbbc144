"""The waiter, for the three kinds of operation."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import OperationError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.gcp import operations

REGION = "https://www.googleapis.com/compute/v1/projects/my-project/regions/us-central1"
COMPUTE = {
    "kind": "compute#operation",
    "name": "operation-1",
    "operationType": "insert",
    "status": "RUNNING",
    "region": REGION,
    "selfLink": f"{REGION}/operations/operation-1",
    "targetLink": f"{REGION}/subnetworks/s",
}
GKE = {
    "name": "operation-2",
    "operationType": "CREATE_CLUSTER",
    "status": "RUNNING",
    "zone": "us-central1-a",
    "targetLink": "https://container.googleapis.com/v1/projects/1/zones/us-central1-a/clusters/c",
}


def test_compute_waits_at_the_server(google: Any) -> None:
    google.on("POST", "regions/us-central1/operations/operation-1/wait", COMPUTE, {**COMPUTE, "status": "DONE"})
    session = google.session()
    finished = operations.wait(session, COMPUTE, what="x", timeout=60)
    assert finished.type == "insert"
    assert session.calls == {"compute.regionOperations.wait": 2}


@pytest.mark.parametrize(
    ("extra", "path", "method"),
    [
        ({"zone": "https://x/zones/z"}, "zones/z/operations/operation-1/wait", "compute.zoneOperations.wait"),
        ({}, "global/operations/operation-1/wait", "compute.globalOperations.wait"),
    ],
)
def test_compute_scopes(google: Any, extra: dict[str, str], path: str, method: str) -> None:
    operation = {"kind": "compute#operation", "name": "operation-1", "status": "PENDING", **extra}
    google.on("POST", path, {**operation, "status": "DONE"})
    session = google.session()
    operations.wait(session, operation, what="x", timeout=60)
    assert session.calls == {method: 1}


def test_compute_failure(google: Any) -> None:
    failed = {
        **COMPUTE,
        "status": "DONE",
        "httpErrorStatusCode": 400,
        "error": {"errors": [{"code": "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "message": "used by 'projects/p/f'"}]},
    }
    google.on("POST", "wait", failed)
    with pytest.raises(OperationError) as caught:
        operations.wait(google.session(), COMPUTE, what="Deletion", timeout=60)
    assert caught.value.code == "RESOURCE_IN_USE"
    assert "projects/p/f" in caught.value.why


@pytest.mark.parametrize(
    "end",
    [
        {"error": {"code": 8, "message": "[GCE_STOCKOUT]: the zone does not have enough resources available"}},
        {"statusMessage": "[GCE_STOCKOUT]: creation failed"},
        {"nodepoolConditions": [{"code": "GCE_STOCKOUT", "message": "none left"}]},
    ],
)
def test_container_failure_wherever_it_is_said(google: Any, end: dict[str, Any]) -> None:
    google.on("GET", "locations/us-central1-a/operations/operation-2", GKE, {**GKE, "status": "DONE", **end})
    with pytest.raises(OperationError, match="STOCKOUT"):
        operations.wait(google.session(), GKE, what="Creation", timeout=3600)


def test_a_hopeless_condition_ends_the_wait_early(google: Any) -> None:
    google.on("GET", "operations", GKE, {**GKE, "nodepoolConditions": [{"code": "GCE_STOCKOUT", "message": "none"}]})
    with pytest.raises(OperationError, match="STOCKOUT"):
        operations.wait(google.session(), GKE, what="Creation", timeout=3600)
    assert sum(google.clock.slept) < 10


def test_service_usage(google: Any) -> None:
    operation = {"name": "operations/acat.p2-1-2"}
    google.on("GET", "/v1/operations/acat.p2-1-2$", operation, {**operation, "done": True, "response": {}})
    session = google.session()
    operations.wait(session, operation, what="Enabling", timeout=60)
    assert session.calls == {"serviceusage.operations.get": 2}


def test_done_at_once_asks_nothing(google: Any) -> None:
    operations.wait(google.session(), {"name": "operations/noop.DONE_OPERATION", "done": True}, what="x", timeout=1)
    assert google.requests == []


def test_polls_grow_slower_and_the_deadline_is_named(google: Any) -> None:
    google.on("GET", "operations", {**GKE, "detail": "starting nodes"})
    with pytest.raises(WaitTimeout) as caught:
        operations.wait(google.session(), GKE, what="Creation of cluster c", timeout=100)
    assert caught.value.code == "OPERATION_TIMEOUT"
    assert "starting nodes" in caught.value.why
    assert google.clock.slept == sorted(google.clock.slept[:-1]) + google.clock.slept[-1:]
    assert max(google.clock.slept) <= operations.LONGEST_POLL
    assert sum(google.clock.slept) == pytest.approx(100)


def test_a_watcher_may_give_up(google: Any) -> None:
    google.on("GET", "operations", GKE)

    def watch() -> None:
        raise OperationError("seen", code="STOCKOUT")

    with pytest.raises(OperationError, match="STOCKOUT"):
        operations.wait(google.session(), GKE, what="x", timeout=100, watch=watch)
