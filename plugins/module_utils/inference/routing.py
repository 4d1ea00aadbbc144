# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that the endpoint picker routes: by prefix, evenly, and round a loaded pod. Each claim with its p-value.

One set of answers serves several claims: the first request of each prefix shows the spread (and the pods' shares while
idle), its followers show the affinity, the same kind of request during load shows the avoidance.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer, went_through_picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Send
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_load import Limits, Load
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_prompts import prompt
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_statistics import (
    affinity_p,
    avoidance_p,
    concentration_p,
    followers,
)
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool, Witness
from ansible_collections.llmd.gke.plugins.module_utils.waiting import (
    Clock,
    SystemClock,
    Verdict,
    report_progress,
    wait_until,
)

CLAIMS = ("picker", "spread", "affinity", "avoidance")
# A picker that gives this share of different prefixes to one pod does not spread them.
CONCENTRATED = 0.9
LOST_SHARE = 0.1


@dataclass(frozen=True)
class Plan:
    """What to ask. ``alpha``: significance level of each claim; ``characters``: length of a prefix."""

    model: str
    claims: tuple[str, ...] = CLAIMS
    alpha: float = 0.01
    characters: int = 1024
    groups: int = 10
    repeats: int = 3
    request_timeout: float = 60
    header: str = ""
    load: Limits = field(default_factory=Limits)
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def prefixes(self, pods: int) -> int:
        """Different prefixes to send while idle: enough for the tests' power at this number of pods."""
        return max(40, 16 * pods)

    def probes(self, pods: int) -> int:
        """Different prefixes to send while one pod is loaded."""
        return max(24, 12 * pods)


@dataclass
class Claim:
    """One claim. ``p_value`` None: not a matter of statistics; ``numbers``: what it was computed from."""

    name: str
    ok: bool
    detail: str
    p_value: float | None = None
    code: str = ""
    remedy: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        shown = None if self.p_value is None else float(f"{self.p_value:.3g}")
        return {
            "name": self.name,
            "ok": self.ok,
            "detail": self.detail,
            "p_value": shown,
            "code": self.code,
            "remedy": self.remedy,
            "numbers": self.numbers,
        }


def pods_or_error(pool: Pool) -> list[str]:
    """The pool's ready pods; with fewer than two there is nothing to choose from."""
    pods = pool.ready_pods()
    if len(pods) < 2:
        raise InferenceError(
            f"{len(pods)} ready model-server pods: the picker has no choice, so nothing can be shown.",
            code="ROUTING_TOO_FEW_PODS",
            where=f"InferencePool {pool.namespace}/{pool.name}",
            remedy="Set llmd_replicas to 2 or more (and llmd_gpu.nodes with it), run the playbook, then prove again.",
        )
    return pods


class Proof:
    """One run of the claims against one endpoint."""

    def __init__(
        self,
        send: Send,
        plan: Plan,
        pool: Pool,
        pods: list[str],
        witness: Witness,
        clock: Clock | None = None,
        progress: Callable[[str], Any] = report_progress,
        picker_count: Callable[[], float | None] | None = None,
    ) -> None:
        """picker_count: requests that the picker itself has counted so far, None where it does not tell."""
        self.send, self.plan, self.pool, self.pods, self.witness = send, plan, pool, pods, witness
        self.picker_count = picker_count or (lambda: None)
        self.counted: float | None = None
        self.clock: Clock = clock or SystemClock()
        self.progress = progress
        self.asked = 0
        self.lost: Counter[str] = Counter()
        self.past_picker = 0

    def run(self) -> list[Claim]:
        """All claims asked for, in order; one that fails does not stop the others."""
        before = self.picker_count()
        firsts = self._firsts()
        after = self.picker_count()
        self.counted = None if before is None or after is None else after - before
        claims = []
        for name in CLAIMS:
            if name in self.plan.claims:
                claim = getattr(self, f"_{name}")(firsts)
                self.progress(f"routing {name}: {'shown' if claim.ok else 'not shown'}: {claim.detail[:150]}")
                claims.append(claim)
        return [*claims, *self._lost()]

    def ask(self, number: int, question: int = 0) -> str:
        """Send one request; the pod that answered, "" if none did or nothing tells."""
        text = prompt(self.plan.run, number, self.plan.characters, question)
        document = {"model": self.plan.model, "prompt": text, "max_tokens": 1}
        answer = self.send("POST", "/v1/completions", document, timeout=self.plan.request_timeout)
        self.asked += 1
        return self._witnessed(answer)

    def _witnessed(self, answer: Answer) -> str:
        cause = explain_answer(answer)
        if cause is not None:
            self.lost[cause.code] += 1
            return ""
        self.past_picker += not went_through_picker(answer, self.plan.header)
        return self.witness.who(answer)

    def _firsts(self) -> list[str]:
        count = self.plan.prefixes(len(self.pods))
        self.progress(f"routing: {count} different prefixes to {len(self.pods)} pods")
        return [self.ask(number) for number in range(count)]

    def _picker(self, firsts: list[str]) -> Claim:
        answered = sum(map(bool, firsts))
        numbers = {"answered": answered, "with_header": answered - self.past_picker, "counted_by_picker": self.counted}
        if answered and not self.past_picker:
            return Claim("picker", True, f"all {answered} answers carry {self.plan.header}", numbers=numbers)
        if answered and self.past_picker >= answered and self.counted is not None and self.counted >= answered:
            said = f"no answer carries {self.plan.header}: the load balancer does not pass it on;"
            said += f" the picker itself counted {self.counted:g} requests for {answered} answers"
            return Claim("picker", True, said, numbers=numbers)
        return Claim(
            "picker",
            False,
            f"{self.past_picker} of {answered} answers lack {self.plan.header}"
            + ("" if self.counted is None else f"; the picker counted {self.counted:g}"),
            code="PICKER_BYPASSED",
            remedy="Check that the HTTPRoute's backend is the InferencePool, and its picker.",
            numbers=numbers,
        )

    def _spread(self, firsts: list[str]) -> Claim:
        seen = [pod for pod in firsts if pod]
        counts = dict(Counter(seen))
        value = concentration_p(seen, CONCENTRATED)
        return self._judged(
            "spread",
            value,
            f"{len(seen)} different prefixes went to {len(counts)} of {len(self.pods)} pods ({_shares(counts)})",
            "ROUTING_NOT_SPREAD",
            "One pod gets (nearly) all: look whether the others are known to the picker (its count of ready pods) and"
            " whether other traffic loads them.",
            {"counts": counts, "null": f"one pod gets {CONCENTRATED:.0%} or more"},
        )

    def _affinity(self, firsts: list[str]) -> Claim:
        groups: dict[str, list[str]] = {}
        chosen = [number for number, pod in enumerate(firsts) if pod][: self.plan.groups]
        answers = {number: [firsts[number]] for number in chosen}
        for question in range(1, self.plan.repeats + 1):  # round by round: drift over time hits all prefixes alike
            for number in chosen:
                answers[number].append(self.ask(number, question))
        groups = {str(number): [pod for pod in pods if pod] for number, pods in answers.items()}
        stayed, possible = followers(groups)
        return self._judged(
            "affinity",
            affinity_p(groups),
            f"{stayed} of {possible} requests with a prefix seen before went to the pod that had answered it",
            "ROUTING_IGNORES_PREFIX",
            "The scorer of prefixes is absent or outweighed: compare the pool release's pluginsConfigFile with the"
            " profile (llmd.gke.inference_probe, check scorers).",
            {"stayed": stayed, "possible": possible, "prefixes": len(groups), "null": "the prefix does not matter"},
        )

    def _avoidance(self, firsts: list[str]) -> Claim:
        # chosen by the first answer, which is then left out of the idle count: no picking of a lucky pod
        seen = [pod for pod in firsts if pod]
        victim = seen[0] if seen else self.pods[0]
        idle = seen[1:]
        during, load = self._under_load(victim)
        hits, share = during.count(victim), idle.count(victim)
        numbers = {
            "pod": victim,
            "idle": [share, len(idle)],
            "loaded": [hits, len(during)],
            "load_requests": load.sent,
            "load_failed": load.failed,
            "null": "load does not matter",
        }
        if not during:
            return Claim(
                "avoidance",
                False,
                f"pod {victim} could not be loaded: {load.error or 'it never reported a request in work'}",
                code="ROUTING_LOAD_FAILED",
                remedy="The identity needs create on pods/proxy in the namespace (container.admin has it).",
                numbers=numbers,
            )
        return self._judged(
            "avoidance",
            avoidance_p(share, len(idle), hits, len(during)),
            f"{victim} got {share} of {len(idle)} while idle, {hits} of {len(during)} while loaded",
            "ROUTING_IGNORES_LOAD",
            "The scorers of queues and KV caches are absent or outweighed, or the picker cannot read the pods'"
            " metrics: compare the pool release's pluginsConfigFile and flags with the profile.",
            numbers,
        )

    def _under_load(self, victim: str) -> tuple[list[str], Load]:
        """Different prefixes while one pod works; only those asked while the load was on count."""
        count = self.plan.probes(len(self.pods))
        self.progress(f"routing: loading {victim}, {self.plan.load.concurrency} requests at once")
        during: list[str] = []
        load = Load(self.pool, victim, self.plan.model, self.plan.run, self.plan.load, self.clock)
        with load:
            if self._visible(load):
                self.witness.busy = victim
                self.witness.refresh()
                for number in range(count):
                    pod = self.ask(100_000 + number)
                    if not load.alive:
                        break
                    if pod:
                        during.append(pod)
        self.witness.busy = ""
        self.witness.refresh()
        return during, load

    def _visible(self, load: Load) -> bool:
        """Wait until the pod itself reports the load."""
        seen = wait_until(
            lambda: (load.visible(), load.alive),
            lambda look: Verdict(look[0] or not look[1], "not seen yet"),
            what="load on the pod",
            timeout=min(20.0, self.plan.load.seconds / 2),
            interval=0.1,
            clock=self.clock,
            progress=self.progress,
        )
        return seen[0]

    def _judged(self, name: str, value: float, detail: str, code: str, remedy: str, numbers: dict[str, Any]) -> Claim:
        ok = value <= self.plan.alpha
        said = f"{detail}; p = {value:.2g}, {'below' if ok else 'not below'} {self.plan.alpha:g}"
        return Claim(name, ok, said, value, "" if ok else code, "" if ok else remedy, numbers)

    def _lost(self) -> list[Claim]:
        """A claim that the answers came at all, only where too many did not."""
        missing = sum(self.lost.values()) + self.witness.unknown
        if missing <= LOST_SHARE * self.asked:
            return []
        said = ", ".join(f"{count} x {code}" for code, count in self.lost.items())
        return [
            Claim(
                "answers",
                False,
                f"{missing} of {self.asked} requests tell nothing ({said or 'who answered is not known'})",
                code="ROUTING_ANSWERS_MISSING",
                remedy="Mend the endpoint first (llmd.gke.inference_probe); where nothing tells who answered, stop"
                " other traffic for the proof.",
                numbers={"lost": dict(self.lost), "unknown": self.witness.unknown},
            )
        ]


def _shares(counts: dict[str, int]) -> str:
    return ", ".join(f"{pod}: {count}" for pod, count in sorted(counts.items(), key=lambda item: -item[1]))
