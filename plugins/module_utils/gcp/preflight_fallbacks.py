# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight of a pool's fallbacks: each is judged as if the run had to take it, together with all other nodes.

A fallback that cannot be had is a warning, as the first choice may well be; one that gke_cluster refuses is an error.
Where quota is short for the first choice and a fallback has room, the run takes that: then the shortage is a warning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import ERROR, OK, UNKNOWN, WARNING, Check, guarded
from ansible_collections.llmd.gke.plugins.module_utils.gcp.locations import region_of_zone
from ansible_collections.llmd.gke.plugins.module_utils.gcp.plan import COMPUTE, NodePlan, Plan
from ansible_collections.llmd.gke.plugins.module_utils.gcp.preflight_nodes import Reader, check_nodes

SHORT = "QUOTA_EXCEEDED"


def check_fallbacks(reader: Reader, plan: Plan, first: Sequence[Check]) -> list[Check]:
    """``first``, the findings about the nodes as wanted, softened where a fallback helps; then one a fallback."""
    softened = list(first)
    added: list[Check] = []
    for position, node in enumerate(plan.nodes):
        helped = ""
        for number, alternative in enumerate(node.fallbacks, 1):
            check = _judge(reader, plan, position, alternative, f"fallback {number} of {node.pool or 'the pool'}")
            added.append(check)
            if check.severity == OK and not helped:
                helped = f"{check.name} ({describe(alternative, plan.zone)}) has room and is taken then"
        if helped:
            softened = [_soften(check, helped) for check in softened]
    return softened + added


def describe(node: NodePlan, zone: str) -> str:
    gpu = f" with {node.accelerators_each} x {node.accelerator}" if node.accelerator else ""
    spot = ", Spot" if node.spot else ""
    return f"{node.machine_type or 'default machines'}{gpu} in {', '.join(node.places(zone)) or '?'}{spot}"


def _soften(check: Check, helped: str) -> Check:
    if check.code != SHORT or check.severity != ERROR:
        return check
    return dataclasses.replace(check, severity=WARNING, detail=f"{check.detail}; {helped}")


def _judge(reader: Reader, plan: Plan, position: int, alternative: NodePlan, name: str) -> Check:
    what = describe(alternative, plan.zone)
    refused = _refused(plan, alternative, name)
    if refused is not None:
        return refused
    nodes = [node for index, node in enumerate(plan.nodes) if index != position]
    asked = dataclasses.replace(plan, nodes=(*nodes, alternative))
    checks = [*_zones(reader, alternative), *check_nodes(reader, asked)]
    wrong = [check for check in checks if check.severity == ERROR or check.code == SHORT]
    evidence = [check.as_result() for check in wrong]
    if not wrong:
        unknown = next((check for check in checks if check.severity == UNKNOWN), None)
        if unknown is not None:
            return dataclasses.replace(unknown, name=name)
        return Check(name, OK, f"{what}: offered, within quota")
    found = "; ".join(f"{check.name}: {check.detail}" for check in wrong)
    remedy = " ".join(dict.fromkeys(check.remedy for check in wrong if check.remedy))
    return Check(name, WARNING, f"{what} could not be had: {found}", wrong[0].code, remedy, evidence)


def _refused(plan: Plan, alternative: NodePlan, name: str) -> Check | None:
    """What gke_cluster does not take at all: a zone of another region."""
    region = plan.region or region_of_zone(plan.zone)
    far = [zone for zone in alternative.zones if region and region_of_zone(zone) != region]
    if not far:
        return None
    detail = f"zone {', '.join(far)} is not in region {region}; another region needs another cluster"
    return Check(name, ERROR, detail, "NODE_POOL_INVALID", f"Name zones of {region} in llmd_gpu.fallbacks.")


def _zones(reader: Reader, alternative: NodePlan) -> list[Check]:
    checks: list[Check] = []
    for zone in alternative.zones:
        checks += guarded(f"zone {zone}", lambda zone=zone: _zone(reader, zone), waits_for=COMPUTE)  # type: ignore[misc]
    return checks


def _zone(reader: Reader, zone: str) -> list[Check]:
    found = reader.zone(zone)
    name = f"zone {zone}"
    if found is None:
        return [Check(name, ERROR, "there is no such zone", "ZONE_NOT_FOUND", "gcloud compute zones list")]
    if found.get("status", "UP") != "UP":
        return [Check(name, ERROR, f"is {found.get('status')}", "ZONE_DOWN", "Use another zone until it is UP.")]
    return []
