# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until pods that have to go have ended: a model server that was scaled in still answers what it has begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, label_selector
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import POD
from ansible_collections.llmd.gke.plugins.module_utils.kube.observing import Seen, tolerant
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import name_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import selector_of
from ansible_collections.llmd.gke.plugins.module_utils.llmd.rollouts import Ref
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, Verdict, wait_until

# Beyond a pod's own grace period, after which the kubelet kills it: a node that is gone answers to nobody.
PATIENCE = 30.0
DEFAULT_GRACE = 30
ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class Leaving:
    """A pod that has to go, and the seconds that it may take."""

    name: str
    grace: float


def leaving(workload: dict[str, Any], pods: Sequence[dict[str, Any]]) -> list[Leaving]:
    """Pods on their way out, and those that the workload has too many and that nobody has told yet. Pure."""
    there = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ENDED]
    told = [pod for pod in there if pod["metadata"].get("deletionTimestamp")]
    kept = [pod for pod in there if pod not in told]
    surplus: list[dict[str, Any]] = []
    if workload.get("kind") in ("Deployment", "StatefulSet"):
        surplus = kept[int((workload.get("spec") or {}).get("replicas", 1)) :]
    return [Leaving(name_of(pod), _grace(pod)) for pod in told + surplus]


def _grace(pod: dict[str, Any]) -> float:
    given = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    return float(DEFAULT_GRACE if given is None else given)


def wait_ended(
    client: KubeClient, refs: Sequence[Ref], timeout: float, interval: float = 1.0, clock: Clock | None = None
) -> list[str]:
    """Wait until no pod of the workloads is on its way out; the names of those that outlived what they were given.

    Those are stuck, not busy: waiting on is vain. Raises WaitTimeout.
    """
    time = clock or SystemClock()
    started = time.now()
    stuck: list[str] = []

    def observe() -> list[Leaving]:
        found = []
        for ref in refs:
            workload = client.get(ref.kind, ref.name, ref.namespace)
            if workload is not None:
                workload.setdefault("kind", ref.kind.kind)
                pods = client.objects(POD, ref.namespace, labels=label_selector(selector_of(workload)))
                found += leaving(workload, pods)
        return found

    def judge(seen: Seen[list[Leaving]]) -> Verdict:
        if seen.trouble or seen.value is None:
            return Verdict(False, seen.trouble)
        waited = time.now() - started
        stuck[:] = [one.name for one in seen.value if waited > one.grace + PATIENCE]
        going = [one.name for one in seen.value if one.name not in stuck]
        return Verdict(not going, f"{', '.join(going)} ending")

    wait_until(
        tolerant(observe), judge, what="Requests under way answered", timeout=timeout, interval=interval, clock=time
    )
    return stuck
