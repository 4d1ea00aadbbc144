# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for the workloads of releases, saying what goes on; end early with a pod's own reason where waiting is vain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.kube import going
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, label_selector
from ansible_collections.llmd.gke.plugins.module_utils.kube.deadlocks import upgrade_deadlock, waits_for_gpu
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import brief, newest_first
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import EVENT, POD, WORKLOADS, Kind, known_kind
from ansible_collections.llmd.gke.plugins.module_utils.kube.observing import Seen, tolerant
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import (
    crashed_container,
    explain_pod,
    is_ready,
    name_of,
    progress_of,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem, Steady
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import rollout, selector_of
from ansible_collections.llmd.gke.plugins.module_utils.llmd.manifests import identify, parse
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, Verdict, wait_until

LOG_TAIL = 200
# how much longer than other failures these must last: nodes and their GPU drivers take minutes to come
PATIENCE = {"GPU_UNAVAILABLE": 6.0, "POD_UNSCHEDULABLE": 6.0, "POD_CRASHES": 2.0}


@dataclass(frozen=True)
class Ref:
    """One live object of a release."""

    kind: Kind
    name: str
    namespace: str

    def say(self) -> str:
        """As in: Deployment llm-d/gaie-pattern1-epp."""
        return f"{self.kind.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind.kind} {self.name}"


def references(manifest: str, namespace: str, only: Iterable[Kind] = ()) -> list[Ref]:
    """The objects of a manifest whose kinds we follow."""
    wanted = tuple(only)
    found = []
    for document in parse(manifest):
        identity = identify(document)
        kind = known_kind(identity.api_version, identity.kind)
        if kind is not None and (not wanted or kind in wanted):
            found.append(Ref(kind, identity.name, (identity.namespace or namespace) if kind.namespaced else ""))
    return found


@dataclass(frozen=True)
class WorkloadLook:
    """One workload, and, while it is not ready, its pods with what explains them."""

    ref: Ref
    workload: dict[str, Any] | None
    pods: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.workload is not None and rollout(self.workload).done

    def say(self) -> str:
        """As in: ms-decode 0 of 1 ready (no node yet)."""
        if self.workload is None:
            return f"{self.ref.name} does not exist"
        states = sorted({progress_of(pod) for pod in self.pods if not is_ready(pod)})
        return f"{self.ref.name} {rollout(self.workload).say()}" + (f" ({', '.join(states)})" if states else "")


class Waiter:
    """Waits for workloads. ``grace``: seconds for which a failure must last before it ends the wait."""

    def __init__(self, client: KubeClient, grace: float = 45, clock: Clock | None = None) -> None:
        self.client = client
        self.clock: Clock = clock or SystemClock()
        self._grace = grace
        self._steady: dict[str, Steady] = {}
        self._logs: dict[tuple[str, str, int], str] = {}

    def wait(self, refs: list[Ref], timeout: float, interval: float = 2.0) -> list[WorkloadLook]:
        """Wait until all are rolled out. Raises KubernetesError (a pod's own reason) or WaitTimeout."""
        seen = wait_until(
            tolerant(lambda: [self._look(ref) for ref in refs]),
            self._judge,
            what="Workloads ready",
            timeout=timeout,
            interval=interval,
            clock=self.clock,
            explain=lambda last: self._explain(last, timeout),
        )
        return seen.value or []

    def _look(self, ref: Ref) -> WorkloadLook:
        workload = self.client.get(ref.kind, ref.name, ref.namespace)
        if workload is None:
            return WorkloadLook(ref, None)
        workload.setdefault("kind", ref.kind.kind)
        if rollout(workload).done:
            return WorkloadLook(ref, workload)
        pods = self.client.objects(POD, ref.namespace, labels=label_selector(selector_of(workload)))
        problems = [problem for pod in pods if (problem := self._explain_pod(pod)) is not None]
        if not pods:
            problems = self._no_pods(ref)
        return WorkloadLook(ref, workload, pods, self._deadlock(workload, pods) or problems)

    def _deadlock(self, workload: dict[str, Any], pods: list[dict[str, Any]]) -> list[Problem]:
        """An update that waits for its own old pod is told as what it is, not as a missing GPU."""
        if upgrade_deadlock(workload, pods) is None:
            return []
        events = [
            event
            for pod in pods
            if waits_for_gpu(pod)
            for event in self.client.events(str(pod["metadata"]["name"]), str(pod["metadata"].get("namespace")), "Pod")
        ]
        problem = upgrade_deadlock(workload, pods, events)
        return [problem] if problem is not None else []

    def _explain_pod(self, pod: dict[str, Any]) -> Problem | None:
        if is_ready(pod) or (pod.get("metadata") or {}).get("deletionTimestamp"):
            return None
        metadata = pod.get("metadata") or {}
        name, namespace, uid = str(metadata.get("name")), str(metadata.get("namespace")), str(metadata.get("uid"))
        crashed = crashed_container(pod)
        log = ""
        if crashed is not None:
            log = self._last_log(name, namespace, uid, crashed)
        events = self.client.events(name, namespace, "Pod", uid)
        problem = explain_pod(pod, events, log)
        if problem is not None and problem.evidence is None:
            problem = replace(problem, evidence={"pod": name_of(pod), "events": brief(events)})
        return problem

    def _last_log(self, name: str, namespace: str, uid: str, crashed: dict[str, Any]) -> str:
        restarts, container = int(crashed.get("restartCount") or 0), str(crashed.get("name"))
        ended_now = bool((crashed.get("state") or {}).get("terminated"))
        key = (uid, container, restarts * 2 + int(ended_now))
        if key not in self._logs:
            previous = not ended_now and restarts > 0
            self._logs[key] = self.client.logs(name, namespace, container=container, previous=previous, tail=LOG_TAIL)
        return self._logs[key]

    def _no_pods(self, ref: Ref) -> list[Problem]:
        """A workload without pods: quota or admission refused them; its ReplicaSet's events say so."""
        events = newest_first(self.client.objects(EVENT, ref.namespace, fields="reason=FailedCreate"))
        failed = [event for event in events if _about(event).startswith(ref.name)]
        if not failed:
            return []
        return [
            Problem(
                "POD_REFUSED",
                "The cluster refuses to create the pod.",
                str(failed[0].get("message")),
                "Read the API server's words above (quota, admission policy, missing PriorityClass or ServiceAccount).",
                ref.say(),
                fatal=True,
                evidence={"events": brief(failed)},
            )
        ]

    def _judge(self, seen: Seen[list[WorkloadLook]]) -> Verdict:
        if seen.trouble or seen.value is None:
            return Verdict(False, seen.trouble)
        for problem in self._problems(seen.value):
            key = f"{problem.code} {problem.where.split(',', 1)[0]}"
            patience = self._grace * PATIENCE.get(problem.code, 1.0)
            steady = self._steady.setdefault(key, Steady(self.clock, patience))
            if steady.seen(key if problem.fatal else None):
                raise problem.error()
        current = {f"{problem.code} {problem.where.split(',', 1)[0]}" for problem in self._problems(seen.value)}
        for key, steady in self._steady.items():
            if key not in current:
                steady.seen(None)
        late = [look for look in seen.value if not look.done]
        return Verdict(not late, "; ".join(look.say() for look in late) or "all ready")

    @staticmethod
    def _problems(looks: list[WorkloadLook]) -> list[Problem]:
        return [problem for look in looks for problem in look.problems]

    def _explain(self, seen: Seen[list[WorkloadLook]], timeout: float) -> WaitTimeout:
        looks = seen.value or []
        problems = self._problems(looks)
        late = "; ".join(look.say() for look in looks if not look.done)
        if problems:
            problem = next((entry for entry in problems if entry.fatal), problems[0])
            return WaitTimeout(
                f"{problem.what} (waited {timeout:.0f} s)",
                code=problem.code,
                where=problem.where,
                why=problem.why,
                remedy=problem.remedy,
                evidence=problem.evidence,
            )
        return WaitTimeout(
            f"Workloads were not ready within {timeout:.0f} s.",
            code="ROLLOUT_TIMEOUT",
            why=seen.trouble or late,
            remedy="A model server may need many minutes for image and weights: run again, or raise the timeout.",
            evidence=[look.say() for look in looks],
        )


def _about(event: dict[str, Any]) -> str:
    return str((event.get("involvedObject") or {}).get("name") or "")


def wait_gone(
    client: KubeClient, refs: list[Ref], timeout: float, interval: float = 2.0, clock: Clock | None = None
) -> None:
    """Wait until objects are gone (a Gateway goes when its load balancer is taken down). Raises WaitTimeout."""
    going.wait_gone(
        client,
        refs,
        timeout,
        interval,
        clock,
        what="Objects of the releases",
        code="RELEASE_NOT_GONE",
        remedy="Do not delete the cluster yet: its load balancer would be left behind. Look at the object's events,"
        " then run again.",
    )


def workload_refs(manifests: Iterable[tuple[str, str]]) -> list[Ref]:
    """The workloads of (manifest, namespace) pairs."""
    return [ref for manifest, namespace in manifests for ref in references(manifest, namespace, WORKLOADS)]
