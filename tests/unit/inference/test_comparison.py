"""The same workload by two ways: figures from the servers' own counters, and an error where a way does not answer."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.comparison import (
    Comparison,
    Way,
    Workload,
    percentile,
)
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_prompts import prefix

WORK = Workload("m", groups=12, repeats=5, characters=60, concurrency=1, run="r")


class Servers:
    """Two servers whose caches hold ``room`` prefixes each; the client's and the pool's side at once."""

    def __init__(self, room: int = 6) -> None:
        self.room, self.turn = room, 0
        self.caches: list[list[str]] = [[], []]
        self.hits, self.queries, self.finished = [0, 0], [0, 0], [0, 0]
        self.client, self.namespace, self.port = self, "ns", 8000

    def pod_get(self, pod: str, _namespace: str, _port: int, _path: str) -> str:
        number = int(pod)
        return f"hits {self.hits[number]}\nqueries {self.queries[number]}\n"

    def counts(self, pods: list[str]) -> dict[str, float]:
        return {pod: float(self.finished[int(pod)]) for pod in pods}

    def serve(self, number: int, text: str) -> Answer:
        prefix = text.partition(" Question")[0]
        cached = prefix in self.caches[number]
        self.caches[number] = [*[one for one in self.caches[number] if one != prefix], prefix][-self.room :]
        self.queries[number] += 100
        self.hits[number] += 100 * cached
        self.finished[number] += 1
        return Answer(200, body=b"{}", seconds=0.01 if cached else 0.1)

    def in_turn(self, _method: str, _path: str, document: dict[str, Any], *, timeout: float = 0) -> Answer:
        self.turn += 1
        return self.serve(self.turn % 2, document["prompt"])

    def by_prefix(self, _method: str, _path: str, document: dict[str, Any], *, timeout: float = 0) -> Answer:
        text = document["prompt"]
        return self.serve(
            next((n for n in (0, 1) if text.partition(" Question")[0] in self.caches[n]), self._free()), text
        )

    def _free(self) -> int:
        return 0 if len(self.caches[0]) <= len(self.caches[1]) else 1


def test_what_a_cache_that_is_found_again_is_worth() -> None:
    servers, other = Servers(), Servers()
    picked = Comparison(servers, ["0", "1"], ("hits", "queries"), WORK, lambda _text: None)  # type: ignore[arg-type]
    dealt = Comparison(other, ["0", "1"], ("hits", "queries"), WORK, lambda _text: None)  # type: ignore[arg-type]
    picker = picked.run([Way("picker", servers.by_prefix)])["picker"]
    turns = dealt.run([Way("round_robin", other.in_turn)])["round_robin"]
    assert picker["hit_ratio"] == 0.8
    # as many prefixes as would lead each back to its server, were the order always the same
    assert turns["hit_ratio"] < 0.45
    assert picker["ttft_p50"] == 0.01
    assert turns["ttft_p50"] == 0.1
    assert picker["pods"] == {"0": 30.0, "1": 30.0}


def test_each_way_has_prefixes_of_its_own() -> None:
    assert not set(WORK.prompts("picker")) & set(WORK.prompts("round_robin"))
    assert len(set(WORK.prompts("picker"))) == 60


def test_both_ways_get_the_same_order_and_every_round_another() -> None:
    def order(way: str) -> list[int]:
        numbers = {prefix(f"r-{way}", number, 60): number for number in range(12)}
        return [numbers[text.partition(" Question")[0]] for text in WORK.prompts(way)]

    assert order("picker") == order("round_robin")
    assert sorted(order("picker")[:12]) == sorted(order("picker")[12:24]) == list(range(12))
    assert order("picker")[:12] != order("picker")[12:24]


def test_a_way_that_does_not_answer_is_an_error() -> None:
    servers = Servers()
    comparison = Comparison(servers, ["0", "1"], ("hits", "queries"), WORK, lambda _text: None)  # type: ignore[arg-type]
    with pytest.raises(InferenceError, match="COMPARISON_FAILED"):
        comparison.run([Way("picker", lambda *_words, **_more: Answer(503, body=b""))])


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.9) == 1.0
    assert percentile([], 0.5) == 0.0
