# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight of the nodes: what the zone offers, what fits together, and the quota of all nodes at once. Reads only."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import locations, ownership, quotas
from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import ERROR, OK, WARNING, Check, guarded
from ansible_collections.llmd.gke.plugins.module_utils.gcp.plan import COMPUTE, NodePlan, Plan
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

DEFAULT_CPUS = 4  # where the machine type cannot be asked
# Machine families that bring their GPUs along; every other accelerator is attached to an N1.
FAMILY_OF_GPU = {
    "nvidia-l4": "g2",
    "nvidia-tesla-a100": "a2",
    "nvidia-a100-80gb": "a2",
    "nvidia-h100-80gb": "a3",
    "nvidia-h100-mega-80gb": "a3",
    "nvidia-h200-141gb": "a3",
    "nvidia-b200": "a4",
}


class Reader:
    """What Google says of zones and quotas, each asked once for all that want to know. Raises GoogleApiError."""

    def __init__(self, session: GoogleSession) -> None:
        self.session = session
        self._known: dict[tuple[str, ...], Any] = {}

    def _once(self, key: tuple[str, ...], ask: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = ask()
        return self._known[key]

    def zone(self, zone: str) -> Json | None:
        found: Json | None = self._once(("zone", zone), lambda: locations.get_zone(self.session, zone))
        return found

    def machine_type(self, zone: str, name: str) -> Json | None:
        key = ("machine", zone, name)
        found: Json | None = self._once(key, lambda: locations.get_machine_type(self.session, zone, name))
        return found

    def accelerator_type(self, zone: str, name: str) -> Json | None:
        key = ("accelerator", zone, name)
        found: Json | None = self._once(key, lambda: locations.get_accelerator_type(self.session, zone, name))
        return found

    def region_quotas(self, region: str) -> list[Json]:
        found: list[Json] = self._once(("region", region), lambda: quotas.region_quotas(self.session, region))
        return found

    def project_quotas(self) -> list[Json]:
        found: list[Json] = self._once(("project",), lambda: quotas.project_quotas(self.session))
        return found

    def standing_cluster(self, plan: Plan) -> str:
        found: str = self._once(("cluster", plan.cluster), lambda: _standing_cluster(self.session, plan))
        return found


def check_nodes(reader: Reader, plan: Plan, *, offers: bool = True) -> list[Check]:
    """Machine types, accelerators, then the quota of all nodes together. ``offers`` False: the zone cannot be asked."""
    checks: list[Check] = []
    cpus: dict[str, int] = {}
    if plan.zone and offers:
        checks += guarded("machine types", lambda: _machines(reader, plan, cpus), waits_for=COMPUTE)
        for name, zone in _wanted(plan, "accelerator"):
            check = functools.partial(_accelerator, reader, plan, name, zone)
            checks += guarded(f"accelerator {name}", check, waits_for=COMPUTE)
    for node in dict.fromkeys(plan.nodes):
        checks += _fits_together(node)
    if plan.region and plan.nodes:
        checks += guarded("quota", lambda: _quota(reader, plan, cpus), waits_for=COMPUTE)
    return checks


def _wanted(plan: Plan, kind: str) -> list[tuple[str, str]]:
    """(machine or accelerator type, zone) that the nodes want, each once."""
    pairs = [(str(getattr(node, kind)), zone) for node in plan.nodes for zone in node.places(plan.zone)]
    return list(dict.fromkeys(pair for pair in pairs if pair[0]))


def _machines(reader: Reader, plan: Plan, cpus: dict[str, int]) -> Iterator[Check]:
    for name, zone in _wanted(plan, "machine_type"):
        found = reader.machine_type(zone, name)
        if found is None:
            remedy = f"gcloud compute machine-types list --zones {zone}"
            yield Check(f"machine type {name}", ERROR, f"not offered in {zone}", "MACHINE_TYPE_UNAVAILABLE", remedy)
        else:
            cpus[name] = int(found.get("guestCpus") or DEFAULT_CPUS)
            seen = {"guestCpus": found.get("guestCpus"), "memoryMb": found.get("memoryMb")}
            yield Check(f"machine type {name}", OK, f"{cpus[name]} vCPU, offered in {zone}", "", "", evidence=seen)


def _accelerator(reader: Reader, plan: Plan, name: str, zone: str) -> Iterator[Check]:
    found = reader.accelerator_type(zone, name)
    if found is None:
        here = locations.zones_with_accelerator(reader.session, name, plan.region)
        there = here or locations.zones_with_accelerator(reader.session, name)
        remedy = (
            f"Set llmd_zone to one that offers it: {', '.join(there[:12])}."
            if there
            else "gcloud compute accelerator-types list"
        )
        yield Check(
            f"accelerator {name}",
            ERROR,
            f"not offered in {zone}",
            "ACCELERATOR_UNAVAILABLE",
            remedy,
            evidence={"zones": there},
        )
        return
    most = int(found.get("maximumCardsPerInstance") or 0)
    wanted = max(node.accelerators_each for node in plan.nodes if node.accelerator == name)
    if most and wanted > most:
        detail = f"{wanted} on one node asked, {most} is the most in {zone}"
        yield Check(f"accelerator {name}", ERROR, detail, "ACCELERATOR_COUNT", f"Ask for {most} or fewer (llmd_gpu).")
        return
    yield Check(f"accelerator {name}", OK, f"offered in {zone}", "", "", evidence={"maximum": most})


def _fits_together(node: NodePlan) -> Iterator[Check]:
    """An L4 sits in a G2 machine and nowhere else; a T4 is attached to an N1."""
    if not node.accelerator or not node.machine_type:
        return
    needed, family = FAMILY_OF_GPU.get(node.accelerator, "n1"), node.machine_type.split("-", 1)[0]
    name = f"{node.accelerator} on {node.machine_type}"
    if needed == family:
        yield Check(name, OK, f"{node.accelerator} goes with {needed.upper()} machines")
    else:
        detail = f"{node.accelerator} is to be had with {needed.upper()} machines only, not with {node.machine_type}"
        remedy = f"Set llmd_gpu.machine_type to one of {needed.upper()} ({needed}-...), or another llmd_gpu.type."
        yield Check(name, ERROR, detail, "ACCELERATOR_MACHINE", remedy)


def _demand(plan: Plan, cpus: dict[str, int]) -> tuple[Counter[str], int]:
    nodes = [
        quotas.Nodes(
            node.count,
            node.machine_type,
            cpus.get(node.machine_type, DEFAULT_CPUS),
            node.accelerator,
            node.accelerators_each,
            node.spot,
            node.disk_type,
            node.disk_gb,
        )
        for node in plan.nodes
    ]
    regional, gpus = quotas.demand(nodes)
    # Public nodes have one address each, a public Gateway one more.
    addresses = 0 if plan.private_nodes else sum(node.count for node in plan.nodes if node.machine_type)
    regional["IN_USE_ADDRESSES"] += addresses + (1 if "external" in plan.gateway_class else 0)
    regional["STATIC_ADDRESSES"] += plan.static_addresses
    return Counter({metric: amount for metric, amount in regional.items() if amount}), gpus


def _quota(reader: Reader, plan: Plan, cpus: dict[str, int]) -> Iterator[Check]:
    regional, gpus = _demand(plan, cpus)
    found = quotas.compare(regional, reader.region_quotas(plan.region), plan.region)
    if gpus:
        listed = reader.project_quotas()
        found += quotas.compare(Counter({"GPUS_ALL_REGIONS": gpus}), listed, "all regions")
    short = any(headroom.enough is False for headroom in found)
    standing = reader.standing_cluster(plan) if short else ""
    for headroom in found:
        yield _judge(headroom, reader.session.project, standing)


def _judge(headroom: quotas.Headroom, project: str, standing: str) -> Check:
    name = f"quota {headroom.metric}"
    if headroom.enough is None:
        return Check(name, WARNING, headroom.detail, "QUOTA_UNKNOWN", "", evidence=headroom.as_result())
    if headroom.enough:
        return Check(name, OK, headroom.detail, "", "", evidence=headroom.as_result())
    link = f"https://console.cloud.google.com/iam-admin/quotas?project={project}"
    remedy = f"Ask for more {headroom.metric} in {headroom.scope} at {link}, use another region, or fewer nodes."
    if standing:
        detail = f"{headroom.detail}; cluster {standing} exists, its nodes are among the used ones"
        return Check(name, WARNING, detail, "QUOTA_EXCEEDED", remedy, evidence=headroom.as_result())
    return Check(name, ERROR, headroom.detail, "QUOTA_EXCEEDED", remedy, evidence=headroom.as_result())


def _standing_cluster(session: GoogleSession, plan: Plan) -> str:
    """A cluster of an earlier run: the plan's, or (no name given) any of ours. Its nodes are asked for only once."""
    path = f"projects/{segment(session.project)}/locations/-/clusters"
    try:
        listed = session.call("container.projects.locations.clusters.list", "GET", path)
    except LlmdError:
        return ""
    for cluster in listed.get("clusters") or []:
        name = str(cluster.get("name"))
        if name == plan.cluster or (not plan.cluster and ownership.owned(cluster.get("resourceLabels"))):
            return name
    return ""
