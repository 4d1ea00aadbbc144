# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An eye on pools while they are made: a stockout shows in their conditions long before GKE's operation gives up.

GKE waits 35 minutes for machines that Compute Engine has said at once it does not have. The pool's conditions tell,
and so do the errors of its managed instance groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, OperationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import operations
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json

LOOK_SECONDS = 10.0  # between two looks at the pools
SIGHTINGS = 2  # looks in a row that must find the same trouble: one alone may pass
# What Compute Engine says of a machine that it cannot make, and that waiting does not change.
HOPELESS_ERRORS = ("ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "QUOTA_EXCEEDED")


def watcher(session: GoogleSession, where: Where, names: Sequence[str]) -> Callable[[], None]:
    """A function for ``operations.wait`` that raises OperationError (STOCKOUT, QUOTA_EXCEEDED, ...) when a pool of
    ``names`` is hopeless. It asks nothing where there are no names, and rarely otherwise."""
    next_look = session.clock.now() + LOOK_SECONDS
    seen: dict[str, int] = {}

    def watch() -> None:
        nonlocal next_look
        if not names or session.clock.now() < next_look:
            return
        next_look = session.clock.now() + LOOK_SECONDS
        for pool in _pools(session, where, names):
            name = str(pool.get("name"))
            trouble = _trouble(session, pool)
            seen[name] = seen.get(name, 0) + 1 if trouble is not None else 0
            if trouble is not None and seen[name] >= SIGHTINGS:
                raise trouble

    return watch


def _pools(session: GoogleSession, where: Where, names: Iterable[str]) -> list[Json]:
    """The named pools that are being made; none where the cluster cannot be read just now."""
    path = where.path(session.project)
    try:
        cluster = session.call("container.projects.locations.clusters.get", "GET", path)
    except GoogleApiError as error:
        if error.code not in ("NOT_FOUND", "CONNECTION_FAILED", "GOOGLE_UNAVAILABLE", "RATE_LIMITED"):
            raise
        return []
    wanted = set(names)
    return [
        pool
        for pool in cluster.get("nodePools") or []
        if pool.get("name") in wanted and pool.get("status") in ("PROVISIONING", "ERROR", "RUNNING_WITH_ERROR")
    ]


def _trouble(session: GoogleSession, pool: Json) -> OperationError | None:
    conditions = [c for c in pool.get("conditions") or [] if c.get("code") in operations.HOPELESS]
    if not conditions:
        conditions = _group_errors(session, pool)
    if not conditions:
        return None
    return operations.explain_conditions(
        session,
        {**pool, "conditions": conditions},
        what=f"Node pool {pool.get('name')} does not get its machines",
        where=str(pool.get("selfLink", pool.get("name"))),
    )


def _group_errors(session: GoogleSession, pool: Json) -> list[Json]:
    """What the pool's instance groups say of the machines that they could not make, as conditions."""
    found = []
    for url in pool.get("instanceGroupUrls") or []:
        path = str(url).split("/projects/", 1)[-1].replace("/instanceGroups/", "/instanceGroupManagers/")
        try:
            answer = session.call("compute.instanceGroupManagers.listErrors", "GET", f"projects/{path}/listErrors")
        except GoogleApiError:
            continue  # a hint that cannot be had (no such right, no such group yet) is no trouble of the pool's
        for item in answer.get("items") or []:
            error = item.get("error") or {}
            if error.get("code") in HOPELESS_ERRORS:
                found.append({"code": str(error["code"]), "message": str(error.get("message", ""))})
    return found
