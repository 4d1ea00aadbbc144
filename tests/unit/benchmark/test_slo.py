"""Expectations as data, and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import slo
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

BOOK = Path(__file__).resolve().parents[3] / "plugins/plugin_utils/slo.yml"


def summary(level: float = 10, **figures: tuple[float, float, float]) -> dict[str, Any]:
    content: dict[str, Any] = {"mode": "closed", "level": level, "latency": {"ttft": {}, "itl": {}}}
    for name, (value, low, high) in figures.items():
        figure = {"value": value, "low": low, "high": high}
        if "_p" in name:
            metric, percentile = name.split("_")
            content["latency"][metric][percentile] = figure
        else:
            content[name] = figure
    return content


LATENCY = {"metric": "ttft.p50", "at_least": 0.3, "at_most": 0.8}
RATE = {"metric": "tokens", "at_least": 500, "at_most": 1500, "better": "higher"}


@pytest.mark.parametrize(
    ("measure", "figure", "verdict", "beyond"),
    [
        (LATENCY, {"ttft_p50": (0.5, 0.4, 0.6)}, "met", False),
        (LATENCY, {"ttft_p50": (0.9, 0.85, 1.0)}, "missed", False),
        (LATENCY, {"ttft_p50": (0.9, 0.7, 1.0)}, "undecided", False),
        (LATENCY, {"ttft_p50": (0.75, 0.7, 0.9)}, "undecided", False),
        (LATENCY, {"ttft_p50": (0.1, 0.09, 0.11)}, "met", True),
        (RATE, {"tokens": (600.0, 550.0, 650.0)}, "met", False),
        (RATE, {"tokens": (400.0, 380.0, 420.0)}, "missed", False),
        (RATE, {"tokens": (2000.0, 1900.0, 2100.0)}, "met", True),
    ],
)
def test_judging(measure: dict[str, Any], figure: dict[str, Any], verdict: str, beyond: bool) -> None:
    outcome = slo.judge(summary(**figure), measure)
    assert outcome["verdict"] == verdict
    assert outcome["beyond"] is beyond


def test_what_was_withheld_is_unknown_with_its_reason() -> None:
    content = summary()
    content["latency"]["ttft"]["p50"] = {"value": None, "refused": "too few"}
    outcome = slo.judge(content, LATENCY)
    assert (outcome["verdict"], outcome["why"]) == ("unknown", "too few")


@pytest.mark.parametrize(
    ("supported", "mode", "passed"),
    [
        ("yes", "supported", False),
        ("no", "supported", True),
        ("partly", "supported", True),
        ("no", "all", False),
        ("yes", "off", True),
    ],
)  # fmt: skip
def test_only_what_counts_fails(supported: str, mode: str, passed: bool) -> None:
    verdict = slo.gate([summary(ttft_p50=(2.0, 1.9, 2.1))], [{**LATENCY, "supported": supported}], mode)
    assert verdict["passed"] is passed
    assert verdict["outcomes"][0]["verdict"] == "missed"


@pytest.mark.parametrize(("mode", "passed"), [("supported", True), ("all", False), ("off", True)])
def test_a_load_that_was_not_run_fails_only_where_all_must_hold(mode: str, passed: bool) -> None:
    verdict = slo.gate([summary(level=4, ttft_p50=(0.5, 0.4, 0.6))], [{**LATENCY, "concurrency": 10}], mode)
    assert verdict["passed"] is passed
    assert verdict["outcomes"][0]["verdict"] == "not_run"
    assert verdict["outcomes"][0]["why"] == "no run at 10 at once"


@pytest.mark.parametrize(
    "measure",
    [{}, {"metric": "x"}, {"metric": "x", "at_most": "1"}, {"metric": "x", "at_most": 1, "supported": "maybe"}],
)
def test_a_malformed_expectation_is_refused(measure: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        slo.check([measure])
    assert caught.value.code == "EXPECTATION_INVALID"


def test_the_shipped_book() -> None:
    book = yaml.safe_load(BOOK.read_text(encoding="utf-8"))
    measures = slo.select(book, "google/gemma-2b-it", "nvidia-tesla-t4")
    slo.check(measures)
    assert {one["metric"]: one["supported"] for one in measures} == {
        "ttft.p50": "no",
        "itl.p50": "partly",
        "output_tokens_per_second": "no",
        "success": "yes",
    }
    assert all(one["why"] for one in measures)
    assert slo.select(book, "other", "nvidia-tesla-t4") == []
