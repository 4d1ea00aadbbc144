"""Quotas: limits of the world (and of planted ``quota`` and ``gpu-quota``), usage counted from what exists."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sandbox.gcp import catalog
from sandbox.gcp.world import World

Json = dict[str, Any]


def region_limit(world: World, region: str, metric: str) -> float:
    """Limit of a regional metric. A planted ``gpu-quota`` caps every GPU metric."""
    limit = world.faults.quota(metric, region)
    if limit is None:
        limit = float(world.region_quotas.get(region, {}).get(metric, 0.0))
    planted = world.faults.gpu_limit()
    return limit if planted is None or not is_gpu(metric) else min(limit, float(planted))


def project_limit(world: World, metric: str) -> float:
    limit = world.faults.quota(metric)
    if limit is None:
        limit = float(world.project_quotas.get(metric, 0.0))
    planted = world.faults.gpu_limit()
    return limit if planted is None or metric != "GPUS_ALL_REGIONS" else min(limit, float(planted))


def is_gpu(metric: str) -> bool:
    return metric.endswith("_GPUS") and ("NVIDIA_" in metric)


def instance_usage(instance: Json) -> Counter[str]:
    """What one instance counts against regional quotas."""
    usage: Counter[str] = Counter(INSTANCES=1)
    machine = catalog.MACHINE_TYPES.get(instance["machineType"].rsplit("/", 1)[-1])
    if machine is not None:
        usage[machine.cpu_quota] += machine.cpus
    spot = instance.get("scheduling", {}).get("preemptible", False)
    for gpu in instance.get("guestAccelerators", []):
        kind = catalog.ACCELERATORS.get(gpu["acceleratorType"].rsplit("/", 1)[-1])
        if kind is not None:
            usage[("PREEMPTIBLE_" if spot else "") + kind.quota] += int(gpu["acceleratorCount"])
    if any(
        "natIP" in access for nic in instance.get("networkInterfaces", []) for access in nic.get("accessConfigs", [])
    ):
        usage["IN_USE_ADDRESSES"] += 1
    return usage


def region_usage(world: World, region: str) -> Counter[str]:
    """Usage of every metric in a region."""
    usage: Counter[str] = Counter()
    for instance in world.compute.list("instances"):
        if catalog.region_of(instance["zone"].rsplit("/", 1)[-1]) == region:
            usage += instance_usage(instance)
    for disk in world.compute.list("disks"):
        if catalog.region_of(disk["zone"].rsplit("/", 1)[-1]) == region:
            standard = disk.get("type", "").endswith("pd-standard")
            usage["DISKS_TOTAL_GB" if standard else "SSD_TOTAL_GB"] += int(disk["sizeGb"])
    for address in world.compute.list("addresses", f"regions/{region}"):
        usage["STATIC_ADDRESSES"] += address.get("addressType", "EXTERNAL") == "EXTERNAL"
    return usage


def gpus_everywhere(world: World) -> int:
    """What counts against GPUS_ALL_REGIONS."""
    return sum(
        int(gpu["acceleratorCount"])
        for instance in world.compute.list("instances")
        for gpu in instance.get("guestAccelerators", [])
    )


def region_quotas(world: World, region: str) -> list[Json]:
    """``quotas`` of a region resource."""
    usage = region_usage(world, region)
    metrics = sorted(set(world.region_quotas.get(region, {})) | set(usage))
    return [
        {"metric": metric, "limit": region_limit(world, region, metric), "usage": float(usage[metric])}
        for metric in metrics
        if metric in world.region_quotas.get(region, {}) or usage[metric]
    ]


def project_quotas(world: World) -> list[Json]:
    """``quotas`` of the project resource."""
    counted = {
        "NETWORKS": "networks",
        "SUBNETWORKS": "subnetworks",
        "FIREWALLS": "firewalls",
        "FORWARDING_RULES": "forwardingRules",
        "BACKEND_SERVICES": "backendServices",
        "HEALTH_CHECKS": "healthChecks",
        "URL_MAPS": "urlMaps",
        "TARGET_HTTP_PROXIES": "targetHttpProxies",
        "STATIC_ADDRESSES": "addresses",
    }
    usage = {metric: float(len(world.compute.list(collection))) for metric, collection in counted.items()}
    usage["GPUS_ALL_REGIONS"] = float(gpus_everywhere(world))
    return [
        {"metric": metric, "limit": project_limit(world, metric), "usage": usage.get(metric, 0.0)}
        for metric in sorted(world.project_quotas)
    ]


def shortages(world: World, region: str, wanted: Counter[str]) -> list[str]:
    """GKE's sentence for every regional metric that ``wanted`` would exceed."""
    usage = region_usage(world, region)
    found = []
    for metric, amount in sorted(wanted.items()):
        if metric in ("INSTANCES", "IN_USE_ADDRESSES") or amount <= 0:
            continue
        limit = region_limit(world, region, metric)
        available = max(0.0, limit - usage[metric])
        if amount > available:
            found.append(
                f'Insufficient regional quota to satisfy request: resource "{metric}": request requires '
                f"'{float(amount)}' and is short '{float(amount) - available}'. project has a quota of "
                f"'{float(limit)}' with '{available}' available. View and manage quotas at "
                f"https://console.cloud.google.com/iam-admin/quotas?usage=USED&project={world.project}."
            )
    return found
