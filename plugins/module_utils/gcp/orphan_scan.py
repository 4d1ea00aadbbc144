# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One orphan scan: who the deployment is, what is there, what is ours of it, and (if wished) its deletion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import account_leftovers, iam, leftovers, orphans, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.orphans import FOREIGN, LIVE, OWNED, Deployment, Finding, Key
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

RELEASE, CLUSTER = "release", "cluster"


@dataclass(frozen=True)
class Wish:
    """What to look for and what to do. ``record``: what an earlier scan returned as its record.

    annotations: of the deployment's Gateway, while it is there. links: further resources known to be its (NEGs).
    """

    deployment: str
    location: str
    cluster: str
    namespace: str = ""
    gateway: str = ""
    pool: str = ""
    network: str = ""
    scope: str = CLUSTER
    record: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    delete: bool = False
    confirm: str = ""
    keep: tuple[str, ...] = ()
    timeout: float = 600.0


def run(session: GoogleSession, wish: Wish, *, check_mode: bool) -> Json:
    """Scan, and delete where wished. Raises ConfigurationError CONFIRM_WRONG, RECORD_FOREIGN; GoogleApiError."""
    _refuse(session, wish)
    who = identify(session, wish)
    seen = leftovers.read(session)
    who = orphans.inferred(who, seen.items.values()) if wish.scope == CLUSTER else who
    findings = orphans.classify(who, seen.items)
    if wish.scope == CLUSTER:
        accounts, unread = account_leftovers.read(session, who)
        findings, seen.unread = findings + accounts, seen.unread + unread
    ours = [finding for finding in findings if finding.state == OWNED]
    chosen = [finding for finding in ours if finding.kind not in wish.keep]
    blocked = _blocked(findings, chosen)
    if wish.scope == RELEASE:  # what others of the cluster use as well is not a leftover of the release
        ours = [finding for finding in ours if finding.key not in blocked]
    free = [finding for finding in chosen if finding.key not in blocked]
    deleted = leftovers.Deleted(failed=[] if wish.scope == RELEASE else list(blocked.values()))
    if wish.delete and free:
        done = leftovers.Deleted(done=[one.key for one in free]) if check_mode else _delete(session, free, wish)
        deleted.done, deleted.failed = done.done, deleted.failed + done.failed
    gone = set(deleted.done)
    left = [finding for finding in ours if finding.key not in gone]
    live = [finding.as_result() for finding in findings if finding.state == LIVE]
    return {
        "changed": bool(gone),
        "cluster_exists": who.alive or (wish.scope == RELEASE and _exists(session, wish)),
        "leftovers": [finding.as_result() for finding in left],
        "left": len(left),
        "deleted": [finding.as_result() for finding in ours if finding.key in gone],
        "refused": deleted.failed if wish.delete else [],
        "live": live,
        "foreign": [finding.as_result() for finding in findings if finding.state == FOREIGN],
        "foreign_counts": orphans.counts(findings, FOREIGN),
        "scanned": len(findings),
        "unread": seen.unread,
        "proven": not left and not seen.unread,
        "record": record(wish, who, findings) | _place(session, wish),
        "diff": _diff(ours, left),
    }


def _refuse(session: GoogleSession, wish: Wish) -> None:
    if wish.delete and wish.confirm != wish.deployment:
        raise ConfigurationError(
            "Leftovers are deleted only on the deployment's own name",
            code="CONFIRM_WRONG",
            where=f"deployment {wish.deployment}",
            why=f"confirm is {wish.confirm!r}",
            remedy=f"Read the list first, then give llmd_confirm={wish.deployment}.",
        )
    mine = _place(session, wish)
    different = [name for name, value in mine.items() if wish.record.get(name, value) != value]
    if different:
        raise ConfigurationError(
            "The record of the load balancer is another deployment's",
            code="RECORD_FOREIGN",
            why="; ".join(f"{name} is {wish.record[name]}, not {mine[name]}" for name in different),
            remedy="Give each deployment an llmd_artifacts_dir of its own, or remove the record.",
        )


def _place(session: GoogleSession, wish: Wish) -> dict[str, str]:
    """What a record must agree with."""
    return {
        "project": session.project,
        "deployment": wish.deployment,
        "location": wish.location,
        "cluster": wish.cluster,
    }


def identify(session: GoogleSession, wish: Wish) -> Deployment:
    """Whose leftovers to look for, with what the project knows about clusters of that name."""
    named = _clusters(session, wish.cluster)
    here = next((one for one in named if _location(one) == wish.location), None)
    owned = here is not None and ownership.owned(here.get("resourceLabels"), wish.deployment)
    recorded = orphans.recorded_keys(str(text) for text in wish.record.get("resources") or [])
    recorded |= orphans.annotated(wish.annotations)
    recorded |= {key for link in wish.links if (key := orphans.key_of(link)) is not None}
    alive = here is not None
    if wish.scope == RELEASE:
        recorded = frozenset(key for key in recorded if key[0] in _OF_A_GATEWAY)
        alive, owned = False, False
    return Deployment(
        name=wish.deployment,
        project=session.project,
        location=wish.location,
        cluster=wish.cluster,
        namespace=wish.namespace,
        gateway=wish.gateway,
        pool=wish.pool,
        network=wish.network,
        numbers=_numbers(session),
        made=owned or (here is None and bool(wish.record.get("made")) and wish.scope == CLUSTER),
        alive=alive,
        alone=len(named) <= (1 if here is not None else 0),
        recorded=recorded,
    )


# A cluster's Gateways share their firewall; its node groups and disks are no Gateway's.
_OF_A_GATEWAY = frozenset(orphans.KINDS) - {"firewalls", "instanceGroupManagers", "instanceGroups", "disks"}


def _clusters(session: GoogleSession, name: str) -> list[Json]:
    path = f"projects/{segment(session.project)}/locations/-/clusters"
    try:
        listed = session.call("container.projects.locations.clusters.list", "GET", path)
    except GoogleApiError as error:
        if error.code != "API_DISABLED":
            raise
        return []
    return [one for one in listed.get("clusters") or [] if one.get("name") == name]


def _location(cluster: Json) -> str:
    return str(cluster.get("location") or cluster.get("zone") or "")


def _exists(session: GoogleSession, wish: Wish) -> bool:
    return any(_location(one) == wish.location for one in _clusters(session, wish.cluster))


def _numbers(session: GoogleSession) -> frozenset[str]:
    """The project's number, where we may know it; GKE writes id or number."""
    try:
        return frozenset({str(iam.get_project(session).get("projectNumber") or "")} - {""})
    except LlmdError:
        return frozenset()


def _blocked(findings: list[Finding], chosen: Iterable[Finding]) -> dict[Key, Json]:
    """Leftovers that something foreign uses, directly or through another one that stays."""
    wanted = {finding.key: finding for finding in chosen}
    blocked: dict[Key, Json] = {}
    for finding in wanted.values():
        if finding.kind == "disks" and finding.resource.get("users"):
            blocked[finding.key] = _in_use(finding.key, [str(user) for user in finding.resource["users"]])
    while True:
        found = orphans.blockers(findings, set(wanted) - set(blocked))
        if not found:
            return blocked
        blocked |= {key: _in_use(key, [orphans.text_of(user) for user in users]) for key, users in found.items()}


def _in_use(key: Key, users: list[str]) -> Json:
    error = LlmdError(
        f"{orphans.text_of(key)} is still used",
        code="ORPHAN_IN_USE",
        why=f"used by {', '.join(sorted(users))}, which is not ours",
        remedy="Delete its user first if nobody needs it, then run again.",
    )
    return leftovers.refused(key, error)


def _delete(session: GoogleSession, findings: list[Finding], wish: Wish) -> leftovers.Deleted:
    accounts = [finding for finding in findings if finding.kind == account_leftovers.KIND]
    parts = [finding for finding in findings if finding not in accounts]
    done = leftovers.delete(session, parts, timeout=session.remaining(wish.timeout))
    last = account_leftovers.delete(session, accounts)  # whom nodes run as goes after the nodes
    return leftovers.Deleted(done=done.done + last.done, failed=done.failed + last.failed)


def record(wish: Wish, who: Deployment, findings: Iterable[Finding]) -> Json:
    """What the next run must know even if this one is killed: every part that is ours now, or was noted before."""
    parts = [finding for finding in findings if finding.kind in orphans.KINDS]
    keys = {finding.key for finding in parts if finding.state != FOREIGN} | who.recorded
    return {
        "made": who.made or bool(wish.record.get("made")),
        "resources": sorted(orphans.text_of(key) for key in keys),
    }


def _diff(before: Iterable[Finding], after: Iterable[Finding]) -> Json:
    return {
        "before": {"leftovers": [orphans.text_of(finding.key) for finding in before]},
        "after": {"leftovers": [orphans.text_of(finding.key) for finding in after]},
    }
