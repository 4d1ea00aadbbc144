"""Each of several models answers its own requests: shown where it is so, and not where it is not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.model_routing import Plan, Proof, Rule, order

RULES = {"a/one": "pool-a", "sql": "pool-a", "b/two": "pool-b"}


@dataclass
class FakePool:
    """A pool whose only pod counts what it has finished."""

    name: str
    finished: Counter[str]

    def ready_pods(self) -> list[str]:
        return [f"{self.name}-pod"]

    def counts(self, pods: list[str]) -> dict[str, float]:
        return {pod: float(self.finished[self.name]) for pod in pods}


@dataclass
class World:
    """An endpoint. ``wrong``: names that the other pool's server answers; ``listed``: what the list names."""

    wrong: frozenset[str] = frozenset()
    lying: bool = False
    listed: tuple[str, ...] = tuple(RULES)
    unknown: int = 404
    finished: Counter[str] = field(default_factory=Counter)

    def send(self, method: str, path: str, document: dict[str, Any] | None = None, *, timeout: float = 0) -> Answer:
        if document is None:
            return answer(200, {"data": [{"id": name} for name in self.listed]})
        name = document["model"]
        if name not in RULES:
            return answer(self.unknown, {"error": {"message": f"Served: {', '.join(RULES)}."}})
        pool = RULES[name]
        if name in self.wrong:
            pool = "pool-b" if pool == "pool-a" else "pool-a"
        self.finished[pool] += 1
        return answer(200, {"model": "b/two" if name in self.wrong and not self.lying else name})

    def run(self) -> dict[str, Any]:
        a, b = (FakePool(name, self.finished) for name in ("pool-a", "pool-b"))
        rules = [Rule(("a/one", "sql"), (a,)), Rule(("b/two",), (b,))]  # type: ignore[arg-type]
        claims = Proof(self.send, rules, Plan(requests=60, concurrency=1), lambda _text: None).run()
        return {claim.name: claim for claim in claims}


def answer(status: int, document: dict[str, Any]) -> Answer:
    return Answer(status, body=json.dumps(document).encode())


def test_all_is_shown_where_all_is_well() -> None:
    claims = World().run()
    assert all(claim.ok for claim in claims.values())
    assert claims["right_model"].numbers == {
        "requests": 60,
        "right": 60,
        "asked": {"a/one": 20, "sql": 20, "b/two": 20},
    }
    assert claims["right_pods"].numbers == {"a/one": 40, "b/two": 20}


def test_the_wrong_model_is_seen_by_its_answer_and_by_the_counters() -> None:
    claims = World(wrong=frozenset({"sql"})).run()
    assert not claims["right_model"].ok
    assert "40 of 60" in claims["right_model"].detail
    assert "sql: answered by b/two" in claims["right_model"].detail
    assert claims["right_model"].code == "MODEL_ROUTED_WRONG"
    assert not claims["right_pods"].ok


def test_a_server_that_lies_about_its_name_is_seen_by_the_counters() -> None:
    claims = World(wrong=frozenset({"a/one"}), lying=True).run()
    assert claims["right_model"].ok
    assert not claims["right_pods"].ok


def test_a_list_that_is_not_whole_and_an_unknown_model_that_is_answered() -> None:
    claims = World(listed=("a/one", "c/three"), unknown=200).run()
    assert "lacks b/two, sql and has also c/three" in claims["model_list"].detail
    assert not claims["unknown_model"].ok


def test_every_name_is_asked_for() -> None:
    assert Counter(order(["a", "b", "c"], Plan(requests=2))) == {"a": 1, "b": 1, "c": 1}
    assert order(["a", "b"], Plan(requests=50)) != order(["a", "b"], Plan(requests=50, seed=2))
