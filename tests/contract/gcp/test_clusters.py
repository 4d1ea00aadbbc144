"""Kubernetes Engine: clusters, node pools, nodes, and everything that can be wrong with them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sandbox.gcp.backend import NodeSpec
from sandbox.gcp.testing import Cloud

KEY = "llmd-sandbox/us-central1-a/llm-d-cluster"


@pytest.fixture
def cluster(cloud: Cloud) -> str:
    """Path of a cluster that runs: two CPU nodes, one T4 node."""
    operation = cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert "error" not in operation
    return f"{cloud.container}/clusters/llm-d-cluster"


def nodes(cloud: Cloud) -> list[NodeSpec]:
    return list(cloud.backend.clusters[KEY].nodes.values())


def test_creation_answers_at_once_and_fills_everything(cloud: Cloud) -> None:
    cloud.emulator.timing.speed = 1
    operation = cloud.ok("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert (operation["operationType"], operation["status"]) == ("CREATE_CLUSTER", "RUNNING")
    assert "/projects/123456789012/zones/us-central1-a/clusters/llm-d-cluster" in operation["targetLink"]
    path = f"{cloud.container}/clusters/llm-d-cluster"
    assert cloud.ok("GET", path)["status"] == "PROVISIONING"
    error = cloud.fails(409, "PUT", path, {"update": {"desiredLoggingService": "none"}})
    assert (error["status"], error["message"]) == (
        "ABORTED",
        "The resource is being created and therefore can not be updated yet.",
    )
    error = cloud.fails(400, "DELETE", path)
    assert error["message"] == f"Cluster is running incompatible operation {operation['name']}."
    assert (error["status"], error["errors"][0]["reason"]) == ("FAILED_PRECONDITION", "failedPrecondition")
    cloud.emulator.timing.speed = 0
    cloud.emulator.operations.wake()
    cloud.done(operation)
    found = cloud.ok("GET", path)
    assert (found["status"], found["endpoint"], found["currentNodeCount"]) == ("RUNNING", "172.16.1.2", 3)
    assert found["currentMasterVersion"] == "1.36.4-gke.1000000"
    assert found["networkConfig"]["gatewayApiConfig"]["channel"] == "CHANNEL_STANDARD"
    assert found["ipAllocationPolicy"]["useIpAliases"] is True
    assert found["masterAuth"]["clusterCaCertificate"]
    assert [pool["status"] for pool in found["nodePools"]] == ["RUNNING", "RUNNING"]
    assert cloud.ok("GET", path.replace("/locations/", "/zones/")) == cloud.ok("GET", path)
    assert len(cloud.ok("GET", cloud.container.replace("us-central1-a", "-") + "/clusters")["clusters"]) == 1


def test_gpu_nodes_look_like_gke_s(cloud: Cloud, cluster: str) -> None:
    gpu = [node for node in nodes(cloud) if node.pool == "gpu-pool"]
    assert len(gpu) == 1
    assert re.fullmatch(r"gke-llm-d-cluster-gpu-pool-[0-9a-f]{8}-[a-z0-9]{4}", gpu[0].name)
    assert gpu[0].gpus == 1
    assert gpu[0].taints == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert gpu[0].labels["cloud.google.com/gke-accelerator"] == "nvidia-tesla-t4"
    assert gpu[0].labels["cloud.google.com/gke-nodepool"] == "gpu-pool"
    cpu = [node for node in nodes(cloud) if node.pool == "cpu-pool"]
    assert [(node.gpus, node.taints) for node in cpu] == [(0, []), (0, [])]
    instances = cloud.ok("GET", f"{cloud.compute}/zones/us-central1-a/instances")["items"]
    assert {instance["name"] for instance in instances} == {node.name for node in nodes(cloud)}
    quotas = {
        quota["metric"]: quota["usage"] for quota in cloud.ok("GET", f"{cloud.compute}/regions/us-central1")["quotas"]
    }
    assert (quotas["CPUS"], quotas["NVIDIA_T4_GPUS"], quotas["SSD_TOTAL_GB"]) == (12.0, 1.0, 300.0)
    groups = cloud.ok("GET", f"{cloud.compute}/zones/us-central1-a/instanceGroupManagers")["items"]
    assert sorted(group["targetSize"] for group in groups) == [1, 2]
    managed = cloud.ok(
        "POST",
        f"{cloud.compute}/zones/us-central1-a/instanceGroupManagers/{groups[0]['name']}/listManagedInstances",
        {},
    )
    assert len(managed["managedInstances"]) == groups[0]["targetSize"]


def test_without_a_driver_there_is_no_gpu(cloud: Cloud) -> None:
    body = cloud.cluster_body()
    gpu = body["cluster"]["nodePools"][1]["config"]["accelerators"][0]
    gpu["gpuDriverInstallationConfig"] = {"gpuDriverVersion": "INSTALLATION_DISABLED"}
    cloud.run("POST", f"{cloud.container}/clusters", body)
    assert [node.gpus for node in nodes(cloud) if node.pool == "gpu-pool"] == [0]


def test_deletion_leaves_the_project_as_it_was(cloud: Cloud) -> None:
    before = cloud.world.snapshot()
    cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    ranges = cloud.ok("GET", f"{cloud.compute}/regions/us-central1/subnetworks/default")["secondaryIpRanges"]
    assert ranges[0]["ipCidrRange"] == "10.4.0.0/14"
    cloud.run("DELETE", f"{cloud.container}/clusters/llm-d-cluster")
    assert cloud.world.snapshot() == before
    assert cloud.backend.clusters == {}
    error = cloud.fails(404, "GET", f"{cloud.container}/clusters/llm-d-cluster")
    assert error["message"] == "Not found: projects/llmd-sandbox/zones/us-central1-a/clusters/llm-d-cluster."
    assert (error["status"], error["errors"][0]["reason"]) == ("NOT_FOUND", "notFound")


def test_pools_come_grow_shrink_and_go(cloud: Cloud, cluster: str) -> None:
    pools = f"{cluster}/nodePools"
    body = {
        "nodePool": {"name": "extra", "initialNodeCount": 1, "config": {"machineType": "e2-standard-4", "spot": True}}
    }
    operation = cloud.run("POST", pools, body)
    assert operation["operationType"] == "CREATE_NODE_POOL"
    error = cloud.fails(409, "POST", pools, body)
    assert error["status"] == "ALREADY_EXISTS"
    assert cloud.ok("GET", f"{pools}/extra")["config"]["spot"] is True
    assert cloud.run("POST", f"{pools}/extra:setSize", {"nodeCount": 3})["operationType"] == "SET_NODE_POOL_SIZE"
    assert len([node for node in nodes(cloud) if node.pool == "extra"]) == 3
    cloud.run("POST", f"{pools.replace('/locations/', '/zones/')}/extra/setSize", {"nodeCount": 0})
    assert [node for node in nodes(cloud) if node.pool == "extra"] == []
    cloud.run("DELETE", f"{pools}/extra")
    error = cloud.fails(404, "GET", f"{pools}/extra")
    assert error["message"] == 'Not found: node pool "extra" not found.'
    assert len(cloud.ok("GET", pools)["nodePools"]) == 2


def test_pool_settings(cloud: Cloud, cluster: str) -> None:
    pool = f"{cluster}/nodePools/cpu-pool"
    cloud.run(
        "POST", f"{pool}:setAutoscaling", {"autoscaling": {"enabled": True, "minNodeCount": 1, "maxNodeCount": 4}}
    )
    cloud.run("POST", f"{pool}:setManagement", {"management": {"autoRepair": False, "autoUpgrade": False}})
    cloud.run("PUT", pool, {"labels": {"labels": {"team": "a"}}, "taints": {"taints": []}})
    found = cloud.ok("GET", pool)
    assert found["autoscaling"]["maxNodeCount"] == 4
    assert found["management"] == {"autoRepair": False, "autoUpgrade": False}
    assert found["config"]["labels"] == {"team": "a"}
    cloud.fails(
        400, "POST", f"{pool}:setAutoscaling", {"autoscaling": {"enabled": True, "minNodeCount": 5, "maxNodeCount": 4}}
    )
    cloud.fails(400, "PUT", pool, {})


def test_cluster_updates(cloud: Cloud, cluster: str) -> None:
    cloud.run("PUT", cluster, {"update": {"desiredGatewayApiConfig": {"channel": "CHANNEL_DISABLED"}}})
    assert cloud.ok("GET", cluster)["networkConfig"]["gatewayApiConfig"]["channel"] == "CHANNEL_DISABLED"
    assert ("set_gateway_api", KEY, "False") in cloud.backend.calls
    error = cloud.fails(400, "PUT", cluster, {"update": {}})
    assert error["message"] == "Must specify a field to update."
    two = {"desiredGatewayApiConfig": {"channel": "CHANNEL_STANDARD"}, "desiredLoggingService": "none"}
    error = cloud.fails(400, "PUT", cluster, {"update": two})
    assert error["message"] == "Only one update can be applied to a cluster with each request."
    found = cloud.ok("GET", cluster)
    labels = {"resourceLabels": {"team": "a"}, "labelFingerprint": found["labelFingerprint"]}
    cloud.run("POST", f"{cluster}:setResourceLabels", labels)
    assert cloud.ok("GET", cluster)["resourceLabels"] == {"team": "a"}
    error = cloud.fails(400, "POST", f"{cluster}:setResourceLabels", labels)
    assert error["message"] == "Labels could not be set due to fingerprint mismatch."
    dns = {"desiredControlPlaneEndpointsConfig": {"dnsEndpointConfig": {"allowExternalTraffic": True}}}
    cloud.run("PUT", cluster, {"update": dns})
    assert cloud.ok("GET", cluster)["controlPlaneEndpointsConfig"]["dnsEndpointConfig"]["endpoint"].endswith(
        ".gke.goog"
    )


def change(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The body with a field of its GPU pool's config changed."""
    body["cluster"]["nodePools"][1]["config"].update(fields)
    return body


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Upper"}, 'Invalid value for field "cluster.name": "Upper".'),
        ({"network": "other"}, 'Project "llmd-sandbox" has no network named "other".'),
        ({"subnetwork": "other"}, '/subnetworks/other" is not valid for Network "default".'),
        ({"initialClusterVersion": "1.19"}, 'Master version "1.19" is unsupported.'),
        ({"nodePools": []}, "initial_node_count must be greater than zero"),
        ({"initialNodeCount": 3}, "Cannot specify both"),
        ({"locations": ["us-east1-b"]}, 'Location "us-east1-b" is not a zone of region "us-central1".'),
    ],
)
def test_what_gke_says_against_a_cluster(cloud: Cloud, fields: dict[str, Any], message: str) -> None:
    error = cloud.fails(400, "POST", f"{cloud.container}/clusters", cloud.cluster_body(**fields))
    assert message in error["message"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert cloud.world.clusters == {}


@pytest.mark.parametrize(
    ("zone", "fields", "message"),
    [
        ("us-central1-z", {}, 'Location "us-central1-z" does not exist.'),
        ("us-east1-b", {}, 'Accelerator type "nvidia-tesla-t4" does not exist in zone us-east1-b.'),
        ("us-central1-a", {"machineType": "n9-huge"},
         'Invalid machine type "n9-huge" in zone "us-central1-a": GCE_NOT_FOUND'),
        ("us-central1-a", {"machineType": "e2-medium"},
         "Cannot use default machine type (e2-medium) with GPUs; choose a different machine type."),
        ("us-central1-a", {"machineType": "e2-standard-4"},
         "[nvidia-tesla-t4, e2-standard-4] features are not compatible for creating instance."),
        ("us-central1-a", {"accelerators": [{"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": "3"}]},
         "Number of cards must be 1, 2, 4"),
    ],
)  # fmt: skip
def test_what_gke_says_against_a_machine(cloud: Cloud, zone: str, fields: dict[str, Any], message: str) -> None:
    path = cloud.container.replace("us-central1-a", zone)
    error = cloud.fails(400, "POST", f"{path}/clusters", change(cloud.cluster_body(), **fields))
    assert message in error["message"]


def test_a_cluster_exists_once(cloud: Cloud, cluster: str) -> None:
    error = cloud.fails(409, "POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert error["message"] == "Already exists: projects/llmd-sandbox/zones/us-central1-a/clusters/llm-d-cluster."
    assert error["status"] == "ALREADY_EXISTS"


def test_quotas_are_told_in_one_answer(cloud: Cloud) -> None:
    body = cloud.cluster_body()
    body["cluster"]["nodePools"][1]["initialNodeCount"] = 5
    error = cloud.fails(403, "POST", f"{cloud.container}/clusters", body)
    assert error["message"].startswith(
        "Insufficient regional quota to satisfy request: resource \"NVIDIA_T4_GPUS\": request requires '5.0' and is "
        "short '1.0'. project has a quota of '4.0' with '4.0' available. View and manage quotas at https://"
    )
    assert (error["status"], error["errors"][0]["reason"]) == ("PERMISSION_DENIED", "forbidden")
    body["cluster"]["nodePools"][0]["initialNodeCount"] = 40
    error = cloud.fails(403, "POST", f"{cloud.container}/clusters", body)
    assert "(1) Insufficient regional quota" in error["message"]
    assert "(3) Insufficient regional quota" in error["message"]


def test_gpus_of_all_regions_fail_in_the_operation(cloud: Cloud, cluster: str) -> None:
    cloud.world.project_quotas["GPUS_ALL_REGIONS"] = 1
    operation = cloud.run("POST", f"{cluster}/nodePools/gpu-pool:setSize", {"nodeCount": 2})
    assert operation["error"]["code"] == 8
    assert "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 1" in operation["statusMessage"]
    pool = cloud.ok("GET", f"{cluster}/nodePools/gpu-pool")
    assert (pool["status"], pool["conditions"][0]["code"]) == ("RUNNING_WITH_ERROR", "GCE_QUOTA_EXCEEDED")
    cloud.world.project_quotas["GPUS_ALL_REGIONS"] = 8
    cloud.run("POST", f"{cluster}/nodePools/gpu-pool:setSize", {"nodeCount": 2})
    assert cloud.ok("GET", f"{cluster}/nodePools/gpu-pool")["status"] == "RUNNING"


def test_a_stockout_leaves_a_pool_in_error(cloud: Cloud, cluster: str) -> None:
    cloud.world.faults.plant({"name": "stockout", "zone": "us-central1-a"})
    config = {"machineType": "n1-standard-4", "accelerators": [{"acceleratorType": "nvidia-tesla-t4"}]}
    body = {"nodePool": {"name": "t4", "initialNodeCount": 1, "config": config}}
    operation = cloud.run("POST", f"{cluster}/nodePools", body)
    assert (operation["status"], operation["error"]["code"]) == ("DONE", 8)
    assert operation["statusMessage"].startswith("Google Compute Engine: Not all instances running in IGM after 35m0s.")
    assert "[GCE_STOCKOUT]" in operation["statusMessage"]
    pool = cloud.ok("GET", f"{cluster}/nodePools/t4")
    assert (pool["status"], pool["conditions"][0]["code"]) == ("ERROR", "GCE_STOCKOUT")
    assert cloud.ok("GET", cluster)["status"] == "RUNNING"
    cloud.run("DELETE", f"{cluster}/nodePools/t4")


def test_a_backend_that_fails_fails_the_operation(cloud: Cloud) -> None:
    cloud.backend.failures["create_cluster"] = RuntimeError("etcd did not start")
    operation = cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    assert operation["error"] == {"code": 13, "message": "Internal error: RuntimeError: etcd did not start"}
    found = cloud.ok("GET", f"{cloud.container}/clusters/llm-d-cluster")
    assert found["status"] == "ERROR"
    assert "etcd did not start" in found["statusMessage"]
    cloud.run("DELETE", f"{cloud.container}/clusters/llm-d-cluster")


def test_a_regional_cluster_has_nodes_in_three_zones(cloud: Cloud) -> None:
    path = cloud.container.replace("us-central1-a", "us-central1")
    body = cloud.cluster_body()
    body["cluster"]["nodePools"] = body["cluster"]["nodePools"][:1]
    operation = cloud.run("POST", f"{path}/clusters", body)
    assert (operation["location"], "zone" in operation) == ("us-central1", False)
    found = cloud.ok("GET", f"{path}/clusters/llm-d-cluster")
    assert found["currentNodeCount"] == 6
    assert found["selfLink"].endswith("/locations/us-central1/clusters/llm-d-cluster")
    assert len(found["locations"]) == 3


def test_server_config_and_operations(cloud: Cloud, cluster: str) -> None:
    assert cloud.ok("GET", f"{cloud.container}/serverConfig")["defaultClusterVersion"] == "1.36.4-gke.1000000"
    assert cloud.ok("GET", f"{cloud.container.replace('/locations/', '/zones/')}/serverconfig")["channels"]
    listed = cloud.ok("GET", f"{cloud.container}/operations")["operations"]
    assert [operation["operationType"] for operation in listed] == ["CREATE_CLUSTER"]
    cloud.fails(404, "GET", f"{cloud.container}/operations/operation-1")


def test_of_many_changes_at_once_one_wins(cloud: Cloud, cluster: str) -> None:
    cloud.emulator.timing.speed = 10
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(
                lambda size: cloud.send("POST", f"{cluster}/nodePools/cpu-pool:setSize", {"nodeCount": size}), range(6)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400, 400, 400]
    cloud.emulator.timing.speed = 0
    cloud.emulator.operations.wake()
    cloud.done(next(answer.json() for answer in answers if answer.status_code == 200))
