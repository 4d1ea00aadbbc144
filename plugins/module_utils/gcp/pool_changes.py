# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node pool of a cluster, present or absent: the decisions of gke_node_pool."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import (
    fallbacks,
    node_pools,
    operations,
    pool_updates,
    pool_watch,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Pool, Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Verdict, wait_until

MOVING = ("PROVISIONING", "RECONCILING", "STOPPING")


@dataclass
class Outcome:
    """What was found or done."""

    changed: bool
    before: Json | None
    after: Json | None
    operations: list[Json] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _view(session: GoogleSession, pool: Pool, found: Json) -> Json:
    """The pool's view; its size is asked for (one call a zone) only where the caller cares."""
    seen = node_pools.view(found)
    if pool.size is not None:
        seen["size"] = node_pools.current_size(session, found)
    return seen


def _cluster_must_exist(session: GoogleSession, where: Where, error: GoogleApiError) -> LlmdError:
    if error.status != 404:
        return error
    return LlmdError(
        f"There is no cluster {where.cluster} in {where.location}",
        code="CLUSTER_NOT_FOUND",
        where=where.path(session.project),
        why=error.why,
        remedy="Create it first (llmd.gke.gke_cluster), or check name and location.",
        evidence=error.evidence,
    )


def _settle(session: GoogleSession, where: Where, name: str, found: Json, timeout: float) -> Json | None:
    """Wait while the pool is being made, changed or deleted (a killed run's operation goes on by itself)."""
    if found.get("status") not in MOVING:
        return found
    watch = pool_watch.watcher(session, where, [name] if found.get("status") == "PROVISIONING" else [])

    def observe() -> Json | None:
        watch()
        return node_pools.get(session, where, name)

    return wait_until(
        observe,
        lambda seen: Verdict(seen is None or seen.get("status") not in MOVING, f"status {(seen or {}).get('status')}"),
        what=f"Node pool {name} settled",
        timeout=session.remaining(timeout),
        interval=operations.LONGEST_POLL,
        clock=operations.GrowingClock(session.clock),
    )


def ensure_present(
    session: GoogleSession, where: Where, pool: Pool, *, deployment: str, timeout: float, check_mode: bool
) -> Outcome:
    """Create the pool or bring it to what is wanted; wait; fail where it ends in ERROR.

    Raises ConfigurationError NODE_POOL_IMMUTABLE, LlmdError CLUSTER_NOT_FOUND, GoogleApiError, OperationError.
    """
    try:
        found = node_pools.get(session, where, pool.name)
    except GoogleApiError as error:
        raise _cluster_must_exist(session, where, error) from error
    if found is not None and not check_mode:
        found = _settle(session, where, pool.name, found, timeout)
        if found is not None and pool.fallbacks and fallbacks.shortage_of(session, found):
            node_pools.delete(session, where, pool.name, timeout=timeout)
            found = None
    if found is None:
        return _create(session, where, pool, deployment=deployment, timeout=timeout, check_mode=check_mode)
    warnings = node_pools.require_healthy(session, found, strict=False)
    before = _view(session, pool, found)
    needed = pool_updates.changes(fallbacks.chosen(pool, found), found)
    if pool.size is not None and pool.size != before["size"]:
        needed.append(pool_updates.size_change(pool.size))
    if not needed:
        return Outcome(False, before, before, warnings=warnings)
    if check_mode:
        after = dict(before)
        for change in needed:
            after.update(change.fields)
        return Outcome(True, before, after, warnings=warnings)
    done = [node_pools.apply(session, where, pool.name, change, timeout=timeout).as_result() for change in needed]
    return Outcome(True, before, _result(session, where, pool), done, warnings)


def _create(
    session: GoogleSession, where: Where, pool: Pool, *, deployment: str, timeout: float, check_mode: bool
) -> Outcome:
    # GKE_METADATA is refused by a cluster without workload identity, so ask first.
    cluster = session.call("container.projects.locations.clusters.get", "GET", where.path(session.project))
    identity = bool((cluster.get("workloadIdentityConfig") or {}).get("workloadPool"))
    if check_mode:
        body = node_pools.creation_body(pool, deployment=deployment, workload_identity=identity)
        planned = node_pools.view({**body, "status": "RUNNING"})
        return Outcome(
            True, None, {**planned, "size": node_pools.initial_count(pool)} if pool.size is not None else planned
        )
    done: list[Json] = []
    warnings: list[str] = []
    try:
        made = fallbacks.create(
            session, where, pool, deployment=deployment, workload_identity=identity, timeout=timeout
        )
        done += [finished.as_result() for finished in made.operations]
        warnings = made.warnings
    except GoogleApiError as error:
        if error.code != "ALREADY_EXISTS":  # the answer to our first try was lost, or another run was quicker
            raise
    return Outcome(True, None, _result(session, where, pool, timeout), done, warnings)


def _result(session: GoogleSession, where: Where, pool: Pool, timeout: float = 0.0) -> Json:
    found = node_pools.get(session, where, pool.name)
    if found is not None and timeout:
        found = _settle(session, where, pool.name, found, timeout)
    if found is None:
        raise LlmdError(
            f"Node pool {pool.name} is gone", code="NODE_POOL_ERROR", remedy="Someone deleted it; run again."
        )
    node_pools.require_healthy(session, found, strict=True)
    return _view(session, pool, found)


def ensure_absent(session: GoogleSession, where: Where, name: str, *, timeout: float, check_mode: bool) -> Outcome:
    """Delete the pool; a cluster that is not there has no pool either."""
    try:
        found = node_pools.get(session, where, name)
    except GoogleApiError as error:
        if error.status != 404 or error.code != "NOT_FOUND":
            raise
        found = None
    if found is None:
        return Outcome(False, None, None)
    before = node_pools.view(found)
    if check_mode:
        return Outcome(True, before, None)
    done: list[Json] = []
    if found.get("status") == "STOPPING":
        _settle(session, where, name, found, timeout)
    else:
        done.append(node_pools.delete(session, where, name, timeout=timeout).as_result())
    return Outcome(True, before, None, done)
