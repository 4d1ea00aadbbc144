# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Google's error answers, read once: HTTP body or operation error -> ``GoogleApiError`` with a code and a remedy.

The shapes (error.code/message/status/errors[]/details[]) are those of the public JSON APIs; Google's own words are
always kept in ``why`` and ``evidence``, whether or not the case was recognised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, OperationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import shortages

EXCERPT = 2000


@dataclass(frozen=True)
class Refusal:
    """What Google said, taken apart. ``reasons`` holds every machine-readable reason of the body, in order."""

    status: int
    message: str
    canonical: str = ""
    reasons: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_delay: float | None = None
    raw: Any = None

    @property
    def text(self) -> str:
        """Everything that a pattern may want to look at, in one string."""
        return " ".join([self.message, self.canonical, *self.reasons])


@dataclass(frozen=True)
class Case:
    """One recognised cause. ``statuses`` empty means any; ``pattern`` is searched in ``Refusal.text``."""

    code: str
    remedy: str
    pattern: str = ""
    statuses: tuple[int, ...] = ()

    def matches(self, refusal: Refusal) -> bool:
        if self.statuses and refusal.status not in self.statuses:
            return False
        return not self.pattern or re.search(self.pattern, refusal.text, re.IGNORECASE | re.DOTALL) is not None


# First match wins: what is special stands before what is general.
CASES: tuple[Case, ...] = (
    Case(
        "API_DISABLED",
        "Enable it: gcloud services enable {service} --project {project}, or let llmd.gke.gcp_services do it. "
        "Just enabled? It takes some minutes to reach every Google server: run again.",
        r"SERVICE_DISABLED|accessNotConfigured|has not been used in project .* before or it is disabled",
    ),
    Case(
        "BILLING_DISABLED",
        "Link a billing account to the project: gcloud billing projects link {project} --billing-account=ACCOUNT.",
        r"BILLING_DISABLED|BILLING_NOT_FOUND|billing (account|to be enabled|must be enabled|is disabled)"
        r"|requires billing",
    ),
    Case(
        "CLOCK_SKEW",
        "The clock of the machine that runs this and Google's differ: set it (timedatectl set-ntp true), run again.",
        r"Token used too early|must be a short-lived token|Token expired.*issued in the future",
    ),
    Case(
        "UNAUTHENTICATED",
        "The credentials are missing, expired or refused. For yourself: gcloud auth application-default login. "
        "For automation: GOOGLE_APPLICATION_CREDENTIALS, or auth_kind with service_account_file or "
        "a fresh access_token.",
        statuses=(401,),
    ),
    Case(
        "RATE_LIMITED",
        "The project's request rate is used up; wait a minute and run again, or ask for a higher rate quota.",
        r"rateLimitExceeded|RATE_LIMIT_EXCEEDED|quota metric '.*' and limit '.* per (minute|second)|^HTTP 429",
    ),
    Case(
        "STOCKOUT",
        "Google has no such machine or GPU left in that zone right now. Choose another zone (llmd_zone) "
        "or GPU type (llmd_gpu.type), or wait.",
        r"GCE_STOCKOUT|ZONE_RESOURCE_POOL_EXHAUSTED|does not have enough resources available",
    ),
    Case(
        "QUOTA_EXCEEDED",
        "Ask for more at https://console.cloud.google.com/iam-admin/quotas?project={project}, use another region, "
        "or ask for fewer nodes.",
        r"quotaExceeded|QUOTA_EXCEEDED|GCE_QUOTA_EXCEEDED|Insufficient (regional |project |zonal )?quota"
        r"|Quota '[^']*' exceeded",
    ),
    Case(
        "PROXY_SUBNET_ROLE",
        "A proxy-only subnet needs a role; gcp_proxy_subnet sets ACTIVE.",
        r"role must be specified when purpose",
    ),
    Case(
        "PROXY_SUBNET_FIELD",
        "A proxy-only subnet cannot have that setting (flow logs, secondary ranges, private access): leave it out.",
        r"Invalid field set in subnetwork with purpose",
    ),
    Case(
        "PROXY_SUBNET_EXISTS",
        "The region has an ACTIVE proxy-only subnet already; gcp_proxy_subnet uses it whatever its name.",
        r"(already|only one).*(ACTIVE|active).*(proxy|REGIONAL_MANAGED_PROXY)|REGIONAL_MANAGED_PROXY.*already.*active",
    ),
    Case(
        "AUTO_SUBNET",
        "Subnets of an auto-mode network go with the network only; make the network custom-mode to delete one.",
        r"Cannot delete auto subnetwork",
    ),
    Case(
        "CIDR_RESERVED_RANGE",
        "An auto-mode network keeps 10.128.0.0/9 for itself. Take a range outside it, for example "
        "llmd_proxy_subnet.range=192.168.0.0/23.",
        r"cannot overlap with 10\.128\.0\.0/9",
    ),
    Case(
        "CIDR_CONFLICT",
        "Choose a range that no subnet of the network uses (llmd_proxy_subnet.range).",
        r"conflicts with existing subnetwork|IPCidrRange.*conflict|overlaps? with (an )?(existing )?subnet",
    ),
    Case(
        "CLUSTER_BUSY",
        "GKE runs one operation on a cluster at a time. Wait until it is done and run again, or raise the timeout.",
        r"too many (concurrent|running) operations|incompatible operation"
        r"|CLUSTER_ALREADY_HAS_OPERATION|is currently \w+ing cluster"
        r"|being (created|deleted|updated|repaired) and therefore",
    ),
    Case(
        "ACTIVATION_BUSY",
        "Another change of the project's services is under way. Wait a minute and run again.",
        r"Another activation or deactivation is in progress",
    ),
    Case(
        "RESOURCE_IN_USE",
        "Delete what uses it first (the message names it), or let the Gateway's load balancer go away.",
        r"resourceInUseByAnotherResource|RESOURCE_IN_USE_BY_ANOTHER_RESOURCE|is already being used by",
    ),
    Case(
        "RESOURCE_NOT_READY",
        "The resource is still being made or changed; run again.",
        r"resourceNotReady|RESOURCE_NOT_READY",
    ),
    Case(
        "CONCURRENT_CHANGE",
        "Someone else changed it at the same moment; run again.",
        r"concurrent policy changes|ABORTED|conditionNotMet",
        (409, 412),
    ),
    Case("RATE_LIMITED", "Google asks for patience; wait a minute and run again.", "", (429,)),
    Case("ALREADY_EXISTS", "It exists already under that name; choose another name or adopt it.", "", (409,)),
    Case(
        "SERVICE_UNKNOWN",
        "Check the spelling of the service names (for example networkservices.googleapis.com) and the right "
        "serviceusage.services.enable.",
        r"Not found or permission denied for service",
    ),
    Case(
        "SERVICE_NEEDED",
        "Disable the APIs that need it first (the message names them), or leave it enabled.",
        r"is depended on by|disable_dependent_services",
    ),
    Case(
        "PROJECT_NOT_FOUND",
        "Check the project id (not its name): gcloud projects list. It is llmd_project / GOOGLE_CLOUD_PROJECT.",
        r"Project ['\"]?[\w:.-]+['\"]? (was )?not found|Unknown project|'projects/[\w:.-]+' was not found"
        r"|Not found: project\b|Failed to find project",
    ),
    Case(
        "ZONE_NOT_FOUND",
        "Check llmd_zone and llmd_region: gcloud compute zones list.",
        r"(zones|regions)/[\w-]+' was not found|Location \"?[\w-]+\"? does not exist|Permission denied on 'locations/"
        r"|Invalid value for field '(zone|region)'|Unknown zone",
    ),
    Case(
        "PERMISSION_DENIED",
        "Give the identity {permission} (a role that holds it: {role}), or use another identity.",
        "",
        (403,),
    ),
    Case("NOT_FOUND", "Check name, region or zone, and project.", "", (404,)),
    Case(
        "IMPOSSIBLE_NOW",
        "The resource is in a state that does not allow this; look at its status and run again.",
        r"FAILED_PRECONDITION|failedPrecondition",
    ),
    Case("INVALID_REQUEST", "Correct the value that Google names; nothing was changed.", "", (400,)),
    Case(
        "GOOGLE_UNAVAILABLE",
        "Google's servers had trouble; see https://status.cloud.google.com and run again.",
        "",
        (408, 500, 502, 503, 504),
    ),
    Case("DEADLINE_EXCEEDED", "Google gave up waiting for its own parts; run again.", r"DEADLINE_EXCEEDED"),
)

# Which predefined role grants a permission, for remedies; the narrowest sensible one.
ROLE_OF_PERMISSION: tuple[tuple[str, str], ...] = (
    ("container.", "roles/container.admin"),
    ("compute.subnetworks.", "roles/compute.networkAdmin"),
    ("compute.networks.", "roles/compute.networkAdmin"),
    ("compute.regions.", "roles/compute.viewer"),
    ("compute.zones.", "roles/compute.viewer"),
    ("compute.projects.", "roles/compute.viewer"),
    ("compute.acceleratorTypes.", "roles/compute.viewer"),
    ("compute.machineTypes.", "roles/compute.viewer"),
    ("compute.regionBackendServices.", "roles/compute.viewer"),
    ("compute.backendServices.", "roles/compute.viewer"),
    ("compute.addresses.", "roles/compute.networkAdmin"),
    ("compute.", "roles/compute.networkAdmin"),
    ("serviceusage.", "roles/serviceusage.serviceUsageAdmin"),
    ("iam.serviceAccounts.actAs", "roles/iam.serviceAccountUser"),
    ("iam.", "roles/iam.serviceAccountAdmin"),
    ("resourcemanager.projects.setIamPolicy", "roles/resourcemanager.projectIamAdmin"),
    ("resourcemanager.projects.getIamPolicy", "roles/resourcemanager.projectIamAdmin"),
    ("resourcemanager.projects.get", "roles/browser"),
)


def role_for(permission: str) -> str:
    """The role to name when ``permission`` is missing; empty where we know none."""
    return next((role for prefix, role in ROLE_OF_PERMISSION if permission.startswith(prefix)), "")


def _seconds(duration: str) -> float | None:
    match = re.fullmatch(r"([0-9.]+)s", duration)
    return float(match.group(1)) if match else None


def _read_details(details: object) -> tuple[list[str], dict[str, str], float | None]:
    """Reasons and metadata of ErrorInfo, retryDelay of RetryInfo (google.rpc error details)."""
    reasons: list[str] = []
    metadata: dict[str, str] = {}
    delay: float | None = None
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict):
            continue
        kind = str(detail.get("@type", "")).rsplit(".", 1)[-1]
        if kind == "ErrorInfo":
            reasons.append(str(detail.get("reason", "")))
            given = detail.get("metadata")
            metadata.update({str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {})
        elif kind == "RetryInfo":
            delay = _seconds(str(detail.get("retryDelay", "")))
    return reasons, metadata, delay


def read_refusal(status: int, text: str) -> Refusal:
    """Take an HTTP error body apart. Anything that is not Google's JSON (a proxy's HTML, cut short) is kept as text."""
    try:
        document = json.loads(text) if text.strip() else {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    error = document.get("error")
    if isinstance(error, str):  # the OAuth form: {"error": "invalid_grant", "error_description": "..."}
        message = f"{error}: {document.get('error_description', '')}".rstrip(": ")
        return Refusal(status, message, reasons=(error,), raw=document)
    if not isinstance(error, dict):
        excerpt = text.strip()[:EXCERPT] or "(empty answer)"
        return Refusal(status, f"HTTP {status}: {excerpt}", raw=excerpt)
    entries = error.get("errors")
    reasons = [str(e.get("reason", "")) for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    more, metadata, delay = _read_details(error.get("details"))
    return Refusal(
        status=status,
        message=str(error.get("message") or f"HTTP {status}"),
        canonical=str(error.get("status") or ""),
        reasons=tuple(reason for reason in [*more, *reasons] if reason),
        metadata=metadata,
        retry_delay=delay,
        raw=error,
    )


def _permission_in(message: str) -> str:
    match = re.search(r"\b([a-z][a-zA-Z]+\.[a-zA-Z]+\.[a-zA-Z]+)\b(?!\.)", message.replace("googleapis.com", ""))
    return match.group(1) if match else ""


def _service_in(refusal: Refusal) -> str:
    if refusal.metadata.get("service"):
        return refusal.metadata["service"]
    match = re.search(r"apis/api/([\w.-]+)/", refusal.message) or re.search(
        r"\b([a-z]+\.googleapis\.com)\b", refusal.message
    )
    return match.group(1) if match else "SERVICE"


def recognise(refusal: Refusal, *, project: str = "PROJECT") -> tuple[str, str]:
    """(code, remedy) of a refusal; ``UNKNOWN`` with a hint at the evidence where no case fits."""
    for case in CASES:
        if case.matches(refusal):
            permission = _permission_in(refusal.message) if case.code == "PERMISSION_DENIED" else ""
            remedy = case.remedy.format(
                project=project,
                service=_service_in(refusal) if "{service}" in case.remedy else "",
                permission=f"the permission {permission}" if permission else "the permission that the message names",
                role=role_for(permission) or "see the message",
            )
            return case.code, remedy
    return "UNKNOWN", "Not a case we know: Google's own words are in the evidence."


def http_error(refusal: Refusal, *, what: str, where: str, project: str) -> GoogleApiError:
    """The exception for a refused request."""
    code, remedy = recognise(refusal, project=project)
    why, remedy = _explain(code, refusal, remedy, where)
    return GoogleApiError(
        what,
        status=refusal.status,
        reason=refusal.reasons[0] if refusal.reasons else refusal.canonical,
        code=code,
        where=where,
        why=why,
        remedy=remedy,
        evidence=refusal.raw,
    )


def _explain(code: str, refusal: Refusal, remedy: str, where: str) -> tuple[str, str]:
    """(why, remedy) with a shortage's numbers before Google's words, and the zones that Google says have some."""
    if code == "QUOTA_EXCEEDED":
        found = shortages.quotas(refusal.message, refusal.raw, shortages.region_in(where))
        return "\n".join([*map(str, found), refusal.message]), remedy
    if code == "STOCKOUT":
        zones = shortages.zones_available(refusal.raw)
        return refusal.message, remedy + (f" Google says these have some: {', '.join(zones)}." if zones else "")
    return refusal.message, remedy


def operation_error(
    message: str, *, reasons: tuple[str, ...], what: str, where: str, project: str, evidence: Any
) -> OperationError:
    """The exception for an operation (or its resource) that ended in failure; same table as for requests."""
    refusal = Refusal(status=0, message=message or "no message", reasons=reasons, raw=evidence)
    code, remedy = recognise(refusal, project=project)
    if code == "UNKNOWN":
        code = "OPERATION_FAILED"
    why, remedy = _explain(code, refusal, remedy, where)
    return OperationError(what, code=code, where=where, why=why, remedy=remedy, evidence=evidence)
