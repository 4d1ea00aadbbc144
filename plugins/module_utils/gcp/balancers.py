# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Gateway's load balancer is made of, read from the compute API: by its address, by names, by a prefix.

The chain is followed as traffic goes: forwarding rule, target proxy, URL map, backend services, their groups and
health checks; firewalls are those of the prefix. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

# result key -> (compute collection, its regional method prefix, annotation of the Gateway that names its members)
PARTS: dict[str, tuple[str, str, str]] = {
    "forwarding_rules": ("forwardingRules", "forwardingRules", "networking.gke.io/forwarding-rules"),
    "target_proxies": ("targetHttpProxies", "regionTargetHttpProxies", "networking.gke.io/target-http-proxies"),
    "target_https_proxies": (
        "targetHttpsProxies",
        "regionTargetHttpsProxies",
        "networking.gke.io/target-https-proxies",
    ),
    "url_maps": ("urlMaps", "regionUrlMaps", "networking.gke.io/url-maps"),
    "backend_services": ("backendServices", "regionBackendServices", "networking.gke.io/backend-services"),
    "health_checks": ("healthChecks", "regionHealthChecks", "networking.gke.io/health-checks"),
}
# What of each thing is shown, besides its name and link.
FIELDS = ("IPAddress", "portRange", "loadBalancingScheme", "target", "urlMap", "defaultService", "protocol", "port",
          "type", "timeoutSec", "description")  # fmt: skip


@dataclass(frozen=True)
class Query:
    """Which load balancer: all parts whose names begin with ``prefix``, that ``annotations`` name, or that hang on the
    forwarding rules of ``address``. None of them: all of the region."""

    region: str
    prefix: str = ""
    address: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def everything(self) -> bool:
        return not (self.prefix or self.address or self.named())

    def named(self) -> dict[str, set[str]]:
        """Names by kind from a Gateway's annotations (``/projects/P/regions/R/urlMaps/X, ...``)."""
        found: dict[str, set[str]] = {}
        for kind, (_collection, _method, annotation) in PARTS.items():
            text = str(self.annotations.get(annotation) or "")
            names = {part.strip().rsplit("/", 1)[-1] for part in text.split(",") if part.strip()}
            if names:
                found[kind] = names
        return found


def _short(url: object) -> str:
    return str(url or "").rsplit("/", 1)[-1]


def _items(session: GoogleSession, method: str, path: str) -> list[Json]:
    return [dict(item) for page in session.pages(method, path) for item in page.get("items") or []]


def _view(item: Json) -> Json:
    shown: Json = {"name": item.get("name"), "self_link": item.get("selfLink", "")}
    for key in FIELDS:
        if item.get(key) not in (None, ""):
            value = item[key]
            shown[key] = _short(value) if key in ("target", "urlMap", "defaultService") else value
    if item.get("backends"):
        shown["groups"] = sorted(_short(backend.get("group")) for backend in item["backends"])
    if item.get("healthChecks"):
        shown["health_checks"] = sorted(_short(check) for check in item["healthChecks"])
    return shown


def read(session: GoogleSession, query: Query) -> Json:
    """The parts by kind, each list sorted by name; ``found`` False where there are none. Raises GoogleApiError."""
    base = f"projects/{segment(session.project)}/regions/{segment(query.region)}"
    try:
        listed = {
            kind: _items(session, f"compute.{method}.list", f"{base}/{collection}")
            for kind, (collection, method, _annotation) in PARTS.items()
        }
    except GoogleApiError as error:
        if error.code != "API_DISABLED":  # without the API there is no load balancer
            raise
        listed = {kind: [] for kind in PARTS}
    chosen = _choose(listed, query)
    result: Json = {kind: sorted(map(_view, items), key=lambda i: str(i["name"])) for kind, items in chosen.items()}
    groups = {str(b["group"]) for service in chosen["backend_services"] for b in service.get("backends") or []}
    result["network_endpoint_groups"] = [g for url in sorted(groups) if (g := _group(session, url)) is not None]
    result["firewalls"] = _firewalls(session, query)
    result["found"] = any(result[kind] for kind in PARTS)
    return result


def _choose(listed: Mapping[str, list[Json]], query: Query) -> dict[str, list[Json]]:
    """What belongs to the load balancer: what is named, and what the named things lead to."""
    if query.everything:
        return {kind: list(items) for kind, items in listed.items()}
    named = query.named()
    links: set[str] = set()
    for kind, items in listed.items():
        for item in items:
            name = str(item.get("name", ""))
            if (
                name in named.get(kind, ())
                or (query.prefix and name.startswith(query.prefix))
                or (query.address and item.get("IPAddress") == query.address)
            ):
                links.add(str(item.get("selfLink")))
    everything = [item for items in listed.values() for item in items]
    while True:  # follow the references until nothing new turns up
        reached = {link for item in everything if item.get("selfLink") in links for link in _references(item)}
        if reached <= links:
            break
        links |= reached
    return {kind: [item for item in items if item.get("selfLink") in links] for kind, items in listed.items()}


def _references(item: Any) -> Iterable[str]:
    """Links to other things anywhere inside a resource, but not back to its region or itself."""
    if isinstance(item, dict):
        for key, value in item.items():
            if key not in ("selfLink", "region", "network", "subnetwork"):
                yield from _references(value)
    elif isinstance(item, list):
        for value in item:
            yield from _references(value)
    elif isinstance(item, str) and "/projects/" in item:
        yield item


def _group(session: GoogleSession, url: str) -> Json | None:
    path = "projects/" + url.split("/projects/", 1)[-1]
    if "/networkEndpointGroups/" not in path or "/zones/" not in path:
        return None
    try:
        group = session.call("compute.networkEndpointGroups.get", "GET", path)
    except GoogleApiError as error:
        if error.status != 404:
            raise
        return None
    return {
        "name": group.get("name"),
        "zone": _short(group.get("zone")),
        "type": group.get("networkEndpointType", ""),
        "size": int(group.get("size") or 0),
        "self_link": group.get("selfLink", ""),
    }


def _firewalls(session: GoogleSession, query: Query) -> list[Json]:
    """Firewall rules of the prefix (they are global and carry no reference to a load balancer)."""
    if not query.prefix:
        return []
    found = _items(session, "compute.firewalls.list", f"projects/{segment(session.project)}/global/firewalls")
    return [
        {"name": rule["name"], "source_ranges": rule.get("sourceRanges") or [], "allowed": rule.get("allowed") or []}
        for rule in sorted(found, key=lambda rule: str(rule.get("name")))
        if str(rule.get("name", "")).startswith(query.prefix)
    ]
