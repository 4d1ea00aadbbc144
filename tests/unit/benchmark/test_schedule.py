"""When requests are sent."""

from __future__ import annotations

import itertools
import math

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.schedule import arrivals, block_size, interleaving


def gaps(kind: str, rate: float, count: int, seed: int = 1) -> list[float]:
    times = [0.0, *itertools.islice(arrivals(rate, kind=kind, seed=seed), count)]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_poisson_arrivals_are_exponential() -> None:
    found = gaps("poisson", 4.0, 20_000)
    mean = sum(found) / len(found)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in found) / len(found))
    assert mean == pytest.approx(0.25, rel=0.03)
    assert deviation == pytest.approx(0.25, rel=0.04)  # exponential: as large as the mean
    assert sum(gap > 0.25 * math.log(2) for gap in found) / len(found) == pytest.approx(0.5, abs=0.015)


def test_equal_seeds_make_equal_arrivals() -> None:
    assert gaps("poisson", 4.0, 50, seed=7) == gaps("poisson", 4.0, 50, seed=7)
    assert gaps("poisson", 4.0, 50, seed=7) != gaps("poisson", 4.0, 50, seed=8)


def test_constant_arrivals() -> None:
    assert gaps("constant", 4.0, 10) == pytest.approx([0.25] * 10)


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_a_linear_drift_hits_both_targets_alike(groups: int) -> None:
    order = interleaving(groups)
    places = {key: sum(place for place, one in enumerate(order) if one == key) for key in "ab"}
    assert places["a"] == places["b"]
    assert order[:8] == list("abbabaab")[: 4 * groups]


def test_blocks_hold_at_least_what_was_asked() -> None:
    assert block_size(100, 5, 10) == 10
    assert block_size(101, 5, 10) == 11
    assert block_size(10, 5, 16) == 16
