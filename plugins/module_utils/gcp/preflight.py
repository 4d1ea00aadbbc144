# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be known about the project before anything is made or spent. Reads only."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import (
    iam,
    locations,
    networks,
    ownership,
    quotas,
    ranges,
    services,
    subnetworks,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.errors import role_for
from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import (
    ERROR,
    OK,
    UNKNOWN,
    WARNING,
    Check,
    failed,
    guarded,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

COMPUTE = "compute.googleapis.com"
RESOURCE_MANAGER = "cloudresourcemanager.googleapis.com"
DEFAULT_CPUS = 4  # where the machine type cannot be asked


@dataclass(frozen=True)
class NodePlan:
    """Nodes that the run will ask for. Without a machine type only the GPUs are looked at."""

    machine_type: str
    count: int
    accelerator: str = ""
    accelerators_each: int = 0
    spot: bool = False


@dataclass(frozen=True)
class Plan:
    """What the run will need. Empty: not checked."""

    region: str
    zone: str
    network: str
    services: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    nodes: tuple[NodePlan, ...] = ()
    proxy_range: str = ""
    cluster: str = ""


def check_project(session: GoogleSession, plan: Plan) -> list[Check]:
    """All Google checks, in order. Where the credentials or the project fail, the rest would only repeat that."""
    checks = guarded("credentials", lambda: _credentials(session))
    if all(check.ok for check in checks):
        project = _project(session)
        checks += project
        if all(check.ok for check in project):
            checks += _inside_project(session, plan)
    return checks


def _credentials(session: GoogleSession) -> Iterator[Check]:
    token = session.access_token()
    yield Check(
        "credentials", OK, f"a token was given{f', valid until {token.expires_at}' if token.expires_at else ''}"
    )


def _project(session: GoogleSession) -> list[Check]:
    try:
        project = iam.get_project(session)
    except LlmdError as error:
        if error.code == "API_DISABLED":
            return [
                Check("project", UNKNOWN, f"unknown until {RESOURCE_MANAGER} is enabled", "API_DISABLED", error.remedy)
            ]
        if error.code in ("PERMISSION_DENIED", "NOT_FOUND", "PROJECT_NOT_FOUND"):
            # Google answers the same for a project that is not there and for one that we may not see.
            detail = f"project {session.project} does not exist, or this identity may not see it: {error.why}"
            remedy = "Check llmd_project (the id, not the name): gcloud projects list; or ask for roles/browser on it."
            return [Check("project", ERROR, detail, "PROJECT_NOT_FOUND", remedy)]
        return [failed("project", error)]
    state = str(project.get("lifecycleState", "ACTIVE"))
    number = str(project.get("projectNumber", ""))
    if state != "ACTIVE":
        detail = f"project {session.project} is {state}"
        return [Check("project", ERROR, detail, "PROJECT_NOT_ACTIVE", "Restore it, or use another project.")]
    return [Check("project", OK, f"{session.project} (number {number}) is ACTIVE")]


def _inside_project(session: GoogleSession, plan: Plan) -> list[Check]:
    checks: list[Check] = []
    if plan.permissions:
        checks += guarded("permissions", lambda: _permissions(session, plan.permissions), waits_for=RESOURCE_MANAGER)
    if plan.services:
        checks += guarded("services", lambda: _services(session, plan.services))
    if plan.zone:
        zone = guarded("zone", lambda: _zone(session, plan), waits_for=COMPUTE)
        checks += zone
        if not all(check.severity == OK for check in zone):
            # Without a zone (or the API) nothing in it can be asked; the range can still be judged by itself.
            return checks + guarded("proxy subnet", lambda: _proxy_range(session, plan), waits_for=COMPUTE)
    checks += _nodes(session, plan)
    checks += guarded("proxy subnet", lambda: _proxy_range(session, plan), waits_for=COMPUTE)
    return checks


def _permissions(session: GoogleSession, wanted: Iterable[str]) -> Iterator[Check]:
    names = list(dict.fromkeys(wanted))
    held, unknown = iam.held_permissions(session, names)
    missing = [name for name in names if name not in held and name not in unknown]
    for name in missing:
        role = role_for(name)
        remedy = f"Grant {role or 'a role that holds it'} on project {session.project} to the identity of this run."
        yield Check(f"permission {name}", ERROR, f"not held on project {session.project}", "PERMISSION_MISSING", remedy)
    for name in sorted(unknown):
        yield Check(
            f"permission {name}", WARNING, "Google does not know this permission on a project", "PERMISSION_UNKNOWN"
        )
    if not missing:
        yield Check("permissions", OK, f"all {len(held)} held")


def _services(session: GoogleSession, wanted: Iterable[str]) -> Iterator[Check]:
    found = services.states(session, wanted)
    disabled = [name for name, state in found.items() if state != "ENABLED"]
    if disabled:
        detail = f"not enabled yet, the playbook enables them: {', '.join(disabled)}"
        yield Check(
            "services",
            WARNING,
            detail,
            "API_DISABLED",
            f"gcloud services enable {' '.join(disabled)} --project {session.project}",
        )
    else:
        yield Check("services", OK, f"all {len(found)} enabled")


def _zone(session: GoogleSession, plan: Plan) -> Iterator[Check]:
    zone = locations.get_zone(session, plan.zone)
    if zone is None:
        known = locations.zones_of_region(session, plan.region or locations.region_of_zone(plan.zone))
        remedy = f"Set llmd_zone to one of: {', '.join(known) or 'gcloud compute zones list'}."
        yield Check("zone", ERROR, f"there is no zone {plan.zone}", "ZONE_NOT_FOUND", remedy)
        return
    if zone.get("status", "UP") != "UP":
        yield Check(
            "zone", ERROR, f"zone {plan.zone} is {zone.get('status')}", "ZONE_DOWN", "Use another zone until it is UP."
        )
        return
    if plan.region and locations.region_of_zone(plan.zone) != plan.region:
        detail = f"zone {plan.zone} is not in region {plan.region}"
        remedy = f"Set llmd_region={locations.region_of_zone(plan.zone)}: proxy-only subnet and cluster must share it."
        yield Check("zone", ERROR, detail, "ZONE_NOT_IN_REGION", remedy)
        return
    yield Check("zone", OK, f"{plan.zone} is UP")


def _nodes(session: GoogleSession, plan: Plan) -> list[Check]:
    """Machine types, accelerators, then the quota of all nodes together."""
    checks: list[Check] = []
    cpus: dict[str, int] = {}

    def machines() -> Iterator[Check]:
        for name in dict.fromkeys(node.machine_type for node in plan.nodes if node.machine_type):
            found = locations.get_machine_type(session, plan.zone, name)
            if found is None:
                remedy = f"gcloud compute machine-types list --zones {plan.zone}"
                yield Check(
                    f"machine type {name}", ERROR, f"not offered in {plan.zone}", "MACHINE_TYPE_UNAVAILABLE", remedy
                )
            else:
                cpus[name] = int(found.get("guestCpus") or DEFAULT_CPUS)
                yield Check(f"machine type {name}", OK, f"{cpus[name]} vCPU, offered in {plan.zone}")

    if plan.zone:
        checks += guarded("machine types", machines, waits_for=COMPUTE)
        for name in dict.fromkeys(node.accelerator for node in plan.nodes if node.accelerator):
            check = functools.partial(_accelerator, session, plan, name)
            checks += guarded(f"accelerator {name}", check, waits_for=COMPUTE)
    if plan.region and plan.nodes:
        checks += guarded("quota", lambda: _quota(session, plan, cpus), waits_for=COMPUTE)
    return checks


def _accelerator(session: GoogleSession, plan: Plan, name: str) -> Iterator[Check]:
    found = locations.get_accelerator_type(session, plan.zone, name)
    if found is None:
        here = locations.zones_with_accelerator(session, name, plan.region)
        there = here or locations.zones_with_accelerator(session, name)
        remedy = (
            f"Set llmd_zone to one that offers it: {', '.join(there[:12])}."
            if there
            else "gcloud compute accelerator-types list"
        )
        yield Check(f"accelerator {name}", ERROR, f"not offered in {plan.zone}", "ACCELERATOR_UNAVAILABLE", remedy)
        return
    most = int(found.get("maximumCardsPerInstance") or 0)
    wanted = max(node.accelerators_each for node in plan.nodes if node.accelerator == name)
    if most and wanted > most:
        detail = f"{wanted} on one node asked, {most} is the most in {plan.zone}"
        yield Check(f"accelerator {name}", ERROR, detail, "ACCELERATOR_COUNT", f"Ask for {most} or fewer (llmd_gpu).")
        return
    yield Check(f"accelerator {name}", OK, f"offered in {plan.zone}")


def _quota(session: GoogleSession, plan: Plan, cpus: dict[str, int]) -> Iterator[Check]:
    nodes = [
        quotas.Nodes(
            node.count,
            node.machine_type,
            cpus.get(node.machine_type, DEFAULT_CPUS),
            node.accelerator,
            node.accelerators_each,
            node.spot,
        )
        for node in plan.nodes
    ]
    regional, gpus = quotas.demand(nodes)
    regional["IN_USE_ADDRESSES"] += sum(
        node.count for node in plan.nodes if node.machine_type
    )  # public nodes have one address each
    found = quotas.compare(regional, quotas.region_quotas(session, plan.region), plan.region)
    if gpus:
        listed = quotas.project_quotas(session)
        found += quotas.compare(Counter({"GPUS_ALL_REGIONS": gpus}), listed, "all regions")
    short = any(headroom.enough is False for headroom in found)
    standing = _standing_cluster(session, plan) if short else ""
    for headroom in found:
        name = f"quota {headroom.metric}"
        if headroom.enough is None:
            yield Check(name, UNKNOWN, headroom.detail, "QUOTA_UNKNOWN")
        elif headroom.enough:
            yield Check(name, OK, headroom.detail)
        else:
            link = f"https://console.cloud.google.com/iam-admin/quotas?project={session.project}"
            remedy = (
                f"Ask for more {headroom.metric} in {headroom.scope} at {link}, use another region, or fewer nodes."
            )
            if standing:
                detail = f"{headroom.detail}; cluster {standing} exists, its nodes are among the used ones"
                yield Check(name, WARNING, detail, "QUOTA_EXCEEDED", remedy)
            else:
                yield Check(name, ERROR, headroom.detail, "QUOTA_EXCEEDED", remedy)


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


def _proxy_range(session: GoogleSession, plan: Plan) -> Iterator[Check]:
    if not plan.proxy_range:
        return
    ranges.parse(plan.proxy_range)  # what is wrong by itself is wrong whatever the API says
    ref = networks.network_ref(plan.network, session.project)
    network = _network(session, ref)
    subnets = networks.subnets_of(session, ref)
    active = subnetworks.active_proxy_subnet(subnets, plan.region)
    if active is not None:
        yield Check(
            "proxy subnet",
            OK,
            f"{active.get('name')} ({active.get('ipCidrRange')}) is ACTIVE in {plan.region} and will be used",
        )
        return
    ranges.check(
        plan.proxy_range,
        auto_mode=networks.is_auto_mode(network),
        taken=networks.taken_ranges(subnets),
        network=ref.name,
    )
    yield Check("proxy subnet", OK, f"{plan.proxy_range} is free in network {ref.name}")


def _network(session: GoogleSession, ref: networks.NetworkRef) -> Json:
    try:
        return networks.get_network(session, ref)
    except LlmdError as error:
        if error.code == "NOT_FOUND":
            raise ConfigurationError(
                f"There is no network {ref.name} in project {ref.project}",
                code="NETWORK_NOT_FOUND",
                remedy="Set llmd_network to one that gcloud compute networks list shows.",
            ) from error
        raise
