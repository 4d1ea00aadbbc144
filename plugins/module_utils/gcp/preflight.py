# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be known about the project before anything is made or spent. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import (
    iam,
    locations,
    networks,
    ranges,
    service_accounts,
    services,
    subnetworks,
    versions,
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
from ansible_collections.llmd.gke.plugins.module_utils.gcp.plan import (
    BILLING,
    COMPUTE,
    CONTAINER,
    IAM,
    RESOURCE_MANAGER,
    Plan,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.preflight_fallbacks import check_fallbacks
from ansible_collections.llmd.gke.plugins.module_utils.gcp.preflight_nodes import Reader, check_nodes
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

MOST_NAMED = 8  # missing permissions that are worth a line each
# GatewayClasses of GKE that can have an InferencePool as backend; both are regional.
INFERENCE_CLASSES = ("gke-l7-regional-external-managed", "gke-l7-rilb")


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
    """Every check that can be made; none keeps another from being made."""
    checks = guarded("billing", lambda: _billing(session))
    if plan.permissions:
        checks += guarded("permissions", lambda: _permissions(session, plan), waits_for=RESOURCE_MANAGER)
    if plan.services:
        checks += guarded("services", lambda: _services(session, plan.services))
    reader = Reader(session)
    zone = guarded("zone", lambda: _zone(reader, plan), waits_for=COMPUTE) if plan.zone else []
    checks += zone
    # Without a zone (or the API) nothing in it can be asked; quota, ranges and versions can all the same.
    offers = all(check.severity == OK for check in zone)
    region_known = offers or {check.code for check in zone} <= {"ZONE_NOT_FOUND", "ZONE_DOWN"}
    if region_known:
        nodes = check_nodes(reader, plan, offers=offers)
        checks += check_fallbacks(reader, plan, nodes) if offers else nodes
    if plan.service_account:
        checks += guarded("service account", lambda: _service_account(session, plan.service_account), waits_for=IAM)
    if plan.gateway_class:
        checks.append(_gateway_class(plan.gateway_class))
    if offers and (plan.release_channel or plan.minimum_version):
        checks += guarded("GKE version", lambda: _version(session, plan), waits_for=CONTAINER)
    checks += guarded("network", lambda: _addresses(session, plan), waits_for=COMPUTE)
    return checks


def _billing(session: GoogleSession) -> Iterator[Check]:
    """The billing API tells only where it is enabled and readable; else the first paid call would."""
    path = f"projects/{segment(session.project)}/billingInfo"
    try:
        info = session.call("cloudbilling.projects.getBillingInfo", "GET", path)
    except LlmdError as error:
        if error.code not in ("API_DISABLED", "PERMISSION_DENIED", "CONNECTION_FAILED"):
            raise
        remedy = f"Nothing has to be done. To have it checked: gcloud services enable {BILLING}."
        yield Check(
            "billing", WARNING, f"cannot be asked here: {error.code}", "BILLING_UNKNOWN", remedy, error.evidence
        )
        return
    if info.get("billingEnabled"):
        account = str(info.get("billingAccountName", ""))
        yield Check("billing", OK, f"enabled, {account or 'account not shown'}", evidence=info)
        return
    remedy = f"gcloud billing projects link {session.project} --billing-account=ACCOUNT"
    yield Check(
        "billing", ERROR, f"project {session.project} has no open billing account", "BILLING_DISABLED", remedy, info
    )


def _gateway_class(name: str) -> Check:
    if name in INFERENCE_CLASSES:
        return Check("gateway class", OK, f"{name} can route to an InferencePool")
    detail = f"{name} cannot have an InferencePool as backend"
    remedy = f"Set llmd_gateway_class to one of: {', '.join(INFERENCE_CLASSES)}."
    return Check("gateway class", ERROR, detail, "GATEWAY_CLASS_UNFIT", remedy)


def _version(session: GoogleSession, plan: Plan) -> Iterator[Check]:
    yield versions.judge(
        versions.server_config(session, plan.zone), plan.release_channel, plan.minimum_version, plan.zone
    )


def _permissions(session: GoogleSession, plan: Plan) -> Iterator[Check]:
    held, unknown = iam.held_permissions(session, (*plan.permissions, *plan.later_permissions))
    missing = [name for name in dict.fromkeys(plan.permissions) if name not in held and name not in unknown]
    later = [name for name in plan.later_permissions if name not in held and name not in unknown]
    yield from _missing(session.project, missing, ERROR, "")
    yield from _missing(session.project, later, WARNING, "; only looking, changing or removing needs it")
    for name in sorted(unknown):
        yield Check(
            f"permission {name}", WARNING, "Google does not know this permission on a project", "PERMISSION_UNKNOWN"
        )
    if not missing:
        yield Check("permissions", OK, f"all {len(held)} held")


def _missing(project: str, names: list[str], severity: str, more: str) -> Iterator[Check]:
    """One finding for each permission; for an identity that lacks many, one for each role that holds some of them."""
    for name in names if len(names) <= MOST_NAMED else ():
        role = role_for(name)
        remedy = f"Grant {role or 'a role that holds it'} on project {project} to the identity of this run."
        yield Check(
            f"permission {name}", severity, f"not held on project {project}{more}", "PERMISSION_MISSING", remedy
        )
    if len(names) <= MOST_NAMED:
        return
    for role in sorted({role_for(name) for name in names}):
        those = [name for name in names if role_for(name) == role]
        detail = f"not held on project {project}{more}: {', '.join(those)}"
        remedy = (
            f"Grant {role or 'roles that hold them'}, or docs/iam-role.yaml, on project {project} to this identity."
        )
        yield Check(f"permissions of {role}", severity, detail, "PERMISSION_MISSING", remedy)


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


def _service_account(session: GoogleSession, wanted: str) -> Iterator[Check]:
    """Of the nodes: one that is given must be there, one that is to be made needs a good name."""
    name = "service account"
    made = "@" not in wanted
    if made:
        service_accounts.validate(service_accounts.ServiceAccount(wanted))
    email = service_accounts.email_of(wanted, session.project) if made else wanted
    try:
        found = service_accounts.get(session, email)
    except LlmdError as error:
        if error.code != "PERMISSION_DENIED" or made:
            raise
        detail = f"{email} cannot be looked at with these rights: {error.why}"
        yield Check(name, WARNING, detail, "SERVICE_ACCOUNT_UNKNOWN", "Nothing has to be done; the run will show.")
        return
    if found is None and not made:
        remedy = "Check llmd_node_service_account, or give a name without @ to have one made."
        yield Check(name, ERROR, f"there is no service account {email}", "SERVICE_ACCOUNT_NOT_FOUND", remedy)
    elif found is not None and found.get("disabled"):
        remedy = f"gcloud iam service-accounts enable {email}"
        yield Check(name, ERROR, f"{email} is disabled", "SERVICE_ACCOUNT_DISABLED", remedy)
    else:
        yield Check(name, OK, f"{email} {'is there' if found else 'will be made'}")


def _zone(reader: Reader, plan: Plan) -> Iterator[Check]:
    session = reader.session
    zone = reader.zone(plan.zone)
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


def _addresses(session: GoogleSession, plan: Plan) -> list[Check]:
    """Network, the nodes' subnet, and the proxy-only subnet that is there or is to be made."""
    name = "proxy subnet"
    checks: list[Check] = []
    if plan.proxy_range:  # what is wrong by itself is wrong whatever the API says
        checks = [check for check in guarded(name, lambda: _parsed(plan.proxy_range)) if not check.ok]
    ref = networks.network_ref(plan.network, session.project)

    def look() -> Iterator[Check]:
        subnets = networks.subnets_of(session, ref)
        ready = subnetworks.active_proxy_subnet(subnets, plan.region) is not None
        # A network with subnets is there; its mode matters only for a range that is to be new.
        network = {} if ready else _network(session, ref)
        if plan.subnetwork:
            yield _subnetwork(plan, subnets, ref.name)
        if plan.proxy_range and not checks:
            yield from guarded(name, lambda: _proxy_range(plan, network, subnets, ref.name))

    if plan.proxy_range or plan.subnetwork:
        checks += guarded(name if plan.proxy_range else "network", look, waits_for=COMPUTE)
    return checks


def _parsed(text: str) -> Iterator[Check]:
    ranges.parse(text)
    yield Check("proxy subnet", OK, text)


def _subnetwork(plan: Plan, subnets: list[Json], network: str) -> Check:
    wanted = plan.subnetwork.rsplit("/", 1)[-1]
    here = [s for s in subnets if networks.region_of(s) == plan.region and s.get("purpose", "PRIVATE") == "PRIVATE"]
    found = next((s for s in here if s.get("name") == wanted), None)
    if found is not None:
        return Check("subnet", OK, f"{wanted} ({found.get('ipCidrRange')}) is in {plan.region}")
    names = ", ".join(sorted(str(s.get("name")) for s in here)) or "none"
    return Check(
        "subnet",
        ERROR,
        f"network {network} has no subnet {wanted} in {plan.region}",
        "SUBNET_NOT_FOUND",
        f"Set llmd_subnetwork to one of the region's: {names}.",
        {"subnets": names},
    )


def _proxy_range(plan: Plan, network: Json, subnets: list[Json], network_name: str) -> Iterator[Check]:
    active = subnetworks.active_proxy_subnet(subnets, plan.region)
    if active is not None:
        detail = f"{active.get('name')} ({active.get('ipCidrRange')}) is ACTIVE in {plan.region} and will be used"
        yield Check("proxy subnet", OK, detail)
        return
    want = subnetworks.ProxySubnet(plan.proxy_name, plan.network, plan.region, plan.proxy_range)
    subnetworks.refuse_obstacles(want, subnets)
    ranges.check(
        plan.proxy_range,
        auto_mode=networks.is_auto_mode(network),
        taken=networks.taken_ranges(subnets),
        network=network_name,
    )
    yield Check("proxy subnet", OK, f"{plan.proxy_range} is free in network {network_name}")


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
