# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the picker is worth: the same workload of shared prefixes through it, and dealt out in turn without it.

The time to a first token is measured as the time to an answer of one token. How much of the prompts was cached is what
the servers' own counters say. Each way gets prefixes of its own, so that neither finds the other's cache.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError, KubernetesError
from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Send
from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import total
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_prompts import prompt
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool
from ansible_collections.llmd.gke.plugins.module_utils.waiting import report_progress


@dataclass(frozen=True)
class Workload:
    """``groups`` prefixes of ``characters``, each asked about ``repeats`` times; round by round, a few at once."""

    model: str
    groups: int = 80
    repeats: int = 7
    characters: int = 2400
    concurrency: int = 3
    request_timeout: float = 60
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def prompts(self, way: str) -> list[str]:
        """Every prefix once, then every prefix again, in rounds; the order within a round is another each time.

        In the same order always, taking turns would lead a prefix back to its server wherever the number of servers
        divides that of prefixes. Both ways get the same orders.
        """
        lot = random.Random(self.groups)
        rounds = [lot.sample(range(self.groups), self.groups) for _unused in range(self.repeats)]
        return [
            prompt(f"{self.run}-{way}", group, self.characters, repeat)
            for repeat, order in enumerate(rounds)
            for group in order
        ]


@dataclass(frozen=True)
class Way:
    """One way to the servers: its name and how to send."""

    name: str
    send: Send


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


class Comparison:
    """One run over the ways. counters: the servers' metrics of prompt tokens found in the cache, and looked up."""

    def __init__(
        self,
        pool: Pool,
        pods: Sequence[str],
        counters: tuple[str, str],
        workload: Workload,
        progress: Callable[[str], Any] = report_progress,
    ) -> None:
        self.pool, self.pods, self.counters, self.workload, self.progress = (
            pool,
            list(pods),
            counters,
            workload,
            progress,
        )

    def run(self, ways: Sequence[Way]) -> dict[str, dict[str, Any]]:
        """Figures of each way. Raises InferenceError where a way does not answer."""
        return {way.name: self._measure(way) for way in ways}

    def _measure(self, way: Way) -> dict[str, Any]:
        prompts = self.workload.prompts(way.name)
        self.progress(f"{len(prompts)} requests {way.name}")
        hits, queries = self._cache()
        finished = self.pool.counts(self.pods)
        with ThreadPoolExecutor(max_workers=self.workload.concurrency) as workers:
            answers = list(workers.map(lambda text: self._ask(way, text), prompts))
        causes = [cause.what for cause in map(explain_answer, answers) if cause is not None]
        if causes:
            raise InferenceError(
                f"{len(causes)} of {len(answers)} requests {way.name} were not answered.",
                code="COMPARISON_FAILED",
                why="; ".join(list(dict.fromkeys(causes))[:3]),
                remedy="Run playbooks/verify.yml, then compare again without other traffic.",
            )
        more_hits, more_queries = self._cache()
        seconds = [answer.seconds for answer in answers]
        asked = more_queries - queries
        moved = {pod: count - finished.get(pod, 0.0) for pod, count in self.pool.counts(self.pods).items()}
        return {
            "requests": len(answers),
            "hit_ratio": round((more_hits - hits) / asked, 3) if asked > 0 else 0.0,
            "ttft_p50": round(percentile(seconds, 0.5), 4),
            "ttft_p90": round(percentile(seconds, 0.9), 4),
            "pods": moved,
        }

    def _ask(self, way: Way, text: str) -> Answer:
        document = {"model": self.workload.model, "prompt": text, "max_tokens": 1}
        return way.send("POST", "/v1/completions", document, timeout=self.workload.request_timeout)

    def _cache(self) -> tuple[float, float]:
        try:
            texts = [self.pool.client.pod_get(pod, self.pool.namespace, self.pool.port, "metrics") for pod in self.pods]
        except KubernetesError as error:
            raise InferenceError(
                "The servers' counters cannot be read through the API server.",
                code="COMPARISON_FAILED",
                where=error.where,
                why=error.why or error.what,
                remedy="The identity needs get on pods/proxy in the namespace.",
            ) from error
        hits, queries = (sum(total(text, counter) or 0.0 for text in texts) for counter in self.counters)
        return hits, queries
