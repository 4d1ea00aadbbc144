# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expectations as data, and the gate that holds a measurement against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

GATES = ("supported", "all", "off")
SUPPORT = ("yes", "partly", "no")


def select(book: Mapping[str, Any], model: str, accelerator: str) -> list[dict[str, Any]]:
    """The expectations of a book (plugin_utils/slo.yml) for a model on an accelerator; [] where it has none."""
    for entry in book.get("expectations", []):
        if entry["model"] == model and entry["accelerator"] == accelerator:
            return [dict(measure) for measure in entry["measures"]]
    return []


def check(measures: Sequence[Mapping[str, Any]]) -> None:
    """Refuse malformed expectations. Raises ConfigurationError EXPECTATION_INVALID."""
    for measure in measures:
        path = str(measure.get("metric") or "")
        bounds = [measure.get(name) for name in ("at_least", "at_most")]
        numbers = [bound for bound in bounds if bound is not None]
        if not path or not numbers or not all(isinstance(bound, (int, float)) for bound in numbers):
            raise ConfigurationError(
                f"{dict(measure)} is no expectation.",
                code="EXPECTATION_INVALID",
                remedy="Give metric (such as ttft.p50 or output_tokens_per_second) with at_least or at_most, numbers.",
            )
        if measure.get("supported", "yes") not in SUPPORT:
            raise ConfigurationError(
                f"{path}: supported is {measure['supported']!r}.",
                code="EXPECTATION_INVALID",
                remedy="supported is one of yes, partly, no.",
            )


def find(summary: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """The figure of a summary by name (ttft.p50, success, output_tokens_per_second, goodput.share), {} if none."""
    node: Any = summary
    parts = metric.split(".")
    if parts[0] in summary.get("latency", {}):
        node = summary["latency"]
    for part in parts:
        node = node.get(part) if isinstance(node, Mapping) else None
    if isinstance(node, (int, float)):
        return {"value": node}
    return node if isinstance(node, Mapping) else {}


def judge(summary: Mapping[str, Any], measure: Mapping[str, Any]) -> dict[str, Any]:
    """One expectation against one measurement.

    verdict: met, missed, undecided (the limit lies within the 95 % interval), unknown (not measured). A value on the
    good side of a band is met; ``beyond`` then says that it is better than the band: another model, another machine?
    """
    figure = find(summary, str(measure["metric"]))
    value = figure.get("value")
    outcome = {**measure, "level": summary.get("level"), "value": value}
    outcome.update(low=figure.get("low"), high=figure.get("high"))
    outcome.setdefault("supported", "yes")
    if value is None:
        return {**outcome, "verdict": "unknown", "why": figure.get("refused") or "not measured"}
    low, high = figure.get("low", value), figure.get("high", value)
    least, most = measure.get("at_least"), measure.get("at_most")
    # a latency's band is kept from below as well where the data say so, but only the bad side can miss it
    bad_below = measure.get("better", "lower") == "higher"
    limit = least if bad_below else most
    if limit is None:
        limit, bad_below = (least, True) if least is not None else (most, False)
    certain = (high < limit) if bad_below else (low > limit)
    wrong = (value < limit) if bad_below else (value > limit)
    open_question = low <= limit <= high and low != high
    verdict = "missed" if certain else "undecided" if open_question else "missed" if wrong else "met"
    beyond = most is not None and value > most if bad_below else least is not None and value < least
    return {**outcome, "verdict": verdict, "beyond": bool(beyond)}


def gate(summaries: Sequence[Mapping[str, Any]], measures: Sequence[Mapping[str, Any]], mode: str) -> dict[str, Any]:
    """All expectations against the measurements they are meant for.

    measures may name a ``concurrency``: then only that level counts; without one every level of a closed loop does.
    mode: supported (only expectations whose source's own data support them can fail), all, off. Undecided ones do not
    fail; unknown ones do: what was to be shown was not. An expectation for a load that was not run (not_run) fails only
    where all must hold: who measures another load asks another question.
    """
    outcomes = []
    for measure in measures:
        level = measure.get("concurrency")
        fitting = [one for one in summaries if one["mode"] == "closed" and (level is None or one["level"] == level)]
        if not fitting:
            why = f"no run at {level} at once" if level else "no closed-loop run"
            missing = {"supported": "yes", **measure, "level": level, "value": None}
            outcomes.append({**missing, "verdict": "not_run", "why": why})
        outcomes += [judge(summary, measure) for summary in fitting]
    failing = []
    for outcome in outcomes:
        counts = mode == "all" or (mode == "supported" and outcome["supported"] == "yes")
        outcome["gated"] = counts
        if counts and outcome["verdict"] in ("missed", "unknown", *(("not_run",) if mode == "all" else ())):
            failing.append(outcome)
    return {"mode": mode, "passed": not failing, "outcomes": outcomes, "failing": [item["metric"] for item in failing]}
