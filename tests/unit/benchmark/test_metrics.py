"""Figures against values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import metrics
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record

Make = Callable[..., Record]


def result(records: list[Record], **fields: Any) -> LoadResult:
    ends = max((record.end for record in records), default=0.0)
    return LoadResult(Load(), "t", records, ended=ends, **fields)


def test_a_load_in_figures(record: Make) -> None:
    records = [record(intended=number * 0.3) for number in range(100)]
    summary = metrics.summarise(result(records))
    assert summary["window"] == pytest.approx(30.0)
    assert summary["latency"]["ttft"]["p50"]["value"] == pytest.approx(0.2)
    assert summary["latency"]["itl"]["p50"]["value"] == pytest.approx(0.01)
    assert summary["latency"]["e2e"]["p90"]["value"] == pytest.approx(0.3)
    assert summary["output_tokens_per_second"]["value"] == pytest.approx(1100 / 30)
    assert summary["requests_per_second"]["value"] == pytest.approx(100 / 30)
    assert summary["success"]["value"] == 1.0
    assert summary["success"]["low"] == pytest.approx(0.963, abs=1e-3)
    assert summary["tokens"] == {
        "prompt": 800, "output": 1100, "prompt_mean": 8.0, "output_mean": 11.0, "counted_by_us": 0,
    }  # fmt: skip


def test_percentiles_come_with_ranks_or_with_the_reason_why_not(record: Make) -> None:
    records = [record(intended=0.0, first=(number + 1) / 100, last=2.0, end=2.0) for number in range(100)]
    ttft = metrics.summarise(result(records))["latency"]["ttft"]
    assert ttft["p50"] == {"value": pytest.approx(0.505), "low": pytest.approx(0.40), "high": pytest.approx(0.61)}
    assert ttft["p90"]["value"] == pytest.approx(0.901)
    assert ttft["p99"]["value"] is None
    assert ttft["p99"]["refused"] == "p99 needs at least 368 complete answers; there are 100"
    assert (ttft["min"], ttft["max"]) == (0.01, 1.0)


def test_failures_do_not_count_as_latencies_but_as_failures(record: Make) -> None:
    bad = [
        record(cause="unavailable", detail="HTTP 503: full", first=None, last=None, end=0.1),
        record(cause="unavailable", detail="HTTP 503: later", first=None, last=None, end=0.1),
        record(cause="disconnected", detail="closed", last=0.25, end=0.25),
    ]
    summary = metrics.summarise(result([record(intended=0.0) for _unused in range(7)] + bad))
    assert summary["requests"]["ok"] == 7
    assert summary["latency"]["ttft"]["count"] == 7
    assert summary["success"]["value"] == pytest.approx(0.7)
    assert [(one["cause"], one["count"]) for one in summary["causes"]] == [("unavailable", 2), ("disconnected", 1)]
    assert summary["causes"][0]["example"] == "HTTP 503: full"
    assert summary["tokens"]["output"] == 77


def test_goodput(record: Make) -> None:
    records = [record(intended=number * 1.0) for number in range(6)]
    records += [record(intended=6.0, first=6.9, last=7.0, end=7.0), record(cause="timeout", intended=7.0, end=10.0)]
    summary = metrics.summarise(result(records), {"ttft": 0.5, "itl": 0.02})
    assert summary["goodput"]["kept"] == 6
    assert summary["goodput"]["share"]["value"] == pytest.approx(6 / 8)
    assert summary["goodput"]["requests_per_second"] == pytest.approx(0.6)


def test_goodput_of_an_open_loop_counts_the_waiting(record: Make) -> None:
    late = record(intended=0.0, sent=5.0, first=5.2, last=5.3, end=5.3)
    open_loop = LoadResult(Load(mode="open", level=1), "t", [late], ended=5.3)
    assert metrics.summarise(open_loop, {"ttft": 0.5})["goodput"]["kept"] == 0


def test_one_token_has_no_itl(record: Make) -> None:
    assert record(output_tokens=1, pieces=1, last=0.2).itl is None
    assert record(output_tokens=50, pieces=1, last=0.2).itl is None  # all in one piece: the gaps cannot be known


@pytest.mark.parametrize(
    ("first", "last", "amounts"),
    [
        (0.5, 0.9, [11.0, 0.0, 0.0]),
        (0.5, 2.5, [1 + 2.5, 5.0, 2.5]),
        (5.0, 6.0, [0.0, 0.0, 11.0]),
        (0.5, 0.5, [11.0, 0.0, 0.0]),
    ],
)
def test_tokens_are_shared_out_over_time(record: Make, first: float, last: float, amounts: list[float]) -> None:
    found = [0.0, 0.0, 0.0]
    metrics.spread(record(first=first, last=last), [0.0, 1.0, 2.0, 3.0], found)
    assert found == pytest.approx(amounts)


def test_blocks_give_the_interval_of_a_rate(record: Make) -> None:
    # two blocks of 1 s and 2 s with one answer each: 11 and 5.5 tokens/s
    records = [record(intended=0.0, end=1.0), record(intended=1.0, end=3.0)]
    rate = metrics.summarise(result(records, edges=[0.0, 1.0, 3.0]))["output_tokens_per_second"]
    assert rate["value"] == pytest.approx(22 / 3)
    assert rate["high"] == pytest.approx(8.25 + 12.706 * 2.75, rel=1e-3)  # t(1) * s / sqrt(2)
    assert rate["low"] == 0.0


def test_what_a_reader_must_know_is_said(record: Make) -> None:
    counted = record(counted=True)
    merged = record(pieces=3)
    notes = " ".join(metrics.summarise(result([counted, merged], unfinished=2, unsent=3))["notes"])
    for word in (
        "without usage",
        "fewer pieces than tokens",
        "2 requests were cut off",
        "3 requests could not be sent",
    ):
        assert word in notes


def test_nothing_measured_is_no_crash(record: Make) -> None:
    summary = metrics.summarise(result([]), {"ttft": 1.0})
    assert summary["success"]["value"] is None
    assert summary["output_tokens_per_second"]["value"] is None
    only_failures = metrics.summarise(result([record(cause="refused", end=0.1)]))
    assert only_failures["output_tokens_per_second"]["value"] == 0.0
    assert only_failures["latency"]["ttft"]["p50"]["value"] is None
