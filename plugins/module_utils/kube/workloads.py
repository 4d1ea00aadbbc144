# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a workload (Deployment, StatefulSet, DaemonSet, LeaderWorkerSet) rolled out? Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object


@dataclass(frozen=True)
class Rollout:
    """How far a workload is: wanted replicas, those of the newest revision, those available."""

    wanted: int
    updated: int
    available: int
    observed: bool
    deadline_exceeded: bool = False

    @property
    def done(self) -> bool:
        """All wanted replicas are of the newest revision and available."""
        return self.observed and self.updated >= self.wanted and self.available >= self.wanted

    def say(self) -> str:
        """As in: 1 of 2 ready."""
        return f"{min(self.updated, self.available)} of {self.wanted} ready"


def _number(value: Any, default: int = 0) -> int:
    return default if value is None else int(value)


def rollout(workload: dict[str, Any]) -> Rollout:
    """Read a workload's status; a status of an older generation counts as not observed."""
    metadata, spec, status = (workload.get(part) or {} for part in ("metadata", "spec", "status"))
    observed = _number(status.get("observedGeneration")) >= _number(metadata.get("generation"))
    kind = workload.get("kind")
    if kind == "DaemonSet":
        wanted = _number(status.get("desiredNumberScheduled"))
        return Rollout(
            wanted, _number(status.get("updatedNumberScheduled")), _number(status.get("numberAvailable")), observed
        )
    wanted = _number(spec.get("replicas"), 1)
    if kind == "LeaderWorkerSet":
        # LeaderWorkerSet writes no observedGeneration; its Available condition is the verdict
        ready = _number(status.get("readyReplicas"))
        return Rollout(wanted, _number(status.get("updatedReplicas")), ready, of_object(workload, "Available").true)
    updated = _number(status.get("updatedReplicas"))
    if kind == "StatefulSet":
        current, newest = status.get("currentRevision"), status.get("updateRevision")
        updated = _number(status.get("replicas")) if current == newest else updated
        return Rollout(wanted, updated, _number(status.get("readyReplicas")), observed)
    progressing = of_object(workload, "Progressing")
    # replicas of an older revision that still serve count as available, so the newest must be counted apart:
    # all are updated and none is left over
    surplus = _number(status.get("replicas")) - updated
    available = _number(status.get("availableReplicas")) if surplus <= 0 else min(updated, wanted - 1)
    late = progressing.false and progressing.reason == "ProgressDeadlineExceeded"
    return Rollout(wanted, updated, max(available, 0), observed, late)


def pod_labels_of(workload: dict[str, Any]) -> dict[str, str]:
    """The labels that a workload gives to its pods (a group's: to its workers)."""
    spec = workload.get("spec") or {}
    template = (spec.get("leaderWorkerTemplate") or {}).get("workerTemplate") or spec.get("template") or {}
    labels: dict[str, str] = (template.get("metadata") or {}).get("labels") or {}
    return labels


def pods_wanted(workload: dict[str, Any]) -> int:
    """Pods that a workload is to have: of a LeaderWorkerSet all those of its groups."""
    size = ((workload.get("spec") or {}).get("leaderWorkerTemplate") or {}).get("size")
    return rollout(workload).wanted * _number(size, 1)


def selector_of(workload: dict[str, Any]) -> dict[str, str]:
    """The labels by which a workload's pods are found."""
    if workload.get("kind") == "LeaderWorkerSet":
        return {"leaderworkerset.sigs.k8s.io/name": str((workload.get("metadata") or {}).get("name"))}
    selector = (workload.get("spec") or {}).get("selector") or {}
    labels: dict[str, str] = selector.get("matchLabels") or {}
    return labels
