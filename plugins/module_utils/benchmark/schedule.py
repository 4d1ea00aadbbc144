# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When requests are sent: arrivals of an open loop, and the order of two targets that are compared."""

from __future__ import annotations

import random
from collections.abc import Iterator


def arrivals(rate: float, *, kind: str = "poisson", seed: int = 1) -> Iterator[float]:
    """Seconds after the start at which requests are meant to be sent, without end: the caller bounds them.

    rate: requests a second. poisson: exponential gaps, as independent people arrive; constant: equal gaps.
    """
    source = random.Random(f"{seed}/arrivals")
    now = 0.0
    while True:
        now += source.expovariate(rate) if kind == "poisson" else 1.0 / rate
        yield now


def interleaving(groups: int) -> list[str]:
    """Order of the blocks of two targets: ABBA, BAAB, ABBA, ...

    Within a group a drift that is linear in time (a warming cache, a neighbour that grows) hits A and B alike; turning
    every second group around does the same for whatever the first place of a group costs or gains.
    """
    order: list[str] = []
    for group in range(groups):
        order += ["a", "b", "b", "a"] if group % 2 == 0 else ["b", "a", "a", "b"]
    return order


def block_size(requests: int, groups: int, concurrency: int) -> int:
    """Requests of one block so that each target gets at least ``requests``; never fewer than fill the concurrency."""
    return max(concurrency, -(-requests // (2 * groups)))
