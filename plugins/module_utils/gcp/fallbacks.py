# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stockout and short quota are ordinary: a pool's other allowed zones and GPUs, tried one after the other.

What is possible: a cluster fixes the region of its pools, not their zone; the nodes of a zonal cluster's pool may be in
any zone of the region. Another region needs another cluster, and is not tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import (
    ConfigurationError,
    GoogleApiError,
    LlmdError,
    OperationError,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp import node_pools, operations, pool_watch, shortages
from ansible_collections.llmd.gke.plugins.module_utils.gcp.locations import region_of_zone
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Accelerator, Pool, Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json

SHORTAGES = frozenset({"STOCKOUT", "QUOTA_EXCEEDED"})


@dataclasses.dataclass
class Made:
    """A pool that came up: as what, after which operations, and what was tried in vain."""

    pool: Pool
    operations: list[operations.Finished]
    warnings: list[str]


def alternatives(pool: Pool, location: str = "") -> list[Pool]:
    """The pool as wanted, then as each fallback has it. Raises ConfigurationError NODE_POOL_INVALID for a zone of
    another region than the cluster's ``location``.
    """
    return [pool, *(_with(pool, fallback, location) for fallback in pool.fallbacks)]


def _with(pool: Pool, fallback: Mapping[str, Any], location: str) -> Pool:
    zone = str(fallback.get("zone") or "")
    if zone and location and region_of_zone(zone) != region_of_zone(location):
        raise ConfigurationError(
            f"Node pool {pool.name}: fallback zone {zone} is not in the region of the cluster ({location})",
            code="NODE_POOL_INVALID",
            remedy=f"Name zones of {region_of_zone(location)}; another region needs another cluster.",
        )
    accelerator = pool.accelerator
    if fallback.get("type"):
        driver = accelerator.driver_version if accelerator else "default"
        accelerator = Accelerator(str(fallback["type"]), int(fallback.get("count") or 1), driver)
    return dataclasses.replace(
        pool,
        locations=(zone,) if zone else pool.locations,
        machine_type=fallback.get("machine_type") or pool.machine_type,
        accelerator=accelerator,
        spot=pool.spot if fallback.get("spot") is None else bool(fallback["spot"]),
        fallbacks=(),
    )


def chosen(pool: Pool, found: Json) -> Pool:
    """The alternative that an existing pool is an instance of, so that a fallback of an earlier run is no difference.
    The pool as wanted where it is none of them.
    """
    if not pool.fallbacks:
        return pool
    seen = node_pools.view(found)
    have = seen["accelerator"] or {"type": "", "count": 0}
    for candidate in alternatives(pool):
        want = candidate.accelerator
        same_gpu = want is None or (want.type, want.count) == (have["type"], have["count"])
        same_place = not candidate.locations or set(candidate.locations) == set(found.get("locations") or [])
        same_spot = candidate.spot is None or candidate.spot == seen["spot"]
        if same_gpu and same_place and same_spot:
            return candidate
    return pool


def describe(pool: Pool, location: str) -> str:
    gpu = f" with {pool.accelerator.count} x {pool.accelerator.type}" if pool.accelerator else ""
    return f"{pool.machine_type or 'default machines'}{gpu} in {', '.join(pool.locations) or location}"


def create(
    session: GoogleSession,
    where: Where,
    pool: Pool,
    *,
    deployment: str,
    workload_identity: bool,
    timeout: float,
    failed: OperationError | GoogleApiError | None = None,
) -> Made:
    """Create the pool, healthy, as the first of its alternatives that is to be had. What failed is removed again.

    ``failed``: the first alternative failed so already (in the cluster's own creation). Raises the last shortage, with
    all attempts in its reason, where nothing is left to try; any other error at once.
    """
    made = Made(pool, [], [])
    if not pool.fallbacks:
        made.operations.append(_create(session, where, pool, deployment, workload_identity, timeout))
        return made  # the caller looks at its health, with what else it reads
    queue = alternatives(pool, where.location)
    tried: list[str] = []
    while True:
        candidate = queue.pop(0)
        error = failed if failed is not None and not tried else None
        if error is None:
            error = _try(session, where, candidate, made, deployment, workload_identity, timeout)
        if error is None:
            made.warnings = [f"Node pool {pool.name}: {text}" for text in tried]
            made.pool = candidate
            return made
        if error.code not in SHORTAGES:
            raise error
        made.operations += _remove(session, where, pool.name, timeout)
        tried.append(f"{describe(candidate, where.location)}: {error.code}, nothing to be had")
        if not queue:
            error.why = "\n".join([*tried, error.why])
            error.remedy += " All of llmd_gpu.fallbacks were tried; the failed pool was removed."
            raise error
        queue = _reorder(queue, shortages.zones_available(error.evidence))


def _create(
    session: GoogleSession, where: Where, pool: Pool, deployment: str, identity: bool, timeout: float
) -> operations.Finished:
    """One creation, watched, so that a shortage ends it as soon as the pool's own conditions tell of it."""
    return node_pools.create(
        session,
        where,
        pool,
        deployment=deployment,
        workload_identity=identity,
        timeout=timeout,
        watch=pool_watch.watcher(session, where, [pool.name]),
    )


def _try(
    session: GoogleSession, where: Where, pool: Pool, made: Made, deployment: str, identity: bool, timeout: float
) -> OperationError | GoogleApiError | None:
    try:
        made.operations.append(_create(session, where, pool, deployment, identity, timeout))
        found = node_pools.get(session, where, pool.name)
        if found is not None:
            node_pools.require_healthy(session, found, strict=True)
    except (OperationError, GoogleApiError) as error:
        return error
    return None


def _remove(session: GoogleSession, where: Where, name: str, timeout: float) -> list[operations.Finished]:
    """The pool that stands in ERROR; there is none where the create call itself was refused."""
    if node_pools.get(session, where, name) is None:
        return []
    return [node_pools.delete(session, where, name, timeout=timeout)]


def _reorder(queue: Sequence[Pool], available: Sequence[str]) -> list[Pool]:
    """Alternatives in zones that Google says have some come first; the order stays otherwise."""
    return sorted(queue, key=lambda pool: not set(pool.locations) & set(available))


def shortage_of(session: GoogleSession, found: Json) -> OperationError | None:
    """Why an existing pool is in ERROR, if that is a shortage that another zone or GPU may help against."""
    try:
        node_pools.require_healthy(session, found, strict=False)
    except OperationError as error:
        return error if error.code in SHORTAGES else None
    except LlmdError:
        return None
    return None
