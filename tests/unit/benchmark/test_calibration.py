"""The client's own error, and the tails that it may not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import calibration
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record


def measured(record: Callable[..., Record], late: float) -> dict[str, Any]:
    """100 requests; the server wrote the first token after 0.2 s, the client saw it ``late`` seconds later."""
    records, truth = [], {}
    for number in range(100):
        start = number * 1.0
        found = record(intended=start, first=start + 0.2 + late, last=start + 0.3 + late, end=start + 0.4)
        found.request_id = str(number)
        records.append(found)
        truth[str(number)] = {"received": start, "first": start + 0.2, "last": start + 0.3, "tokens": 11}
    return calibration.compare_with_truth(records, truth, 11)


def test_the_error_is_the_difference_to_the_truth(record: Callable[..., Record]) -> None:
    found = measured(record, 0.002)
    assert found["errors"]["ttft"]["p50"]["error"] == pytest.approx(0.002)
    assert found["errors"]["ttft"]["p99"]["relative"] == pytest.approx(0.01)
    assert found["errors"]["ttft"]["p99"]["paired"] == pytest.approx(0.002)
    assert found["errors"]["itl"]["p50"]["error"] == pytest.approx(0.0)
    assert found["counts_exact"]
    assert calibration.own_error(found, "ttft_intended", "p99") == pytest.approx(0.002)
    assert calibration.own_error(None, "ttft") == 0.0
    assert "+2.00 ms (+1.00%) in TTFT p50" in calibration.describe({**found, "concurrency": 8})


def test_a_percentile_below_the_own_error_is_withheld(record: Callable[..., Record]) -> None:
    found = measured(record, 0.002)

    def summary() -> dict[str, Any]:
        return {"latency": {"ttft": {"p50": {"value": 0.03}, "p99": {"value": 0.3}, "p90": {"value": None}}}}

    content = summary()
    reasons = calibration.withhold(content, found, tolerance=0.05)
    assert len(reasons) == 1
    assert content["latency"]["ttft"]["p50"]["value"] is None
    assert "own error here is 2.00 ms, more than 5% of the measured 30.00 ms" in reasons[0]
    assert content["latency"]["ttft"]["p99"]["value"] == 0.3
    untouched = summary()
    assert calibration.withhold(untouched, None) == []
    assert untouched == summary()


def test_a_lost_answer_is_not_exact(record: Callable[..., Record]) -> None:
    assert calibration.compare_with_truth([record(cause="timeout")], {}, 11)["counts_exact"] is False
    assert "no answer" in calibration.describe({"errors": {}})
    assert "not calibrated" in calibration.describe(None)
