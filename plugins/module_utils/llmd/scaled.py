# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases whose number of replicas an autoscaler sets: helm leaves it. Pure, except where the API is asked.

The chart always writes a number. Left alone, every upgrade for whatever reason would set the old one, and take servers
away under load; and every run would take the autoscaler's doing for drift.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import DEPLOYMENT
from ansible_collections.llmd.gke.plugins.module_utils.kube.live import Target
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import ReleaseState
from ansible_collections.llmd.gke.plugins.module_utils.llmd.manifests import prune
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Release, chart_matches

FIELD = "Deployment spec.replicas"
Json = dict[str, Any]


def number_in(values: Mapping[str, Any], path: str) -> int | None:
    """The number at a path of values, None where there is none."""
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return None if found is None else int(found)


def with_number(release: Release, number: int) -> Release:
    """The release with another number of replicas in its values."""
    if release.autoscaled is None:
        raise ValueError(f"nothing but us says how many pods {release.name} has")
    values: Json = json.loads(json.dumps(release.values))
    *parents, last = release.autoscaled.value.split(".")
    inner = values
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = number
    return replace(release, values=values, leave=(*release.leave, FIELD))


def settled(release: Release, state: ReleaseState | None, live: int | None) -> Release:
    """The release as it is wanted now. state: with its values. live: replicas of the Deployment, None: there is none.

    Where nothing else differs the number stays what helm has recorded, so that nothing is to be done; else it becomes
    what the autoscaler has made of it meanwhile.
    """
    if release.autoscaled is None:
        return release
    path = release.autoscaled.value
    recorded = None if state is None else number_in(state.values, path)
    if state is not None and recorded is not None and chart_matches(release, state.chart):
        unchanged = with_number(release, recorded)
        if prune(unchanged.values) == prune(state.values) and release.autoscaled.inside(recorded) == recorded:
            return unchanged
    start = number_in(release.values, path) if live is None else live
    return with_number(release, release.autoscaled.inside(start or 0))


def live_number(client: KubeClient | None, release: Release) -> int | None:
    """What the Deployment is scaled to; None where it is not there (or there is no cluster). Raises KubernetesError."""
    if client is None or release.autoscaled is None:
        return None
    found = client.get(DEPLOYMENT, release.autoscaled.deployment, release.namespace)
    return None if found is None else int((found.get("spec") or {}).get("replicas", 1))


def keep_number(client: KubeClient, target: Target) -> Target:
    """A Deployment that is to be put back, with the replicas that it has now. Raises KubernetesError."""
    live = client.get(target.kind, target.name, target.namespace) if target.kind == DEPLOYMENT else None
    if live is None:
        return target
    spec = {**target.document["spec"], "replicas": (live.get("spec") or {}).get("replicas", 1)}
    return replace(target, document={**target.document, "spec": spec})
