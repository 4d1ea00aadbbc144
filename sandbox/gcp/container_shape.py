"""What GKE fills into a cluster and a node pool, from what a caller sent and what was made."""

from __future__ import annotations

import base64
import copy
import hashlib
import uuid
from typing import Any

from sandbox.gcp import catalog
from sandbox.gcp.backend import ClusterEndpoint
from sandbox.gcp.store import ROOT
from sandbox.gcp.world import World
from sandbox.paths import SERVICE_RANGE

Json = dict[str, Any]

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}
SCOPES = [f"https://www.googleapis.com/auth/{scope}" for scope in (
    "devstorage.read_only", "logging.write", "monitoring", "service.management.readonly", "servicecontrol",
    "trace.append")]  # fmt: skip
STANDARD = "CHANNEL_STANDARD"
DEFAULT_MACHINE = "e2-medium"


def place(location: str) -> str:
    """``zones/us-central1-a`` or ``locations/us-central1``, as GKE names a location in links and texts."""
    return f"zones/{location}" if location in catalog.ZONES else f"locations/{location}"


def resource_path(project: str, location: str, cluster: str, pool: str = "") -> str:
    path = f"projects/{project}/{place(location)}/clusters/{cluster}"
    return f"{path}/nodePools/{pool}" if pool else path


def self_link(path: str) -> str:
    return f"https://container.googleapis.com/v1/{path}"


def short_hash(*parts: str, length: int = 8) -> str:
    """A stable lowercase hash, as GKE puts into names."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:length]


def new_etag() -> str:
    return str(uuid.uuid4())


def gateway_channel(cluster: Json) -> str:
    """Channel of the managed Gateway API, "" where it was never set."""
    return str(cluster.get("networkConfig", {}).get("gatewayApiConfig", {}).get("channel", ""))


def accelerator(pool: Json) -> Json | None:
    """``{"acceleratorType", "acceleratorCount", ...}`` of a pool, built into the machine type or attached."""
    config = pool.get("config", {})
    attached = config.get("accelerators") or []
    if attached:
        return dict(attached[0])
    machine = catalog.MACHINE_TYPES.get(config.get("machineType", ""))
    if machine is None or machine.gpus is None:
        return None
    return {"acceleratorType": machine.gpus[0], "acceleratorCount": str(machine.gpus[1])}


def _cluster_defaults() -> Json:
    """Fields that GKE fills whatever the caller sent."""
    return {
        "addonsConfig": {
            "dnsCacheConfig": {"enabled": True},
            "gcePersistentDiskCsiDriverConfig": {"enabled": True},
            "networkPolicyConfig": {"disabled": True},
        },
        "databaseEncryption": {"state": "DECRYPTED", "currentState": "CURRENT_STATE_DECRYPTED"},
        "defaultMaxPodsConstraint": {"maxPodsPerNode": "110"},
        "loggingConfig": {"componentConfig": {"enableComponents": ["SYSTEM_COMPONENTS", "WORKLOADS"]}},
        "loggingService": "logging.googleapis.com/kubernetes",
        "maintenancePolicy": {},
        "masterAuthorizedNetworksConfig": {"gcpPublicCidrsAccessEnabled": True},
        "monitoringConfig": {
            "componentConfig": {"enableComponents": ["SYSTEM_COMPONENTS"]},
            "managedPrometheusConfig": {"enabled": True},
        },
        "monitoringService": "monitoring.googleapis.com/kubernetes",
        "releaseChannel": {"channel": "REGULAR"},
        "shieldedNodes": {"enabled": True},
        "legacyAbac": {},
        "autopilot": {},
    }


def new_cluster(world: World, location: str, body: Json, created: str) -> Json:
    """The cluster as it stands when its creation begins; node pools are added by the caller."""
    sent = copy.deepcopy(body)
    name = sent["name"]
    for old in ("initialNodeCount", "nodeConfig", "nodePools", "initialClusterVersion", "zone", "location", "endpoint"):
        sent.pop(old, None)
    network = sent.pop("network", "default").rsplit("/", 1)[-1]
    subnetwork = sent.pop("subnetwork", network).rsplit("/", 1)[-1]
    path = resource_path(world.project, location, name)
    digest = short_hash(world.project, location, name, length=64)
    region = catalog.region_of(location)
    cluster = {**_cluster_defaults(), **sent}
    cluster["networkConfig"] = {
        "serviceExternalIpsConfig": {},
        "defaultEnablePrivateNodes": False,
        **sent.get("networkConfig", {}),
        "network": f"projects/{world.project}/global/networks/{network}",
        "subnetwork": f"projects/{world.project}/regions/{region}/subnetworks/{subnetwork}",
    }
    cluster |= {
        "id": digest,
        "etag": new_etag(),
        "labelFingerprint": label_fingerprint(cluster.get("resourceLabels", {})),
        "selfLink": self_link(path),
        "location": location,
        "zone": location,
        "locations": sent.get("locations") or catalog.locations(location),
        "network": network,
        "subnetwork": subnetwork,
        "createTime": created,
        "status": "PROVISIONING",
        "servicesIpv4Cidr": SERVICE_RANGE,
        "nodePools": [],
        "currentNodeCount": 0,
    }
    _addresses(world, cluster, digest)
    maintenance(cluster, cluster["maintenancePolicy"])
    return cluster


def maintenance(cluster: Json, policy: Json) -> None:
    """Set a cluster's maintenance policy as GKE keeps it: with its version, a daily window with its length."""
    kept = copy.deepcopy({key: value for key, value in policy.items() if key != "resourceVersion"})
    daily = kept.get("window", {}).get("dailyMaintenanceWindow")
    if daily is not None:
        daily["duration"] = "PT4H0M0S"
    kept["resourceVersion"] = short_hash(repr(kept))
    cluster["maintenancePolicy"] = kept


def _addresses(world: World, cluster: Json, digest: str) -> None:
    """IP allocation and control-plane endpoints, as far as they are known before the control plane runs."""
    suffix = digest[:8]
    policy = cluster.get("ipAllocationPolicy", {})
    cluster["ipAllocationPolicy"] = {
        "stackType": "IPV4",
        "podCidrOverprovisionConfig": {},
        "clusterSecondaryRangeName": f"gke-{cluster['name']}-pods-{suffix}",
        "defaultPodIpv4RangeUtilization": 0.0,
        **policy,
        "useIpAliases": True,
        "servicesIpv4Cidr": SERVICE_RANGE,
        "servicesIpv4CidrBlock": SERVICE_RANGE,
    }
    sent = cluster.get("controlPlaneEndpointsConfig", {})
    dns = sent.get("dnsEndpointConfig", {})
    cluster["controlPlaneEndpointsConfig"] = {
        "dnsEndpointConfig": {
            "allowExternalTraffic": bool(dns.get("allowExternalTraffic", False)),
            "endpoint": f"gke-{digest[:32]}-{world.number}.{catalog.region_of(cluster['location'])}.gke.goog",
        },
        "ipEndpointsConfig": {"enabled": True, "enablePublicEndpoint": True, **sent.get("ipEndpointsConfig", {})},
    }


def control_plane_ready(cluster: Json, endpoint: ClusterEndpoint, version: str) -> None:
    """Fill what is known once the control plane answers."""
    cluster["endpoint"] = endpoint.host
    cluster["masterAuth"] = {
        "clientCertificateConfig": {},
        "clusterCaCertificate": base64.b64encode(endpoint.ca_pem).decode(),
    }
    cluster["currentMasterVersion"] = version
    cluster["currentNodeVersion"] = version
    cluster["initialClusterVersion"] = version
    pods = pod_range(endpoint.host)
    cluster["clusterIpv4Cidr"] = pods
    cluster["ipAllocationPolicy"] |= {"clusterIpv4Cidr": pods, "clusterIpv4CidrBlock": pods}
    endpoints = cluster["controlPlaneEndpointsConfig"]["ipEndpointsConfig"]
    endpoints |= {"publicEndpoint": endpoint.host, "privateEndpoint": endpoint.host}
    cluster["privateClusterConfig"] = {"publicEndpoint": endpoint.host, "privateEndpoint": endpoint.host}


def pod_range(host: str) -> str:
    """Pod range of the cluster whose API server is 172.16.N.2: 10.(4N).0.0/14 (the backend's plan)."""
    parts = host.partition(":")[0].split(".")
    index = int(parts[2]) if host.startswith("172.16.") and parts[2].isdigit() else 1
    return f"10.{4 * max(1, index)}.0.0/14"


def label_fingerprint(labels: dict[str, str]) -> str:
    return short_hash(*(f"{key}={value}" for key, value in sorted(labels.items())))


def _node_config(sent: Json) -> Json:
    """Settings of a pool's nodes with GKE's defaults."""
    return {
        "machineType": DEFAULT_MACHINE,
        "diskSizeGb": 100,
        "diskType": "pd-balanced",
        "imageType": "COS_CONTAINERD",
        "serviceAccount": "default",
        "oauthScopes": SCOPES,
        "metadata": {"disable-legacy-endpoints": "true"},
        "shieldedInstanceConfig": {"enableIntegrityMonitoring": True},
        "loggingConfig": {"variantConfig": {"variant": "DEFAULT"}},
        "windowsNodeConfig": {},
        "effectiveCgroupMode": "EFFECTIVE_CGROUP_MODE_V2",
        "resourceLabels": {"goog-gke-node-pool-provisioning-model": "spot" if sent.get("spot") else "on-demand"},
        **sent,
    }


def new_pool(world: World, cluster: Json, body: Json, version: str) -> Json:
    """A node pool as it stands when its creation begins."""
    pool = copy.deepcopy(body)
    location, name = cluster["location"], pool["name"]
    config = _node_config(pool.get("config", {}))
    for gpu in config.get("accelerators", []):
        gpu.setdefault("acceleratorCount", "1")
        # GKE installs the default driver by itself since 1.30.1-gke.1156000.
        gpu.setdefault("gpuDriverInstallationConfig", {"gpuDriverVersion": "DEFAULT"})
    pool["config"] = config
    if accelerator(pool) is not None and any(accelerator(other) is None for other in cluster["nodePools"]):
        taints = config.setdefault("taints", [])
        if not any(taint["key"] == GPU_TAINT["key"] for taint in taints):
            taints.append(dict(GPU_TAINT))
    pool["initialNodeCount"] = pool.get("initialNodeCount", 0)
    pool.setdefault("locations", list(cluster["locations"]))
    pool.setdefault("management", {"autoRepair": True, "autoUpgrade": True})
    pool.setdefault("maxPodsConstraint", {"maxPodsPerNode": "110"})
    pool.setdefault("upgradeSettings", {"maxSurge": 1, "strategy": "SURGE"})
    location_policy(pool)
    pool["podIpv4CidrSize"] = 24
    pool["networkConfig"] = {
        "podRange": cluster["ipAllocationPolicy"]["clusterSecondaryRangeName"],
        "enablePrivateNodes": bool(cluster["networkConfig"].get("defaultEnablePrivateNodes")),
        **pool.get("networkConfig", {}),
    }
    pool["selfLink"] = self_link(resource_path(world.project, location, cluster["name"], name))
    pool["version"] = version
    pool["status"] = "PROVISIONING"
    pool["etag"] = new_etag()
    pool["instanceGroupUrls"] = [
        f"{ROOT}projects/{world.project}/zones/{zone}/instanceGroupManagers/{group_name(cluster, pool, zone)}"
        for zone in pool["locations"]
    ]
    return pool


def location_policy(pool: Json) -> None:
    """The autoscaler's spread over zones where nobody chose: wherever there is capacity for Spot, else even."""
    scaling = pool.get("autoscaling", {})
    if scaling.get("enabled"):
        scaling.setdefault("locationPolicy", "ANY" if pool["config"].get("spot") else "BALANCED")


def group_name(cluster: Json, pool: Json, zone: str) -> str:
    """Managed instance group of a pool in a zone: ``gke-<cluster>-<pool>-<hash>-grp``."""
    return f"{base_name(cluster, pool, zone)}-grp"


def base_name(cluster: Json, pool: Json, zone: str) -> str:
    """Start of its nodes' names. Long names are cut so that a node's name stays a DNS label."""
    first, second = cluster["name"], pool["name"]
    if len(first) + len(second) > 40:
        first, second = first[:20].rstrip("-"), second[:20].rstrip("-")
    return f"gke-{first}-{second}-{short_hash(cluster['id'], pool['name'], zone)}"
