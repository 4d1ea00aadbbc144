# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact tests for claims about routing. Pure functions.

Every test states what a picker that does *not* have the property would do, and gives the probability (the p-value) that
such a picker looks at least as good as what was seen. The property is shown where that probability is below the
significance level; "not shown" is never read as "shown".
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb

PERMUTATIONS = 1999


def binomial_at_most(k: int, n: int, p: float) -> float:
    """P[X <= k] for X binomial(n, p)."""
    return min(1.0, sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)))


def concentration_p(pods: Sequence[str], share: float) -> float:
    """Spread. Null: one pod gets at least ``share`` of different prefixes. Statistic: the busiest pod's count.

    The busiest pod's count is never below the count of the pod that the null speaks of, so that the binomial tail is a
    bound for whichever pod it is.
    """
    if not pods:
        return 1.0
    return binomial_at_most(max(Counter(pods).values()), len(pods), share)


def agreeing_pairs(groups: Mapping[str, Sequence[str]]) -> int:
    """How many pairs of requests with the same prefix were answered by the same pod."""
    return sum(comb(count, 2) for pods in groups.values() for count in Counter(pods).values())


def affinity_p(groups: Mapping[str, Sequence[str]], seed: int = 0, permutations: int = PERMUTATIONS) -> float:
    """Affinity. Null: the pod does not depend on the prefix. Statistic: ``agreeing_pairs``; a permutation test.

    The pods seen are dealt anew to the prefixes: a picker that always takes one pod agrees with itself in every deal
    and proves nothing (p = 1). The lot is seeded, so the same answers always give the same p-value.
    """
    sizes = [len(pods) for pods in groups.values()]
    flat = [pod for pods in groups.values() for pod in pods]
    seen = agreeing_pairs(groups)
    lot, as_good = random.Random(seed), 0
    for _unused in range(permutations):
        lot.shuffle(flat)
        start = pairs = 0
        for size in sizes:
            part = flat[start : start + size]
            pairs += sum(comb(part.count(pod), 2) for pod in set(part))
            start += size
        as_good += pairs >= seen
    return (1 + as_good) / (1 + permutations)


def followers(groups: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    """Requests answered by the pod that had answered their prefix first, and how many could have been."""
    stayed = sum(pod == pods[0] for pods in groups.values() for pod in pods[1:])
    return stayed, sum(max(0, len(pods) - 1) for pods in groups.values())


def avoidance_p(before: int, before_of: int, after: int, after_of: int) -> float:
    """Avoidance. Null: the pod's share is the same with and without load. Fisher's exact test, one-sided.

    before of before_of requests went to the pod while idle, after of after_of while loaded.
    """
    hits, total = before + after, before_of + after_of
    ways = comb(total, after_of)
    if not ways:
        return 1.0
    return sum(comb(hits, i) * comb(total - hits, after_of - i) for i in range(after + 1)) / ways
