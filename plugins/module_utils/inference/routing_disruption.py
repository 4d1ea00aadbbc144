# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a pod away and watch: the chosen model server (who answers next?), the picker (what does failureMode do?).

Both delete one pod, whose Deployment makes a new one; both wait until the deployment is whole again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer, went_through_picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Send
from ansible_collections.llmd.gke.plugins.module_utils.inference.picker import Picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import Claim, Plan
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_prompts import prompt
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool, Witness
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import POD
from ansible_collections.llmd.gke.plugins.module_utils.waiting import (
    Clock,
    SystemClock,
    Verdict,
    report_progress,
    wait_until,
)

DISRUPTIONS = ("kill_pod", "kill_picker")
IN_A_ROW = 5
PAUSE = 0.2
PATIENCE = 10.0


@dataclass
class Watch:
    """What came back after a pod was taken away. ``log`` holds (seconds, what) of each change."""

    answers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    past_picker: int = 0
    log: list[tuple[float, str]] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(self.answers.values()) + sum(self.errors.values())

    def note(self, seconds: float, what: str) -> None:
        if not self.log or self.log[-1][1] != what:
            self.log.append((round(seconds, 2), what))

    def as_dict(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "answers": dict(self.answers),
            "errors": dict(self.errors),
            "without_picker": self.past_picker,
            "timeline": self.log,
        }


class Disruption:
    """Runs the disruptive claims that were asked for and confirmed."""

    def __init__(
        self,
        send: Send,
        plan: Plan,
        pool: Pool,
        picker: Picker,
        header: str,
        timeout: float,
        clock: Clock | None = None,
        progress: Callable[[str], Any] = report_progress,
    ) -> None:
        self.send, self.plan, self.pool, self.picker, self.header = send, plan, pool, picker, header
        self.timeout = timeout
        self.clock: Clock = clock or SystemClock()
        self.progress = progress
        self.changed = False

    @property
    def client(self) -> KubeClient:
        return self.pool.client

    def kill_pod(self) -> Claim:
        """Take away the pod that a prefix belongs to; the next answers must come from another one."""
        pods = self.pool.ready_pods()
        witness = Witness(self.pool, pods, self.header, self.clock)
        homes = [self._who(witness, self._ask(200_000, question)) for question in range(3)]
        home = next((pod for pod in reversed(homes) if pod), "")
        if not home:
            return Claim("kill_pod", False, "who answers is not known", code="ROUTING_ANSWERS_MISSING")
        self._delete(home)
        witness = Witness(self.pool, [pod for pod in pods if pod != home], self.header, self.clock)
        watch, others = Watch(), 0
        started = self.clock.now()
        while others < IN_A_ROW and self.clock.now() - started < self.timeout:
            answer = self._ask(200_000, 10 + watch.sent)
            who = self._record(watch, witness, answer, started)
            others = others + 1 if answer.status == 200 and who != home else 0
            self.clock.sleep(PAUSE)
        took = self.clock.now() - started
        whole = self._wait_ready(len(pods))
        errors = sum(watch.errors.values())
        said = (
            f"{home} was taken away: {watch.sent} requests, {errors} errors"
            f" ({_counts(watch.errors) or 'none'}), answers from {_counts(watch.answers) or 'nobody'};"
            f" {IN_A_ROW} in a row from others after {took:.1f} s"
        )
        numbers = {"pod": home, "seconds": round(took, 2), **watch.as_dict(), "whole_again": whole}
        if others >= IN_A_ROW and whole:
            return Claim("kill_pod", True, said, numbers=numbers)
        return Claim(
            "kill_pod",
            False,
            said if others < IN_A_ROW else f"{said}; the pod that replaces it did not become Ready in time",
            code="ROUTING_NO_FAILOVER",
            remedy="Look whether the other pods are Ready and HEALTHY (llmd.gke.backend_health).",
            numbers=numbers,
        )

    def kill_picker(self) -> Claim:
        """Take the picker away and show what clients see until it is back."""
        names = [str(pod["metadata"]["name"]) for pod in self.picker.pods()]
        witness = Witness(self.pool, self.pool.ready_pods(), self.header, self.clock)
        for name in names:
            self._delete(name, grace=0)
        watch, back = Watch(), 0
        started = self.clock.now()
        while self.clock.now() - started < self.timeout:
            answer = self._ask(300_000, watch.sent)
            self._record(watch, witness, answer, started)
            through = answer.status == 200 and went_through_picker(answer, self.plan.header)
            back = back + 1 if through else 0
            felt = bool(watch.errors) or bool(watch.past_picker)
            if back >= IN_A_ROW and (felt or self.clock.now() - started >= PATIENCE) and self._picker_ready():
                break
            self.clock.sleep(PAUSE / 2)
        errors = sum(watch.errors.values())
        seen = "let requests past the picker" if watch.past_picker else "refused requests" if errors else "nothing felt"
        said = (
            f"failureMode {self.pool.failure_mode}: {seen}; {watch.sent} requests, {errors} errors"
            f" ({_counts(watch.errors) or 'none'}), {watch.past_picker} answers without the picker;"
            f" back after {self.clock.now() - started:.1f} s"
        )
        numbers = {"failure_mode": self.pool.failure_mode, "behaviour": seen, **watch.as_dict()}
        if back >= IN_A_ROW:
            return Claim("kill_picker", True, said, numbers=numbers)
        return Claim(
            "kill_picker",
            False,
            said,
            code="ROUTING_PICKER_NOT_BACK",
            remedy="Look at the picker's pod: events and log (release gaie-...).",
            numbers=numbers,
        )

    def _ask(self, number: int, question: int) -> Answer:
        document = {
            "model": self.plan.model,
            "prompt": prompt(self.plan.run, number, self.plan.characters, question),
            "max_tokens": 1,
        }
        return self.send("POST", "/v1/completions", document, timeout=min(self.plan.request_timeout, PATIENCE))

    def _who(self, witness: Witness, answer: Answer) -> str:
        return witness.who(answer) if answer.status == 200 else ""

    def _record(self, watch: Watch, witness: Witness, answer: Answer, started: float) -> str:
        seconds = self.clock.now() - started
        cause = explain_answer(answer)
        if cause is not None:
            watch.errors[f"{answer.status} {cause.code}"] += 1
            watch.note(seconds, f"{answer.status} {cause.code}")
            return ""
        who = witness.who(answer) or "unknown"
        watch.answers[who] += 1
        if went_through_picker(answer, self.plan.header):
            watch.note(seconds, f"200 from {who}")
        else:
            watch.past_picker += 1
            watch.note(seconds, f"200 from {who} without the picker")
        return who

    def _delete(self, pod: str, grace: int | None = None) -> None:
        self.progress(f"routing: taking pod {pod} away")
        self.changed = self.client.delete(POD, pod, self.pool.namespace, grace=grace) or self.changed

    def _picker_ready(self) -> bool:
        try:
            return bool(self.picker.pods())
        except InferenceError:
            return False

    def _wait_ready(self, wanted: int) -> bool:
        try:
            wait_until(
                self.pool.ready_pods,
                lambda pods: Verdict(len(pods) >= wanted, f"{len(pods)} of {wanted} model-server pods Ready"),
                what="The pool is whole again",
                timeout=self.timeout,
                interval=1.0,
                clock=self.clock,
                progress=self.progress,
            )
        except WaitTimeout:
            return False
        return True


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.most_common())
