# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove what a layout of several pods is about: groups that serve as one, prefill that is done apart from decode."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError, KubernetesError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Send
from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import total
from ansible_collections.llmd.gke.plugins.module_utils.inference.picker import Picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import Claim
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_prompts import prompt
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, label_selector
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import LEADER_WORKER_SET, POD
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import is_ready
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import rollout
from ansible_collections.llmd.gke.plugins.module_utils.waiting import (
    Clock,
    SystemClock,
    Verdict,
    report_progress,
    wait_until,
)

LAYOUTS = ("multinode", "disaggregated")
APART = {"decision_type": "prefill-decode"}


@dataclass(frozen=True)
class Plan:
    """What to ask and where the servers tell about themselves. ``characters``: length of each (different) prompt."""

    model: str
    requests: int = 24
    characters: int = 1200
    concurrency: int = 4
    max_tokens: int = 4
    request_timeout: float = 60
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


@dataclass(frozen=True)
class Names:
    """Names that belong to the version: metrics of the servers and of the picker, label keys, ports."""

    finished: str
    role_label: str = ""
    group_label: str = ""
    name_label: str = ""
    transfers: str = ""
    failed_transfers: str = ""
    decisions: str = ""
    port: int = 8000
    decode_port: int = 8200


class Layout:
    """Pods of one pool, and the requests that show how they work together."""

    def __init__(self, send: Send, client: KubeClient, namespace: str, plan: Plan, names: Names) -> None:
        self.send, self.client, self.namespace, self.plan, self.names = send, client, namespace, plan, names

    def pods(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Pods with the labels that are ready and not on their way out."""
        found = self.client.objects(POD, self.namespace, labels=label_selector(dict(labels)))
        return [pod for pod in found if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]

    def metric(self, pod: Mapping[str, Any], metric: str, port: int) -> float:
        """A pod's own count; 0 before its first."""
        name = str(pod["metadata"]["name"])
        return total(self.client.pod_get(name, self.namespace, port, "metrics"), metric) or 0.0

    def ask(self) -> list[Answer]:
        """Different prompts, a few at once."""

        def one(number: int) -> Answer:
            text = prompt(self.plan.run, number, self.plan.characters)
            document = {"model": self.plan.model, "prompt": text, "max_tokens": self.plan.max_tokens}
            return self.send("POST", "/v1/completions", document, timeout=self.plan.request_timeout)

        with ThreadPoolExecutor(max_workers=self.plan.concurrency) as workers:
            return list(workers.map(one, range(self.plan.requests)))

    def answered(self, answers: Sequence[Answer]) -> Claim:
        """Every request got its completion."""
        causes = [cause.what for cause in map(explain_answer, answers) if cause is not None]
        detail = f"{len(answers) - len(causes)} of {len(answers)} requests answered"
        if causes:
            detail += f": {'; '.join(list(dict.fromkeys(causes))[:3])}"
        remedy = "Run playbooks/verify.yml: it says what is wrong with the endpoint."
        return Claim("answered", not causes, detail, None, "LAYOUT_REQUESTS_FAILED", remedy)


class Groups(Layout):
    """LeaderWorkerSet: all pods of a group are there, each on a node of its own, and all of them serve."""

    def state(self, name: str) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
        """The LeaderWorkerSet and its ready pods by group. Raises InferenceError where there is none."""
        found = self.client.get(LEADER_WORKER_SET, name, self.namespace)
        if found is None:
            raise InferenceError(
                f"There is no LeaderWorkerSet {self.namespace}/{name}.",
                code="GROUP_MISSING",
                remedy="Deploy pattern4 first (playbooks/pattern4.yml).",
            )
        groups: dict[str, list[dict[str, Any]]] = {}
        for pod in self.pods({self.names.name_label: name}):
            groups.setdefault(str(pod["metadata"]["labels"].get(self.names.group_label)), []).append(pod)
        return found, groups

    def whole(self, name: str) -> Claim:
        """Every group has all its pods, on different nodes."""
        found, groups = self.state(name)
        size = int(((found.get("spec") or {}).get("leaderWorkerTemplate") or {}).get("size") or 1)
        wanted = int((found.get("spec") or {}).get("replicas", 1))
        short = {group: len(pods) for group, pods in groups.items() if len(pods) != size}
        crowded = [
            group for group, pods in groups.items() if len({pod["spec"].get("nodeName") for pod in pods}) < len(pods)
        ]
        ok = len(groups) == wanted and not short and not crowded and rollout({**found, "kind": "LeaderWorkerSet"}).done
        detail = f"{len(groups)} of {wanted} groups, {size} pods each on a node of its own"
        if short:
            detail += "; short: " + ", ".join(f"group {group} has {count}" for group, count in sorted(short.items()))
        if crowded:
            detail += f"; on one node: group {', '.join(sorted(crowded))}"
        remedy = "kubectl describe leaderworkerset, then the pods that are missing: a group starts when all of it can."
        return Claim("groups_whole", ok, detail, None, "GROUP_NOT_WHOLE", remedy, {"size": size, "groups": wanted})

    def run(self, name: str) -> list[Claim]:
        """All claims that nothing is interrupted for."""
        whole = self.whole(name)
        pods = [pod for group in self.state(name)[1].values() for pod in group]
        before = [self.metric(pod, self.names.finished, self.names.port) for pod in pods]
        answers = self.ask()
        moved = {
            str(pod["metadata"]["name"]): self.metric(pod, self.names.finished, self.names.port) - was
            for pod, was in zip(pods, before, strict=True)
        }
        idle = sorted(pod for pod, by in moved.items() if by <= 0)
        detail = f"{len(moved) - len(idle)} of {len(moved)} pods have answered requests"
        remedy = "Compare the pool's selector with the pods' labels, and the servers' data-parallel arguments."
        served = Claim("every_pod_serves", not idle, detail, None, "GROUP_POD_IDLE", remedy, moved)
        return [whole, self.answered(answers), served]

    def restart(self, name: str, timeout: float, clock: Clock | None = None) -> Claim:
        """One pod of a group is deleted: all of the group are replaced, and it serves again."""
        _found, groups = self.state(name)
        group = sorted(groups)[0]
        old = {str(pod["metadata"]["uid"]) for pod in groups[group]}
        victim = str(groups[group][-1]["metadata"]["name"])
        self.client.delete(POD, victim, self.namespace)
        watch: Clock = clock or SystemClock()
        begun = watch.now()

        def look() -> tuple[set[str], bool]:
            now = self.state(name)[1].get(group, [])
            return {str(pod["metadata"]["uid"]) for pod in now}, self.whole(name).ok

        try:
            wait_until(
                look,
                lambda seen: Verdict(
                    not (seen[0] & old) and seen[1], f"{len(seen[0] - old)} of {len(old)} new pods ready"
                ),
                what=f"Group {group} of {name} is back as a whole",
                timeout=timeout,
                interval=1,
                clock=watch,
            )
        except LlmdError as error:
            remedy = "Look at the LeaderWorkerSet's restartPolicy and at the new pods' events."
            return Claim("restarts_as_one", False, error.what, None, "GROUP_NOT_BACK", remedy)
        seconds = watch.now() - begun
        detail = f"{victim} deleted: all {len(old)} pods of group {group} were replaced and ready after {seconds:.0f} s"
        return Claim("restarts_as_one", True, detail, numbers={"seconds": round(seconds, 1)})


class Apart(Layout):
    """Prefill and decode: prompts are read by the one, answers written by the other, and the KV cache travels."""

    def run(
        self, labels: Mapping[str, str], picker: Picker, progress: Callable[[str], Any] = report_progress
    ) -> list[Claim]:
        """All claims."""
        prefill = self.pods({**labels, self.names.role_label: "prefill"})
        decode = self.pods({**labels, self.names.role_label: "decode"})
        before = self._counts(prefill, decode, picker)
        progress(f"{self.plan.requests} prompts for {len(prefill)} prefill and {len(decode)} decode servers")
        answers = self.ask()
        after = self._counts(prefill, decode, picker)
        moved = {key: after[key] - before[key] for key in after}
        there = bool(prefill and decode)
        servers = Claim(
            "servers_apart",
            there,
            f"{len(prefill)} prefill and {len(decode)} decode servers are ready",
            None,
            "PREFILL_MISSING",
            "kubectl get pods: see why those of the missing role are not ready.",
        )
        asked = self.plan.requests
        decided = Claim(
            "decided_apart",
            moved["decisions"] >= asked,
            f"the picker chose a pair for {moved['decisions']:g} of {asked} prompts",
            None,
            "PREFILL_NOT_CHOSEN",
            "Lower llmd_disaggregation.threshold, and compare the picker's plugins with the profile.",
        )
        read = Claim(
            "prefill_reads",
            moved["prefilled"] >= asked,
            f"prefill servers have read {moved['prefilled']:g} of {asked} prompts",
            None,
            "PREFILL_IDLE",
            "Look at the sidecar's log in the decode pods: it asks the prefill server.",
        )
        carried = Claim(
            "cache_travels",
            moved["transfers"] >= asked and moved["failed"] <= 0,
            f"{moved['transfers']:g} KV caches were handed over, {moved['failed']:g} failed",
            None,
            "KV_TRANSFER_FAILED",
            "Servers must find each other's side channel (the pod's address) and share a transport; see decode's log.",
            moved,
        )
        return [servers, self.answered(answers), decided, read, carried]

    def _counts(self, prefill: Sequence[Any], decode: Sequence[Any], picker: Picker) -> dict[str, float]:
        names = self.names
        try:
            return {
                "decisions": sum(total(text, names.decisions, APART) or 0.0 for text in picker.metrics()),
                "prefilled": sum(self.metric(pod, names.finished, names.port) for pod in prefill),
                "transfers": sum(self.metric(pod, names.transfers, names.decode_port) for pod in decode),
                "failed": sum(self.metric(pod, names.failed_transfers, names.decode_port) for pod in decode),
            }
        except KubernetesError as error:
            raise InferenceError(
                "A server's metrics cannot be read through the API server.",
                code="LAYOUT_UNREADABLE",
                where=error.where,
                why=error.why or error.what,
                remedy="The identity needs get on pods/proxy in the namespace.",
            ) from error
