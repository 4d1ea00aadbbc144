"""Groups of a LeaderWorkerSet as they are: which are ready and of which revision, which must be made anew. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.gke.conditions import condition, merge
from sandbox.gke.kubeapi import Object
from sandbox.lws.objects import GROUP_INDEX, NAME, REVISION, WORKER_INDEX, replicas, size


@dataclass(frozen=True)
class Group:
    """One group. ``leader`` None: there is no leader pod now."""

    index: int
    leader: Object | None
    workers: Object | None
    pods: tuple[Object, ...]
    size: int

    @property
    def ready(self) -> bool:
        """All its pods are there and ready."""
        if self.leader is None or self.leader["metadata"].get("deletionTimestamp") or not pod_ready(self.leader):
            return False
        if self.size == 1:
            return True
        status = (self.workers or {}).get("status") or {}
        return self.workers is not None and int(status.get("readyReplicas") or 0) >= self.size - 1

    def of(self, version: str) -> bool:
        """All its parts are of a revision."""
        parts = [self.leader, *([self.workers] if self.size > 1 else [])]
        return all(
            part is not None and (part["metadata"].get("labels") or {}).get(REVISION) == version for part in parts
        )

    @property
    def broken(self) -> bool:
        """A pod is going away or had a container restarted: by policy the whole group must go."""
        return any(pod["metadata"].get("deletionTimestamp") or _restarted(pod) for pod in self.pods)


def pod_ready(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or [])
    return bool(status.get("phase") == "Running" and ready)


def _restarted(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    containers = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    return status.get("phase") in ("Running", "Pending") and any(
        int(each.get("restartCount") or 0) for each in containers
    )


def groups_of(item: Object, pods: Iterable[Object], sets: Mapping[str, Object]) -> list[Group]:
    """All groups that a LeaderWorkerSet should have. ``sets``: StatefulSets of its namespace by name."""
    name = item["metadata"]["name"]
    mine: dict[int, list[Object]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if labels.get(NAME) == name and GROUP_INDEX in labels:
            mine.setdefault(int(labels[GROUP_INDEX]), []).append(pod)
    found = []
    for index in range(replicas(item)):
        here = mine.get(index, [])
        leader = next((pod for pod in here if pod["metadata"]["labels"].get(WORKER_INDEX) == "0"), None)
        found.append(Group(index, leader, sets.get(f"{name}-{index}"), tuple(here), size(item)))
    return found


def partition(item: Object, groups: list[Group], version: str) -> int:
    """From which group on the newest revision may run: as many at a time as may be unavailable, the last first."""
    rolling = (item["spec"].get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
    least = int(rolling.get("partition") or 0)
    leaders = [group.leader for group in groups if group.leader is not None]
    if all((leader["metadata"].get("labels") or {}).get(REVISION) == version for leader in leaders):
        return least  # nothing runs an older one
    budget = max(1, _amount(rolling.get("maxUnavailable", 1), len(groups)))
    place = len(groups)
    for group in reversed(groups):
        done = group.ready and group.of(version)
        if not done and budget <= 0:
            break
        budget -= 0 if done else 1
        place = group.index
    return max(least, place)


def _amount(value: Any, whole: int) -> int:
    text = str(value)
    return math.ceil(int(text[:-1]) * whole / 100) if text.endswith("%") else int(text)


def status(item: Object, groups: list[Group], version: str) -> Object:
    """The LeaderWorkerSet's status."""
    seen = int(item["metadata"].get("generation", 1))
    ready = sum(group.ready for group in groups)
    updated = sum(group.of(version) for group in groups)
    done = ready == updated == len(groups)
    updating = any(group.leader is not None and not group.of(version) for group in groups if group.workers is not None)
    wanted = [
        condition("Progressing", not done, "GroupsProgressing", "Replicas are progressing", seen),
        condition("Available", done, "AllGroupsReady", "All replicas are ready", seen),
    ]
    old = (item.get("status") or {}).get("conditions") or []
    if updating or any(entry.get("type") == "UpdateInProgress" for entry in old):
        text = "Rolling Upgrade is in progress"
        wanted.append(condition("UpdateInProgress", updating and not done, "GroupsUpdating", text, seen))
    name = item["metadata"]["name"]
    return {
        "conditions": merge(old, wanted),
        "hpaPodSelector": f"{NAME}={name},{WORKER_INDEX}=0",
        "observedGeneration": seen,
        "readyReplicas": ready,
        "replicas": sum(group.leader is not None for group in groups),
        "updatedReplicas": updated,
    }
