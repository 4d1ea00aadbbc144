"""Statistics against values that were worked out by hand or stand in any table."""

from __future__ import annotations

import random

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import statistics


def test_percentile_interpolates() -> None:
    values = [10.0, 20.0, 30.0, 40.0]
    assert statistics.percentile(values, 0.5) == 25.0
    assert statistics.percentile(values, 0.9) == pytest.approx(37.0)
    assert statistics.percentile(values, 1.0) == 40.0
    assert statistics.percentile([5.0], 0.99) == 5.0


def test_ranks_of_a_median() -> None:
    # Binomial(10, 1/2): P(B <= 1) = 11/1024 <= 0.025 < P(B <= 2) = 56/1024, so the 2nd and the 9th value
    assert statistics.quantile_ranks(10, 0.5) == (2, 9)
    # P(B = 0) = 1/64 <= 0.025: six values are just enough, five (1/32) are not
    assert statistics.quantile_ranks(6, 0.5) == (1, 6)
    assert statistics.quantile_ranks(5, 0.5) is None
    # the usual table for n = 100: 40th and 61st
    assert statistics.quantile_ranks(100, 0.5) == (40, 61)


@pytest.mark.parametrize(("share", "count"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_the_fewest_values_for_a_tail(share: float, count: int) -> None:
    assert statistics.needed(share) == count
    assert statistics.quantile_ranks(count, share) is not None
    assert statistics.quantile_ranks(count - 1, share) is None


def test_ranks_of_many_values_do_not_underflow() -> None:
    ranks = statistics.quantile_ranks(200_000, 0.5)
    assert ranks is not None
    # normal approximation: 100000 -+ 1.96 * sqrt(50000)
    assert ranks[0] == pytest.approx(99_562, abs=3)
    assert ranks[1] == pytest.approx(100_439, abs=3)


def test_the_interval_of_a_quantile_covers_it() -> None:
    source = random.Random(1)
    hits = 0
    for _unused in range(400):
        values = sorted(source.expovariate(1.0) for _unused in range(60))
        low, high = statistics.quantile_ranks(60, 0.9) or (1, 60)
        hits += values[low - 1] <= 2.302585 <= values[high - 1]
    assert hits / 400 >= 0.94


def test_wilson() -> None:
    low, high = statistics.ratio_interval(90, 100)
    assert [low, high] == pytest.approx([0.8256, 0.9448], abs=1e-4)
    assert statistics.ratio_interval(0, 0) == (0.0, 1.0)
    assert statistics.ratio_interval(100, 100)[0] == pytest.approx(0.9630, abs=1e-4)


def test_mean_by_student() -> None:
    # 1, 2, 3: s = 1, t(2) = 4.303: 2 -+ 4.303 / sqrt(3)
    low, high = statistics.mean_interval([1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert [low, high] == pytest.approx([-0.4843, 4.4843], abs=1e-3)
    assert statistics.mean_interval([1.0]) is None


def drifting(source: random.Random, shift: float) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    """Six groups of blocks under a drift that is larger than the difference."""
    first, second = [], []
    for _unused in range(6):
        level = source.gauss(1.0, 0.3)
        first.append([[level + shift + source.gauss(0, 0.05) for _unused in range(8)] for _unused in range(2)])
        second.append([[level + source.gauss(0, 0.05) for _unused in range(8)] for _unused in range(2)])
    return first, second


def test_the_bootstrap_sees_a_difference_through_a_drift() -> None:
    def mean(values: object) -> float:
        assert isinstance(values, list)
        return float(sum(values) / len(values))

    first, second = drifting(random.Random(3), 0.1)
    low, high = statistics.bootstrap_difference(first, second, mean, rounds=400)
    assert low < 0.1 < high
    assert low > 0.0
    assert high - low < 0.1  # paired by group: the drift of 0.3 is not in it
    assert statistics.bootstrap_difference(first, second, mean, rounds=400) == (low, high)


def test_the_bootstrap_does_not_invent_one() -> None:
    source = random.Random(4)
    wrong = 0
    for number in range(40):
        first, second = drifting(source, 0.0)
        low, high = statistics.bootstrap_difference(first, second, statistics.median, rounds=120, seed=number)
        wrong += not low <= 0.0 <= high
    assert wrong <= 6
