# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two targets, measured in turns (ABBA), and what the difference means in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark import statistics
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.runner import Context, Run, Sender
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.schedule import block_size, interleaving
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Workload

MOST_DRAWS = 4_000_000
METRICS = {
    "ttft": ("the first token", "ms", 1000.0),
    "itl": ("each further token", "ms", 1000.0),
    "e2e": ("the whole answer", "ms", 1000.0),
}


@dataclass
class Side:
    """One of the two targets."""

    label: str
    sender: Sender
    workload: Workload


async def run_interleaved(
    first: Side, second: Side, load: Load, groups: int, context: Context
) -> dict[str, LoadResult]:
    """Both loads in blocks, ABBA and BAAB by turns; each target gets ``load.requests`` and ``load.duration`` in all.

    Returns {"a": ..., "b": ...}; their records carry the number of their block. A block ends on count or time like any
    load; an interruption or a spent error budget ends the whole.
    """
    size = block_size(load.requests, groups, int(load.level))
    block = replace(load, requests=size, duration=load.duration / (2 * groups), warmup=0)
    sides = {"a": first, "b": second}
    runs: dict[str, Run] = {}
    for key, side in sides.items():
        runs[key] = Run(replace(load, requests=size), side.sender, side.workload, side.label, context)
        await runs[key].warm_up()
        runs[key].load = block
    whole = replace(load, requests=size * 2 * groups)
    results = {key: LoadResult(whole, sides[key].label, edges=[0.0]) for key in sides}
    for number, key in enumerate(interleaving(groups)):
        run, total = runs[key], results[key]
        run.result = LoadResult(block, sides[key].label, warmup=run.result.warmup)
        run.block, run.before, run.of = number, len(total.records), whole.requests
        _add(total, await run.measure())
        if run.result.stop_reason in ("interrupted", "error_budget"):
            total.stop_reason = run.result.stop_reason
            break
        await asyncio.sleep(0)
    return results


def _add(total: LoadResult, part: LoadResult) -> None:
    """Add a block to its target's result; the window grows by the block's own, the pauses between do not count."""
    shift = total.ended - part.started
    total.warmup = part.warmup
    total.records += part.records
    total.unfinished += part.unfinished
    total.peak_in_flight = max(total.peak_in_flight, part.peak_in_flight)
    total.ended += part.window
    total.edges.append(total.ended)
    for record in part.records:
        _move(record, shift)


def _move(record: Record, shift: float) -> None:
    """Shift a record's time points, so that the blocks of a target lie end to end."""
    record.intended += shift
    record.sent += shift
    record.end += shift
    if record.first is not None and record.last is not None:
        record.first += shift
        record.last += shift


def difference(
    results: Mapping[str, LoadResult],
    name: str,
    *,
    groups: int,
    share: float = 0.5,
    own_error: float = 0.0,
    seed: int = 1,
) -> dict[str, Any]:
    """Difference a - b of a latency's quantile with its bootstrap interval and a sentence.

    own_error: seconds that this client itself may be wrong by (calibration): a difference below it proves nothing.
    """
    first, second = (blocks_of(results[key].records, name, groups) for key in ("a", "b"))
    counts = [sum(len(block) for group in side for block in group) for side in (first, second)]
    if min(counts) < statistics.needed(share):
        return {
            "metric": name,
            "quantile": share,
            "value": None,
            "sentence": f"{name}: too few complete answers to compare ({counts[0]} and {counts[1]}).",
        }

    def measure(values: Sequence[float]) -> float:
        return statistics.percentile(sorted(values), share)

    point = [measure([value for group in side for block in group for value in block]) for side in (first, second)]
    rounds = max(200, min(2000, MOST_DRAWS // sum(counts)))
    low, high = statistics.bootstrap_difference(first, second, measure, rounds=rounds, seed=seed)
    outcome: dict[str, Any] = {
        "metric": name,
        "quantile": share,
        "a": point[0],
        "b": point[1],
        "value": point[0] - point[1],
        "low": low,
        "high": high,
        "relative": (point[0] - point[1]) / point[1] if point[1] else None,
        "own_error": own_error,
        "blocks": 4 * groups,
        "groups": groups,
        "counts": counts,
        "verdict": verdict(low, high, own_error),
    }
    outcome["sentence"] = sentence(outcome, results["a"].target, results["b"].target, results["a"].load)
    return outcome


def blocks_of(records: Sequence[Record], name: str, groups: int) -> list[list[list[float]]]:
    """Values of complete answers by group (four blocks each) and block."""
    groups_found: list[dict[int, list[float]]] = [{} for _unused in range(groups)]
    for record in records:
        value: float | None = getattr(record, name) if record.ok else None
        if value is not None and 0 <= record.block < 4 * groups:
            groups_found[record.block // 4].setdefault(record.block, []).append(value)
    return [list(group.values()) for group in groups_found]


def verdict(low: float, high: float, own_error: float) -> str:
    """slower, faster (of a), within_own_error (a difference that the client itself may have made), or none."""
    if low <= 0.0 <= high:
        return "none"
    if max(abs(low), abs(high)) <= own_error:
        return "within_own_error"
    return "slower" if low > 0 else "faster"


def sentence(outcome: Mapping[str, Any], first: str, second: str, load: Load) -> str:
    """What the difference means and what it does not."""
    what, unit, scale = METRICS.get(outcome["metric"], (outcome["metric"], "s", 1.0))
    value, low, high = (outcome[key] * scale for key in ("value", "low", "high"))
    middle = "at the median" if outcome["quantile"] == 0.5 else f"at p{outcome['quantile'] * 100:g}"
    interval = f"95 % interval {low:+.2f} to {high:+.2f} {unit}"
    if outcome["verdict"] == "none":
        bound = max(abs(low), abs(high))
        text = (
            f"{first} and {second} do not differ provably in {what} {middle} ({interval}): "
            f"this does not say that they are equal, only that a difference above {bound:.2f} {unit} is unlikely."
        )
    elif outcome["verdict"] == "within_own_error":
        text = (
            f"{what} differs by {value:+.2f} {unit} {middle} ({interval}), but this client's own error here is up to "
            f"{outcome['own_error'] * scale:.2f} {unit}: no statement about {first} and {second}."
        )
    else:
        word = "later" if outcome["verdict"] == "slower" else "earlier"
        relative = f", {abs(outcome['relative']) * 100:.1f} %" if outcome["relative"] is not None else ""
        text = f"{first} delivers {what} {abs(value):.2f} {unit}{relative} {word} than {second} {middle} ({interval})."
    few = " With fewer than five groups of blocks the interval is rough." if outcome["groups"] < 5 else ""
    return (
        f"{text} It holds for {load.level:g} at once, this workload and these minutes; "
        f"it says nothing about other loads, about tails, or about why.{few}"
    )
