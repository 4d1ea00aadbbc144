"""What GKE refuses before it starts: names, places, machine and accelerator types, quotas."""

from __future__ import annotations

import datetime
import ipaddress
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
    check_maintenance(body.get("maintenancePolicy", {}))
    check_authorized_networks(body.get("masterAuthorizedNetworksConfig", {}))
    if body.get("nodePools") and (body.get("initialNodeCount") or body.get("nodeConfig")):
        raise invalid_argument("Cannot specify both node pools and initial node count or node config.")
    if not body.get("nodePools") and not body.get("initialNodeCount"):
        raise invalid_argument("Cluster.initial_node_count must be greater than zero.")


def check_maintenance(policy: Json) -> None:
    """Windows as GKE takes them: a daily start, or a recurring window of four hours at least."""
    window = policy.get("window", {})
    daily = window.get("dailyMaintenanceWindow")
    if daily is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(daily.get("startTime", ""))):
        raise invalid_argument(f"Invalid start time {daily.get('startTime')!r}: HH:MM in GMT is expected.")
    recurring = window.get("recurringWindow")
    if recurring is None:
        return
    try:
        start, end = (datetime.datetime.fromisoformat(recurring["window"][key]) for key in ("startTime", "endTime"))
    except (KeyError, ValueError) as error:
        raise invalid_argument("recurring_window needs start and end in RFC 3339.") from error
    if end - start < datetime.timedelta(hours=4):
        raise invalid_argument("Maintenance window must be at least 4 hours long.")
    if not str(recurring.get("recurrence", "")).startswith("FREQ="):
        raise invalid_argument("recurrence must be an RRULE (RFC 5545), for example FREQ=WEEKLY;BYDAY=SA,SU.")


def check_authorized_networks(config: Json) -> None:
    blocks = config.get("cidrBlocks", [])
    if len(blocks) > 50:
        raise invalid_argument("At most 50 authorized networks are allowed.")
    for block in blocks:
        try:
            ipaddress.ip_network(str(block.get("cidrBlock", "")))
        except ValueError as error:
            raise invalid_argument(f"Invalid CIDR block in authorized networks: {error}.") from error


def check_upgrade_path(current: str, wanted: str) -> None:
    """The control plane only goes forward."""
    known = (catalog.GKE_VERSION, *catalog.GKE_OLDER_VERSIONS)  # newest first
    if current in known and known.index(wanted) > known.index(current):
        raise invalid_argument(f'Master cannot be downgraded from "{current}" to "{wanted}".')


def check_pools(world: World, cluster: Json, pools: list[Json]) -> None:
    """Every pool alone, then the quotas for all of them together."""
    names = [pool["name"] for pool in pools]
    for pool in pools:
        check_zones(cluster, pool["locations"])
        check_name("node_pool.name", pool["name"])
        if names.count(pool["name"]) > 1:
            raise invalid_argument(f'Node pool "{pool["name"]}" is given twice.')
        check_machine(pool)
        _check_account(world, str(pool["config"].get("serviceAccount") or "default"))
        _check_counts(pool)
    wanted: Counter[str] = Counter()
    for pool in pools:
        wanted += usage(pool, pool["initialNodeCount"] * len(pool["locations"]))
    check_quota(world, catalog.region_of(cluster["location"]), wanted)


def _check_account(world: World, name: str) -> None:
    """Nodes run as the project's default account or as one that is there."""
    if name == "default":
        return
    account = world.accounts.get(name)
    if account is None or account.human:
        raise invalid_argument(f'Service account "{name}" does not exist.')
    if account.disabled:
        raise invalid_argument(f'Service account "{name}" is disabled.')


def check_quota(world: World, region: str, wanted: Counter[str]) -> None:
    """ApiError 403 that names every metric that would be exceeded."""
    short = quotas.shortages(world, region, wanted)
    if len(short) == 1:
        raise service_forbidden(short[0])
    if short:
        listed = " ".join(f"({number}) {text}" for number, text in enumerate(short, 1))
        raise service_forbidden(f"Insufficient quota to satisfy the request: {listed}")


def check_machine(pool: Json) -> None:
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
    built_in = catalog.MACHINE_TYPES[machine].gpus
    if built_in is not None and int(gpu["acceleratorCount"]) != built_in[1]:
        raise invalid_argument(
            f"Machine type {machine} comes with {built_in[1]} GPU cards; got {gpu['acceleratorCount']}."
        )
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
    check_upgrade(pool.get("upgradeSettings", {}))
    affinity = pool["config"].get("reservationAffinity", {})
    if affinity.get("consumeReservationType") == "SPECIFIC_RESERVATION" and not affinity.get("values"):
        raise invalid_argument("reservation_affinity: a specific reservation needs key and values.")
    for taint in pool["config"].get("taints", []):
        if taint.get("effect") not in ("NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE") or not taint.get("key"):
            raise invalid_argument(f"Invalid taint {taint}.")


def check_upgrade(settings: Json) -> None:
    surge, away = int(settings.get("maxSurge", 0)), int(settings.get("maxUnavailable", 0))
    if settings and settings.get("strategy", "SURGE") == "SURGE" and not 1 <= surge + away <= 20:
        raise invalid_argument("The sum of max_surge and max_unavailable must be between 1 and 20.")


def check_zones(cluster: Json, zones: list[str]) -> None:
    """Zones of a pool: of the cluster's region, each once, at least one."""
    region = catalog.region_of(cluster["location"])
    for zone in zones:
        if catalog.ZONES.get(zone) != region:
            raise invalid_argument(f'Location "{zone}" is not a zone of region "{region}".')
    if not zones or len(set(zones)) != len(zones):
        raise invalid_argument("NodePool.locations must name at least one zone, each once.")


def check_autoscaling(autoscaling: Json) -> None:
    if not autoscaling.get("enabled"):
        return
    low, high = autoscaling.get("minNodeCount", 0), autoscaling.get("maxNodeCount", 0)
    total = autoscaling.get("totalMaxNodeCount", 0)
    if not total and (high < 1 or low > high):
        raise invalid_argument(
            f"Autoscaling.max_node_count must be greater than zero and not less than min_node_count ({low}): {high}."
        )
