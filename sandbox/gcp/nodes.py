"""Nodes of a pool: asks the backend for them and keeps what Compute Engine shows of them in step."""

from __future__ import annotations

import hashlib
import secrets
import string
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sandbox.gcp import catalog, quotas
from sandbox.gcp.backend import ClusterBackend, NodeAddresses, NodeSpec
from sandbox.gcp.container_shape import accelerator, base_name, group_name, new_etag
from sandbox.gcp.operations import OperationFailed
from sandbox.gcp.store import ROOT, compute_time
from sandbox.gcp.world import World

Json = dict[str, Any]

STOCKOUT_SECONDS = 2100.0  # GKE waits 35 minutes for a group of instances
_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "PREFER_NO_SCHEDULE": "PreferNoSchedule", "NO_EXECUTE": "NoExecute"}
_ALPHABET = string.ascii_lowercase + string.digits
_PARALLEL = 8
START_ATTEMPTS = 2
# A pool's condition -> the error that its instance groups show for it.
_GROUP_ERRORS = {"GCE_STOCKOUT": "ZONE_RESOURCE_POOL_EXHAUSTED", "GCE_QUOTA_EXCEEDED": "QUOTA_EXCEEDED"}


def pool_nodes(world: World, cluster: Json, pool_name: str | None = None) -> list[Json]:
    """Instances of a cluster (of one pool), oldest first."""
    found = [
        instance
        for instance in world.compute.list("instances")
        if instance.get("labels", {}).get("goog-k8s-cluster-name") == cluster["name"]
        and instance["labels"].get("goog-k8s-cluster-location") == cluster["location"]
        and pool_name in (None, instance["labels"].get("goog-k8s-node-pool-name"))
    ]
    return sorted(found, key=lambda instance: int(instance["id"]))


def zone_of(instance: Json) -> str:
    return str(instance["zone"].rsplit("/", 1)[-1])


def usage(pool: Json, nodes: int) -> Counter[str]:
    """What ``nodes`` nodes of a pool count against regional quotas."""
    config = pool["config"]
    one: Counter[str] = Counter()
    machine = catalog.MACHINE_TYPES[config["machineType"]]
    one[machine.cpu_quota] += machine.cpus
    disk = "DISKS_TOTAL_GB" if config["diskType"] == "pd-standard" else "SSD_TOTAL_GB"
    one[disk] += int(config["diskSizeGb"])
    gpu = accelerator(pool)
    if gpu is not None:
        kind = catalog.ACCELERATORS[gpu["acceleratorType"]]
        spot = config.get("spot") or config.get("preemptible")
        one[("PREEMPTIBLE_" if spot else "") + kind.quota] += int(gpu["acceleratorCount"])
    return Counter({metric: amount * nodes for metric, amount in one.items()})


# --- what a node looks like --------------------------------------------------------------------------------------


def node_spec(cluster: Json, pool: Json, zone: str, name: str) -> NodeSpec:
    """The node with the labels, taints and GPUs that GKE gives it. Without a driver there is no GPU to see."""
    config = pool["config"]
    machine = catalog.MACHINE_TYPES[config["machineType"]]
    gpu = accelerator(pool)
    spot = bool(config.get("spot"))
    labels = {
        "cloud.google.com/gke-nodepool": pool["name"],
        "cloud.google.com/gke-os-distribution": "cos",
        "cloud.google.com/gke-container-runtime": "containerd",
        "cloud.google.com/gke-boot-disk": config["diskType"],
        "cloud.google.com/gke-cpu-scaling-level": str(machine.cpus),
        "cloud.google.com/gke-memory-gb-scaling-level": str(machine.memory_mb // 1024),
        "cloud.google.com/gke-logging-variant": "DEFAULT",
        "cloud.google.com/gke-max-pods-per-node": "110",
        "cloud.google.com/gke-provisioning": "spot" if spot else "standard",
        "cloud.google.com/gke-stack-type": "IPV4",
        "cloud.google.com/machine-family": machine.family,
        "cloud.google.com/private-node": str(bool(pool["networkConfig"].get("enablePrivateNodes"))).lower(),
        "iam.gke.io/gke-metadata-server-enabled": str("workloadIdentityConfig" in cluster).lower(),
        "node.kubernetes.io/instance-type": machine.name,
        "topology.gke.io/zone": zone,
        "topology.kubernetes.io/region": catalog.region_of(zone),
        "topology.kubernetes.io/zone": zone,
        **config.get("labels", {}),
    }
    gpus = 0
    if pool.get("placementPolicy", {}).get("type") == "COMPACT":
        # Where a node stands: all of a pool in one subblock, each on a host of its own.
        block = hashlib.sha256(f"{cluster['name']}/{pool['name']}".encode()).hexdigest()
        labels["cloud.google.com/gce-topology-block"] = block[:32]
        labels["cloud.google.com/gce-topology-subblock"] = block[32:]
        labels["cloud.google.com/gce-topology-host"] = hashlib.sha256(name.encode()).hexdigest()[:32]
    if spot:
        labels["cloud.google.com/gke-spot"] = "true"
    if gpu is not None:
        driver = gpu.get("gpuDriverInstallationConfig", {}).get("gpuDriverVersion", "DEFAULT")
        gpus = 0 if driver == "INSTALLATION_DISABLED" else int(gpu["acceleratorCount"])
        labels["cloud.google.com/gke-accelerator"] = gpu["acceleratorType"]
        labels["cloud.google.com/gke-accelerator-count"] = str(gpu["acceleratorCount"])
        if gpus:
            labels["cloud.google.com/gke-gpu-driver-version"] = driver.lower()
    taints = [
        {"key": taint["key"], "value": taint.get("value", ""), "effect": _EFFECTS[taint["effect"]]}
        for taint in config.get("taints", [])
    ]
    return NodeSpec(name, pool["name"], zone, machine.name, labels, taints, gpus)


def instance_body(world: World, cluster: Json, pool: Json, spec: NodeSpec, addresses: NodeAddresses) -> Json:
    """The VM behind a node, as Compute Engine lists it."""
    link, zone = world.compute.link, f"zones/{spec.zone}"
    config = pool["config"]
    spot = bool(config.get("spot") or config.get("preemptible"))
    body: Json = {
        "name": spec.name,
        "status": "RUNNING",
        "machineType": link("machineTypes", zone, spec.machine_type),
        "labels": {
            "goog-gke-node": "",
            "goog-k8s-cluster-name": cluster["name"],
            "goog-k8s-cluster-location": cluster["location"],
            "goog-k8s-node-pool-name": pool["name"],
            **cluster.get("resourceLabels", {}),
        },
        "networkInterfaces": [
            {
                "kind": "compute#networkInterface",
                "name": "nic0",
                "network": link("networks", "global", cluster["network"]),
                "subnetwork": link("subnetworks", f"regions/{catalog.region_of(spec.zone)}", cluster["subnetwork"]),
                "networkIP": addresses.internal_ip,
                "stackType": "IPV4_ONLY",
                "aliasIpRanges": [
                    {
                        "ipCidrRange": addresses.pod_cidr,
                        "subnetworkRangeName": cluster["ipAllocationPolicy"]["clusterSecondaryRangeName"],
                    }
                ],
            }
        ],
        "disks": [{"kind": "compute#attachedDisk", "type": "PERSISTENT", "mode": "READ_WRITE", "boot": True,
                   "autoDelete": True, "deviceName": "persistent-disk-0", "index": 0,
                   "source": link("disks", zone, spec.name), "diskSizeGb": str(config["diskSizeGb"])}],
        "scheduling": {"preemptible": spot, "automaticRestart": not spot,
                       "onHostMaintenance": "TERMINATE" if spot or accelerator(pool) else "MIGRATE",
                       "provisioningModel": "SPOT" if spot else "STANDARD"},
        "serviceAccounts": [{"email": _account(world, config), "scopes": list(config["oauthScopes"])}],
        "tags": {"items": [node_tag(cluster)], "fingerprint": "2oSSiPi57f8="},
        "deletionProtection": False,
    }  # fmt: skip
    gpu = accelerator(pool)
    if gpu is not None:
        kind = link("acceleratorTypes", zone, gpu["acceleratorType"])
        body["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": int(gpu["acceleratorCount"])}]
    return body


def _account(world: World, config: Json) -> str:
    given = str(config.get("serviceAccount") or "default")
    return world.default_service_account if given == "default" else given


def node_tag(cluster: Json) -> str:
    return f"gke-{cluster['name']}-{cluster['id'][:8]}-node"


def settle_pool(world: World, cluster: Json, pool: Json, failure: OperationFailed | None) -> None:
    """Status of a pool after work on its nodes: after a failure it exists all the same."""
    pool["etag"] = new_etag()
    pool.pop("conditions", None)
    pool.pop("statusMessage", None)
    if failure is None:
        pool["status"] = "RUNNING"
        return
    some = bool(pool_nodes(world, cluster, pool["name"]))
    pool["status"] = "RUNNING_WITH_ERROR" if some else "ERROR"
    pool["statusMessage"] = failure.message
    code = failure.extra.get("condition", "UNKNOWN")
    condition = {"message": failure.message, "canonicalCode": "RESOURCE_EXHAUSTED" if failure.code == 8 else "INTERNAL"}
    pool["conditions"] = [condition | ({"code": code} if code != "UNKNOWN" else {})]


def foreseen(world: World, cluster: Json, pool: Json, failure: OperationFailed) -> None:
    """Conditions of a pool whose operation will fail, and the errors of its instance groups, as they show early."""
    condition = failure.extra.get("condition")
    if condition is None:
        return
    pool["conditions"] = [{"code": condition, "message": failure.message, "canonicalCode": "RESOURCE_EXHAUSTED"}]
    for zone in pool["locations"]:
        group_error(world, cluster, pool, zone, failure)


def group_error(world: World, cluster: Json, pool: Json, zone: str, failure: OperationFailed) -> None:
    """What the instance group of a zone shows of a node that did not come."""
    condition = failure.extra.get("condition", "INTERNAL")
    world.group_errors[f"zones/{zone}/{group_name(cluster, pool, zone)}"] = [
        {
            "error": {"code": _GROUP_ERRORS.get(condition, condition), "message": failure.message},
            "instanceActionDetails": {"action": "CREATING"},
            "timestamp": compute_time(world.clock()),
        }
    ]


# --- growing and shrinking ---------------------------------------------------------------------------------------


class NodeFleet:
    """Adds nodes to and takes nodes from pools. Works without the world's lock: nodes take time."""

    def __init__(self, world: World, backend: ClusterBackend, stockout_factor: Callable[[str], float]) -> None:
        self.world, self.backend, self.stockout_factor = world, backend, stockout_factor
        # Names of a cluster's nodes that something runs on; who knows the cluster sets it.
        self.occupied: Callable[[str], set[str]] = lambda key: set()
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, str], threading.RLock] = {}

    def _lock(self, key: str, pool: Json) -> threading.RLock:
        """One change of a pool's nodes at a time: an operation and the autoscaler may meet."""
        with self._guard:
            return self._locks.setdefault((key, pool["name"]), threading.RLock())

    def add_groups(self, cluster: Json, pool: Json) -> None:
        """The managed instance groups of a new pool, one a zone."""
        for zone in pool["locations"]:
            body = {
                "name": group_name(cluster, pool, zone),
                "baseInstanceName": base_name(cluster, pool, zone),
                "instanceGroup": self.world.compute.link(
                    "instanceGroups", f"zones/{zone}", group_name(cluster, pool, zone)
                ),
                "targetSize": 0,
                "status": {"isStable": True},
            }
            self.world.compute.insert("instanceGroupManagers", f"zones/{zone}", body)

    def remove_groups(self, cluster: Json, pool: Json) -> None:
        for zone in pool["locations"]:
            self.world.compute.delete("instanceGroupManagers", f"zones/{zone}", group_name(cluster, pool, zone))
            self.world.group_errors.pop(f"zones/{zone}/{group_name(cluster, pool, zone)}", None)

    def move(self, key: str, cluster: Json, pool: Json, zones: list[str]) -> None:
        """Give a pool other zones: as many nodes in each new one as it has in each old one, none where it leaves."""
        nodes = pool_nodes(self.world, cluster, pool["name"])
        size = len(nodes) // len(pool["locations"])
        old = list(pool["locations"])
        self.remove(key, cluster, [node for node in nodes if zone_of(node) not in zones])
        with self.world.mutate():
            self.remove_groups(cluster, {**pool, "locations": [zone for zone in old if zone not in zones]})
            self.add_groups(cluster, {**pool, "locations": [zone for zone in zones if zone not in old]})
            pool["locations"] = list(zones)
            pool["instanceGroupUrls"] = [
                f"{ROOT}projects/{self.world.project}/zones/{zone}/instanceGroupManagers/"
                f"{group_name(cluster, pool, zone)}"
                for zone in zones
            ]
        self.resize(key, cluster, pool, size, "node-pool-resize")

    def resize(self, key: str, cluster: Json, pool: Json, size: int, event: str) -> None:
        """Bring a pool to ``size`` nodes in each of its zones. OperationFailed for stockout, quota, backend trouble."""
        with self._lock(key, pool):
            self._resize(key, cluster, pool, size, event)

    def fill(self, key: str, cluster: Json, pool: Json, zone: str) -> None:
        """Start the nodes that a zone's instance group lacks, as its target says by now. OperationFailed."""
        with self._lock(key, pool):
            group = self.world.compute.get("instanceGroupManagers", f"zones/{zone}", group_name(cluster, pool, zone))
            here = [node for node in pool_nodes(self.world, cluster, pool["name"]) if zone_of(node) == zone]
            missing = int((group or {}).get("targetSize", 0)) - len(here)
            if missing > 0:
                self._add(key, cluster, pool, [(zone, missing)])

    def _resize(self, key: str, cluster: Json, pool: Json, size: int, event: str) -> None:
        add: list[tuple[str, int]] = []
        remove: list[Json] = []
        nodes = pool_nodes(self.world, cluster, pool["name"])
        shrinks = len(nodes) > size * len(pool["locations"]) > 0
        occupied = self.occupied(key) if shrinks else set()
        for zone in pool["locations"]:
            present = [node for node in nodes if zone_of(node) == zone]
            if len(present) < size:
                add.append((zone, size - len(present)))
            # Empty ones go first, and of those the newest.
            present.sort(key=lambda node: node["name"] not in occupied)
            remove += present[size:]
            group = group_name(cluster, pool, zone)
            self.world.compute.patch("instanceGroupManagers", f"zones/{zone}", group, {"targetSize": size})
        self.remove(key, cluster, remove)
        self.check(cluster, pool, add, event)
        self._add(key, cluster, pool, add)

    def check(self, cluster: Json, pool: Json, add: list[tuple[str, int]], event: str) -> None:
        """Whether the zones have such nodes in stock and the project may have as many GPUs. OperationFailed."""
        gpu = accelerator(pool)
        machine = str(pool["config"]["machineType"])
        for zone, count in add:
            if self.world.faults.stocked_out(zone, machine, str(gpu["acceleratorType"]) if gpu else None):
                name = f"{base_name(cluster, pool, zone)}-{''.join(secrets.choice(_ALPHABET) for _ in range(4))}"
                text = (
                    f"Google Compute Engine: Not all instances running in IGM after 35m0s. Expected {count}, running 0"
                    f", transitioning {count}. Current errors: [GCE_STOCKOUT]: Instance '{name}' creation failed: The "
                    f"zone 'projects/{self.world.project}/zones/{zone}' does not have enough resources available to "
                    f"fulfill the request.  '(resource type:compute)'."
                )
                raise OperationFailed(text, 8, extra={"condition": "GCE_STOCKOUT"}, factor=self.stockout_factor(event))
        if gpu is None or not add:
            return
        wanted = sum(count for _, count in add) * int(gpu["acceleratorCount"])
        limit = quotas.project_limit(self.world, "GPUS_ALL_REGIONS")
        if quotas.gpus_everywhere(self.world) + wanted > limit:
            text = (
                f"Google Compute Engine: Not all instances running in IGM. Current errors: [GCE_QUOTA_EXCEEDED]: "
                f"Instance creation failed: Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: {limit} globally."
            )
            raise OperationFailed(text, 8, extra={"condition": "GCE_QUOTA_EXCEEDED"})

    def _add(self, key: str, cluster: Json, pool: Json, add: list[tuple[str, int]]) -> None:
        zones = [zone for zone, count in add for _ in range(count)]
        self._each(lambda zone: self._add_one(key, cluster, pool, zone), zones)

    def _start(self, key: str, cluster: Json, pool: Json, zone: str) -> tuple[NodeSpec, NodeAddresses]:
        """A node that runs. One that does not start is made anew under another name, as an instance group does it."""
        attempt = 0
        while True:
            attempt += 1
            tail = "".join(secrets.choice(_ALPHABET) for _ in range(4))
            spec = node_spec(cluster, pool, zone, f"{base_name(cluster, pool, zone)}-{tail}")
            try:
                return spec, self.backend.add_node(key, spec)
            except Exception as error:
                failure = OperationFailed(
                    "Google Compute Engine: Not all instances running in IGM. Expected 1, running 0, transitioning 1. "
                    f"Current errors: [INTERNAL]: Instance '{spec.name}' did not become a node (attempt {attempt} of "
                    f"{START_ATTEMPTS}): {error}"
                )
                with self.world.mutate():
                    group_error(self.world, cluster, pool, zone, failure)
                    gone = self.world.clusters.get(key) is not cluster or cluster["status"] == "STOPPING"
                if attempt == START_ATTEMPTS or gone:
                    raise failure from error

    def _add_one(self, key: str, cluster: Json, pool: Json, zone_name: str) -> None:
        spec, addresses = self._start(key, cluster, pool, zone_name)
        config, zone = pool["config"], f"zones/{spec.zone}"
        disk = {
            "name": spec.name,
            "sizeGb": str(config["diskSizeGb"]),
            "type": self.world.compute.link("diskTypes", zone, config["diskType"]),
            "status": "READY",
        }
        with self.world.mutate():
            if self.world.clusters.get(key) is not cluster or cluster["status"] == "STOPPING":
                raise OperationFailed(
                    f"Cluster {cluster['name']} was deleted while node {spec.name} was being created."
                )
            self.world.compute.insert("disks", zone, disk)
            self.world.compute.insert("instances", zone, instance_body(self.world, cluster, pool, spec, addresses))

    def remove(self, key: str, cluster: Json, instances: list[Json]) -> None:
        """Take nodes away, VM and disk included."""

        def one(instance: Json) -> None:
            self.backend.remove_node(key, instance["name"])
            self.forget(instance)

        self._each(one, instances)

    def forget(self, instance: Json) -> None:
        """Remove what Compute Engine shows of a node that is gone."""
        zone = f"zones/{zone_of(instance)}"
        with self.world.mutate():
            self.world.compute.delete("instances", zone, instance["name"])
            self.world.compute.delete("disks", zone, instance["name"])

    def _each(self, work: Callable[[Any], None], items: list[Any]) -> None:
        """Do ``work`` for all items at the same time; all are tried, the first failure is raised."""
        if not items:
            return
        with ThreadPoolExecutor(min(_PARALLEL, len(items)), thread_name_prefix="nodes") as pool:
            futures = [pool.submit(work, item) for item in items]
        for future in futures:
            future.result()
