# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pod answered? A response header where there is one, else the pods' own counters through the API server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError, KubernetesError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import total
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, label_selector
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import INFERENCE_POOL, POD
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import is_ready
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock

READERS = 8
COUNTER_PATIENCE = 1.0
COUNTER_INTERVAL = 0.05


@dataclass(frozen=True)
class Pool:
    """An InferencePool as it is in the cluster: whom it selects, on which port, what it does without its picker.

    counter, gauge: the model servers' metrics for requests finished and requests in work.
    """

    client: KubeClient
    namespace: str
    name: str
    labels: dict[str, str]
    port: int
    failure_mode: str
    counter: str
    gauge: str

    @classmethod
    def read(cls, client: KubeClient, namespace: str, name: str, counter: str, gauge: str) -> Pool:
        """Raises InferenceError if there is no such pool."""
        found = client.get(INFERENCE_POOL, name, namespace)
        if found is None:
            raise InferenceError(
                f"There is no InferencePool {namespace}/{name}.",
                code="POOL_MISSING",
                remedy="Deploy the pool's release first (role llmd.gke.llmd_helmfile).",
            )
        spec = found.get("spec") or {}
        ports = [int(entry["number"]) for entry in spec.get("targetPorts") or [] if entry.get("number")]
        return cls(
            client,
            namespace,
            name,
            dict((spec.get("selector") or {}).get("matchLabels") or {}),
            ports[0] if ports else 8000,
            str((spec.get("endpointPickerRef") or {}).get("failureMode") or "FailClose"),
            counter,
            gauge,
        )

    def ready_pods(self) -> list[str]:
        """Names of the model-server pods that can be picked."""
        pods = self.client.objects(POD, self.namespace, labels=label_selector(self.labels))
        return sorted(str(pod["metadata"]["name"]) for pod in pods if is_ready(pod))

    def in_work(self, pod: str) -> float:
        """Requests that a pod is working on, as it says itself; 0 if it does not tell."""
        try:
            return total(self.client.pod_get(pod, self.namespace, self.port, "metrics"), self.gauge) or 0.0
        except KubernetesError:
            return 0.0

    def counts(self, pods: Sequence[str]) -> dict[str, float]:
        """Requests that each pod has finished so far (0 before its first); a pod that does not tell is left out."""

        def read(pod: str) -> float | None:
            try:
                text = self.client.pod_get(pod, self.namespace, self.port, "metrics")
            except KubernetesError:
                return None
            return total(text, self.counter) or 0.0

        with ThreadPoolExecutor(max_workers=min(READERS, max(1, len(pods)))) as workers:
            found = zip(pods, workers.map(read, pods), strict=True)
            return {pod: value for pod, value in found if value is not None}


class Witness:
    """Says who answered. ``busy``: a pod whose counter moves by other traffic and therefore says nothing."""

    def __init__(self, pool: Pool, pods: Sequence[str], header: str, clock: Clock | None = None) -> None:
        self.pool = pool
        self.pods = list(pods)
        self.header = header.lower()
        self.busy = ""
        self.seen: Counter[str] = Counter()
        self.by_header = 0
        self.by_counter = 0
        self.unknown = 0
        self._clock: Clock = clock or SystemClock()
        self._start = pool.counts(self.pods)
        self._last = dict(self._start)

    def who(self, answer: Answer) -> str:
        """The pod behind an answer of 200, "" where nothing tells."""
        pod = answer.headers.get(self.header, "") if self.header else ""
        if pod:
            self.by_header += 1
        else:
            pod = self._moved()
            self.by_counter += bool(pod)
            self.unknown += not pod
        if pod:
            self.seen[pod] += 1
        return pod

    def refresh(self) -> None:
        """Forget what moved until now (traffic that is not asked about)."""
        if not self.by_header:
            self._last = self.pool.counts(self.pods)

    def _moved(self) -> str:
        """The one pod whose counter went up by one; the busy one if nobody else's did."""
        until = self._clock.now() + COUNTER_PATIENCE
        quiet = [pod for pod in self.pods if pod != self.busy]
        while True:
            now = self.pool.counts(quiet)
            moved = {pod: value - self._last.get(pod, 0.0) for pod, value in now.items()}
            up = [pod for pod, by in moved.items() if by > 0]
            if up or self._clock.now() >= until:
                self._last.update(now)
                break
            self._clock.sleep(COUNTER_INTERVAL)
        if len(up) == 1 and moved[up[0]] == 1:
            return up[0]
        return self.busy if not up else ""

    def evidence(self) -> dict[str, Any]:
        """What was to be had, and whether the pods' counters bear the header out."""
        now = self.pool.counts(self.pods)
        moved = {pod: now[pod] - self._start[pod] for pod in self.pods if pod in now and pod in self._start}
        borne_out = all(moved[pod] >= self.seen[pod] for pod in moved) if moved else None
        return {
            "source": "header" if self.by_header else "counters",
            "header": self.header if self.by_header else "",
            "by_header": self.by_header,
            "by_counter": self.by_counter,
            "unknown": self.unknown,
            "answers": dict(self.seen),
            "counters_moved": moved,
            "counters_agree": borne_out,
        }
