# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that each of several models behind one endpoint answers its own requests, and nobody else's.

Two witnesses: the answer names its model, and the counters of each pool's pods move by what was asked of its models.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Send
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import Claim
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool
from ansible_collections.llmd.gke.plugins.module_utils.waiting import report_progress

CLAIMS = ("right_model", "right_pods", "model_list", "unknown_model")
NOBODY = "llmd-gke/no-such-model"
SHOWN = 5


@dataclass(frozen=True)
class Rule:
    """Names that requests may use, and the pools whose pods answer them."""

    names: tuple[str, ...]
    pools: tuple[Pool, ...]


@dataclass(frozen=True)
class Plan:
    """What to ask: ``requests`` in all, evenly over the names in an order that ``seed`` shuffles."""

    requests: int = 500
    concurrency: int = 16
    max_tokens: int = 4
    request_timeout: float = 60
    seed: int = 1
    models_path: str = "/v1/models"


@dataclass
class Outcome:
    """What came back. ``wrong``: examples of answers that were not the asked model's."""

    asked: Counter[str] = field(default_factory=Counter)
    right: int = 0
    wrong: list[str] = field(default_factory=list)


def order(names: Sequence[str], plan: Plan) -> list[str]:
    """Which model each request asks for."""
    asked = [names[number % len(names)] for number in range(max(plan.requests, len(names)))]
    random.Random(plan.seed).shuffle(asked)
    return asked


def misfit(name: str, answer: Answer) -> str:
    """What is wrong with an answer to a request for ``name``; "" if nothing is."""
    cause = explain_answer(answer)
    if cause is not None:
        return f"{name}: {cause.what}"
    said = answer.document().get("model")
    return "" if said == name else f"{name}: answered by {said or 'a server that names no model'}"


class Proof:
    """One run against one endpoint."""

    def __init__(
        self, send: Send, rules: Sequence[Rule], plan: Plan, progress: Callable[[str], Any] = report_progress
    ) -> None:
        self.send, self.rules, self.plan, self.progress = send, list(rules), plan, progress
        self.names = [name for rule in self.rules for name in rule.names]

    def run(self) -> list[Claim]:
        """All claims, in order."""
        pods = [{pool.name: pool.ready_pods() for pool in rule.pools} for rule in self.rules]
        before = self._counts(pods)
        self.progress(f"{self.plan.requests} requests for {len(self.names)} names")
        outcome = self._ask()
        moved = [now - was for now, was in zip(self._counts(pods), before, strict=True)]
        return [self._right_model(outcome), self._right_pods(outcome, moved), self._list(), self._unknown()]

    def _counts(self, pods: Sequence[dict[str, list[str]]]) -> list[float]:
        """Requests that the pods of each rule have finished."""
        return [
            sum(sum(pool.counts(found[pool.name]).values()) for pool in rule.pools)
            for rule, found in zip(self.rules, pods, strict=True)
        ]

    def _post(self, name: str) -> Answer:
        document = {"model": name, "prompt": "One, two,", "max_tokens": self.plan.max_tokens}
        return self.send("POST", "/v1/completions", document, timeout=self.plan.request_timeout)

    def _ask(self) -> Outcome:
        asked, outcome = order(self.names, self.plan), Outcome()
        with ThreadPoolExecutor(max_workers=self.plan.concurrency) as workers:
            for name, answer in zip(asked, workers.map(self._post, asked), strict=True):
                outcome.asked[name] += 1
                wrong = misfit(name, answer)
                outcome.right += not wrong
                if wrong:
                    outcome.wrong.append(wrong)
        return outcome

    def _right_model(self, outcome: Outcome) -> Claim:
        total = sum(outcome.asked.values())
        detail = f"{outcome.right} of {total} requests answered by the model that they name"
        if outcome.wrong:
            detail += f"; {'; '.join(dict.fromkeys(outcome.wrong[: 4 * SHOWN]))}"
        numbers = {"requests": total, "right": outcome.right, "asked": dict(outcome.asked)}
        remedy = "Look at the HTTPRoute's rules and at the router in front (GCPRoutingExtension, its pod's log)."
        return Claim("right_model", not outcome.wrong, detail, None, "MODEL_ROUTED_WRONG", remedy, numbers)

    def _right_pods(self, outcome: Outcome, moved: Sequence[float]) -> Claim:
        wanted = [sum(outcome.asked[name] for name in rule.names) for rule in self.rules]
        short = [
            f"{rule.names[0]}: {count:g} of {want}"
            for rule, count, want in zip(self.rules, moved, wanted, strict=True)
            if count < want
        ]
        counted = ", ".join(f"{rule.names[0]} {count:g}" for rule, count in zip(self.rules, moved, strict=True))
        detail = f"counters of the models' own pods moved by {counted}"
        if short:
            detail = f"pods finished fewer requests than their models were asked: {'; '.join(short)}"
        numbers = {rule.names[0]: count for rule, count in zip(self.rules, moved, strict=True)}
        remedy = "See which pool the rule of that model names, and which pods that pool selects."
        return Claim("right_pods", not short, detail, None, "MODEL_ROUTED_WRONG", remedy, numbers)

    def _list(self) -> Claim:
        answer = self.send("GET", self.plan.models_path, None, timeout=self.plan.request_timeout)
        listed = {str(entry.get("id")) for entry in answer.document().get("data") or [] if isinstance(entry, dict)}
        missing, foreign = sorted(set(self.names) - listed), sorted(listed - set(self.names))
        ok = answer.status == 200 and not missing and not foreign
        detail = f"{self.plan.models_path} names all {len(self.names)}"
        if not ok:
            parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has also {', '.join(foreign)}"] * bool(foreign)
            detail = f"{self.plan.models_path} ({answer.status}) {' and '.join(parts) or 'is no list'}"
        remedy = "Run the pattern's playbook again: it writes the catalogue's list anew."
        return Claim("model_list", ok, detail, None, "MODEL_LIST_WRONG", remedy, {"listed": sorted(listed)})

    def _unknown(self) -> Claim:
        answer = self._post(NOBODY)
        named = [name for name in self.names if name in answer.text]
        ok = answer.status == 404 and len(named) == len(self.names)
        detail = f"a request for another model gets {answer.status}" + (
            " and the names of those served" if named else ""
        )
        remedy = "Look at the last rule of the HTTPRoute: it should lead to the catalogue."
        return Claim("unknown_model", ok, detail, None, "MODEL_UNKNOWN_UNSAID", remedy, {"status": answer.status})
