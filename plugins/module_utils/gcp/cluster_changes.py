# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a cluster to what is wanted, or away: one create call, resumed work, small updates one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import (
    ConfigurationError,
    GoogleApiError,
    LlmdError,
    OperationError,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp import (
    adoption,
    cluster_settings,
    fallbacks,
    node_pools,
    operations,
    ownership,
    pool_updates,
    pool_watch,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.clusters import (
    METHOD,
    Cluster,
    Update,
    creation_body,
    get,
    updates,
    view,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Pool
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Verdict, wait_until

SETTLED = frozenset({"RUNNING", "DEGRADED", "ERROR"})


@dataclass
class Outcome:
    """What was found or done. ``adopted``: used, but not ours, hence never deleted. ``exists``: now, really."""

    changed: bool
    before: Json | None
    after: Json | None
    cluster: Json | None = None
    adopted: bool = False
    kept: str = ""
    exists: bool = True
    operations: list[Json] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# --- present ------------------------------------------------------------------------------------------------------


def ensure_present(session: GoogleSession, want: Cluster, *, check_mode: bool) -> Outcome:
    """Create the cluster, or bring an existing one (ours or adopted) to what is wanted.

    A cluster that is still being made (a killed run's, someone else's) is waited for; one that is being deleted is
    waited away and then made. Raises ConfigurationError, GoogleApiError, OperationError, WaitTimeout.
    """
    found = _get_if_enabled(session, want) if check_mode else get(session, want.where)
    if found is not None and found.get("status") == "STOPPING" and not check_mode:
        _wait_gone(session, want)
        found = None
    if found is None or found.get("status") == "STOPPING":
        return _create(session, want, check_mode=check_mode)
    before = view(found)
    want, kept = adoption.spared(want, found)
    done: list[Json] = []
    # RECONCILING without anything to change (an automatic upgrade, say) is no reason to wait.
    if not check_mode and (found.get("status") == "PROVISIONING" or _needs_change(session, want, found)):
        found = settle(session, want, found)
    helped: list[str] = []
    if not check_mode:  # a run before this one may have ended with a pool in ERROR
        found, helped = _replace_short_pools(session, want, found, done)
    warnings = kept + helped + _status_warnings(session, want, found)
    outcome = _update(session, want, found, done, check_mode=check_mode)
    outcome.changed = outcome.changed or bool(helped)
    outcome.before = before if outcome.changed else outcome.after  # PROVISIONING -> RUNNING is not our change
    outcome.warnings = warnings + outcome.warnings
    outcome.adopted = not ownership.owned((before or {})["labels"], want.deployment)
    return outcome


def _get_if_enabled(session: GoogleSession, want: Cluster) -> Json | None:
    """The cluster; none where the Kubernetes Engine API is disabled, as no cluster runs without it."""
    try:
        return get(session, want.where)
    except GoogleApiError as error:
        if error.code != "API_DISABLED":
            raise
        return None


def _create(session: GoogleSession, want: Cluster, *, check_mode: bool) -> Outcome:
    body = creation_body(want, session.project)
    if check_mode:
        planned = {**body["cluster"], "location": want.location, "status": "RUNNING"}
        return Outcome(True, None, view(planned), cluster=view(planned), exists=False)
    _refuse_second(session, want)
    path = f"projects/{segment(session.project)}/locations/{segment(want.location)}/clusters"
    finished: list[Json] = []
    try:
        operation = _send_creation(session, want, path)
        done = operations.wait(
            session,
            operation,
            what=f"Creation of cluster {want.name}",
            timeout=want.timeout,
            location=want.location,
            watch=pool_watch.watcher(session, want.where, [pool.name for pool in want.pools]),
        )
        finished.append(done.as_result())
    except GoogleApiError as error:
        # The create call's answer was lost and it was sent again, or another run was quicker: one cluster, no second.
        if error.code != "ALREADY_EXISTS":
            raise
    except OperationError as error:
        if error.code not in fallbacks.SHORTAGES or not any(pool.fallbacks for pool in want.pools):
            raise
    made = get(session, want.where)
    if made is None:
        raise LlmdError(
            f"Cluster {want.name} was created and is gone",
            code="CLUSTER_ERROR",
            remedy="Someone deleted it meanwhile; run again.",
        )
    made = settle(session, want, made)
    made, helped = _replace_short_pools(session, want, made, finished)
    warnings = [*helped, *_status_warnings(session, want, made)]
    if want.private_nodes:
        warnings.append("The nodes have no external addresses: without Cloud NAT they cannot pull images or models.")
    for pool in made.get("nodePools") or []:
        if pool.get("name") in {wanted.name for wanted in want.pools}:
            node_pools.require_healthy(session, pool, strict=True)
    seen = view(made)
    return Outcome(True, None, seen, cluster=seen, operations=finished, warnings=warnings)


def _send_creation(session: GoogleSession, want: Cluster, path: str) -> Json:
    """The create call. Where quota refuses it, nothing was made: it is sent again with the pools' next fallbacks."""
    choices = [fallbacks.alternatives(pool, want.location) for pool in want.pools]
    for turn in range(max((len(pools) for pools in choices), default=1)):
        pools = tuple(pools[min(turn, len(pools) - 1)] for pools in choices)
        body = creation_body(dataclasses.replace(want, pools=pools), session.project)
        try:
            return session.call(METHOD + "create", "POST", path, body=body)
        except GoogleApiError as error:
            if error.code not in fallbacks.SHORTAGES or turn + 1 >= max(len(pools) for pools in choices):
                raise
    raise AssertionError("range() of at least one")


def _replace_short_pools(
    session: GoogleSession, want: Cluster, found: Json, done: list[Json]
) -> tuple[Json, list[str]]:
    """Wanted pools in ERROR for a shortage, made again as their next fallback. (the cluster now, what was tried)."""
    warnings: list[str] = []
    standing = {str(pool.get("name")): pool for pool in found.get("nodePools") or []}
    for pool in want.pools:
        error = fallbacks.shortage_of(session, standing[pool.name]) if pool.name in standing else None
        if error is None or not pool.fallbacks:
            continue
        identity = bool((found.get("workloadIdentityConfig") or {}).get("workloadPool"))
        made = fallbacks.create(
            session,
            want.where,
            pool,
            deployment=want.deployment,
            workload_identity=identity,
            timeout=want.timeout,
            failed=error,
        )
        done += [finished.as_result() for finished in made.operations]
        warnings += made.warnings
    return (get(session, want.where) or found if warnings else found), warnings


def _refuse_second(session: GoogleSession, want: Cluster) -> None:
    """No second cluster of one deployment: a cluster cannot move, and two of them cost twice."""
    if not want.deployment:
        return
    try:
        listed = session.call(METHOD + "list", "GET", f"projects/{segment(session.project)}/locations/-/clusters")
    except GoogleApiError as error:
        if error.code != "PERMISSION_DENIED":  # who may make a cluster need not be allowed to list them
            raise
        return
    for other in listed.get("clusters") or []:
        if (
            other.get("name") == want.name
            and other.get("location") != want.location
            and other.get("status") != "STOPPING"
            and (other.get("resourceLabels") or {}).get(ownership.DEPLOYMENT) == want.deployment
        ):
            raise ConfigurationError(
                f"Cluster {want.name} of this deployment exists in {other.get('location')}",
                code="CLUSTER_IMMUTABLE",
                where=str(other.get("selfLink", "")),
                why=f"location is {other.get('location')}, not {want.location}; GKE cannot move a cluster",
                remedy=f"Delete it first (gke_cluster with location: {other.get('location')} and state: absent), set "
                "llmd_zone back, or use another deployment name.",
            )


def _update(session: GoogleSession, want: Cluster, found: Json, done: list[Json], *, check_mode: bool) -> Outcome:
    needed = updates(want, found, session.project)
    existing = {str(pool["name"]): pool for pool in found.get("nodePools") or []}
    # Refusals first: nothing is changed when one pool cannot become what is wanted.
    pool_changes = [
        (pool, pool_updates.changes(fallbacks.chosen(pool, existing[pool.name]), existing[pool.name]))
        for pool in want.pools
        if pool.name in existing
    ]
    missing = [pool for pool in want.pools if pool.name not in existing]
    changed = bool(needed or missing or any(changes for _pool, changes in pool_changes))
    if not changed or check_mode:
        after = _predict(view(found) or {}, needed, pool_changes, missing, want)
        return Outcome(changed, None, after, cluster=after, operations=done)
    warnings: list[str] = []
    for update in needed:
        done.append(_run_update(session, want, update).as_result())
    for pool, changes in pool_changes:
        for change in changes:
            done.append(node_pools.apply(session, want.where, pool.name, change, timeout=want.timeout).as_result())
    for pool in missing:
        identity = bool((found.get("workloadIdentityConfig") or {}).get("workloadPool")) or bool(want.workload_identity)
        made = fallbacks.create(
            session, want.where, pool, deployment=want.deployment, workload_identity=identity, timeout=want.timeout
        )
        done += [finished.as_result() for finished in made.operations]
        warnings += made.warnings
    now = get(session, want.where) or found
    for seen_pool in now.get("nodePools") or []:
        if seen_pool.get("name") in {pool.name for pool in missing}:
            node_pools.require_healthy(session, seen_pool, strict=True)
    after_view = view(now)
    return Outcome(True, None, after_view, cluster=after_view, operations=done, warnings=warnings)


def _needs_change(session: GoogleSession, want: Cluster, found: Json) -> bool:
    return _update(session, want, found, [], check_mode=True).changed


def _predict(
    seen: Json,
    needed: list[Update],
    pool_changes: list[tuple[Pool, list[node_pools.Change]]],
    missing: list[Pool],
    want: Cluster,
) -> Json:
    after = dict(seen)
    for update in needed:
        after.update(update.fields)
    altered = {pool.name: changes for pool, changes in pool_changes}
    pools = []
    for pool in seen["node_pools"]:
        now = dict(pool)
        for change in altered.get(pool["name"], []):
            now.update(change.fields)
        pools.append(now)
    for wanted in missing:
        pools.append(
            node_pools.view({**node_pools.creation_body(wanted, deployment=want.deployment), "status": "RUNNING"})
        )
    after["node_pools"] = pools
    return after


def _run_update(session: GoogleSession, want: Cluster, update: Update) -> operations.Finished:
    path = want.where.path(session.project)
    operation = session.call(update.method, update.verb, path + update.suffix, body={"name": path, **update.body})
    return operations.wait(
        session, operation, what=f"Cluster {want.name}: {update.what}", timeout=want.timeout, location=want.location
    )


# --- waiting, status ----------------------------------------------------------------------------------------------


def settle(session: GoogleSession, want: Cluster, found: Json) -> Json:
    """Wait while the cluster is PROVISIONING or RECONCILING: its operation, else its status."""
    if found.get("status") in SETTLED:
        return found
    operation = _operation_under_way(session, want)
    if operation is not None:
        what = f"{operation.get('operationType', 'Operation')} of cluster {want.name}, already under way"
        names = [pool.name for pool in want.pools] if found.get("status") == "PROVISIONING" else []
        watch = pool_watch.watcher(session, want.where, names)
        operations.wait(session, operation, what=what, timeout=want.timeout, location=want.location, watch=watch)
    return wait_until(
        lambda: get(session, want.where) or {"status": "gone"},
        lambda seen: Verdict(
            seen.get("status") in SETTLED or seen.get("status") == "gone", f"status {seen.get('status')}"
        ),
        what=f"Cluster {want.name} RUNNING",
        timeout=session.remaining(want.timeout),
        interval=operations.LONGEST_POLL,
        clock=operations.GrowingClock(session.clock),
    )


def _operation_under_way(session: GoogleSession, want: Cluster) -> Json | None:
    path = f"projects/{segment(session.project)}/locations/{segment(want.location)}/operations"
    listed = session.call("container.projects.locations.operations.list", "GET", path)
    for operation in listed.get("operations") or []:
        target = str(operation.get("targetLink", ""))
        if (
            not operations.is_done(operation)
            and f"/clusters/{want.name}" in target
            and target.split("/clusters/")[1].split("/")[0] == want.name
        ):
            return dict(operation)
    return None


def _wait_gone(session: GoogleSession, want: Cluster) -> None:
    wait_until(
        lambda: get(session, want.where),
        lambda seen: Verdict(seen is None, f"status {(seen or {}).get('status')}"),
        what=f"Cluster {want.name} gone",
        timeout=session.remaining(want.timeout),
        interval=operations.LONGEST_POLL,
        clock=operations.GrowingClock(session.clock),
    )


def _status_warnings(session: GoogleSession, want: Cluster, found: Json) -> list[str]:
    """Raise for ERROR (cluster or a wanted pool), warn for DEGRADED and for a version that is another one."""
    status = found.get("status")
    if status in ("ERROR", "gone"):
        error = operations.explain_conditions(
            session,
            found,
            what=f"Cluster {want.name} is in status {status}",
            where=str(found.get("selfLink", want.name)),
        )
        if error.code == "OPERATION_FAILED":
            error.code = "CLUSTER_ERROR"
        error.remedy += " Then delete the cluster (gke_cluster with state: absent) and run again."
        raise error
    warnings = []
    if status == "DEGRADED":
        conditions = "; ".join(str(c.get("message", "")) for c in found.get("conditions") or []) or found.get(
            "statusMessage", ""
        )
        warnings.append(f"Cluster {want.name} is DEGRADED: {conditions}")
    version = str(found.get("currentMasterVersion", ""))
    upgraded = ownership.owned(found.get("resourceLabels")) and cluster_settings.is_newer(want.version, version)
    other = want.version not in ("", "-", "latest") and version and not version.startswith(want.version)
    if other and not upgraded:
        warnings.append(
            f"Cluster {want.name} runs {version}, not {want.version}; "
            "only a cluster of ours is upgraded, and none is ever downgraded."
        )
    wanted = {pool.name for pool in want.pools}
    for pool in found.get("nodePools") or []:
        if pool.get("name") in wanted:
            warnings += node_pools.require_healthy(session, pool, strict=False)
    return warnings


# --- absent -------------------------------------------------------------------------------------------------------


def ensure_absent(session: GoogleSession, want: Cluster, *, force: bool, check_mode: bool) -> Outcome:
    """Delete the cluster if we made it for this deployment (or ``force``) and wait until it is gone."""
    found = _get_if_enabled(session, want)
    if found is None:
        return Outcome(False, None, None, exists=False)
    seen = view(found)
    if not force and not ownership.owned(found.get("resourceLabels"), want.deployment):
        reason = (
            f"Cluster {want.name} is kept: its labels do not say that this deployment made it ({ownership.MARKER})."
        )
        return Outcome(False, seen, seen, cluster=seen, adopted=True, kept=reason, warnings=[reason])
    if check_mode:
        return Outcome(True, seen, None)
    done: list[Json] = []
    if found.get("status") != "STOPPING":
        if found.get("status") == "PROVISIONING":
            with contextlib.suppress(OperationError):  # a creation that fails leaves something to delete all the same
                settle(session, want, found)
        try:
            operation = session.call(METHOD + "delete", "DELETE", want.where.path(session.project))
            finished = operations.wait(
                session,
                operation,
                what=f"Deletion of cluster {want.name}",
                timeout=want.timeout,
                location=want.location,
            )
            done.append(finished.as_result())
        except GoogleApiError as error:
            if error.code != "NOT_FOUND":
                raise
    _wait_gone(session, want)
    return Outcome(True, seen, None, exists=False, operations=done)
