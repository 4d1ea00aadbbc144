"""The runbook's Google half, by our modules, on an empty emulated project and back to empty."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
SERVICES = {"services": ["compute", "container", "networkservices"]}
SUBNET: dict[str, Any] = {"region": "us-central1", "range": "192.168.0.0/23", "deployment": "pattern1"}
WHERE = {"location": "us-central1-a"}
GPU: dict[str, Any] = {
    "name": "gpu-pool",
    "machine_type": "n1-standard-4",
    "node_count": 1,
    "accelerator": {"type": "nvidia-tesla-t4", "count": 1, "driver_version": "default"},
    "autoscaling": {"min": 0, "max": 3},
    "spot": False,
}
CLUSTER: dict[str, Any] = {
    **WHERE,
    "name": "llm-d-cluster",
    "release_channel": "REGULAR",
    "deployment": "pattern1",
    "node_pools": [{"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2}, GPU],
}
PREFLIGHT: dict[str, Any] = {
    "region": "us-central1",
    "zone": "us-central1-a",
    "node_pools": [
        {"machine_type": "n1-standard-4", "node_count": 2},
        {"machine_type": "n1-standard-4", "node_count": 1, "accelerator": {"type": "nvidia-tesla-t4", "count": 1}},
    ],
    "proxy_subnet_range": "192.168.0.0/23",
    "require_helm": False,
    "hf_token": "",
}


@pytest.fixture
def ready(module: Module) -> Module:
    assert module("gcp_services", **SERVICES)["changed"] is True
    return module


def test_from_nothing_to_everything_and_back(emulated: Any, module: Module, tmp_path: Path) -> None:
    first = module("gcp_preflight", **PREFLIGHT)
    assert first["passed"] is True, first
    assert any(check["severity"] == "unknown" for check in first["checks"])  # compute is not enabled yet

    predicted = module("gcp_services", check=True, **SERVICES)
    made = module("gcp_services", **SERVICES)
    assert predicted["changed"] is made["changed"] is True
    assert predicted["services"] == made["services"]
    assert module("gcp_services", **SERVICES)["changed"] is False

    before = emulated.control("snapshot")

    full = module("gcp_preflight", **PREFLIGHT)
    assert full["passed"] is True, full
    assert {check["severity"] for check in full["checks"]} == {"ok"}, full["checks"]

    assert module("gcp_proxy_subnet", check=True, **SUBNET)["changed"] is True
    subnet = module("gcp_proxy_subnet", **SUBNET)
    assert subnet["changed"] is True, subnet
    assert subnet["subnetwork"]["state"] == "READY"
    again = module("gcp_proxy_subnet", **SUBNET)
    assert (again["changed"], again["adopted"]) == (False, False)

    planned = module("gke_cluster", check=True, **CLUSTER)
    assert (planned["changed"], planned["exists"]) == (True, False)
    cluster = module("gke_cluster", **CLUSTER)
    assert cluster["changed"] is True, cluster
    assert cluster["cluster"]["gateway_api"] == "standard"
    for wanted, real in zip(planned["cluster"]["node_pools"], cluster["cluster"]["node_pools"], strict=True):
        for key in ("name", "machine_type", "accelerator", "autoscaling", "initial_node_count", "labels", "taints"):
            assert wanted[key] == real[key], key
    second = module("gke_cluster", **CLUSTER)
    assert (second["changed"], second["adopted"]) == (False, False), second["diff"]
    assert sum(second["api_calls"].values()) == 1

    path = tmp_path / "kubeconfig"
    access = module("gke_credentials", cluster="llm-d-cluster", path=str(path), **WHERE)
    assert access["changed"] is True
    assert access["host"].startswith("https://")
    assert access["expires_at"]
    assert module("gke_credentials", cluster="llm-d-cluster", path=str(path), **WHERE)["changed"] is False

    gone = {"name": "llm-d-cluster", "deployment": "pattern1", "state": "absent", **WHERE}
    assert module("gke_cluster", check=True, **gone)["changed"] is True
    assert module("gke_cluster", **gone)["changed"] is True
    assert module("gke_cluster", **gone)["changed"] is False
    away = {"region": "us-central1", "deployment": "pattern1", "state": "absent"}
    assert module("gcp_proxy_subnet", **away)["changed"] is True
    assert module("gcp_proxy_subnet", **away)["changed"] is False
    assert emulated.control("snapshot") == before
    undo = module("gcp_services", state="absent", services=made["enabled"])
    assert undo.get("changed") is True, undo


def test_node_pools(ready: Module) -> None:
    without = {**CLUSTER, "node_pools": CLUSTER["node_pools"][:1]}
    assert ready("gke_cluster", **without)["changed"] is True
    pool = {"cluster": "llm-d-cluster", **WHERE, **GPU}
    made = ready("gke_node_pool", **pool)
    assert made["changed"] is True, made
    assert ready("gke_node_pool", **pool)["changed"] is False
    assert ready("gke_node_pool", size=1, **pool)["changed"] is False
    grown = ready("gke_node_pool", size=2, **pool)
    assert grown["changed"] is True, grown
    assert grown["node_pool"]["size"] == 2
    assert ready("gke_node_pool", size=2, **pool)["changed"] is False
    scaled = {**pool, "autoscaling": {"min": 1, "max": 2}, "labels": {"team": "ai"}}
    updated = ready("gke_node_pool", **scaled)
    assert updated["changed"] is True, updated
    assert updated["node_pool"]["autoscaling"] == {"min": 1, "max": 2}
    assert updated["node_pool"]["labels"] == {"team": "ai"}
    assert ready("gke_node_pool", **scaled)["changed"] is False
    refused = ready("gke_node_pool", **{**pool, "accelerator": {"type": "nvidia-l4"}})
    assert refused["error"]["code"] == "NODE_POOL_IMMUTABLE"
    whole = ready("gke_cluster", **{**CLUSTER, "node_pools": [without["node_pools"][0], {**GPU, "autoscaling": None}]})
    assert whole["changed"] is False, whole["diff"]
    away = {"cluster": "llm-d-cluster", **WHERE, "name": "gpu-pool", "state": "absent"}
    assert ready("gke_node_pool", **away)["changed"] is True
    assert ready("gke_node_pool", **away)["changed"] is False


def test_an_existing_cluster_gets_the_gateway_api_and_missing_pools(ready: Module) -> None:
    bare = {**CLUSTER, "gateway_api": "disabled", "node_pools": CLUSTER["node_pools"][:1]}
    assert ready("gke_cluster", **bare)["cluster"]["gateway_api"] == "disabled"
    wanted = {**CLUSTER, "labels": {"team": "ai"}, "release_channel": "RAPID"}
    predicted = ready("gke_cluster", check=True, **wanted)
    result = ready("gke_cluster", **wanted)
    assert predicted["changed"] is result["changed"] is True, result
    assert len(result["operations"]) == 4  # Gateway API, release channel, labels, pool
    assert result["operations"][-1]["type"] == "CREATE_NODE_POOL"
    assert result["cluster"]["gateway_api"] == "standard"
    assert result["cluster"]["labels"]["team"] == "ai"
    assert ready("gke_cluster", **wanted)["changed"] is False


@pytest.mark.parametrize(
    ("cidr", "code"),
    [
        ("10.129.0.0/23", "CIDR_RESERVED_RANGE"),
        ("192.168.0.1/23", "CIDR_HOST_BITS"),
        ("192.168.0.0/28", "CIDR_TOO_SMALL"),
        ("nonsense", "CIDR_INVALID"),
    ],
)
def test_bad_ranges(ready: Module, cidr: str, code: str) -> None:
    assert ready("gcp_proxy_subnet", **{**SUBNET, "range": cidr})["error"]["code"] == code


def test_googles_own_refusal_has_the_same_code(emulated: Any, ready: Module) -> None:
    """What we foresee and what the API says are one case."""
    from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments, subnetworks

    session = arguments.open_session({"project": "llmd-sandbox"})
    want = subnetworks.ProxySubnet("x", "default", "us-central1", "10.129.0.0/23")
    with pytest.raises(GoogleApiError) as caught:
        session.call(
            "compute.subnetworks.insert",
            "POST",
            "projects/llmd-sandbox/regions/us-central1/subnetworks",
            body=subnetworks.request_body(want, "llmd-sandbox"),
        )
    assert caught.value.code == "CIDR_RESERVED_RANGE"


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        (
            "gcp_services",
            {"services": ["compute"], "project": "no-such-project"},
            {"PROJECT_NOT_FOUND", "PERMISSION_DENIED"},
        ),
        ("gcp_services", {"services": ["nonsense"]}, {"SERVICE_UNKNOWN"}),
        ("gke_cluster", {**CLUSTER, "location": "us-moon1-a"}, {"ZONE_NOT_FOUND"}),
        ("gcp_proxy_subnet", {**SUBNET, "network": "nonsense"}, {"NETWORK_NOT_FOUND"}),
        ("gcp_proxy_subnet", {**SUBNET, "region": "us-moon1"}, {"ZONE_NOT_FOUND"}),
        ("gke_credentials", {"cluster": "none", **WHERE}, {"CLUSTER_NOT_FOUND"}),
        ("gcp_preflight", {**PREFLIGHT, "project": "no-such-project"}, {"PROJECT_NOT_FOUND"}),
        ("gcp_preflight", {**PREFLIGHT, "zone": "us-central1-z"}, {"ZONE_NOT_FOUND"}),
        ("gcp_preflight", {**PREFLIGHT, "auth_kind": "accesstoken", "access_token": "nonsense"}, {"UNAUTHENTICATED"}),
        ("gke_cluster", {**CLUSTER, "auth_kind": "accesstoken", "access_token": "nonsense"}, {"UNAUTHENTICATED"}),
    ],
)
def test_named_errors(ready: Module, name: str, options: dict[str, Any], code: set[str]) -> None:
    result = ready(name, **options)
    assert result["failed"] is True
    assert result["error"]["code"] in code, result["msg"]
    assert result["error"]["remedy"]


def test_a_disabled_api_is_named(module: Module) -> None:
    for name, options in (("gke_cluster", CLUSTER), ("gcp_proxy_subnet", SUBNET)):
        error = module(name, **options)["error"]
        assert error["code"] == "API_DISABLED"
        assert "gcloud services enable" in error["remedy"]


def test_passing_faults_are_sat_out(emulated: Any, ready: Module) -> None:
    emulated.plant(method="container.projects.locations.clusters.create", http=503, times=1)
    emulated.plant(method="container.projects.locations.operations.get", http=429, times=1)
    result = ready("gke_cluster", **CLUSTER)
    assert result["changed"] is True, result
    assert result["api_calls"]["container.projects.locations.clusters.create"] == 2


@pytest.mark.parametrize("emulated", [600], indirect=True)
def test_stock_runs_out(emulated: Any, ready: Module) -> None:
    emulated.plant(name="stockout", zone="us-central1-a")
    result = ready("gke_cluster", **CLUSTER)
    assert result["error"]["code"] == "STOCKOUT", result["msg"]


@pytest.mark.parametrize("emulated", [300], indirect=True)
def test_a_killed_runs_cluster_is_finished(emulated: Any, ready: Module) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments, clusters
    from ansible_collections.llmd.gke.plugins.modules import gke_cluster

    session = arguments.open_session({"project": "llmd-sandbox"})
    options = {"network": "default", "subnetwork": "", "version": "", "gateway_api": "standard", "labels": {}}
    options |= {"creation_labels": {}, "change_adopted": False, "workload_identity": True, "timeout": 600}
    want = gke_cluster.wanted({**options, **CLUSTER})
    path = "projects/llmd-sandbox/locations/us-central1-a/clusters"
    session.call(clusters.METHOD + "create", "POST", path, body=clusters.creation_body(want, "llmd-sandbox"))
    predicted = ready("gke_cluster", check=True, **CLUSTER)
    assert predicted["cluster"]["status"] == "PROVISIONING"
    result = ready("gke_cluster", **CLUSTER)
    assert result["changed"] is False, result
    assert result["cluster"]["status"] == "RUNNING"
    assert "container.projects.locations.clusters.create" not in result["api_calls"]


@pytest.mark.parametrize("emulated", [120], indirect=True)
def test_a_busy_cluster_is_waited_for(emulated: Any, ready: Module) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments, pool_updates

    assert ready("gke_cluster", **CLUSTER)["changed"] is True
    session = arguments.open_session({"project": "llmd-sandbox"})
    path = "projects/llmd-sandbox/locations/us-central1-a/clusters/llm-d-cluster/nodePools/default-pool"
    change = pool_updates.size_change(3)
    session.call(change.method, change.verb, path + change.suffix, body={"name": path, **change.body})
    pool = {"cluster": "llm-d-cluster", **WHERE, **GPU, "autoscaling": {"min": 0, "max": 2}}
    result = ready("gke_node_pool", **pool)
    assert result["changed"] is True, result
    assert result["api_calls"][change.method.replace("setSize", "setAutoscaling")] > 1


def test_quota_in_preflight_and_in_creation(emulated: Any, ready: Module) -> None:
    emulated.plant(name="gpu-quota", limit=0)
    found = ready("gcp_preflight", **PREFLIGHT)
    assert found["error"]["code"] in ("QUOTA_EXCEEDED", "PREFLIGHT_FAILED"), found["msg"]
    assert "NVIDIA_T4_GPUS" in found["msg"]
    assert ready("gke_cluster", **CLUSTER)["error"]["code"] == "QUOTA_EXCEEDED"


def test_an_editor_misses_a_permission(emulated: Any, ready: Module) -> None:
    key = emulated.environment["GOOGLE_APPLICATION_CREDENTIALS"].replace("service-account.json", "editor.json")
    found = ready("gcp_preflight", auth_kind="serviceaccount", service_account_file=key, **PREFLIGHT)
    assert "PERMISSION_MISSING" in found["msg"]
    assert "container.clusterRoles.create" in found["msg"]
    assert "roles/container.admin" in found["msg"]


def test_backend_health_of_a_named_service(emulated: Any, ready: Module) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments, health

    session = arguments.open_session({"project": "llmd-sandbox"})
    (missing,) = health.backend_health(session, "llmd-sandbox", "us-central1", ["gkegw1-none"])
    assert missing.exists is False


def test_google_urls_through_the_proxy(emulated: Any, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """No override anywhere: production addresses, TLS, our CA. What works here has the right URLs."""
    for name in list(emulated.environment):
        if name.startswith("LLMD_GKE_API_ENDPOINT_"):
            monkeypatch.delenv(name)
    for name, value in emulated.proxy.items():
        monkeypatch.setenv(name, value if name.lower() != "no_proxy" else "127.0.0.1")
    assert module("gcp_services", **SERVICES)["changed"] is True
    assert module("gcp_proxy_subnet", **SUBNET)["changed"] is True
    assert module("gke_cluster", **CLUSTER)["changed"] is True


@pytest.mark.parametrize("emulated", [60], indirect=True)
def test_a_stockout_ends_the_wait_early_and_the_operation(
    emulated: Any, ready: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GKE's own operation would take 35 modelled minutes (35 s here) to give up."""
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import pool_watch

    monkeypatch.setattr(pool_watch, "LOOK_SECONDS", 0.5)
    emulated.control("speed", {"speed": 0})
    assert ready("gke_cluster", **{**CLUSTER, "node_pools": CLUSTER["node_pools"][:1]})["changed"] is True
    emulated.control("speed", {"speed": 60})
    emulated.plant(name="stockout", zone="us-central1-a")
    began = time.monotonic()
    result = ready("gke_node_pool", cluster="llm-d-cluster", cancel_on_timeout=True, **WHERE, **GPU)
    assert time.monotonic() - began < 15
    assert result["error"]["code"] == "STOCKOUT", result["msg"]
    assert "was cancelled" in result["error"]["why"]
    assert result["api_calls"]["container.projects.locations.operations.cancel"] == 1
    emulated.control("faults", verb="DELETE")
    emulated.control("speed", {"speed": 0})
    away = {"cluster": "llm-d-cluster", **WHERE, "name": "gpu-pool", "state": "absent"}
    assert ready("gke_node_pool", **away)["changed"] is True
    assert ready("gke_node_pool", cluster="llm-d-cluster", **WHERE, **GPU)["changed"] is True


@pytest.mark.parametrize("cancel", [True, False])
def test_the_deadline_bounds_the_whole_task(emulated: Any, ready: Module, cancel: bool) -> None:
    emulated.control("speed", {"speed": 0})
    assert ready("gke_cluster", **{**CLUSTER, "node_pools": CLUSTER["node_pools"][:1]})["changed"] is True
    emulated.control("speed", {"speed": 1})
    began = time.monotonic()
    pool = {"cluster": "llm-d-cluster", **WHERE, **GPU}
    late = ready("gke_node_pool", timeout=2, cancel_on_timeout=cancel, **pool)
    assert time.monotonic() - began < 10
    assert late["error"]["code"] == "OPERATION_TIMEOUT"
    assert ("was cancelled" if cancel else "goes on by itself") in late["error"]["why"]
    emulated.control("speed", {"speed": 0})
    finished = ready("gke_node_pool", **pool)
    assert finished["node_pool"]["status"] == ("RUNNING_WITH_ERROR" if cancel else "RUNNING"), finished
    kinds = [op["operationType"] for op in emulated.control("operations")["operations"] if "operationType" in op]
    assert kinds.count("CREATE_NODE_POOL") == 1


def test_a_clusters_settings(emulated: Any, ready: Module) -> None:
    first = {
        **CLUSTER,
        "node_pools": CLUSTER["node_pools"][:1],
        "version": "1.34",
        "private_nodes": True,
        "authorized_networks": [{"cidr": "203.0.113.0/24", "name": "office"}],
        "maintenance_window": {"start": "03:00"},
    }
    predicted = ready("gke_cluster", check=True, **first)["cluster"]
    made = ready("gke_cluster", **first)
    assert made.get("changed") is True, made
    for key in ("private_nodes", "authorized_networks", "maintenance_window", "release_channel"):
        assert made["cluster"][key] == predicted[key], key
    assert any("Cloud NAT" in warning for warning in emulated.warnings)
    again = ready("gke_cluster", **first)
    assert (again["changed"], sum(again["api_calls"].values())) == (False, 1), again["diff"]
    weekly = {"start": "2026-01-03T00:00:00Z", "end": "2026-01-03T06:00:00Z", "recurrence": "FREQ=WEEKLY;BYDAY=SA"}
    second = {
        **first,
        "version": "1.35",
        "release_channel": "STABLE",
        "authorized_networks": [],
        "maintenance_window": weekly,
    }
    changed = ready("gke_cluster", **second)
    assert changed.get("changed") is True, changed
    assert changed["cluster"]["version"].startswith("1.35.")
    assert changed["cluster"]["authorized_networks"] == []
    assert changed["cluster"]["maintenance_window"] == weekly
    assert changed["cluster"]["release_channel"] == "STABLE"
    assert len(changed["operations"]) == 4
    assert ready("gke_cluster", **second)["changed"] is False
    assert ready("gke_cluster", **first, check=True)["cluster"]["version"].startswith("1.35.")  # never back
    for wrong in ({"private_nodes": False}, {"network": "other"}):
        refused = ready("gke_cluster", **{**second, **wrong})
        assert refused["error"]["code"] == "CLUSTER_IMMUTABLE"
        assert next(iter(wrong)) in refused["error"]["why"]
    moved = ready("gke_cluster", **{**second, "location": "us-central1-b"})
    assert moved["error"]["code"] == "CLUSTER_IMMUTABLE"
    assert "us-central1-a" in moved["error"]["what"]


def test_a_pool_whose_nodes_stand_together(emulated: Any, ready: Module) -> None:
    fabric: dict[str, Any] = {
        "placement": {"type": "compact"},
        "gvnic": True,
        "additional_networks": [{"network": "rdma", "subnetwork": f"rdma-{number}"} for number in range(2)],
    }
    gpu = CLUSTER["node_pools"][1]
    first = {
        **CLUSTER,
        "node_pools": [CLUSTER["node_pools"][0], {**gpu, **fabric}],
        "dataplane_v2": True,
        "multi_networking": True,
    }
    predicted = ready("gke_cluster", check=True, **first)["cluster"]
    made = ready("gke_cluster", **first)
    assert made.get("changed") is True, made
    assert made["cluster"]["dataplane_v2"] is made["cluster"]["multi_networking"] is True
    for seen in (predicted["node_pools"][1], made["cluster"]["node_pools"][1]):
        assert seen["placement"] == {"type": "compact", "policy": ""}
        assert (seen["gvnic"], seen["additional_networks"]) == (True, fabric["additional_networks"])
    sent = next(iter(emulated.control("snapshot")["clusters"].values()))["nodePools"][1]
    assert sent["placementPolicy"] == {"type": "COMPACT"}
    assert sent["config"]["gvnic"] == {"enabled": True}
    assert len(sent["networkConfig"]["additionalNodeNetworkConfigs"]) == 2
    assert ready("gke_cluster", **first)["changed"] is False
    refused = ready("gke_cluster", **{**first, "multi_networking": False})
    assert refused["error"]["code"] == "CLUSTER_IMMUTABLE"
    for wrong in ({"placement": {"policy": "mine"}}, {"gvnic": False}, {"additional_networks": []}):
        refused = ready("gke_cluster", **{**first, "node_pools": [first["node_pools"][0], {**gpu, **fabric, **wrong}]})
        assert refused["error"]["code"] == "NODE_POOL_IMMUTABLE"
        assert next(iter(wrong)) in refused["error"]["why"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"maintenance_window": {"start": "25:00"}}, "MAINTENANCE_WINDOW_INVALID"),
        ({"maintenance_window": {"start": "03:00", "recurrence": "FREQ=DAILY"}}, "MAINTENANCE_WINDOW_INVALID"),
        ({"authorized_networks": [{"cidr": "203.0.113.1/24"}]}, "CIDR_INVALID"),
        ({"version": "9.99"}, "INVALID_REQUEST"),
        (
            {
                "maintenance_window": {
                    "start": "2026-01-03T00:00:00Z",
                    "end": "2026-01-03T01:00:00Z",
                    "recurrence": "FREQ=DAILY",
                }
            },
            "INVALID_REQUEST",
        ),
    ],
)
def test_settings_that_make_no_sense(ready: Module, options: dict[str, Any], code: str) -> None:
    assert ready("gke_cluster", **CLUSTER, **options)["error"]["code"] == code


def test_a_cluster_in_the_making_cannot_be_cancelled(emulated: Any, ready: Module) -> None:
    emulated.control("speed", {"speed": 1})
    late = ready("gke_cluster", timeout=1, cancel_on_timeout=True, **CLUSTER)
    assert late["error"]["code"] == "OPERATION_TIMEOUT"
    assert "would not cancel it" in late["error"]["why"]
    emulated.control("speed", {"speed": 0})
    assert ready("gke_cluster", **CLUSTER)["cluster"]["status"] == "RUNNING"
