# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything that a deployment may have left in the compute API, and deletes what is known to be ours."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import operations
from ansible_collections.llmd.gke.plugins.module_utils.gcp.orphans import KINDS, WAVES, Finding, Key, key_of, text_of
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import report_progress

# Discovery names of a kind's methods in a region, zone or global; where a kind is not listed it has its own name.
REGIONAL = {
    "targetHttpProxies": "regionTargetHttpProxies",
    "targetHttpsProxies": "regionTargetHttpsProxies",
    "urlMaps": "regionUrlMaps",
    "sslCertificates": "regionSslCertificates",
    "backendServices": "regionBackendServices",
    "healthChecks": "regionHealthChecks",
    "networkEndpointGroups": "regionNetworkEndpointGroups",
    "instanceGroupManagers": "regionInstanceGroupManagers",
    "instanceGroups": "regionInstanceGroups",
    "disks": "regionDisks",
}
GLOBAL = {
    "forwardingRules": "globalForwardingRules",
    "addresses": "globalAddresses",
    "networkEndpointGroups": "globalNetworkEndpointGroups",
}
PAGE = 500
GLOBAL_ONLY = frozenset({"firewalls"})


@dataclass
class Seen:
    """What was read. ``unread``: kinds that could not be, with the reason: then nothing is proven about them."""

    items: dict[Key, Json] = field(default_factory=dict)
    unread: list[Json] = field(default_factory=list)


@dataclass
class Deleted:
    """What was deleted and what could not be, with code and reason."""

    done: list[Key] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)


def read(session: GoogleSession, kinds: Iterable[str] = KINDS) -> Seen:
    """Every resource of the kinds in every scope: one aggregated list a kind.

    A kind that may not be read is noted, not fatal. Raises GoogleApiError for everything else.
    """
    seen = Seen()
    for kind in kinds:
        try:
            for page in _pages(session, kind):
                _take(seen, kind, page)
        except GoogleApiError as error:
            if error.code == "API_DISABLED":
                return seen  # without the API there is nothing of any kind
            if error.code != "PERMISSION_DENIED":
                raise
            seen.unread.append({"kind": kind, "code": error.code, "why": error.why, "remedy": error.remedy})
    _drop_shadows(seen.items)
    return seen


def _pages(session: GoogleSession, kind: str) -> Iterable[Json]:
    project = f"projects/{segment(session.project)}"
    if kind in GLOBAL_ONLY:
        return session.pages(f"compute.{kind}.list", f"{project}/global/{kind}", params={"maxResults": PAGE})
    params: dict[str, str | int | bool | list[str]] = {"maxResults": PAGE}
    return session.pages(f"compute.{kind}.aggregatedList", f"{project}/aggregated/{kind}", params=params)


def _take(seen: Seen, kind: str, page: Json) -> None:
    listed = page.get("items") or {}
    groups = [listed] if isinstance(listed, list) else [scope.get(kind) or [] for scope in listed.values()]
    for item in (item for group in groups for item in group):
        key = key_of(str(item.get("selfLink") or ""))
        if key is not None:
            seen.items[kind, key[1], key[2]] = item


def _drop_shadows(items: dict[Key, Json]) -> None:
    """A managed instance group is listed once: its plain group comes and goes with it."""
    for kind, scope, name in list(items):
        if kind == "instanceGroups" and ("instanceGroupManagers", scope, name) in items:
            del items[kind, scope, name]


def delete(session: GoogleSession, findings: Sequence[Finding], *, timeout: float) -> Deleted:
    """Delete in the order of references, each wave's operations side by side. What fails is noted, the rest goes on."""
    result = Deleted()
    for wave in WAVES:
        started: list[tuple[Key, Json]] = []
        for finding in (one for one in findings if one.kind in wave):
            report_progress(f"deleting {text_of(finding.key)}")
            try:
                started.append((finding.key, _send(session, finding.key)))
            except LlmdError as error:
                _note(result, finding.key, error)
        for key, operation in started:
            try:
                operations.wait(session, operation, what=f"Deletion of {text_of(key)}", timeout=timeout)
                result.done.append(key)
            except LlmdError as error:
                _note(result, key, error)
    return result


def _send(session: GoogleSession, key: Key) -> Json:
    kind, scope, name = key
    table = GLOBAL if scope == "global" else REGIONAL if scope.startswith("regions/") else {}
    place = "/".join(segment(part) for part in scope.split("/"))
    path = f"projects/{segment(session.project)}/{place}/{kind}/{segment(name)}"
    method = f"compute.{table.get(kind, kind)}.delete"
    return session.call(method, "DELETE", path, params={"requestId": str(uuid.uuid4())})


def _note(result: Deleted, key: Key, error: LlmdError) -> None:
    if error.code == "NOT_FOUND":  # gone by itself, or by GKE's controller: what was wanted
        result.done.append(key)
        return
    result.failed.append(refused(key, error))


def refused(key: Key, error: LlmdError) -> Json:
    """How a result names a resource that stays although it should go."""
    parts = {"code": error.code, "why": error.why or error.what, "remedy": error.remedy}
    return {"kind": key[0], "scope": key[1], "name": key[2], **parts}
