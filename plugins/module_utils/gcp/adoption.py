# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody else made keeps its settings: the wish for a cluster without what would change theirs unasked. Pure.

Nothing runs without the Gateway API and its add-on, and missing pools are missing, so those are not spared. Whoever
names authorized networks or a maintenance window has asked for them; a release channel and pools have defaults.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.gcp import fallbacks, node_pools, ownership, pool_updates
from ansible_collections.llmd.gke.plugins.module_utils.gcp.clusters import Cluster
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Pool
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import Json


def spared(want: Cluster, found: Json) -> tuple[Cluster, list[str]]:
    """The wish for the cluster that is there, and a warning where that is less than was asked.

    Raises ConfigurationError NODE_POOL_IMMUTABLE: a pool that can never be what is wanted is of no use.
    """
    if want.change_adopted:
        return want, []
    kept: list[str] = []
    channel = str((found.get("releaseChannel") or {}).get("channel") or "none")
    asked = want.release_channel.upper()
    theirs = not ownership.owned(found.get("resourceLabels"), want.deployment)
    if theirs and asked and asked != channel:
        want = dataclasses.replace(want, release_channel="")
        kept.append(f"the release channel is {channel}, not {asked}")
    standing = {str(pool.get("name")): pool for pool in found.get("nodePools") or []}
    pools = [_spared_pool(pool, standing.get(pool.name), want, kept) for pool in want.pools]
    if not kept:
        return dataclasses.replace(want, pools=tuple(pools)), []
    warning = (
        f"Left alone in cluster {want.name}, because deployment {want.deployment or '(none)'} did not make it: "
        f"{'; '.join(kept)}. What now: write into the inventory what is there, or have it changed with "
        "llmd_cluster.change_adopted: true."
    )
    return dataclasses.replace(want, pools=tuple(pools)), [warning]


def _spared_pool(pool: Pool, found: Json | None, want: Cluster, kept: list[str]) -> Pool:
    labels = ((found or {}).get("config") or {}).get("resourceLabels")
    if found is None or ownership.owned(labels, want.deployment):
        return pool
    seen = node_pools.view(found)
    chosen = fallbacks.chosen(pool, found)
    for change in pool_updates.changes(chosen, found):
        kept += [
            f"{name} of node pool {pool.name} is {_say(seen[name])}, not {_say(value)}"
            for name, value in change.fields.items()
            if seen[name] != value
        ]
    return Pool(pool.name)


def _say(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_say(part)}" for name, part in value.items())
    return "none" if value in (None, "", []) else str(value)
