# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy-only subnet that regional load balancers need: one ACTIVE one for each network and region.

Whatever ACTIVE one is there is used, under any name; only one that we made is ever deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError, OperationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import locations, networks, operations, ownership, ranges
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Verdict, report_progress, wait_until

PURPOSE = "REGIONAL_MANAGED_PROXY"
LEGACY_PURPOSE = "INTERNAL_HTTPS_LOAD_BALANCER"
IN_USE_INTERVAL = 5.0
# Answers to an insert that may mean "there is one by now".
RACE_CODES = frozenset({"ALREADY_EXISTS", "CIDR_CONFLICT", "INVALID_REQUEST", "OPERATION_FAILED", "RESOURCE_NOT_READY"})


@dataclass(frozen=True)
class ProxySubnet:
    """What is wanted. ``cidr`` is the IPv4 range; times in seconds. ``wait`` False: it only has to be under way."""

    name: str
    network: str
    region: str
    cidr: str = ""
    deployment: str = ""
    adopt: bool = True
    force: bool = False
    timeout: float = 300.0
    wait: bool = True


@dataclass
class Outcome:
    """What was found or done. ``kept`` says why something was not deleted."""

    changed: bool
    before: Json | None
    after: Json | None
    subnetwork: Json | None = None
    adopted: bool = False
    kept: str = ""
    warnings: list[str] = field(default_factory=list)


def view(subnet: Json | None) -> Json | None:
    """The fields that matter, for results and diffs."""
    if subnet is None:
        return None
    keys = ("name", "ipCidrRange", "purpose", "role", "state", "description", "selfLink")
    short = {key: subnet.get(key, "") for key in keys}
    short["network"] = str(subnet.get("network", "")).rsplit("/", 1)[-1]
    short["region"] = networks.region_of(subnet)
    return short


def active_proxy_subnet(subnets: list[Json], region: str) -> Json | None:
    """The ACTIVE proxy-only subnet of the region among the network's subnets."""
    for subnet in subnets:
        if networks.region_of(subnet) == region and subnet.get("purpose") == PURPOSE and subnet.get("role") == "ACTIVE":
            return subnet
    return None


def _by_name(subnets: list[Json], want: ProxySubnet) -> Json | None:
    return next((s for s in subnets if s.get("name") == want.name and networks.region_of(s) == want.region), None)


def _path(want: ProxySubnet, project: str, name: str = "") -> str:
    host = networks.network_ref(want.network, project).project
    base = f"projects/{segment(host)}/regions/{segment(want.region)}/subnetworks"
    return f"{base}/{segment(name)}" if name else base


def request_body(want: ProxySubnet, project: str) -> Json:
    """Body of compute.subnetworks.insert. No logConfig: the API refuses it for this purpose."""
    return {
        "name": want.name,
        "description": ownership.description("Proxy-only subnet for llm-d gateways", want.deployment),
        "network": networks.network_ref(want.network, project).path,
        "ipCidrRange": want.cidr,
        "purpose": PURPOSE,
        "role": "ACTIVE",
    }


def ensure_present(session: GoogleSession, want: ProxySubnet, *, check_mode: bool) -> Outcome:
    """Find, adopt or make the subnet and wait until it is READY.

    Raises ConfigurationError (CIDR_*, SUBNET_NAME_TAKEN, PROXY_SUBNET_EXISTS, PROXY_SUBNET_LEGACY, NETWORK_NOT_FOUND),
    GoogleApiError, OperationError, WaitTimeout.
    """
    parsed = ranges.parse(want.cidr) if want.cidr else None
    ref = networks.network_ref(want.network, session.project)
    try:
        subnets = networks.subnets_of(session, ref)
    except GoogleApiError as error:
        if not check_mode or error.code != "API_DISABLED" or parsed is None:
            raise
        return _predict_without_api(session, want, ref)
    found = active_proxy_subnet(subnets, want.region)
    if found is not None:
        return _adopt(session, want, found, check_mode=check_mode)
    refuse_obstacles(want, subnets)
    if parsed is None:
        free = ranges.suggest(ranges.RECOMMENDED_PREFIX, networks.taken_ranges(subnets))
        raise ConfigurationError(
            f"Region {want.region} has no proxy-only subnet yet and no range was given for one",
            code="CIDR_INVALID",
            remedy=f"Set range, for example {free}.",
        )
    network = _network(session, ref)
    ranges.check(
        want.cidr, auto_mode=networks.is_auto_mode(network), taken=networks.taken_ranges(subnets), network=ref.name
    )
    planned = view({**request_body(want, session.project), "region": want.region, "state": "READY"})
    if check_mode:
        return Outcome(True, None, planned, subnetwork=planned)
    return _create(session, want, ref)


def _predict_without_api(session: GoogleSession, want: ProxySubnet, ref: networks.NetworkRef) -> Outcome:
    """Prediction for a project whose Compute Engine API is still off: it has no subnets yet.

    Enabling the API makes the auto-mode network ``default``, so its reserved range counts already.
    """
    ranges.check(want.cidr, auto_mode=ref.name == "default", taken=[], network=ref.name)
    planned = view({**request_body(want, session.project), "region": want.region, "state": "READY"})
    warning = "The Compute Engine API is disabled: overlaps with subnets are unknown until it is enabled."
    return Outcome(True, None, planned, subnetwork=planned, warnings=[warning])


def _network(session: GoogleSession, ref: networks.NetworkRef) -> Json:
    try:
        return networks.get_network(session, ref)
    except GoogleApiError as error:
        if error.code == "NOT_FOUND":
            error.code = "NETWORK_NOT_FOUND"
            error.what = f"There is no network {ref.name} in project {ref.project}"
            error.remedy = "Set llmd_network to one that gcloud compute networks list shows."
        raise


def _adopt(session: GoogleSession, want: ProxySubnet, found: Json, *, check_mode: bool) -> Outcome:
    ours = ownership.owned_by_description(str(found.get("description", "")), want.deployment)
    differences = []
    if found.get("name") != want.name:
        differences.append(f"its name is {found.get('name')}, not {want.name}")
    if want.cidr and found.get("ipCidrRange") != want.cidr:
        differences.append(f"its range is {found.get('ipCidrRange')}, not {want.cidr}")
    if differences and not want.adopt:
        raise ConfigurationError(
            f"Network {want.network} has another ACTIVE proxy-only subnet in {want.region}",
            code="PROXY_SUBNET_EXISTS",
            where=str(found.get("selfLink", "")),
            why="; ".join(differences) + ". Google allows one ACTIVE one for each network and region.",
            remedy="Use it (adopt: true), or delete it first if nothing needs it.",
        )
    warnings = [f"The region's proxy-only subnet is used as it is: {'; '.join(differences)}."] if differences else []
    if want.wait and not check_mode:
        found = _wait_ready(session, want, found)
    seen = view(found)
    return Outcome(False, seen, seen, subnetwork=seen, adopted=not ours, warnings=warnings)


def refuse_obstacles(want: ProxySubnet, subnets: list[Json]) -> None:
    """Subnets that stand in the way of making ours."""
    legacy = next(
        (s for s in subnets if networks.region_of(s) == want.region and s.get("purpose") == LEGACY_PURPOSE), None
    )
    if legacy is not None and legacy.get("role") == "ACTIVE":
        raise ConfigurationError(
            f"Region {want.region} has a proxy-only subnet of the old kind, {legacy.get('name')}",
            code="PROXY_SUBNET_LEGACY",
            where=str(legacy.get("selfLink", "")),
            why=f"Its purpose is {LEGACY_PURPOSE}; regional external load balancers need {PURPOSE}, "
            "and only one may be ACTIVE",
            remedy=f"gcloud compute networks subnets update {legacy.get('name')} --region {want.region} "
            f"--purpose={PURPOSE}",
        )
    same = _by_name(subnets, want)
    if same is not None:
        raise ConfigurationError(
            f"A subnet named {want.name} exists in {want.region} and is not an ACTIVE proxy-only subnet",
            code="SUBNET_NAME_TAKEN",
            where=str(same.get("selfLink", "")),
            why=f"purpose {same.get('purpose', 'PRIVATE')}, role {same.get('role', 'none')}, "
            f"range {same.get('ipCidrRange')}",
            remedy="Choose another name (llmd_proxy_subnet.name), or delete that subnet.",
        )


def _create(session: GoogleSession, want: ProxySubnet, ref: networks.NetworkRef) -> Outcome:
    body = request_body(want, session.project)
    host = networks.network_ref(want.network, session.project).project
    region = f"regions/{segment(want.region)}"
    under_way = operations.compute_under_way(session, host, region, f"{region}/subnetworks/{want.name}")
    try:
        operation = under_way or session.call(
            "compute.subnetworks.insert", "POST", _path(want, session.project), body=body
        )
        if not want.wait:
            coming = view({**body, "region": want.region, "state": "CREATING"})
            return Outcome(True, None, coming, subnetwork=coming)
        operations.wait(session, operation, what=f"Creation of subnet {want.name}", timeout=want.timeout)
    except (GoogleApiError, OperationError) as error:
        # Another run (or person, or our own killed run) may have been quicker: then that one is used.
        if error.code not in RACE_CODES:
            raise
        found = _await_other(session, want, ref, patience=60.0 if error.code == "ALREADY_EXISTS" else 0.0)
        if found is None:
            raise
        return _adopt(session, want, found, check_mode=False)
    made = _wait_ready(
        session, want, session.call("compute.subnetworks.get", "GET", _path(want, session.project, want.name))
    )
    seen = view(made)
    return Outcome(True, None, seen, subnetwork=seen)


def _await_other(
    session: GoogleSession, want: ProxySubnet, ref: networks.NetworkRef, *, patience: float
) -> Json | None:
    """The ACTIVE subnet that someone else is making; None where none shows up within ``patience`` seconds."""
    started = session.clock.now()
    while True:
        found = active_proxy_subnet(networks.subnets_of(session, ref), want.region)
        if found is not None or session.clock.now() - started >= patience:
            return found
        session.clock.sleep(2.0)


def _wait_ready(session: GoogleSession, want: ProxySubnet, found: Json) -> Json:
    """DRAINING or no state yet is waited out; the list's own answer is enough where it is READY."""
    name = str(found.get("name"))
    first: list[Json] = [found]

    def observe() -> Json:
        return (
            first.pop() if first else session.call("compute.subnetworks.get", "GET", _path(want, session.project, name))
        )

    return wait_until(
        observe,
        lambda seen: Verdict(seen.get("state", "READY") == "READY", f"state {seen.get('state')}"),
        what=f"Subnet {name} READY",
        timeout=want.timeout,
        clock=session.clock,
    )


def ensure_absent(session: GoogleSession, want: ProxySubnet, *, check_mode: bool) -> Outcome:
    """Delete the subnet of that name if we made it (or ``force``); what still uses it is waited for until the timeout.

    Raises GoogleApiError / OperationError RESOURCE_IN_USE with the user's name when it stays in use.
    """
    try:
        found: Json | None = session.call("compute.subnetworks.get", "GET", _path(want, session.project, want.name))
    except GoogleApiError as error:
        missing = error.status == 404 and error.code in ("NOT_FOUND", "ZONE_NOT_FOUND")
        if not missing and error.code != "API_DISABLED":  # without the API there are no subnets
            raise
        found = None
    if found is None:
        return Outcome(False, None, None)
    seen = view(found)
    reason = _why_keep(want, found) or _why_shared(session, want, found)
    if reason:
        return Outcome(False, seen, seen, subnetwork=seen, adopted=True, kept=reason, warnings=[reason])
    if not check_mode:
        _delete(session, want)
    return Outcome(True, seen, None)


def _why_keep(want: ProxySubnet, found: Json) -> str:
    if found.get("purpose") != PURPOSE:  # not even by force: it may carry machines
        return f"Subnet {want.name} is kept: its purpose is {found.get('purpose')}, it is no proxy-only subnet."
    if not want.force and not ownership.owned_by_description(str(found.get("description", ""))):
        mark = ownership.MARKER
        return f"Subnet {want.name} is kept: its description does not say that this collection made it ({mark})."
    return ""


def _why_shared(session: GoogleSession, want: ProxySubnet, found: Json) -> str:
    """Deployments of one network and region share the subnet: who made it may go first, the last one takes it away."""
    if want.force:
        return ""
    mine = ownership.owned_by_description(str(found.get("description", "")), want.deployment)
    try:
        others = other_deployments(session, want)
    except GoogleApiError as error:
        if error.code != "PERMISSION_DENIED":
            raise
        # Google itself refuses what a load balancer still needs; one that another deployment made is left to it.
        return "" if mine else f"Subnet {want.name} is kept: another deployment made it, and clusters cannot be listed."
    if not mine and networks.network_ref(want.network, session.project).project != session.project:
        return f"Subnet {want.name} is kept: another deployment made it, and other projects use the network, too."
    if others:
        return f"Subnet {want.name} is kept for the other deployments of the region: {', '.join(others)}."
    return ""


def other_deployments(session: GoogleSession, want: ProxySubnet) -> list[str]:
    """Deployments of this collection, beside this one, with a cluster in the subnet's network and region."""
    path = f"projects/{segment(session.project)}/locations/-/clusters"
    try:
        answer = session.call("container.projects.locations.clusters.list", "GET", path)
    except GoogleApiError as error:
        if error.code != "API_DISABLED":  # no cluster runs without it
            raise
        return []
    wanted = networks.network_ref(want.network, session.project)
    found = set()
    for cluster in answer.get("clusters") or []:
        labels = cluster.get("resourceLabels") or {}
        place = str(cluster.get("location") or "")
        here = want.region in (place, locations.region_of_zone(place))
        named = (cluster.get("networkConfig") or {}).get("network") or cluster.get("network")
        network = networks.network_ref(str(named or "default"), session.project)
        if ownership.owned(labels) and here and network == wanted:
            found.add(str(labels.get(ownership.DEPLOYMENT) or cluster.get("name")))
    return sorted(found - {want.deployment})


def _delete(session: GoogleSession, want: ProxySubnet) -> None:
    started = session.clock.now()
    path = _path(want, session.project, want.name)
    host = networks.network_ref(want.network, session.project).project
    region = f"regions/{segment(want.region)}"
    under_way = operations.compute_under_way(session, host, region, f"{region}/subnetworks/{want.name}")
    while True:
        try:
            operation = under_way or session.call("compute.subnetworks.delete", "DELETE", path)
            under_way = None
            operations.wait(session, operation, what=f"Deletion of subnet {want.name}", timeout=want.timeout)
            return
        except (GoogleApiError, OperationError) as error:
            if error.code == "NOT_FOUND":
                return
            waited = session.clock.now() - started
            if error.code != "RESOURCE_IN_USE" or waited + IN_USE_INTERVAL > want.timeout:
                raise
            report_progress(f"Subnet {want.name} is still in use ({waited:.0f} s): {error.why}")
            session.clock.sleep(IN_USE_INTERVAL)
