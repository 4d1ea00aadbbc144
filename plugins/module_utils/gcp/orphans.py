# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose is it: tells what a deployment's cluster left in the compute API from everybody else's. Pure.

Nothing is ours because it looks like it: a resource needs evidence (our record of the Gateway, GKE's description that
names our cluster, our labels, GKE's name prefix that such a one carries), and evidence for somebody else always wins.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.gcp import ownership

Json = dict[str, Any]
Key = tuple[str, str, str]  # kind, scope, name

# Kinds in the order in which they can be deleted: who refers to others goes first.
WAVES = (
    ("forwardingRules",),
    ("targetHttpProxies", "targetHttpsProxies"),
    ("urlMaps", "sslCertificates"),
    ("backendServices",),
    ("networkEndpointGroups", "healthChecks", "addresses", "firewalls", "instanceGroupManagers"),
    ("instanceGroups", "disks"),
)
KINDS = tuple(kind for wave in WAVES for kind in wave)
PREFIX = "networking.gke.io/"
# Annotations of a Gateway that name compute resources.
ANNOTATIONS = {
    "addresses": "addresses",
    "backend-services": "backendServices",
    "firewalls": "firewalls",
    "forwarding-rules": "forwardingRules",
    "health-checks": "healthChecks",
    "ssl-certificates": "sslCertificates",
    "target-http-proxies": "targetHttpProxies",
    "target-https-proxies": "targetHttpsProxies",
    "url-maps": "urlMaps",
}
DEFAULT_SERVICE = "gw-serve404"  # what answers where no route matches; the Gateways of a class share it
OWNED, LIVE, FOREIGN = "owned", "live", "foreign"
_PATH = re.compile(r"(?:^|.*/)projects/[^/]+/(global|regions/[^/]+|zones/[^/]+)/([A-Za-z]+)/([^/]+)$")
_FAMILY = re.compile(r"(gkegw1-[0-9a-z]{4}|k8s[12]-[0-9a-f]{8})-")
_CLUSTER = re.compile(r"/projects/([^/]+)/(?:locations|zones|regions)/([^/]+)/clusters/([^/]+)")


@dataclass(frozen=True)
class Deployment:
    """Whose leftovers are looked for. ``numbers``: other spellings of the project (its number).

    made: the cluster is (or was) ours, so that all it made is; else only what it made for our Gateway and pool is.
    alive: the cluster is there and is to stay. alone: no cluster of that name is elsewhere in the project, so that its
    name means it. recorded: what was noted before the Gateway went.
    """

    name: str
    project: str
    location: str
    cluster: str
    namespace: str = ""
    gateway: str = ""
    pool: str = ""
    network: str = ""
    numbers: frozenset[str] = frozenset()
    made: bool = False
    alive: bool = False
    alone: bool = False
    recorded: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class Finding:
    """One resource and the reason for what we think of it."""

    kind: str
    scope: str
    name: str
    state: str
    why: str
    resource: Json = field(hash=False, compare=False, repr=False, default_factory=dict)

    @property
    def key(self) -> Key:
        return self.kind, self.scope, self.name

    def as_result(self) -> Json:
        found: Json = {"kind": self.kind, "scope": self.scope, "name": self.name, "why": self.why}
        for ours, theirs in (
            ("address", "address"),
            ("size_gb", "sizeGb"),
            ("type", "type"),
            ("created", "creationTimestamp"),
        ):
            if self.resource.get(theirs):
                found[ours] = str(self.resource[theirs]).rsplit("/", 1)[-1]
        found["in_use"] = bool(self.resource.get("users")) or self.resource.get("status") == "IN_USE"
        return found


# --- reading --------------------------------------------------------------------------------------------------------


def key_of(link: str) -> Key | None:
    """Kind, scope and name in a link, path or annotation's path; None for something else."""
    found = _PATH.match(link.strip())
    return None if found is None else (found.group(2), found.group(1), found.group(3))


def text_of(key: Key) -> str:
    """The short form that records hold: ``regions/us-central1/backendServices/x``."""
    return f"{key[1]}/{key[0]}/{key[2]}"


def recorded_keys(texts: Iterable[str]) -> frozenset[Key]:
    """Keys from a record's short forms; lines that are none are passed over."""
    found = (key_of(f"projects/-/{text.strip('/')}") for text in texts)
    return frozenset(key for key in found if key is not None)


def annotated(annotations: Mapping[str, str] | None) -> frozenset[Key]:
    """What a Gateway's annotations name."""
    found = set()
    for word in ANNOTATIONS:
        for path in str((annotations or {}).get(PREFIX + word) or "").split(","):
            key = key_of(path)
            if key is not None:
                found.add(key)
    return frozenset(found)


def described(item: Json) -> Json:
    """The description that GKE's controllers and disk drivers write, as a dictionary; {} for people's words."""
    text = str(item.get("description") or "")
    if not text.startswith("{"):
        return {}
    try:
        read = json.loads(text)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def links(value: Any) -> Iterator[Key]:
    """Every resource that a resource refers to."""
    if isinstance(value, str):
        key = key_of(value) if "/" in value else None
        if key is not None:
            yield key
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in ("selfLink", "users", "description", "selfLinkWithId"):
                yield from links(item)
    elif isinstance(value, list):
        for item in value:
            yield from links(item)


def family_of(name: str) -> str:
    """The prefix by which one cluster's load-balancer parts know one another; empty for other names."""
    found = _FAMILY.match(name)
    return found.group(1) if found else ""


# --- judging --------------------------------------------------------------------------------------------------------


def _other_owner(who: Deployment, item: Json) -> str:
    """Evidence that somebody else made it; empty where there is none."""
    cluster = _CLUSTER.search(str(described(item).get("k8sCluster") or ""))
    if cluster and not _same_cluster(who, cluster):
        return f"its description names cluster {cluster.group(3)} in {cluster.group(2)}"
    labels = item.get("labels") or {}
    if labels.get(ownership.MANAGED_BY) == ownership.MANAGER and labels.get(ownership.DEPLOYMENT, who.name) != who.name:
        return f"its labels name deployment {labels[ownership.DEPLOYMENT]}"
    for label, mine in (("goog-k8s-cluster-name", who.cluster), ("goog-k8s-cluster-location", who.location)):
        if labels.get(label, mine) != mine:
            return f"its label {label} is {labels[label]}"
    network = str(item.get("network") or "").rsplit("/", 1)[-1]
    if who.network and network and network != who.network:
        return f"it is in network {network}"
    return ""


def _same_cluster(who: Deployment, found: re.Match[str]) -> bool:
    return found.group(1) in {who.project, *who.numbers} and found.group(2, 3) == (who.location, who.cluster)


def _evidence(who: Deployment, key: Key, item: Json) -> str:
    """Evidence in the resource itself that it is ours; empty where there is none."""
    if key in who.recorded and not _persons_own(key, item):
        return "recorded while the deployment was there"
    about = described(item)
    cluster = _CLUSTER.search(str(about.get("k8sCluster") or ""))
    if cluster and _same_cluster(who, cluster):
        if who.made:
            return "its description names the cluster"
        place = str(about.get("k8sResource") or "")
        if _our_object(who, place):
            return f"its description names {place} of the cluster"
    labels = item.get("labels") or {}
    if ownership.owned(labels, who.name) and labels.get(ownership.DEPLOYMENT) == who.name:
        return "its labels name the deployment"
    if (
        who.made
        and labels.get("goog-k8s-cluster-name") == who.cluster
        and labels.get("goog-k8s-cluster-location") == who.location
    ):
        return "its labels name the cluster"
    return _named(who, key)


def _persons_own(key: Key, item: Json) -> bool:
    """A Gateway may use an address that a person reserved: the Gateway's annotation names it, but it is not ours."""
    return key[0] == "addresses" and not family_of(key[2]) and not described(item)


def _named(who: Deployment, key: Key) -> str:
    """GKE's own names of a cluster's firewalls and instance groups; they mean it only where the name is unique."""
    if not (who.made and who.alone) or not who.cluster:
        return ""
    base = re.escape(f"gke-{who.cluster}-")
    shapes = {
        "firewalls": rf"{base}[0-9a-f]{{8}}-(all|vms|ssh|master|inkubelet|exkubelet|mcsd|webhook)",
        "instanceGroupManagers": rf"{base}.+-[0-9a-f]{{8}}-grp",
        "instanceGroups": rf"{base}.+-[0-9a-f]{{8}}-grp",
    }
    pattern = shapes.get(key[0])
    return "its name is the cluster's" if pattern and re.fullmatch(pattern, key[2]) else ""


def _our_object(who: Deployment, place: str) -> bool:
    """Whether ``/namespaces/N/gateways/G`` or ``.../services/S`` is the deployment's Gateway, or made for its pool."""
    found = re.fullmatch(r"/namespaces/([^/]+)/(gateways|services)/([^/]+)", place)
    if found is None or found.group(1) != who.namespace:
        return False
    if found.group(2) == "gateways":
        return found.group(3) == who.gateway
    return (
        bool(who.pool) and re.fullmatch(rf"{re.escape(who.pool)}(-epp|-ips-[0-9a-f]{{8}})", found.group(3)) is not None
    )


def inferred(who: Deployment, items: Iterable[Json]) -> Deployment:
    """A cluster that is gone without a record was ours where all that it left for Gateways was made for ours."""
    if who.made or who.alive:
        return who
    places = set()
    for item in items:
        about = described(item)
        cluster = _CLUSTER.search(str(about.get("k8sCluster") or ""))
        if cluster and _same_cluster(who, cluster) and about.get("k8sResource"):
            places.add(str(about["k8sResource"]))
    places.discard(f"/namespaces/{who.namespace}/services/{DEFAULT_SERVICE}")
    if places and all(_our_object(who, place) for place in places):
        return replace(who, made=True)
    return who


def _relatives(who: Deployment, items: Mapping[Key, Json], reasons: Mapping[Key, str]) -> dict[Key, str]:
    """Parts without evidence of their own that carry the name prefix of parts that have it.

    Only for a cluster of ours: elsewhere other Gateways share the prefix.
    """
    if not who.made:
        return {}
    families = {family_of(key[2]) for key in reasons} - {""}
    found = {}
    for key, item in items.items():
        family = family_of(key[2])
        if key in reasons or not family or family not in families or _other_owner(who, item):
            continue
        found[key] = f"its name starts with {family}, as the deployment's parts do"
    return found


def classify(who: Deployment, items: Mapping[Key, Json]) -> list[Finding]:
    """A finding for every resource: owned (a leftover), live (ours, and its cluster is there) or foreign."""
    others = {key: _other_owner(who, item) for key, item in items.items()}
    reasons = {key: why for key, item in items.items() if not others[key] and (why := _evidence(who, key, item))}
    reasons |= _relatives(who, items, reasons)
    findings = []
    for key in sorted(items, key=lambda one: (KINDS.index(one[0]), one[1], one[2])):
        if key in reasons:
            state, why = (LIVE if who.alive else OWNED), reasons[key]
        else:
            state, why = FOREIGN, others[key] or "nothing says that this deployment made it"
        findings.append(Finding(*key, state, why, items[key]))
    return findings


def blockers(findings: Iterable[Finding], chosen: Iterable[Key]) -> dict[Key, list[Key]]:
    """Which of ``chosen`` something else still refers to, and what that is: those cannot be deleted."""
    wanted = set(chosen)
    found: dict[Key, list[Key]] = {}
    for finding in findings:
        if finding.key in wanted:
            continue
        for key in set(links(finding.resource)):
            if key in wanted:
                found.setdefault(key, []).append(finding.key)
    return found


def counts(findings: Iterable[Finding], state: str) -> Json:
    """Number of resources of a state by kind."""
    found = Counter(finding.kind for finding in findings if finding.state == state)
    return dict(sorted(found.items()))
