# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run comes down to: lines for a person, and the error that ends the task where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError, LlmdError


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """One line a load and endpoint, then the comparisons and changes in words."""
    lines = [_line(summary) for summary in report["results"]]
    lines += [comparison["sentence"] for comparison in report["comparisons"]]
    if report.get("baseline"):
        stored = report["baseline"]
        lines += [f"{one['level']:g}: {one['sentence']}" for one in stored["changes"]] + [stored["sentence"]]
    for change in report.get("since_last", []):
        moved = [one for one in change["figures"] if one["verdict"] != "same"]
        words = ", ".join(f"{one['metric']} {one['relative'] * 100:+.1f} % ({one['verdict']})" for one in moved)
        lines.append(f"{change['target']} at {change['level']:g} since {change['since']}: {words or 'no change'}")
    return lines


def _line(summary: Mapping[str, Any]) -> str:
    open_loop = summary["mode"] == "open"
    ttft = summary["latency"]["ttft_intended" if open_loop else "ttft"]
    requests = summary["requests"]
    parts = [
        f"{summary['target']}, {summary['level']:g} {'requests/s' if open_loop else 'at once'}",
        f"{requests['ok']} of {requests['finished']} complete",
        f"TTFT p50 {_figure(ttft['p50'], 1000, 'ms')}, p99 {_figure(ttft['p99'], 1000, 'ms')}",
        f"ITL p50 {_figure(summary['latency']['itl']['p50'], 1000, 'ms')}",
        f"{_figure(summary['output_tokens_per_second'], 1, 'tokens/s')}",
    ]
    parts += [f"{found['count']} {found['cause']}" for found in summary["causes"]]
    return "; ".join(parts)


def _figure(figure: Mapping[str, Any], scale: float, unit: str) -> str:
    if figure.get("value") is None:
        return "not told"
    interval = ""
    if figure.get("low") is not None:
        interval = f" ({figure['low'] * scale:.1f}..{figure['high'] * scale:.1f})"
    return f"{figure['value'] * scale:.1f}{interval} {unit}"


def failure_of(report: Mapping[str, Any]) -> LlmdError | None:
    """The error a run ends with, None where it is as it should be."""
    where = report["target"]["url"]
    causes: dict[str, int] = {}
    for summary in report["results"]:
        for found in summary["causes"]:
            causes[found["cause"]] = causes.get(found["cause"], 0) + found["count"]
    most = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items(), key=lambda pair: -pair[1]))
    examples = [found["example"] for summary in report["results"] for found in summary["causes"]]
    if report["stop_reason"] == "interrupted":
        return InferenceError(
            "The benchmark was interrupted; what was measured until then is in the report.",
            code="BENCHMARK_INTERRUPTED",
            where=where,
            remedy="Run it again for the whole.",
        )
    if report["stop_reason"] == "error_budget":
        return InferenceError(
            "The benchmark ended early: more requests failed than the error budget allows.",
            code="BENCHMARK_ERROR_BUDGET_SPENT",
            where=where,
            why=f"{most}; for example: {examples[0] if examples else ''}",
            remedy="Look at the causes; run playbooks/verify.yml, or benchmark with less load.",
        )
    if report["results"] and not any(summary["requests"]["ok"] for summary in report["results"]):
        return InferenceError(
            "No request was answered completely.",
            code="BENCHMARK_NO_ANSWER",
            where=where,
            why=f"{most}; for example: {examples[0]}" if examples else _nothing(report),
            remedy="Run playbooks/verify.yml; raise duration or the timeouts if the model is that slow.",
        )
    gate = report.get("gate")
    if gate and not gate["passed"]:
        failing = [one for one in gate["outcomes"] if one["metric"] in gate["failing"] and one["gated"]]
        words = "; ".join(f"{one['metric']} {one['verdict']} ({_bound(one)})" for one in failing)
        return InferenceError(
            "The figures miss what was expected.",
            code="BENCHMARK_EXPECTATION_MISSED",
            where=where,
            why=words,
            remedy="See the report's table of expectations; set gate to off to measure without judging.",
        )
    return None


def _nothing(report: Mapping[str, Any]) -> str:
    asked = any(summary["requests"]["unfinished"] or summary["requests"]["unsent"] for summary in report["results"])
    return "no request ended within the time" if asked else "none was sent: requests is 0, or the duration too short"


def _bound(one: Mapping[str, Any]) -> str:
    bounds = [
        f"{word} {one[key]:g}" for key, word in (("at_least", ">="), ("at_most", "<=")) if one.get(key) is not None
    ]
    measured = one.get("why") if one["value"] is None else f"measured {one['value']:.4g}"
    return f"wanted {' and '.join(bounds)}, {measured}"
