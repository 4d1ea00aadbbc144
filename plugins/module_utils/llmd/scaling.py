# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for replicas, read from the cluster and Google Cloud; the GPU pool's maximum raised where that is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import (
    cluster_labels,
    clusters,
    locations,
    node_pools,
    pool_updates,
    quotas,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Pool, Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import DEPLOYMENT, NODE, POD
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import selector_of
from ansible_collections.llmd.gke.plugins.module_utils.llmd import capacity
from ansible_collections.llmd.gke.plugins.module_utils.llmd.capacity import CapacityPlan, PoolRoom, Wanted

Json = dict[str, Any]
DEFAULT_CPUS = 4


@dataclass(frozen=True)
class Request:
    """What is to be scaled: the pool, the model servers (``selector`` in ``namespace``), replicas and GPUs of each."""

    pool: str
    namespace: str
    selector: dict[str, str]
    replicas: int
    gpus: int
    raise_max: bool


@dataclass
class Outcome:
    """The plan, and what was done for it."""

    plan: CapacityPlan
    room: PoolRoom
    changed: bool = False
    operations: list[Json] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return capacity.screen(self.plan, self.room)


def model_servers(client: KubeClient, namespace: str, selector: dict[str, str]) -> list[Json]:
    """The Deployments whose pods carry the labels. Raises KubernetesError."""
    found = client.objects(DEPLOYMENT, namespace)
    return [item for item in found if selector.items() <= selector_of(item).items()]


def prepare(
    session: GoogleSession, client: KubeClient, where: Where, asked: Request, *, timeout: float, check_mode: bool
) -> Outcome:
    """Judge, and raise the pool's maximum where that is needed and allowed. Raises LlmdError (SCALE_...)."""
    found = node_pools.get(session, where, asked.pool)
    if found is None:
        raise ConfigurationError(
            f"There is no node pool {asked.pool} in cluster {where.cluster}.",
            code="SCALE_NO_POOL",
            where=where.path(session.project),
            remedy="Check llmd_gpu.pool, or run playbooks/pattern1.yml first.",
        )
    room = _room(session, where, found)
    pods = client.objects(POD)
    nodes = capacity.gpu_nodes(client.objects(NODE), pods, asked.selector, asked.namespace)
    servers = model_servers(client, asked.namespace, asked.selector)
    now = sum(int((item.get("spec") or {}).get("replicas") or 0) for item in servers)
    plan = capacity.plan(Wanted(now, asked.replicas, asked.gpus), room, nodes)
    headroom = _headroom(session, where, found, plan.new_nodes)
    plan.quotas = [item.as_result() for item in headroom]
    zones = _zones_without(session, found) if plan.new_nodes else []
    capacity.refuse(plan, room, headroom, zones, raise_max=asked.raise_max, project=session.project)
    outcome = Outcome(plan, room, changed=plan.raises)
    if plan.raises and plan.pool_max is not None and room.limits is not None and not check_mode:
        for change in pool_updates.changes(Pool(asked.pool, autoscaling=(room.limits[0], plan.pool_max)), found):
            done = node_pools.apply(session, where, asked.pool, change, timeout=timeout)
            outcome.operations.append(done.as_result())
    return outcome


def _room(session: GoogleSession, where: Where, found: Json) -> PoolRoom:
    seen = node_pools.view(found)
    scaling = seen["autoscaling"]
    labels = (clusters.get(session, where) or {}).get("resourceLabels") or {}
    return PoolRoom(
        name=str(found["name"]),
        size=node_pools.current_size(session, found),
        limits=None if scaling is None else (scaling["min"], scaling["max"]),
        zones=max(1, len(seen["locations"])),
        gpus_each=int((seen["accelerator"] or {}).get("count") or 0),
        paused=cluster_labels.PAUSED_SINCE in labels,
    )


def _headroom(session: GoogleSession, where: Where, found: Json, count: int) -> Sequence[quotas.Headroom]:
    """What the new nodes ask of the project's quotas."""
    if not count:
        return []
    seen = node_pools.view(found)
    zone = (seen["locations"] or [where.location])[0]
    machine = locations.get_machine_type(session, zone, str(seen["machine_type"])) or {}
    gpu = seen["accelerator"] or {"type": "", "count": 0}
    nodes = quotas.Nodes(
        count,
        str(seen["machine_type"]),
        int(machine.get("guestCpus") or DEFAULT_CPUS),
        str(gpu["type"]),
        int(gpu["count"]),
        bool(seen["spot"]),
        str(seen["disk_type"] or "pd-balanced"),
        int(seen["disk_size_gb"] or 100),
    )
    regional, gpus = quotas.demand([nodes])
    region = locations.region_of_zone(zone)
    judged = quotas.compare(regional, quotas.region_quotas(session, region), region)
    everywhere = quotas.compare(Counter({"GPUS_ALL_REGIONS": gpus}), quotas.project_quotas(session), "all regions")
    return [*judged, *everywhere]


def _zones_without(session: GoogleSession, found: Json) -> list[str]:
    """Zones of the pool in which its machine or GPU is not offered."""
    seen = node_pools.view(found)
    missing = []
    for zone in seen["locations"]:
        gpu = seen["accelerator"]
        offered = locations.get_machine_type(session, zone, str(seen["machine_type"])) is not None
        if not offered or (gpu and locations.get_accelerator_type(session, zone, str(gpu["type"])) is None):
            missing.append(str(zone))
    return missing
