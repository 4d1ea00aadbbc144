"""Compute Engine's catalogue: the project itself, regions, zones, machine and accelerator types."""

from __future__ import annotations

import zlib
from typing import Any

from sandbox.gcp import catalog, quotas
from sandbox.gcp.api import Call, handles
from sandbox.gcp.compute import aggregated_answer, list_answer, scope_of
from sandbox.gcp.errors import compute_not_found
from sandbox.gcp.store import compute_time

Json = dict[str, Any]

_EPOCH = compute_time(0)


def _fixed_id(text: str) -> str:
    """An id that is the same in every sandbox, for what is not created."""
    return str(1000 + zlib.crc32(text.encode()))


@handles("compute.projects.get")
def get_project(call: Call) -> Json:
    world = call.world
    return {
        "kind": "compute#project",
        "id": world.number,
        "name": world.project,
        "creationTimestamp": _EPOCH,
        "selfLink": f"https://www.googleapis.com/compute/v1/projects/{world.project}",
        "defaultServiceAccount": world.default_service_account,
        "defaultNetworkTier": "PREMIUM",
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        "vmDnsSetting": "ZONAL_ONLY",
        "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "2oSSiPi57f8="},
        "quotas": quotas.project_quotas(world),
    }


def _region(call: Call, name: str) -> Json:
    store = call.world.compute
    return {
        "kind": "compute#region",
        "id": _fixed_id(name),
        "name": name,
        "description": name,
        "creationTimestamp": _EPOCH,
        "status": "DOWN" if call.world.faults.outage(name) else "UP",
        "selfLink": store.scope_link(f"regions/{name}"),
        "zones": [store.scope_link(f"zones/{zone}") for zone in catalog.zones(name)],
        "quotas": quotas.region_quotas(call.world, name),
        "supportsPzs": False,
    }


@handles("compute.regions.get")
def get_region(call: Call) -> Json:
    name = call.params["region"]
    if name not in catalog.REGIONS:
        raise compute_not_found(f"projects/{call.world.project}/regions/{name}")
    return _region(call, name)


@handles("compute.regions.list")
def list_regions(call: Call) -> Json:
    return list_answer(call, [_region(call, name) for name in sorted(catalog.REGIONS)])


def _zone(call: Call, name: str) -> Json:
    store = call.world.compute
    return {
        "kind": "compute#zone",
        "id": _fixed_id(name),
        "name": name,
        "description": name,
        "creationTimestamp": _EPOCH,
        "status": "DOWN" if call.world.faults.outage(name) else "UP",
        "region": store.scope_link(f"regions/{catalog.ZONES[name]}"),
        "selfLink": store.scope_link(f"zones/{name}"),
        "supportsPzs": False,
    }


@handles("compute.zones.get")
def get_zone(call: Call) -> Json:
    name = call.params["zone"]
    if name not in catalog.ZONES:
        raise compute_not_found(f"projects/{call.world.project}/zones/{name}")
    return _zone(call, name)


@handles("compute.zones.list")
def list_zones(call: Call) -> Json:
    return list_answer(call, [_zone(call, name) for name in sorted(catalog.ZONES)])


# --- machine types -----------------------------------------------------------------------------------------------


def machine_types(zone: str) -> list[catalog.MachineType]:
    """Machine types of a zone: those with built-in GPUs only where the GPU is offered."""
    return [
        machine
        for machine in catalog.MACHINE_TYPES.values()
        if machine.gpus is None or zone in catalog.ACCELERATORS[machine.gpus[0]].zones
    ]


def _machine_type(call: Call, machine: catalog.MachineType, zone: str) -> Json:
    resource: Json = {
        "kind": "compute#machineType",
        "id": _fixed_id(machine.name),
        "name": machine.name,
        "creationTimestamp": _EPOCH,
        "description": f"{machine.cpus} vCPUs, {machine.memory_mb / 1024:g} GB RAM",
        "guestCpus": machine.cpus,
        "memoryMb": machine.memory_mb,
        "imageSpaceGb": 0,
        "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168",
        "zone": zone,
        "selfLink": call.world.compute.link("machineTypes", f"zones/{zone}", machine.name),
        "isSharedCpu": machine.name in ("e2-micro", "e2-small", "e2-medium"),
        "architecture": "X86_64",
    }
    if machine.gpus:
        kind, count = machine.gpus
        resource["accelerators"] = [{"guestAcceleratorType": kind, "guestAcceleratorCount": count}]
    return resource


@handles("compute.machineTypes.get")
def get_machine_type(call: Call) -> Json:
    zone, name = scope_of(call).removeprefix("zones/"), call.params["machineType"]
    for machine in machine_types(zone):
        if machine.name == name and call.world.faults.offered(name, zone):
            return _machine_type(call, machine, zone)
    raise compute_not_found(call.world.compute.path("machineTypes", f"zones/{zone}", name))


@handles("compute.machineTypes.list")
def list_machine_types(call: Call) -> Json:
    zone = scope_of(call).removeprefix("zones/")
    return list_answer(call, [_machine_type(call, machine, zone) for machine in machine_types(zone)])


@handles("compute.machineTypes.aggregatedList")
def aggregated_machine_types(call: Call) -> Json:
    scoped = {f"zones/{z}": [_machine_type(call, machine, z) for machine in machine_types(z)] for z in catalog.ZONES}
    return aggregated_answer(call, scoped)


# --- accelerator types -------------------------------------------------------------------------------------------


def _accelerator(call: Call, kind: catalog.Accelerator, zone: str) -> Json:
    return {
        "kind": "compute#acceleratorType",
        "id": _fixed_id(kind.name),
        "name": kind.name,
        "creationTimestamp": _EPOCH,
        "description": kind.description,
        "maximumCardsPerInstance": max(kind.counts),
        "zone": call.world.compute.scope_link(f"zones/{zone}"),
        "selfLink": call.world.compute.link("acceleratorTypes", f"zones/{zone}", kind.name),
    }


def _offered(call: Call, zone: str) -> list[Json]:
    return [_accelerator(call, kind, zone) for kind in catalog.ACCELERATORS.values()
            if zone in kind.zones and call.world.faults.offered(kind.name, zone)]  # fmt: skip


@handles("compute.acceleratorTypes.get")
def get_accelerator(call: Call) -> Json:
    zone, name = scope_of(call).removeprefix("zones/"), call.params["acceleratorType"]
    kind = catalog.ACCELERATORS.get(name)
    if kind is None or zone not in kind.zones or not call.world.faults.offered(name, zone):
        raise compute_not_found(call.world.compute.path("acceleratorTypes", f"zones/{zone}", name))
    return _accelerator(call, kind, zone)


@handles("compute.acceleratorTypes.list")
def list_accelerators(call: Call) -> Json:
    return list_answer(call, _offered(call, scope_of(call).removeprefix("zones/")))


@handles("compute.acceleratorTypes.aggregatedList")
def aggregated_accelerators(call: Call) -> Json:
    return aggregated_answer(call, {f"zones/{zone}": _offered(call, zone) for zone in catalog.ZONES})
