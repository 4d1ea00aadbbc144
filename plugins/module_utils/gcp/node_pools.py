# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Node pools: what is wanted, how it differs from what is there, and the fewest calls that make it so.

Sizes: ``node_count`` is what a pool is created with; afterwards the autoscaler or ``size`` (gke_node_pool) decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import fabric, operations, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.fabric import Fabric
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

OAUTH_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
DRIVER_VERSIONS = {"default": "DEFAULT", "latest": "LATEST", "disabled": "INSTALLATION_DISABLED"}
EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
UPGRADE_FIELDS = (("max_surge", "maxSurge"), ("max_unavailable", "maxUnavailable"))
RESERVATIONS = {"none": "NO_RESERVATION", "any": "ANY_RESERVATION", "specific": "SPECIFIC_RESERVATION"}
RESERVATION_KEY = "compute.googleapis.com/reservation-name"
GPU_TAINT = "nvidia.com/gpu"  # GKE puts it on GPU nodes by itself
METHOD = "container.projects.locations.clusters.nodePools."


@dataclass(frozen=True)
class Accelerator:
    """GPUs of one node. ``driver_version`` is default, latest or disabled."""

    type: str
    count: int = 1
    driver_version: str = "default"


@dataclass(frozen=True)
class Pool:
    """A wanted node pool. None (and empty) means: not our business, leave what is there."""

    name: str
    machine_type: str = ""
    node_count: int | None = None
    accelerator: Accelerator | None = None
    autoscaling: tuple[int, int] | None = None  # (min, max) nodes in each zone
    autoscaling_off: bool = False
    location_policy: str = ""  # balanced or any
    locations: tuple[str, ...] = ()  # zones of the nodes; empty: the cluster's
    reservation: tuple[str, str] | None = None  # (affinity none, any or specific; name of a specific one)
    upgrade: tuple[int, int] | None = None  # (max_surge, max_unavailable)
    spot: bool | None = None
    labels: dict[str, str] | None = None
    taints: tuple[tuple[str, str, str], ...] | None = None  # (key, value, effect as in Kubernetes)
    disk_size_gb: int | None = None
    disk_type: str = ""
    service_account: str = ""
    fabric: Fabric = field(default_factory=Fabric)
    size: int | None = None
    fallbacks: tuple[Mapping[str, Any], ...] = ()  # see fallbacks.py


def pool_from_options(options: Mapping[str, Any]) -> Pool:
    """A pool from module options. Raises ConfigurationError NODE_POOL_INVALID."""
    accelerator = options.get("accelerator")
    scaling = options.get("autoscaling")
    limits = None
    off = False
    if scaling is not None:
        off = scaling.get("enabled") is False
        limits = None if off else (int(scaling.get("min") or 0), int(scaling.get("max") or 0))
    if limits is not None and (limits[1] < 1 or limits[0] > limits[1]):
        raise ConfigurationError(
            f"Node pool {options['name']}: autoscaling min {limits[0]} and max {limits[1]} do not fit together",
            code="NODE_POOL_INVALID",
            remedy="max must be at least 1 and not below min.",
        )
    taints = options.get("taints")
    upgrade = options.get("upgrade_settings")
    return Pool(
        name=options["name"],
        machine_type=options.get("machine_type") or "",
        node_count=options.get("node_count"),
        accelerator=None
        if not accelerator or not accelerator.get("count", 1)
        else Accelerator(
            accelerator["type"], int(accelerator.get("count") or 1), accelerator.get("driver_version") or "default"
        ),
        autoscaling=limits,
        autoscaling_off=off,
        location_policy=(scaling or {}).get("location_policy") or "",
        locations=tuple(sorted(options.get("locations") or ())),
        reservation=_reservation(options),
        upgrade=None
        if upgrade is None
        else (int(upgrade.get("max_surge") or 0), int(upgrade.get("max_unavailable") or 0)),
        spot=options.get("spot"),
        labels=None if options.get("labels") is None else {k: str(v) for k, v in options["labels"].items()},
        taints=None if taints is None else tuple((t["key"], t.get("value") or "", t["effect"]) for t in taints),
        disk_size_gb=options.get("disk_size_gb"),
        disk_type=options.get("disk_type") or "",
        service_account=options.get("service_account") or "",
        fabric=Fabric.from_options(options),
        size=options.get("size"),
        fallbacks=tuple(options.get("fallbacks") or ()),
    )


def _reservation(options: Mapping[str, Any]) -> tuple[str, str] | None:
    given = options.get("reservation")
    if given is None:
        return None
    affinity, name = given["affinity"], given.get("name") or ""
    if (affinity == "specific") != bool(name):
        raise ConfigurationError(
            f"Node pool {options['name']}: reservation.name belongs to affinity specific, and only to it",
            code="NODE_POOL_INVALID",
            remedy="Set affinity: specific with name, or affinity: any or none without.",
        )
    if options.get("spot"):
        raise ConfigurationError(
            f"Node pool {options['name']}: Spot VMs cannot use a reservation",
            code="NODE_POOL_INVALID",
            remedy="Leave out one of spot and reservation.",
        )
    return affinity, name


# --- API bodies ---------------------------------------------------------------------------------------------------


def accelerators_body(accelerator: Accelerator) -> list[Json]:
    version = DRIVER_VERSIONS[accelerator.driver_version]
    return [
        {
            "acceleratorCount": str(accelerator.count),  # int64 travels as text
            "acceleratorType": accelerator.type,
            "gpuDriverInstallationConfig": {"gpuDriverVersion": version},
        }
    ]


def taints_body(taints: tuple[tuple[str, str, str], ...]) -> list[Json]:
    return [{"key": key, "value": value, "effect": EFFECTS[effect]} for key, value, effect in taints]


def autoscaling_body(limits: tuple[int, int] | None, location_policy: str = "") -> Json:
    if limits is None:
        return {"enabled": False}
    body: Json = {"enabled": True, "minNodeCount": limits[0], "maxNodeCount": limits[1]}
    return body | ({"locationPolicy": location_policy.upper()} if location_policy else {})


def reservation_body(reservation: tuple[str, str]) -> Json:
    affinity, name = reservation
    body: Json = {"consumeReservationType": RESERVATIONS[affinity]}
    return body | ({"key": RESERVATION_KEY, "values": [name]} if name else {})


def upgrade_body(upgrade: tuple[int, int]) -> Json:
    return {"strategy": "SURGE", "maxSurge": upgrade[0], "maxUnavailable": upgrade[1]}


def initial_count(pool: Pool) -> int:
    """Nodes in each zone at creation: what was asked, else the autoscaler's minimum, else one."""
    for count in (pool.size, pool.node_count):
        if count is not None:
            return count
    return pool.autoscaling[0] if pool.autoscaling else 1


def creation_body(pool: Pool, *, deployment: str, workload_identity: bool = True) -> Json:
    """The API's NodePool for a create call (container v1)."""
    config: Json = {"oauthScopes": OAUTH_SCOPES, "resourceLabels": ownership.labels(deployment)}
    if pool.machine_type:
        config["machineType"] = pool.machine_type
    if workload_identity:
        config["workloadMetadataConfig"] = {"mode": "GKE_METADATA"}
    if pool.accelerator:
        config["accelerators"] = accelerators_body(pool.accelerator)
    if pool.spot:
        config["spot"] = True
    if pool.reservation:
        config["reservationAffinity"] = reservation_body(pool.reservation)
    if pool.labels:
        config["labels"] = dict(pool.labels)
    if pool.taints:
        config["taints"] = taints_body(pool.taints)
    for key, value in (
        ("diskSizeGb", pool.disk_size_gb),
        ("diskType", pool.disk_type),
        ("serviceAccount", pool.service_account),
    ):
        if value:
            config[key] = value
    body: Json = {
        "name": pool.name,
        "initialNodeCount": initial_count(pool),
        "config": config,
        "management": {"autoRepair": True, "autoUpgrade": True},
    }
    if pool.autoscaling:
        body["autoscaling"] = autoscaling_body(pool.autoscaling, pool.location_policy)
    if pool.locations:
        body["locations"] = list(pool.locations)
    if pool.upgrade:
        body["upgradeSettings"] = upgrade_body(pool.upgrade)
    pool.fabric.add_to(body)
    return body


# --- what is there ------------------------------------------------------------------------------------------------


def view(found: Json) -> Json:
    """A pool as results and diffs show it, in the words of our options."""
    config = found.get("config") or {}
    scaling = found.get("autoscaling") or {}
    accelerators = config.get("accelerators") or []
    upgrade = found.get("upgradeSettings") or {}
    short: Json = {
        "name": found.get("name"),
        "status": found.get("status"),
        "version": found.get("version", ""),
        "machine_type": config.get("machineType", ""),
        "disk_size_gb": config.get("diskSizeGb"),
        "disk_type": config.get("diskType", ""),
        "spot": bool(config.get("spot")),
        "initial_node_count": int(found.get("initialNodeCount") or 0),
        "autoscaling": {"min": int(scaling.get("minNodeCount") or 0), "max": int(scaling.get("maxNodeCount") or 0)}
        if scaling.get("enabled")
        else None,
        "labels": dict(config.get("labels") or {}),
        "taints": [_taint_view(taint) for taint in config.get("taints") or [] if taint.get("key") != GPU_TAINT],
        "accelerator": None,
        "location_policy": str(scaling.get("locationPolicy") or "").lower() if scaling.get("enabled") else "",
        "locations": sorted(found.get("locations") or []),
        "reservation": _reservation_view(config.get("reservationAffinity") or {}),
        "upgrade_settings": {key: int(upgrade.get(name) or 0) for key, name in UPGRADE_FIELDS} if upgrade else None,
        "service_account": str(config.get("serviceAccount") or "default"),
        **fabric.view(found),
    }
    if accelerators:
        first = accelerators[0]
        installed = (first.get("gpuDriverInstallationConfig") or {}).get("gpuDriverVersion", "")
        names = {v: k for k, v in DRIVER_VERSIONS.items()}
        short["accelerator"] = {
            "type": first.get("acceleratorType"),
            "count": int(first.get("acceleratorCount") or 0),
            "driver_version": names.get(installed, ""),
        }
    return short


def _reservation_view(affinity: Json) -> Json | None:
    names = {v: k for k, v in RESERVATIONS.items()}
    kind = str(affinity.get("consumeReservationType") or "")
    if kind in ("", "UNSPECIFIED"):
        return None
    return {"affinity": names.get(kind, kind), "name": next(iter(affinity.get("values") or []), "")}


def _taint_view(taint: Json) -> Json:
    effects = {v: k for k, v in EFFECTS.items()}
    effect = str(taint.get("effect", ""))
    return {"key": taint.get("key"), "value": taint.get("value", ""), "effect": effects.get(effect, effect)}


@dataclass(frozen=True)
class Change:
    """One call that brings a pool nearer to what is wanted. ``fields`` is what the pool's view will say after it."""

    what: str
    method: str
    verb: str
    suffix: str
    body: Json = field(hash=False)
    fields: Json = field(hash=False)


# --- calls --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Where:
    """The cluster that pools belong to."""

    location: str
    cluster: str

    def path(self, project: str) -> str:
        return f"projects/{segment(project)}/locations/{segment(self.location)}/clusters/{segment(self.cluster)}"

    def pool_path(self, project: str, pool: str) -> str:
        return f"{self.path(project)}/nodePools/{segment(pool)}"


def get(session: GoogleSession, where: Where, name: str) -> Json | None:
    """The pool, None where the cluster has none of that name. Raises GoogleApiError (also for a missing cluster)."""
    try:
        return session.call(METHOD + "get", "GET", where.pool_path(session.project, name))
    except GoogleApiError as error:
        if error.status == 404 and "nodepool" in error.why.lower().replace(" ", ""):
            return None
        raise


def create(
    session: GoogleSession,
    where: Where,
    pool: Pool,
    *,
    deployment: str,
    workload_identity: bool,
    timeout: float,
    watch: Callable[[], None] | None = None,
) -> operations.Finished:
    """Create a pool and wait; a pool that then stands in ERROR is a failure, whatever the operation said."""
    body = {
        "parent": where.path(session.project),
        "nodePool": creation_body(pool, deployment=deployment, workload_identity=workload_identity),
    }
    operation = session.call(METHOD + "create", "POST", where.path(session.project) + "/nodePools", body=body)
    what = f"Creation of node pool {pool.name}"
    return operations.wait(session, operation, what=what, timeout=timeout, location=where.location, watch=watch)


def apply(session: GoogleSession, where: Where, pool: str, change: Change, *, timeout: float) -> operations.Finished:
    """Make one change and wait for it."""
    path = where.pool_path(session.project, pool)
    operation = session.call(change.method, change.verb, path + change.suffix, body={"name": path, **change.body})
    what = f"Node pool {pool}: {change.what}"
    return operations.wait(session, operation, what=what, timeout=timeout, location=where.location)


def delete(session: GoogleSession, where: Where, pool: str, *, timeout: float) -> operations.Finished:
    operation = session.call(METHOD + "delete", "DELETE", where.pool_path(session.project, pool))
    return operations.wait(
        session, operation, what=f"Deletion of node pool {pool}", timeout=timeout, location=where.location
    )


def current_size(session: GoogleSession, found: Json) -> int:
    """Nodes in each zone now, as the instance groups' target says (the pool itself only knows its initial count)."""
    sizes = []
    for url in found.get("instanceGroupUrls") or []:
        path = str(url).split("/projects/", 1)[-1].replace("/instanceGroups/", "/instanceGroupManagers/")
        try:
            group = session.call("compute.instanceGroupManagers.get", "GET", f"projects/{path}")
        except GoogleApiError as error:
            if error.status != 404:
                raise
            continue
        sizes.append(int(group.get("targetSize") or 0))
    return max(sizes) if sizes else int(found.get("initialNodeCount") or 0)


def require_healthy(session: GoogleSession, found: Json, *, strict: bool) -> list[str]:
    """Warnings about a pool's own status; raises OperationError (STOCKOUT, QUOTA_EXCEEDED, ...) where it cannot serve.

    strict: RUNNING_WITH_ERROR is a failure too (right after a create or resize), else a warning.
    """
    status = str(found.get("status", ""))
    if status == "ERROR" or (strict and status == "RUNNING_WITH_ERROR"):
        error = operations.explain_conditions(
            session,
            found,
            what=f"Node pool {found.get('name')} is in status {status}",
            where=str(found.get("selfLink", found.get("name"))),
        )
        if error.code == "OPERATION_FAILED":
            error.code = "NODE_POOL_ERROR"
        error.remedy += " Then delete the pool (gke_node_pool with state: absent) and run again."
        raise error
    if status == "RUNNING_WITH_ERROR":
        conditions = "; ".join(str(c.get("message", "")) for c in found.get("conditions") or [])
        return [f"Node pool {found.get('name')} is RUNNING_WITH_ERROR: {conditions or found.get('statusMessage', '')}"]
    return []
