# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pause and resume of a cluster's node pools. What was is remembered in the cluster's labels before it is changed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.gcp import cluster_labels, node_pools, pool_updates
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Change, Pool, Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json

REMEMBERED = "llmd-paused-pool-"
_FORM = re.compile(r"(\d+)(?:_(\d+)_(\d+))?")


@dataclass(frozen=True)
class Scale:
    """Nodes of a pool (in each zone) and the autoscaler's limits; None: it is off."""

    size: int
    limits: tuple[int, int] | None = None

    def label(self) -> str:
        return str(self.size) if self.limits is None else f"{self.size}_{self.limits[0]}_{self.limits[1]}"

    @classmethod
    def from_label(cls, text: str) -> Scale | None:
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        limits = None if found.group(2) is None else (int(found.group(2)), int(found.group(3)))
        return cls(int(found.group(1)), limits)

    def as_result(self) -> Json:
        limits = None if self.limits is None else {"min": self.limits[0], "max": self.limits[1]}
        return {"size": self.size, "autoscaling": limits}


@dataclass
class Outcome:
    """What was found or done. ``since``: when the pause began; ``seconds``: how long it has lasted."""

    changed: bool
    paused: bool
    before: dict[str, Scale] = field(default_factory=dict)
    after: dict[str, Scale] = field(default_factory=dict)
    since: str = ""
    seconds: int = 0
    operations: list[Json] = field(default_factory=list)


def remembered(labels: Mapping[str, str] | None) -> dict[str, Scale]:
    """What the cluster's labels say its pools had before the pause."""
    found = {}
    for key, value in (labels or {}).items():
        scale = Scale.from_label(value) if key.startswith(REMEMBERED) else None
        if scale is not None:
            found[key.removeprefix(REMEMBERED)] = scale
    return found


def scale_of(session: GoogleSession, pool: Json) -> Scale:
    """A pool's nodes and limits now."""
    scaling = node_pools.view(pool)["autoscaling"]
    limits = None if scaling is None else (scaling["min"], scaling["max"])
    return Scale(node_pools.current_size(session, pool), limits)


def steps(pool: Json, now: Scale, wanted: Scale) -> list[Change]:
    """Calls that bring a pool from one scale to the other. The autoscaler is off while it would undo the size."""
    name = str(pool["name"])
    sized = [] if now.size == wanted.size else [pool_updates.size_change(wanted.size)]
    scaled = [] if now.limits == wanted.limits else pool_updates.changes(
        Pool(name, autoscaling=wanted.limits, autoscaling_off=wanted.limits is None), pool
    )  # fmt: skip
    return scaled + sized if wanted.limits is None else sized + scaled


def targets(pools: list[Json], scales: Mapping[str, Scale], cpu_nodes: int | None) -> dict[str, Scale]:
    """What pools get in a pause: those with GPUs nothing, the others ``cpu_nodes`` where given."""
    wanted = {}
    for pool in pools:
        name = str(pool["name"])
        if (pool.get("config") or {}).get("accelerators"):
            wanted[name] = Scale(0)
        elif cpu_nodes is not None and scales[name].size > cpu_nodes:
            wanted[name] = Scale(cpu_nodes)
    return wanted


def pause(
    session: GoogleSession, where: Where, deployment: str, *, cpu_nodes: int | None, timeout: float, check_mode: bool
) -> Outcome:
    """Take the GPU nodes away. Raises LlmdError CLUSTER_NOT_FOUND, CLUSTER_NOT_OURS; GoogleApiError, OperationError."""
    cluster = cluster_labels.own_cluster(session, where, deployment)
    labels = dict(cluster.get("resourceLabels") or {})
    pools = list(cluster.get("nodePools") or [])
    now = {str(pool["name"]): scale_of(session, pool) for pool in pools}
    wanted = targets(pools, now, cpu_nodes)
    # Where an earlier pause was killed half way, its memory counts, not what it had changed by then.
    memory = {name: now[name] for name in wanted} | remembered(labels)
    since = labels.get(cluster_labels.PAUSED_SINCE) or cluster_labels.stamp(_now())
    notes: dict[str, str | None] = {REMEMBERED + name: scale.label() for name, scale in memory.items()}
    notes[cluster_labels.PAUSED_SINCE] = since
    plan = [
        (pool, steps(pool, now[str(pool["name"])], wanted[str(pool["name"])]))
        for pool in pools
        if pool["name"] in wanted
    ]
    changed = any(todo for _pool, todo in plan) or any(labels.get(key) != value for key, value in notes.items())
    outcome = Outcome(changed, True, memory, {**now, **wanted}, since, _lasted(since))
    if changed and not check_mode:
        written = cluster_labels.write(session, where, notes, timeout=timeout)
        outcome.operations = [written] if written else []
        _apply(session, where, plan, outcome, timeout)
    return outcome


def resume(session: GoogleSession, where: Where, deployment: str, *, timeout: float, check_mode: bool) -> Outcome:
    """Give the pools back what they had. The memory goes last, so that a killed resume can be repeated."""
    cluster = cluster_labels.own_cluster(session, where, deployment)
    labels = dict(cluster.get("resourceLabels") or {})
    memory, since = remembered(labels), labels.get(cluster_labels.PAUSED_SINCE, "")
    pools = [pool for pool in cluster.get("nodePools") or [] if pool["name"] in memory]
    now = {str(pool["name"]): scale_of(session, pool) for pool in pools}
    plan = [(pool, steps(pool, now[str(pool["name"])], memory[str(pool["name"])])) for pool in pools]
    outcome = Outcome(bool(memory or since), False, now, memory, since, _lasted(since))
    if outcome.changed and not check_mode:
        _apply(session, where, plan, outcome, timeout)
        for pool in pools:
            node_pools.require_healthy(session, node_pools.get(session, where, str(pool["name"])) or pool, strict=True)
        forget: dict[str, str | None] = {REMEMBERED + name: None for name in memory}
        written = cluster_labels.write(session, where, {**forget, cluster_labels.PAUSED_SINCE: None}, timeout=timeout)
        outcome.operations += [written] if written else []
    return outcome


def _apply(
    session: GoogleSession, where: Where, plan: list[tuple[Json, list[Change]]], outcome: Outcome, timeout: float
) -> None:
    for pool, todo in plan:
        for change in todo:
            done = node_pools.apply(session, where, str(pool["name"]), change, timeout=timeout)
            outcome.operations.append(done.as_result())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _lasted(since: str) -> int:
    began = cluster_labels.moment_of(since)
    return 0 if began is None else max(0, int((_now() - began).total_seconds()))
