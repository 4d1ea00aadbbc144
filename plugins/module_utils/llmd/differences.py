# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Day-2 drift: what was asked for, what helm has, what the cluster runs, what Google Cloud has; where they part. Pure.

What the roles would change in check mode is the difference; here it is told apart by who holds the other opinion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.llmd.drift import differing

Json = dict[str, Any]

HELM, CLUSTER, GOOGLE = "helm", "cluster", "google"
# As llmd.drift words them: a live object that is not as helm left it.
LIVE = (" is gone", " was changed by hand (")
MISSING = "not there"


@dataclass(frozen=True)
class Difference:
    """One difference. wanted and found are words for a person.

    layer: helm (its record is not what was asked), cluster (a live object is not what helm or a role made), google.
    """

    layer: str
    what: str
    wanted: str
    found: str
    remedy: str = "playbooks/pattern1.yml puts it back; or change the inventory, where what was found is right"

    def as_result(self) -> Json:
        return asdict(self)


def of_releases(releases: Sequence[Json]) -> list[Difference]:
    """From the result of llmd.gke.helm_releases in check mode."""
    found = []
    for entry in releases:
        if not entry["changed"]:
            continue
        name = f"release {entry['name']}"
        reasons = [str(reason) for reason in entry["reasons"]]
        live = [reason for reason in reasons if any(word in reason for word in LIVE)]
        recorded = [reason for reason in reasons if reason not in live]
        # An object that differs because the values do is no finding of its own.
        causes = [reason for reason in recorded if reason.startswith(("values differ", "chart "))] or recorded
        found += [Difference(HELM, name, "as the inventory says", reason) for reason in causes]
        found += [_live(reason) for reason in live]
        if not reasons:
            found.append(Difference(HELM, name, "as the inventory says", str(entry.get("healed") or entry["action"])))
    return found


def _live(reason: str) -> Difference:
    if reason.endswith(LIVE[0]):
        return Difference(CLUSTER, reason.removesuffix(LIVE[0]), "as helm installed it", MISSING)
    name, _unused, paths = reason.partition(LIVE[1])
    return Difference(CLUSTER, name, "as helm installed it", f"changed: {paths.removesuffix(')')}")


def of_tree(layer: str, what: str, result: Mapping[str, Any]) -> list[Difference]:
    """From a module's result in check mode whose diff holds documents before and after."""
    if not result.get("changed"):
        return []
    diff = result.get("diff")
    entries = diff if isinstance(diff, list) else [diff]
    found = []
    for entry in entries or [None]:
        content = entry if isinstance(entry, dict) else {}
        name = str(content.get("after_header") or what) if len(entries) > 1 else what
        found += _of_sides(layer, name, content.get("before") or None, content.get("after") or None)
    return found


def _of_sides(layer: str, what: str, before: Any, after: Any) -> list[Difference]:
    if not before:
        return [Difference(layer, what, "there", MISSING)]
    paths = sorted(differing(before, after)) if isinstance(before, dict) and isinstance(after, dict) else []
    if not paths:
        return [Difference(layer, what, "as the inventory says", "different")]
    return [Difference(layer, f"{what} {path}", _say(_at(after, path)), _say(_at(before, path))) for path in paths]


def _at(document: Any, path: str) -> Any:
    """The value at a path of ``differing``."""
    value = document
    for word in path.replace("]", "").replace("[", ".").split("."):
        if isinstance(value, dict):
            value = value.get(word)
        elif isinstance(value, list) and word.isdigit() and int(word) < len(value):
            value = value[int(word)]
        else:
            return None
    return value


def _say(value: Any) -> str:
    return "nothing" if value in (None, "", {}, []) else str(value)


def of_sizes(pools: Sequence[Json], sizes: Mapping[str, int]) -> list[Difference]:
    """Node pools of a size outside the autoscaler's limits or, without an autoscaler, other than what was asked for."""
    found = []
    for pool in pools:
        name, size = str(pool["name"]), sizes.get(str(pool["name"]))
        if size is None:
            continue  # a pool that is not there is the cluster's difference
        what = f"node pool {name} size"
        limits = pool.get("autoscaling") or {}
        if limits.get("max"):
            low, high = int(limits.get("min") or 0), int(limits["max"])
            if not low <= size <= high:
                found.append(Difference(GOOGLE, what, f"{low} to {high}", str(size)))
        elif pool.get("node_count") is not None and size != int(pool["node_count"]):
            remedy = f"gcloud container clusters resize --node-pool {name} --num-nodes {pool['node_count']}"
            found.append(Difference(GOOGLE, what, str(pool["node_count"]), str(size), remedy))
    return found


def of_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> list[Difference]:
    """The labels by which the cluster is known as ours."""
    return [
        Difference(
            GOOGLE, f"cluster label {key}", value, _say(labels.get(key)), "set it again, or the cluster is not ours"
        )
        for key, value in wanted.items()
        if labels.get(key) != value
    ]


def table(differences: Sequence[Difference]) -> list[str]:
    """For a person, layer by layer."""
    if not differences:
        return ["no drift: what was asked for, helm, the cluster and Google Cloud agree"]
    lines = []
    for layer, title in ((HELM, "helm's record"), (CLUSTER, "the cluster"), (GOOGLE, "Google Cloud")):
        mine = [entry for entry in differences if entry.layer == layer]
        if mine:
            lines.append(f"{title}:")
            lines += [f"  {entry.what}: wanted {entry.wanted}, found {entry.found}" for entry in mine]
    return lines
