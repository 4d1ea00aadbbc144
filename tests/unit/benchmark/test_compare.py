"""Two endpoints in turns: the blocks, the difference, and the sentence about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import compare
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.runner import Context
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Spec, Workload

In = Callable[[Any], Any]


async def both(first: Any, second: Any, load: Load, groups: int = 5) -> dict[str, LoadResult]:
    sides = [compare.Side(name, one, Workload(Spec("m"), name)) for name, one in (("gw", first), ("direct", second))]
    return await compare.run_interleaved(sides[0], sides[1], load, groups, Context("r", asyncio.Event()))


def test_blocks_take_turns(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        first, second = endpoint(ttft=0.2), endpoint(ttft=0.1)
        results = await both(first, second, Load(level=2, requests=40, warmup=2))
        assert [len(results[key].records) for key in "ab"] == [40, 40]
        assert [len(results[key].warmup) for key in "ab"] == [2, 2]
        assert {record.block for record in results["a"].records} == {0, 3, 5, 6, 8, 11, 13, 14, 16, 19}
        # the other's blocks lie between, but do not count into the window: 20 rounds of 0.3 s and of 0.2 s
        assert results["a"].window == pytest.approx(6.0)
        assert results["b"].window == pytest.approx(4.0)
        assert all(record.ttft == pytest.approx(0.2) for record in results["a"].records)
        found = compare.difference(results, "ttft", groups=5)
        assert found["value"] == pytest.approx(0.1)
        assert found["verdict"] == "slower"
        assert found["sentence"].startswith(
            "gw delivers the first token 100.00 ms, 100.0 % later than direct at the median"
        )
        assert "it says nothing about other loads" in found["sentence"]

    in_virtual_time(work())


def test_the_same_twice_makes_no_difference(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        results = await both(endpoint(), endpoint(), Load(level=1, requests=20, warmup=0))
        found = compare.difference(results, "ttft", groups=5)
        assert found["verdict"] in ("none", "within_own_error") or abs(found["value"]) < 1e-9

    in_virtual_time(work())


def test_a_dead_second_endpoint_ends_it_with_a_report(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        dead = endpoint(fails=lambda number: "refused")
        results = await both(endpoint(), dead, Load(level=5, requests=200, warmup=0, error_minimum=10))
        assert results["b"].stop_reason == "error_budget"
        found = compare.difference(results, "ttft", groups=5)
        assert found["value"] is None
        assert "too few" in found["sentence"]

    in_virtual_time(work())


@pytest.mark.parametrize(
    ("low", "high", "own", "verdict"),
    [
        (0.01, 0.02, 0.0, "slower"),
        (-0.02, -0.01, 0.0, "faster"),
        (-0.01, 0.01, 0.0, "none"),
        (0.0001, 0.0005, 0.001, "within_own_error"),
        (0.0001, 0.005, 0.001, "slower"),
    ],
)
def test_verdicts(low: float, high: float, own: float, verdict: str) -> None:
    assert compare.verdict(low, high, own) == verdict


def test_what_no_difference_means() -> None:
    outcome = {
        "metric": "itl", "quantile": 0.5, "value": 0.0001, "low": -0.0004, "high": 0.0006, "relative": 0.01,
        "own_error": 0.0, "groups": 3, "verdict": "none",
    }  # fmt: skip
    text = compare.sentence(outcome, "gw", "direct", Load(level=4))
    assert "does not say that they are equal, only that a difference above 0.60 ms is unlikely" in text
    assert "fewer than five groups" in text
    own = compare.sentence({**outcome, "verdict": "within_own_error", "own_error": 0.001}, "gw", "direct", Load())
    assert "no statement about gw and direct" in own
