"""gke_cluster and gke_node_pool from options to JSON."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
HERE = "https://container.googleapis.com/v1/projects/my-project/zones/us-central1-a/clusters/llm-d-cluster"
CPU = {"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2}
GPU = {
    "name": "gpu-pool",
    "machine_type": "n1-standard-4",
    "node_count": 1,
    "accelerator": {"type": "nvidia-tesla-t4", "count": 1, "driver_version": "default"},
    "autoscaling": {"min": 0, "max": 3},
}
OPTIONS: dict[str, Any] = {
    "name": "llm-d-cluster",
    "location": "us-central1-a",
    "release_channel": "REGULAR",
    "deployment": "pattern1",
    "node_pools": [CPU, GPU],
}
ABSENT = {"name": "llm-d-cluster", "location": "us-central1-a", "deployment": "pattern1", "state": "absent"}
OURS = {"managed-by": "llmd-gke", "llmd-deployment": "pattern1"}
OPERATION = {
    "name": "operation-1",
    "operationType": "CREATE_CLUSTER",
    "status": "RUNNING",
    "zone": "us-central1-a",
    "targetLink": HERE,
}
DONE = {**OPERATION, "status": "DONE"}


def pool(name: str = "gpu-pool", **fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"machineType": "n1-standard-4", "diskSizeGb": 100, "diskType": "pd-balanced"}
    config["resourceLabels"] = dict(OURS)
    body: dict[str, Any] = {
        "name": name,
        "status": "RUNNING",
        "initialNodeCount": 2,
        "config": config,
        "selfLink": f"{HERE}/nodePools/{name}",
        "instanceGroupUrls": [
            "https://www.googleapis.com/compute/v1/projects/my-project/zones/us-central1-a/instanceGroupManagers/grp"
        ],
    }
    if name == "gpu-pool":
        config["accelerators"] = [
            {
                "acceleratorCount": "1",
                "acceleratorType": "nvidia-tesla-t4",
                "gpuDriverInstallationConfig": {"gpuDriverVersion": "DEFAULT"},
            }
        ]
        config["taints"] = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
        body |= {"initialNodeCount": 1, "autoscaling": {"enabled": True, "maxNodeCount": 3}}
    return {**body, **fields}


def cluster(**fields: Any) -> dict[str, Any]:
    return {
        "name": "llm-d-cluster",
        "location": "us-central1-a",
        "status": "RUNNING",
        "endpoint": "203.0.113.7",
        "network": "default",
        "subnetwork": "default",
        "currentMasterVersion": "1.33.5-gke.2019000",
        "releaseChannel": {"channel": "REGULAR"},
        "networkConfig": {"gatewayApiConfig": {"channel": "CHANNEL_STANDARD"}},
        "addonsConfig": {"httpLoadBalancing": {}},
        "workloadIdentityConfig": {"workloadPool": "my-project.svc.id.goog"},
        "resourceLabels": dict(OURS),
        "labelFingerprint": "a1b2",
        "selfLink": HERE,
        "masterAuth": {"clusterCaCertificate": "Y2E=", "clientKey": "secret"},
        "nodePools": [pool("default-pool"), pool()],
        **fields,
    }


@pytest.fixture
def missing(error_reply: Callable[..., Any]) -> Any:
    message = "Not found: projects/my-project/zones/us-central1-a/clusters/llm-d-cluster."
    return error_reply(404, message, canonical="NOT_FOUND", reason="notFound")


@pytest.fixture
def gke(google: Any) -> Any:
    """A project where every operation works at the second look."""
    google.on("GET", "locations/-/clusters$", {})
    google.on("GET", "/operations/operation-", OPERATION, DONE)
    google.on("GET", "clusters/llm-d-cluster$", cluster())
    google.on("POST", "us-central1-a/clusters$", OPERATION)
    google.on("PUT", "clusters/llm-d-cluster$", {**OPERATION, "operationType": "UPDATE_CLUSTER"})
    google.on("POST", ":setResourceLabels$", {**OPERATION, "operationType": "SET_LABELS"})
    google.on("POST", "nodePools$", {**OPERATION, "operationType": "CREATE_NODE_POOL"})
    google.on("POST", "nodePools/[a-z-]+:set", {**OPERATION, "operationType": ""})
    google.on("PUT", "nodePools/[a-z-]+$", OPERATION)
    google.on("DELETE", "clusters/llm-d-cluster", {**OPERATION, "operationType": "DELETE_CLUSTER"})
    return google


def test_one_call_creates_everything(gke: Any, run_module: Run, missing: Any) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", missing, cluster())
    result = run_module("gke_cluster", **OPTIONS)
    assert (result["changed"], result["adopted"]) == (True, False)
    (create,) = gke.writes()
    sent = create.body["cluster"]
    assert create.body["parent"] == "projects/my-project/locations/us-central1-a"
    assert sent["networkConfig"] == {"gatewayApiConfig": {"channel": "CHANNEL_STANDARD"}}
    assert sent["ipAllocationPolicy"] == {"useIpAliases": True}
    assert sent["resourceLabels"] == OURS
    assert sent["releaseChannel"] == {"channel": "REGULAR"}
    assert sent["workloadIdentityConfig"] == {"workloadPool": "my-project.svc.id.goog"}
    assert [p["name"] for p in sent["nodePools"]] == ["default-pool", "gpu-pool"]
    assert sent["nodePools"][1]["config"]["accelerators"] == [
        {
            "acceleratorCount": "1",
            "acceleratorType": "nvidia-tesla-t4",
            "gpuDriverInstallationConfig": {"gpuDriverVersion": "DEFAULT"},
        }
    ]
    assert sent["nodePools"][1]["autoscaling"] == {"enabled": True, "minNodeCount": 0, "maxNodeCount": 3}
    assert result["operations"][0]["type"] == "CREATE_CLUSTER"
    assert result["cluster"]["gateway_api"] == "standard"
    assert "secret" not in str(result)


def test_check_mode_on_an_empty_project(gke: Any, run_module: Run, missing: Any) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", missing)
    result = run_module("gke_cluster", check=True, **OPTIONS)
    assert result["changed"] is True
    assert gke.writes() == []
    assert [p["name"] for p in result["diff"]["after"]["node_pools"]] == ["default-pool", "gpu-pool"]


@pytest.mark.parametrize("check", [True, False])
def test_a_second_run_is_one_call(gke: Any, run_module: Run, check: bool) -> None:
    result = run_module("gke_cluster", check=check, **OPTIONS)
    assert (result["changed"], result["adopted"]) == (False, False)
    assert result["api_calls"] == {"container.projects.locations.clusters.get": 1}
    assert result["diff"]["before"] == result["diff"]["after"]


def test_updates_are_minimal_and_one_after_the_other(gke: Any, run_module: Run) -> None:
    now = cluster(networkConfig={}, releaseChannel={"channel": "RAPID"}, nodePools=[pool("default-pool")])
    gke.on("GET", "clusters/llm-d-cluster$", now, cluster())
    result = run_module("gke_cluster", **{**OPTIONS, "labels": {"team": "ai"}})
    assert result["changed"] is True
    sent = [(r.verb, r.url.rsplit("/", 1)[-1], sorted(r.body)) for r in gke.writes()]
    assert sent == [
        ("PUT", "llm-d-cluster", ["name", "update"]),
        ("PUT", "llm-d-cluster", ["name", "update"]),
        ("POST", "llm-d-cluster:setResourceLabels", ["labelFingerprint", "name", "resourceLabels"]),
        ("POST", "nodePools", ["nodePool", "parent"]),
    ]
    bodies = [request.body for request in gke.writes()]
    assert bodies[0]["update"] == {"desiredGatewayApiConfig": {"channel": "CHANNEL_STANDARD"}}
    assert bodies[1]["update"] == {"desiredReleaseChannel": {"channel": "REGULAR"}}
    assert bodies[2]["resourceLabels"] == {**OURS, "team": "ai"}
    assert len(result["operations"]) == 4


def test_check_mode_predicts_updates(gke: Any, run_module: Run) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", cluster(networkConfig={}, nodePools=[pool("default-pool")]))
    result = run_module("gke_cluster", check=True, **OPTIONS)
    assert result["changed"] is True
    assert gke.writes() == []
    assert result["diff"]["before"]["gateway_api"] == "disabled"
    assert result["diff"]["after"]["gateway_api"] == "standard"
    assert [p["name"] for p in result["diff"]["after"]["node_pools"]] == ["default-pool", "gpu-pool"]


def test_a_foreign_cluster_is_adopted_and_keeps_its_labels(gke: Any, run_module: Run) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", cluster(resourceLabels={"team": "x"}, networkConfig={}))
    result = run_module("gke_cluster", **OPTIONS)
    assert (result["changed"], result["adopted"]) == (True, True)
    assert [request.verb for request in gke.writes()] == ["PUT"]  # the Gateway API only
    kept = run_module("gke_cluster", **ABSENT)
    assert kept["changed"] is False
    assert "kept" in kept["kept"]


def test_a_foreign_cluster_is_changed_only_where_that_is_asked(gke: Any, run_module: Run) -> None:
    other = pool("default-pool")
    other["config"] |= {"machineType": "e2-standard-8", "resourceLabels": {}}
    theirs = cluster(resourceLabels={}, releaseChannel={"channel": "STABLE"}, nodePools=[other, pool()])
    gke.on("GET", "clusters/llm-d-cluster$", theirs)
    result = run_module("gke_cluster", **OPTIONS)
    assert (result["changed"], result["adopted"], gke.writes()) == (False, True, [])
    asked = run_module("gke_cluster", check=True, **OPTIONS, change_adopted=True)
    assert asked["diff"]["after"]["release_channel"] == "REGULAR"
    assert asked["diff"]["after"]["node_pools"][0]["machine_type"] == "n1-standard-4"


def test_a_killed_runs_cluster_is_waited_for(gke: Any, run_module: Run) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", cluster(status="PROVISIONING", nodePools=[]), cluster())
    gke.on("GET", "us-central1-a/operations$", {"operations": [{**OPERATION, "targetLink": HERE + "-2"}, OPERATION]})
    result = run_module("gke_cluster", **OPTIONS)
    assert result["changed"] is False
    assert gke.writes() == []
    assert result["cluster"]["status"] == "RUNNING"


def test_a_lost_answer_makes_no_second_cluster(gke: Any, run_module: Run, missing: Any, error_reply: Any) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.gcp.transport import ConnectionTrouble

    gke.on("GET", "clusters/llm-d-cluster$", missing, cluster(status="PROVISIONING", nodePools=[]), cluster())
    gke.on("GET", "us-central1-a/operations$", {"operations": [OPERATION]})
    exists = error_reply(409, "Already exists: projects/...", canonical="ALREADY_EXISTS")
    gke.on("POST", "us-central1-a/clusters$", ConnectionTrouble("connection reset"), exists)
    result = run_module("gke_cluster", **OPTIONS)
    assert result["changed"] is True
    assert result["cluster"]["status"] == "RUNNING"


def test_a_cluster_being_deleted_is_made_anew(gke: Any, run_module: Run, missing: Any) -> None:
    stopping = cluster(status="STOPPING")
    gke.on("GET", "clusters/llm-d-cluster$", stopping, stopping, missing, cluster())
    assert run_module("gke_cluster", **OPTIONS)["changed"] is True
    assert [request.verb for request in gke.writes()] == ["POST"]


@pytest.mark.parametrize(
    ("found", "options", "code", "word"),
    [
        (cluster(network="other"), {}, "CLUSTER_IMMUTABLE", "network is other"),
        (cluster(subnetwork="other"), {"subnetwork": "default"}, "CLUSTER_IMMUTABLE", "subnetwork is other"),
        (
            cluster(status="ERROR", conditions=[{"code": "GCE_QUOTA_EXCEEDED", "message": "CPUS is short"}]),
            {},
            "QUOTA_EXCEEDED",
            "CPUS is short",
        ),
        (cluster(status="ERROR", statusMessage="boom"), {}, "CLUSTER_ERROR", "boom"),
        (
            cluster(nodePools=[pool(status="ERROR", conditions=[{"code": "GCE_STOCKOUT", "message": "none left"}])]),
            {},
            "STOCKOUT",
            "none left",
        ),
        (
            cluster(),
            {"node_pools": [{**GPU, "accelerator": {"type": "nvidia-l4", "count": 2}}]},
            "NODE_POOL_IMMUTABLE",
            "1 x nvidia-tesla-t4, not 2 x nvidia-l4",
        ),
        (cluster(), {"node_pools": [{**GPU, "spot": True}]}, "NODE_POOL_IMMUTABLE", "spot is False"),
        (cluster(), {"node_pools": [{**GPU, "autoscaling": {"min": 2, "max": 1}}]}, "NODE_POOL_INVALID", "max"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    gke: Any, run_module: Run, found: Any, options: Any, code: str, word: str
) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", found)
    result = run_module("gke_cluster", **{**OPTIONS, **options})
    assert result["error"]["code"] == code
    assert word in result["msg"]
    assert gke.writes() == []


def test_stock_runs_out_during_creation(gke: Any, run_module: Run, missing: Any) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", missing)
    message = "Google Compute Engine: Not all instances running in IGM after 35m0s. Current errors: [GCE_STOCKOUT]: ..."
    gke.on("GET", "/operations/operation-1", OPERATION, {**DONE, "error": {"code": 8, "message": message}})
    result = run_module("gke_cluster", **OPTIONS)
    assert result["error"]["code"] == "STOCKOUT"
    assert message in result["msg"]


def test_an_operation_that_lies_is_caught_by_the_pools_status(gke: Any, run_module: Run, missing: Any) -> None:
    bad = pool(status="ERROR", conditions=[{"code": "GCE_STOCKOUT", "message": "none left"}])
    gke.on("GET", "clusters/llm-d-cluster$", missing, cluster(nodePools=[pool("default-pool"), bad]))
    assert run_module("gke_cluster", **OPTIONS)["error"]["code"] == "STOCKOUT"


def test_degraded_and_another_version_are_warnings(gke: Any, run_module: Run) -> None:
    gke.on(
        "GET", "clusters/llm-d-cluster$", cluster(status="DEGRADED", conditions=[{"message": "certificate expires"}])
    )
    result = run_module("gke_cluster", **{**OPTIONS, "version": "1.32"})
    assert result["changed"] is False
    assert "certificate expires" in str(result["warnings"])
    assert "1.32" in str(result["warnings"])


def test_an_older_cluster_of_ours_is_upgraded(gke: Any, run_module: Run) -> None:
    gke.on("GET", "clusters/llm-d-cluster$", cluster(), cluster(), cluster(currentMasterVersion="1.34.1-gke.1"))
    result = run_module("gke_cluster", **{**OPTIONS, "version": "1.34"})
    assert result["changed"] is True
    assert [r.body["update"] for r in gke.writes()] == [{"desiredMasterVersion": "1.34"}]
    gke.on("GET", "clusters/llm-d-cluster$", cluster(resourceLabels={}))
    theirs = run_module("gke_cluster", **{**OPTIONS, "version": "1.34"})
    assert theirs["changed"] is False
    assert "1.34" in str(theirs["warnings"])


def test_deleting(gke: Any, run_module: Run, missing: Any) -> None:
    assert run_module("gke_cluster", check=True, **ABSENT)["changed"] is True
    assert gke.writes() == []
    gke.on("GET", "clusters/llm-d-cluster$", cluster(), missing)
    result = run_module("gke_cluster", **ABSENT)
    assert result["changed"] is True
    assert [request.verb for request in gke.writes()] == ["DELETE"]
    assert run_module("gke_cluster", **ABSENT)["changed"] is False


def test_another_deployments_cluster_is_kept_unless_forced(gke: Any, run_module: Run, missing: Any) -> None:
    theirs = cluster(resourceLabels={**OURS, "llmd-deployment": "pattern2"})
    gke.on("GET", "clusters/llm-d-cluster$", theirs)
    assert run_module("gke_cluster", **ABSENT)["changed"] is False
    gke.on("GET", "clusters/llm-d-cluster$", theirs, missing)
    assert run_module("gke_cluster", force=True, **ABSENT)["changed"] is True


# --- node pools ---------------------------------------------------------------------------------------------------

POOL: dict[str, Any] = {"cluster": "llm-d-cluster", "location": "us-central1-a", **GPU}


@pytest.fixture
def pools(gke: Any) -> Any:
    gke.on("GET", "nodePools/gpu-pool$", pool())
    gke.on("GET", "instanceGroupManagers/grp$", {"targetSize": 1})
    gke.on("DELETE", "nodePools/gpu-pool$", {**OPERATION, "operationType": "DELETE_NODE_POOL"})
    return gke


def test_a_pool_as_wanted_needs_one_call(pools: Any, run_module: Run) -> None:
    result = run_module("gke_node_pool", **POOL)
    assert result["changed"] is False
    assert result["api_calls"] == {"container.projects.locations.clusters.nodePools.get": 1}


def test_a_pool_is_made(pools: Any, run_module: Run, error_reply: Any) -> None:
    missing = error_reply(404, 'Not found: node pool "gpu-pool" not found.', canonical="NOT_FOUND")
    pools.on("GET", "nodePools/gpu-pool$", missing, pool())
    result = run_module("gke_node_pool", **POOL)
    assert result["changed"] is True
    (create,) = pools.writes()
    assert create.body["nodePool"]["name"] == "gpu-pool"
    assert create.body["nodePool"]["config"]["workloadMetadataConfig"] == {"mode": "GKE_METADATA"}


def test_no_cluster_no_pool(pools: Any, run_module: Run, missing: Any) -> None:
    pools.on("GET", "nodePools/gpu-pool$", missing)
    assert run_module("gke_node_pool", **POOL)["error"]["code"] == "CLUSTER_NOT_FOUND"
    assert run_module("gke_node_pool", **{**POOL, "state": "absent"})["changed"] is False


def test_resizing_compares_with_the_instance_group(pools: Any, run_module: Run) -> None:
    assert run_module("gke_node_pool", size=1, **POOL)["changed"] is False
    assert run_module("gke_node_pool", check=True, size=0, **POOL)["diff"]["after"]["size"] == 0
    assert pools.writes() == []
    pools.on("GET", "instanceGroupManagers/grp$", {"targetSize": 1}, {"targetSize": 0})
    result = run_module("gke_node_pool", size=0, **POOL)
    assert result["changed"] is True
    assert result["node_pool"]["size"] == 0
    (resize,) = pools.writes()
    assert resize.url.endswith(":setSize")
    assert resize.body["nodeCount"] == 0


@pytest.mark.parametrize(
    ("options", "suffix", "part"),
    [
        (
            {"autoscaling": {"min": 1, "max": 5}},
            ":setAutoscaling",
            {"autoscaling": {"enabled": True, "minNodeCount": 1, "maxNodeCount": 5}},
        ),
        ({"autoscaling": {"enabled": False}}, ":setAutoscaling", {"autoscaling": {"enabled": False}}),
        ({"labels": {"a": "1"}}, "gpu-pool", {"labels": {"labels": {"a": "1"}}}),
        (
            {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
            "gpu-pool",
            {"taints": {"taints": [{"key": "k", "value": "v", "effect": "NO_SCHEDULE"}]}},
        ),
        ({"machine_type": "n1-standard-8"}, "gpu-pool", {"machineType": "n1-standard-8"}),
        ({"disk_size_gb": 200}, "gpu-pool", {"diskSizeGb": "200"}),
        (
            {"accelerator": {"type": "nvidia-tesla-t4", "count": 1, "driver_version": "latest"}},
            "gpu-pool",
            {
                "accelerators": [
                    {
                        "acceleratorCount": "1",
                        "acceleratorType": "nvidia-tesla-t4",
                        "gpuDriverInstallationConfig": {"gpuDriverVersion": "LATEST"},
                    }
                ]
            },
        ),
    ],
)
def test_each_difference_has_its_call(pools: Any, run_module: Run, options: Any, suffix: str, part: Any) -> None:
    wanted = {**copy.deepcopy(POOL), **options}
    predicted = run_module("gke_node_pool", check=True, **wanted)
    assert predicted["changed"] is True
    assert predicted["diff"]["before"] != predicted["diff"]["after"]
    assert pools.writes() == []
    assert run_module("gke_node_pool", **wanted)["changed"] is True
    (call,) = pools.writes()
    assert call.url.endswith(suffix)
    assert {key: value for key, value in call.body.items() if key != "name"} == part


def test_a_pool_goes(pools: Any, run_module: Run) -> None:
    options = {"cluster": "llm-d-cluster", "location": "us-central1-a", "name": "gpu-pool", "state": "absent"}
    assert run_module("gke_node_pool", check=True, **options)["changed"] is True
    assert pools.writes() == []
    assert run_module("gke_node_pool", **options)["changed"] is True


def test_a_pool_in_trouble_is_a_warning_when_found(pools: Any, run_module: Run) -> None:
    pools.on("GET", "nodePools/gpu-pool$", pool(status="RUNNING_WITH_ERROR", statusMessage="1 node is missing"))
    result = run_module("gke_node_pool", **POOL)
    assert result["changed"] is False
    assert "1 node is missing" in str(result["warnings"])
