"""Every refusal of Google's that we know of, planted in the emulator: its own code, and Google's words kept."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Emulated, start
from .fault_cases import CASES, FOREIGN, GET, SKEWED, Case

CLUSTERS = "projects/llmd-sandbox/locations/us-central1-a/clusters"
SUBNETS = "projects/llmd-sandbox/regions/us-central1/subnetworks"
SUBNET: dict[str, Any] = {
    "name": "proxies",
    "network": "projects/llmd-sandbox/global/networks/default",
    "ipCidrRange": "192.168.0.0/23",
    "purpose": "REGIONAL_MANAGED_PROXY",
    "role": "ACTIVE",
}
POOL = {"name": "default-pool", "initialNodeCount": 1}
# method -> (verb, path, body) of a request that is good by itself
REQUESTS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "compute.subnetworks.insert": ("POST", SUBNETS, SUBNET),
    "compute.subnetworks.delete": ("DELETE", f"{SUBNETS}/default", None),
    "container.projects.locations.clusters.get": ("GET", f"{CLUSTERS}/c", None),
    "container.projects.locations.clusters.create": ("POST", CLUSTERS, {"cluster": {"nodePools": [POOL]}}),
    "container.projects.locations.clusters.nodePools.create": ("POST", f"{CLUSTERS}/c/nodePools", {"nodePool": POOL}),
    "serviceusage.services.batchEnable": (
        "POST",
        "projects/llmd-sandbox/services:batchEnable",
        {"serviceIds": ["dns.googleapis.com"]},
    ),
    "cloudresourcemanager.projects.get": ("GET", "projects/llmd-sandbox", None),
    "cloudresourcemanager.projects.testIamPermissions": (
        "POST",
        "projects/llmd-sandbox:testIamPermissions",
        {"permissions": ["compute.zones.get"]},
    ),
    "cloudresourcemanager.projects.setIamPolicy": (
        "POST",
        "projects/llmd-sandbox:setIamPolicy",
        {"policy": {"bindings": []}},
    ),
    "iam.projects.serviceAccounts.create": (
        "POST",
        "projects/llmd-sandbox/serviceAccounts",
        {"accountId": "d-nodes"},
    ),
}


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    """One emulated project for the whole table; every case clears what it planted."""
    process, found = start(tmp_path_factory.mktemp("emulator"), 0)
    before = dict(os.environ)
    os.environ.update({k: v for k, v in found.environment.items() if not k.startswith("CLOUDSDK")})
    os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    try:
        found.control("services", {"enable": [f"{name}.googleapis.com" for name in ("compute", "container")]})
        yield found
    finally:
        os.environ.clear()
        os.environ.update(before)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(15)


def provoke(method: str) -> Exception:
    """Send the request, wait for its operation; the error that came of it."""
    from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments, operations
    from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import (
        GoogleSession,
        RetryPolicy,
        resolve_endpoints,
    )

    transport = arguments.RequestsTransport(
        arguments.credentials.AuthSettings.from_params({"auth_kind": "application"})
    )
    endpoints = resolve_endpoints(None, os.environ)
    session = GoogleSession(transport, project="llmd-sandbox", endpoints=endpoints, policy=RetryPolicy(transient=0.0))
    verb, path, body = REQUESTS[method]
    if body and "cluster" in body:  # a cluster that failed stays
        body = {"cluster": {**body["cluster"], "name": f"c{uuid.uuid4().hex[:8]}"}}
    try:
        answer = session.call(method, verb, path, body=body)
        operations.wait(session, answer, what="It", timeout=20, location="us-central1-a")
    except LlmdError as error:
        return error
    raise AssertionError(f"{method} went well: {answer}")


FOUND: dict[str, str] = {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_refusal_has_its_code(google: Emulated, case: Case) -> None:
    google.plant(**case.spec)
    try:
        error: Any = provoke(case.method)
    finally:
        google.control("faults", verb="DELETE")
    FOUND[case.name] = error.code
    assert error.code == case.code, error
    assert error.remedy
    kept = json.dumps(error.evidence)
    assert json.dumps(case.fault["message"])[1:-1] in kept, "Google's own words are the evidence"
    for word in case.says:
        assert word in f"{error.why}\n{error.remedy}"


@pytest.mark.parametrize(("name", "fault", "code"), FOREIGN, ids=[name for name, _, _ in FOREIGN])
def test_what_is_not_googles_answer(google: Emulated, name: str, fault: dict[str, Any], code: str) -> None:
    google.plant(method=GET, times=9, **fault)
    try:
        error: Any = provoke(GET)
    finally:
        google.control("faults", verb="DELETE")
    FOUND[name] = error.code
    assert error.code == code, error
    assert error.remedy


def test_the_count(figure: Callable[[str], None]) -> None:
    planted = {case.name: case.code for case in CASES} | {name: code for name, _, code in FOREIGN}
    right = [name for name, code in planted.items() if FOUND.get(name) == code]
    figure(f"fault suite: {len(planted)} planted, {len(right)} recognised, {len(set(planted.values()))} codes")
    assert len(right) == len(planted) or len(FOUND) < len(planted)  # a selection of cases has no full count


def test_a_lost_answer_makes_no_second_subnet(emulated: Emulated, module: Any) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com"]})
    emulated.plant(method="compute.subnetworks.insert", answer="reset", late=True)
    made = module("gcp_proxy_subnet", region="us-central1", range="192.168.0.0/23", deployment="d")
    assert made.get("failed") is None, made
    assert made["subnetwork"]["state"] == "READY"
    subnets = emulated.control("snapshot")["compute"]
    assert json.dumps(subnets).count("REGIONAL_MANAGED_PROXY") == 1


def test_a_clock_that_is_wrong_has_its_code(emulated: Emulated, module: Any) -> None:
    key = Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    for text in SKEWED:
        emulated.plant(method="oauth.token", http=400, message=text, times=9)
        found = module("gcp_services", auth_kind="serviceaccount", service_account_file=str(key), services=["compute"])
        assert found["error"]["code"] == "CLOCK_SKEW", found["msg"]
        assert text[:30] in found["msg"], "Google's own words are kept"
        emulated.control("faults", verb="DELETE")


def test_a_token_that_ends_on_the_way_is_renewed(emulated: Emulated, module: Any) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com"]})
    emulated.plant(name="token-expired")
    made = module("gcp_proxy_subnet", region="us-central1", range="192.168.0.0/23", deployment="d")
    assert made.get("failed") is None, made


def test_an_api_that_needs_time_to_spread_is_waited_for(emulated: Emulated, module: Any) -> None:
    emulated.plant(words=["api-propagation", "3", "compute"])
    assert module("gcp_services", services=["compute"])["changed"] is True
    made = module(
        "gcp_proxy_subnet", region="us-central1", range="192.168.0.0/23", deployment="d", api_propagation_timeout=30
    )
    assert made.get("failed") is None, made
