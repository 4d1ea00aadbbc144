# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the records of a load to its figures, each with a 95 % interval, or with the reason why it is not told."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark import statistics
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.causes import CAUSES
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import LoadResult, Record

PERCENTILES = (50, 90, 95, 99)
LATENCIES = ("ttft", "ttft_intended", "itl", "e2e", "e2e_intended")
SLICES = 10
DEFINITIONS = {
    "ttft": "seconds from sending a request on an open connection to the arrival of its first text",
    "ttft_intended": "the same from the moment the request was meant to be sent: waiting and connecting count",
    "itl": "inter-token latency of one request: (last - first) / (tokens - 1); not e2e / tokens, as in some tools",
    "e2e": "seconds from sending to the arrival of the last text",
    "e2e_intended": "the same from the moment the request was meant to be sent",
    "output_tokens_per_second": "generated tokens of complete answers (no prompt tokens) over the measured window",
    "requests_per_second": "complete answers over the measured window",
    "goodput": "complete answers that kept every SLO, a second",
}


def summarise(result: LoadResult, slo: Mapping[str, float] | None = None) -> dict[str, Any]:
    """All figures of one load.

    slo: seconds for any of ttft, itl, e2e: goodput counts the requests that keep all of them. In an open loop they are
    judged from the intended send time. Latencies are of complete answers only; failures are counted by cause.
    """
    good = [record for record in result.records if record.ok]
    total = len(result.records)
    low, high = statistics.ratio_interval(len(good), total)
    summary: dict[str, Any] = {
        "target": result.target,
        "mode": result.load.mode,
        "level": result.load.level,
        "stop_reason": result.stop_reason,
        "window": round(result.window, 4),
        "requests": {
            "finished": total,
            "ok": len(good),
            "failed": total - len(good),
            "unfinished": result.unfinished,
            "unsent": result.unsent,
            "warmup": len(result.warmup),
            "warmup_failed": sum(not record.ok for record in result.warmup),
            "peak_in_flight": result.peak_in_flight,
        },
        "success": {"value": len(good) / total if total else None, "low": low, "high": high},
        "causes": count_causes(result.records),
        "latency": {name: _latency(good, name) for name in LATENCIES},
        "tokens": _tokens(good),
        "goodput": _goodput(result, good, slo or {}),
    }
    summary.update(_throughput(result, good))
    summary["notes"] = _notes(result, good)
    return summary


def count_causes(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Failures by cause, most frequent first, with one example each."""
    by_cause: dict[str, list[Record]] = {}
    for record in records:
        if not record.ok:
            by_cause.setdefault(record.cause, []).append(record)
    return [
        {"cause": cause, "count": len(those), "meaning": CAUSES.get(cause, ""), "example": those[0].detail}
        for cause, those in sorted(by_cause.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    ]


def quantile(ordered: Sequence[float], percent: int) -> dict[str, Any]:
    """One percentile {value, low, high}, or {value: None, refused: why} where the sample cannot carry it."""
    share = percent / 100
    ranks = statistics.quantile_ranks(len(ordered), share) if ordered else None
    if ranks is None:
        least = statistics.needed(share)
        why = f"p{percent} needs at least {least} complete answers; there are {len(ordered)}"
        return {"value": None, "refused": why}
    return {
        "value": statistics.percentile(ordered, share),
        "low": ordered[ranks[0] - 1],
        "high": ordered[ranks[1] - 1],
    }


def _latency(good: Sequence[Record], name: str) -> dict[str, Any]:
    values = sorted(value for record in good if (value := getattr(record, name)) is not None)
    figures: dict[str, Any] = {"count": len(values)}
    for percent in PERCENTILES:
        figures[f"p{percent}"] = quantile(values, percent)
    if values:
        mean = sum(values) / len(values)
        interval = statistics.mean_interval(values)
        figures["mean"] = {"value": mean, "low": interval[0], "high": interval[1]} if interval else {"value": mean}
        figures["min"], figures["max"] = values[0], values[-1]
    return figures


def _tokens(good: Sequence[Record]) -> dict[str, Any]:
    prompts = [record.prompt_tokens for record in good if record.prompt_tokens is not None]
    outputs = [record.output_tokens for record in good]
    return {
        "prompt": sum(prompts),
        "output": sum(outputs),
        "prompt_mean": sum(prompts) / len(prompts) if prompts else None,
        "output_mean": sum(outputs) / len(outputs) if outputs else None,
        "counted_by_us": sum(record.counted for record in good),
    }


def _throughput(result: LoadResult, good: Sequence[Record]) -> dict[str, Any]:
    """Rates over the window; their intervals from its parts (batch means).

    The parts are the blocks of a comparison, else SLICES equal ones. Blocks begin and end idle; slices of another
    length would beat with them.
    """
    if not good or result.window <= 0:
        nothing = {"value": 0.0 if result.records else None}
        return {"output_tokens_per_second": nothing, "requests_per_second": dict(nothing)}
    edges = list(result.edges) or [result.started + result.window * part / SLICES for part in range(SLICES + 1)]
    tokens, answers = [0.0] * (len(edges) - 1), [0.0] * (len(edges) - 1)
    for record in good:
        answers[_part(record.end, edges)] += 1
        spread(record, edges, tokens)
    rates: dict[str, Any] = {}
    for name, amounts in (("output_tokens_per_second", tokens), ("requests_per_second", answers)):
        parts = [amount / (edges[n + 1] - edges[n]) for n, amount in enumerate(amounts) if edges[n + 1] > edges[n]]
        rates[name] = {"value": sum(amounts) / result.window}
        if interval := statistics.mean_interval(parts):
            rates[name].update(low=max(0.0, interval[0]), high=interval[1])
    return rates


def spread(record: Record, edges: Sequence[float], amounts: list[float]) -> None:
    """Share a request's tokens out over the parts: the first when it came, the others evenly until the last."""
    if record.first is None or record.last is None:
        return
    start, stop = _part(record.first, edges), _part(record.last, edges)
    amounts[start] += 1
    rest, length = record.output_tokens - 1, record.last - record.first
    if rest <= 0:
        return
    if start == stop or length <= 0:
        amounts[stop] += rest
        return
    for part in range(start, stop + 1):
        begin = record.first if part == start else edges[part]
        end = record.last if part == stop else edges[part + 1]
        amounts[part] += rest * (end - begin) / length


def _part(moment: float, edges: Sequence[float]) -> int:
    return max(0, min(len(edges) - 2, bisect_right(edges, moment) - 1))


def _goodput(result: LoadResult, good: Sequence[Record], slo: Mapping[str, float]) -> dict[str, Any] | None:
    if not slo:
        return None
    suffix = "_intended" if result.load.mode == "open" else ""
    kept = 0
    for record in good:
        values = {
            "ttft": getattr(record, f"ttft{suffix}"),
            "e2e": getattr(record, f"e2e{suffix}"),
            "itl": record.itl if record.itl is not None else 0.0,
        }
        kept += all(values[name] is not None and values[name] <= limit for name, limit in slo.items())
    total = len(result.records)
    low, high = statistics.ratio_interval(kept, total)
    return {
        "slo": dict(slo),
        "kept": kept,
        "share": {"value": kept / total if total else None, "low": low, "high": high},
        "requests_per_second": kept / result.window if result.window > 0 else None,
    }


def _notes(result: LoadResult, good: Sequence[Record]) -> list[str]:
    """What a reader must know before using the figures."""
    notes = []
    counted = sum(record.counted for record in good)
    if counted:
        notes.append(f"{counted} answers came without usage: tokens are counted pieces, which may hold several.")
    merged = sum(record.pieces < record.output_tokens * 0.9 for record in good if not record.counted)
    if good and merged > len(good) / 10:
        notes.append(f"{merged} answers came in fewer pieces than tokens: ITL is a mean over the answer, not each gap.")
    if result.unfinished:
        notes.append(f"{result.unfinished} requests were cut off by the end of the run: the longest may be missing.")
    if result.unsent:
        notes.append(f"{result.unsent} requests could not be sent in time: the endpoint is slower than the rate.")
    if result.load.mode == "open" and good:
        behind = sorted(record.sent - record.intended for record in good)
        late = statistics.percentile(behind, 0.99)
        if late > 0.05:
            late_text = f"{late * 1000:.0f} ms of the intended time"
            notes.append(f"99 % of the requests were sent within {late_text}: look at *_intended.")
    reconnected = sum(record.reconnected for record in good)
    if reconnected:
        notes.append(f"{reconnected} requests found their idle connection closed and were sent again on a new one.")
    return notes
