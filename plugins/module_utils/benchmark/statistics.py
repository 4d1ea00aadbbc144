# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The little statistics that a benchmark needs, without any package. Every figure comes with how sure it is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

CONFIDENCE = 0.95
# Student's t, two-sided 95 %, for 1..30 degrees of freedom (any table); the normal value beyond.
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
Z_95 = 1.959964


def percentile(ordered: Sequence[float], share: float) -> float:
    """Quantile of sorted values with linear interpolation between neighbours (numpy's default); share in 0..1."""
    if not ordered:
        raise ValueError("no values")
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def needed(share: float, confidence: float = CONFIDENCE) -> int:
    """Fewest values from which an interval for a quantile exists: both its ends must be values that were seen."""
    tail = (1 - confidence) / 2
    extreme = max(share, 1 - share)
    return math.ceil(math.log(tail) / math.log(extreme))


def quantile_ranks(count: int, share: float, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Ranks (1-based) of the values that enclose a quantile with at least ``confidence``, free of any distribution.

    The number of values below the quantile is binomial (count, share); its own quantiles are the ranks. None where the
    sample is too small.
    """
    tail = (1 - confidence) / 2
    mean, spread = count * share, math.sqrt(count * share * (1 - share))
    start, stop = max(0, int(mean - 12 * spread) - 2), min(count, int(mean + 12 * spread) + 2)
    cumulative = 0.0
    low = high = 0
    for successes in range(start, stop + 1):
        cumulative += _binomial(count, successes, share)
        if cumulative <= tail:
            low = successes + 1
        if cumulative >= 1 - tail:
            high = successes + 1
            break
    if low < 1 or not 1 <= high <= count:
        return None
    return low, high


def _binomial(count: int, successes: int, share: float) -> float:
    logarithm = (
        math.lgamma(count + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(count - successes + 1)
        + successes * math.log(share)
        + (count - successes) * math.log(1 - share)
    )
    return math.exp(logarithm)


def ratio_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share = successes / count
    centre = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 / (1 + Z_95**2 / count) * math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of a mean by Student's t; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = T_95[count - 2] if count - 2 < len(T_95) else Z_95
    half = quantile * spread / math.sqrt(count)
    return mean - half, mean + half


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return percentile(sorted(values), 0.5)


Blocks = Sequence[Sequence[float]]


def bootstrap_difference(
    first: Sequence[Blocks],
    second: Sequence[Blocks],
    measure: Callable[[Sequence[float]], float],
    *,
    rounds: int = 1000,
    seed: int = 1,
) -> tuple[float, float]:
    """95 % interval of measure(first) - measure(second), where both were measured in the same groups of blocks.

    first, second: for each group its blocks of values. Resampled in two stages: groups (what drifts over the run hits
    both targets of a group), then requests within each block. Percentile method.
    """
    source = random.Random(f"{seed}/bootstrap")
    groups = range(len(first))
    differences = []
    for _unused in range(rounds):
        drawn_first: list[float] = []
        drawn_second: list[float] = []
        for group in source.choices(groups, k=len(groups)):
            for block in first[group]:
                drawn_first += source.choices(block, k=len(block)) if block else []
            for block in second[group]:
                drawn_second += source.choices(block, k=len(block)) if block else []
        if drawn_first and drawn_second:
            differences.append(measure(drawn_first) - measure(drawn_second))
    if not differences:
        raise ValueError("no values")
    differences.sort()
    tail = (1 - CONFIDENCE) / 2
    return percentile(differences, tail), percentile(differences, 1 - tail)


def bootstrap_apart(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    measure: Callable[[Sequence[float]], float],
    *,
    rounds: int = 1000,
    seed: int = 1,
) -> tuple[float, float]:
    """95 % interval of measure(first) - measure(second), measured apart: nothing pairs their parts.

    Each side is resampled in two stages, parts and then the values within each. Percentile method.
    """
    source = random.Random(f"{seed}/bootstrap-apart")

    def draw(parts: Sequence[Sequence[float]]) -> list[float]:
        drawn: list[float] = []
        for part in source.choices(parts, k=len(parts)):
            drawn += source.choices(part, k=len(part))
        return drawn

    differences = sorted(measure(draw(first)) - measure(draw(second)) for _unused in range(rounds))
    tail = (1 - CONFIDENCE) / 2
    return percentile(differences, tail), percentile(differences, 1 - tail)
