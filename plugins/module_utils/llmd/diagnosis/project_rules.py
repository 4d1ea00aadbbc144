# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules over what Google Cloud says: access, APIs, subnet, cluster, node pools. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.llmd.gke.plugins.module_utils.gcp import clusters, subnetworks
from ansible_collections.llmd.gke.plugins.module_utils.gcp.errors import role_for
from ansible_collections.llmd.gke.plugins.module_utils.gcp.networks import region_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateway_causes import CAUSES
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Observation, problem_of

METRICS = "metrics/"
NETWORK_SERVICES = "networkservices.googleapis.com"
STARTING = frozenset({"PROVISIONING", "RECONCILING", "STOPPING"})


def _known(code: str, why: str, where: str) -> Problem:
    """A cause that the Gateway's controller names too: same code, same remedy, whoever sees it first."""
    cause = next(entry for entry in CAUSES if entry.code == code)
    return Problem(code, cause.what, why, cause.remedy, where, fatal=True)


def unread(seen: Observation) -> Iterator[Problem]:
    """What could not be read: refused credentials and the like are causes, a part that is silent is one too."""
    for part, error in seen.unread.items():
        if part == "kubernetes" and error.code in ("CLUSTER_NOT_FOUND", "CLUSTER_NOT_READY"):
            continue  # the cluster's own rule says it better
        if part.startswith(METRICS):
            continue  # so does that of metrics
        problem = problem_of(error)
        yield Problem(problem.code, problem.what, problem.why, problem.remedy, problem.where or part, True, part)


def metrics(seen: Observation) -> Iterator[Problem]:
    """Metrics that a pod refuses to show: the API server passes the pod's own refusal on."""
    for part, error in seen.unread.items():
        if part.startswith(METRICS):
            yield Problem(
                "METRICS_UNREADABLE",
                "The metrics of a pod cannot be read.",
                error.why or error.what,
                "A picker that asks for a token shows them to nobody through the API server: switch that off"
                " (inferenceExtension.monitoring.prometheus.auth.enabled: false, as the profiles do). Else the identity"
                " needs get on pods/proxy.",
                f"pod {seen.scope.namespace}/{part.removeprefix(METRICS)}",
            )


def services(seen: Observation) -> Iterator[Problem]:
    """APIs that are off."""
    disabled = sorted(name for name, state in (seen.google.services or {}).items() if state != "ENABLED")
    where = f"project {seen.scope.project}"
    if NETWORK_SERVICES in disabled:
        yield _known("NETWORK_SERVICES_API_DISABLED", f"{NETWORK_SERVICES} is disabled", where)
    others = [name for name in disabled if name != NETWORK_SERVICES]
    if others:
        yield Problem(
            "API_DISABLED",
            "APIs that the deployment uses are disabled.",
            ", ".join(others),
            f"gcloud services enable {' '.join(others)} --project {seen.scope.project} (role llmd.gke.gcp_network)",
            where,
            fatal=True,
        )


def subnet(seen: Observation) -> Iterator[Problem]:
    """The region's proxy-only subnet, in the network of the cluster."""
    found, scope = seen.google.subnets, seen.scope
    if found is None:
        return
    where = f"network {scope.network}, region {scope.region}"
    if subnetworks.active_proxy_subnet(found, scope.region) is not None:
        return
    legacy = [
        str(entry.get("name"))
        for entry in found
        if region_of(entry) == scope.region and entry.get("purpose") == subnetworks.LEGACY_PURPOSE
    ]
    if legacy:
        yield Problem(
            "PROXY_SUBNET_LEGACY",
            "The region's proxy-only subnet is of the old purpose.",
            f"{legacy[0]}: {subnetworks.LEGACY_PURPOSE}; the gateway classes need {subnetworks.PURPOSE}",
            f"gcloud compute networks subnets update {legacy[0]} --region {scope.region}"
            f" --purpose={subnetworks.PURPOSE}",
            where,
            fatal=True,
        )
        return
    yield _known("PROXY_ONLY_SUBNET_MISSING", f"none of {len(found)} subnets is an ACTIVE {subnetworks.PURPOSE}", where)


def permissions(seen: Observation) -> Iterator[Problem]:
    """What this identity may not do (a warning: somebody else may be the one who deploys)."""
    missing = seen.google.missing_permissions or []
    if not missing:
        return
    roles = sorted({role for name in missing if (role := role_for(name))})
    yield Problem(
        "PERMISSION_MISSING",
        "This identity lacks permissions that a deployment needs.",
        ", ".join(missing),
        f"Grant it {', '.join(roles) or 'roles that hold them'} on project {seen.scope.project}"
        " (roles/editor may not create ClusterRoles; roles/container.admin may).",
        f"project {seen.scope.project}",
    )


def cluster(seen: Observation) -> Iterator[Problem]:
    """Existence and status of the cluster, and the settings without which nothing below works."""
    found, scope = seen.google.cluster, seen.scope
    if found is None:
        return
    where = f"cluster {scope.cluster} in {scope.location}"
    if not found:
        yield Problem(
            "CLUSTER_NOT_FOUND",
            f"There is no cluster {scope.cluster} in {scope.location}.",
            remedy="Create it first (playbooks/pattern1.yml), or check llmd_cluster_name and llmd_zone.",
            where=where,
            fatal=True,
        )
        return
    status = str(found.get("status") or "")
    said = "; ".join(
        str(entry.get("message") or entry.get("code") or "") for entry in found.get("conditions") or []
    ) or str(found.get("statusMessage") or "")
    if status in ("ERROR", "DEGRADED"):
        remedy = "Read Google's words above; the cluster's page in the console names the next step."
        yield Problem("CLUSTER_ERROR", f"The cluster is in status {status}.", said, remedy, where, fatal=True)
    elif status == "PROVISIONING" or status == "STOPPING":
        yield Problem("CLUSTER_NOT_READY", f"The cluster is in status {status}.", said, "Wait.", where)
    yield from _settings(seen, clusters.view(found) or {}, where)


def _settings(seen: Observation, view: dict[str, object], where: str) -> Iterator[Problem]:
    scope = seen.scope
    if view.get("network") and str(view["network"]) != scope.network.rsplit("/", 1)[-1]:
        yield Problem(
            "CLUSTER_NETWORK_MISMATCH",
            f"The cluster is in network {view['network']}, the deployment's is {scope.network}.",
            "The proxy-only subnet must be in the cluster's own VPC.",
            f"Set llmd_network={view['network']} and run role llmd.gke.gcp_network.",
            where,
            fatal=True,
        )
    if not scope.location.startswith(scope.region):
        yield Problem(
            "ZONE_NOT_IN_REGION",
            f"The cluster's location {scope.location} is not in region {scope.region}.",
            "The proxy-only subnet, the load balancer and the cluster must share a region.",
            "Set llmd_region and llmd_zone so that they fit.",
            where,
            fatal=True,
        )
    if view.get("gateway_api") == "disabled":
        yield Problem(
            "GATEWAY_API_DISABLED",
            "The Gateway API is off on the cluster.",
            "networkConfig.gatewayApiConfig.channel is not CHANNEL_STANDARD",
            f"gcloud container clusters update {scope.cluster} --location {scope.location} --gateway-api=standard",
            where,
            fatal=True,
        )
    if view.get("http_load_balancing") is False:
        yield Problem(
            "HTTP_LOAD_BALANCING_DISABLED",
            "The HttpLoadBalancing add-on is off: no Gateway controller runs.",
            "addonsConfig.httpLoadBalancing.disabled is true",
            f"gcloud container clusters update {scope.cluster} --location {scope.location}"
            " --update-addons=HttpLoadBalancing=ENABLED",
            where,
            fatal=True,
        )
    version = str(view.get("version") or "")
    if version and scope.minimum_version and _numbers(version) < _numbers(scope.minimum_version):
        yield Problem(
            "GKE_VERSION_TOO_OLD",
            f"The cluster runs {version}; inference gateways need {scope.minimum_version} or newer.",
            f"currentMasterVersion {version}",
            f"gcloud container clusters upgrade {scope.cluster} --master --location {scope.location}",
            where,
            fatal=True,
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("-", 1)[0]))


def pools(seen: Observation) -> Iterator[Problem]:
    """Node pools whose own status is bad: stock-outs, quota, failed repairs."""
    for error in seen.google.pool_errors or []:
        yield problem_of(error)
