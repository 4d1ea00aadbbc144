"""What GKE refuses before it starts: names, places, machine and accelerator types, quotas."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from sandbox.gcp import catalog, quotas
from sandbox.gcp.compute_catalog import machine_types
from sandbox.gcp.container_shape import DEFAULT_MACHINE, accelerator
from sandbox.gcp.errors import invalid_argument, service_forbidden
from sandbox.gcp.nodes import usage
from sandbox.gcp.world import World

Json = dict[str, Any]

NAME = r"(?:[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?)"


def check_name(field: str, name: str) -> None:
    if not name:
        raise invalid_argument(f"{field} is required.")
    if not re.fullmatch(NAME, name):
        raise invalid_argument(f'Invalid value for field "{field}": "{name}". Must be a match of regex \'{NAME}\'.')


def version_of(text: str) -> str:
    """The full version that ``latest``, ``-``, ``1.36`` or a full version means. ApiError 400 for an unknown one."""
    known = (catalog.GKE_VERSION, *catalog.GKE_OLDER_VERSIONS)
    if text in ("", "-", "latest"):
        return known[0]
    for version in known:
        if version == text or version.startswith((text + ".", text + "-")):
            return version
    raise invalid_argument(f'Master version "{text}" is unsupported.')


def check_cluster(world: World, location: str, body: Json) -> None:
    """Name, network, subnetwork, locations of a cluster to be."""
    check_name("cluster.name", str(body.get("name", "")))
    network = str(body.get("network") or "default").rsplit("/", 1)[-1]
    found = world.compute.get("networks", "global", network)
    if found is None:
        raise invalid_argument(f'Project "{world.project}" has no network named "{network}".')
    region = catalog.region_of(location)
    name = str(body.get("subnetwork") or network).rsplit("/", 1)[-1]
    subnet = world.compute.get("subnetworks", f"regions/{region}", name)
    if subnet is None or subnet["network"] != found["selfLink"]:
        path = world.compute.path("subnetworks", f"regions/{region}", name)
        raise invalid_argument(f'Subnetwork "{path}" is not valid for Network "{network}".')
    if subnet.get("purpose", "PRIVATE") != "PRIVATE":
        raise invalid_argument(f'Subnetwork "{name}" has purpose {subnet["purpose"]} and can not be used by a cluster.')
    for zone in body.get("locations", []):
        if catalog.ZONES.get(zone) != region:
            raise invalid_argument(f'Location "{zone}" is not a zone of region "{region}".')
    if body.get("nodePools") and (body.get("initialNodeCount") or body.get("nodeConfig")):
        raise invalid_argument("Cannot specify both node pools and initial node count or node config.")
    if not body.get("nodePools") and not body.get("initialNodeCount"):
        raise invalid_argument("Cluster.initial_node_count must be greater than zero.")


def check_pools(world: World, cluster: Json, pools: list[Json]) -> None:
    """Every pool alone, then the quotas for all of them together."""
    names = [pool["name"] for pool in pools]
    for pool in pools:
        check_name("node_pool.name", pool["name"])
        if names.count(pool["name"]) > 1:
            raise invalid_argument(f'Node pool "{pool["name"]}" is given twice.')
        _check_machine(pool)
        _check_counts(pool)
    wanted: Counter[str] = Counter()
    for pool in pools:
        wanted += usage(pool, pool["initialNodeCount"] * len(pool["locations"]))
    check_quota(world, catalog.region_of(cluster["location"]), wanted)


def check_quota(world: World, region: str, wanted: Counter[str]) -> None:
    """ApiError 403 that names every metric that would be exceeded."""
    short = quotas.shortages(world, region, wanted)
    if len(short) == 1:
        raise service_forbidden(short[0])
    if short:
        listed = " ".join(f"({number}) {text}" for number, text in enumerate(short, 1))
        raise service_forbidden(f"Insufficient quota to satisfy the request: {listed}")


def _check_machine(pool: Json) -> None:
    name = pool["config"]["machineType"]
    gpu = accelerator(pool)
    for zone in pool["locations"]:
        if zone not in catalog.ZONES:
            raise invalid_argument(f'Location "{zone}" does not exist.')
        if name not in {machine.name for machine in machine_types(zone)}:
            raise invalid_argument(f'Invalid machine type "{name}" in zone "{zone}": GCE_NOT_FOUND')
        if gpu is not None:
            _check_accelerator(name, gpu, zone)


def _check_accelerator(machine: str, gpu: Json, zone: str) -> None:
    kind = catalog.ACCELERATORS.get(str(gpu.get("acceleratorType", "")))
    if kind is None or zone not in kind.zones:
        raise invalid_argument(f'Accelerator type "{gpu.get("acceleratorType")}" does not exist in zone {zone}.')
    family = catalog.MACHINE_TYPES[machine].family
    if machine == DEFAULT_MACHINE:
        raise invalid_argument(
            f"Cannot use default machine type ({machine}) with GPUs; choose a different machine type."
        )
    if family not in kind.families:
        raise invalid_argument(f"[{kind.name}, {machine}] features are not compatible for creating instance.")
    if int(gpu["acceleratorCount"]) not in kind.counts:
        counts = ", ".join(str(count) for count in kind.counts)
        raise invalid_argument(
            f"Number of cards must be {counts} for accelerator type {kind.name}; got {gpu['acceleratorCount']}."
        )


def _check_counts(pool: Json) -> None:
    if pool["initialNodeCount"] < 0:
        raise invalid_argument("NodePool.initial_node_count must be a non-negative number.")
    if int(pool["config"]["diskSizeGb"]) < 10:
        raise invalid_argument("NodeConfig.disk_size_gb must be at least 10.")
    check_autoscaling(pool.get("autoscaling", {}))
    for taint in pool["config"].get("taints", []):
        if taint.get("effect") not in ("NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE") or not taint.get("key"):
            raise invalid_argument(f"Invalid taint {taint}.")


def check_autoscaling(autoscaling: Json) -> None:
    if not autoscaling.get("enabled"):
        return
    low, high = autoscaling.get("minNodeCount", 0), autoscaling.get("maxNodeCount", 0)
    total = autoscaling.get("totalMaxNodeCount", 0)
    if not total and (high < 1 or low > high):
        raise invalid_argument(
            f"Autoscaling.max_node_count must be greater than zero and not less than min_node_count ({low}): {high}."
        )
