# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a benchmark down: JSON for programs, one self-contained HTML page for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark import plots
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.job import Outcome, writing
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import LoadResult

BOUNDS = (("at_least", "≥"), ("at_most", "≤"))
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#222;max-width:1360px;margin:2em auto;padding:0 1.2em}
h1{font-size:1.5em;margin-bottom:0}h2{font-size:1.15em;margin-top:2em}
table{border-collapse:collapse}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:right}
td,th{white-space:nowrap}
td:first-child,th:first-child,td.words{text-align:left}td.words{white-space:normal}
small{color:#666}figure{margin:0}figcaption{font-weight:600}.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:1.2em}
svg{width:100%;background:#fcfcfc;border:1px solid #eee}svg text{font-size:11px}svg text[fill]{font-weight:600}
.grid{stroke:#e4e4e4}.axis{stroke:#222}.missed,.worse{color:#b3261e}.met,.better{color:#2e7d32}
.undecided,.unknown,.not_run{color:#8a6d00}
.none{color:#666}
ul{padding-left:1.2em}
"""


def write(outcome: Outcome, directory: str) -> dict[str, str]:
    """benchmark.json and benchmark.html in ``directory``; their paths. Raises LlmdError ARTIFACT_NOT_WRITTEN."""
    if not directory:
        return {}
    paths = {name: str(Path(directory) / f"benchmark.{name}") for name in ("json", "html")}
    with writing(directory):
        os.makedirs(directory, exist_ok=True)
        _replace(paths["json"], json.dumps(outcome.report, indent=2) + "\n")
        _replace(paths["html"], page(outcome))
    return {**paths, "requests": str(Path(directory) / "requests.jsonl")}


def _replace(path: str, text: str) -> None:
    """All or nothing: a reader never sees half a file."""
    part = f"{path}.part"
    Path(part).write_text(text, encoding="utf-8")
    os.replace(part, path)


def page(outcome: Outcome) -> str:
    """The HTML page."""
    report = outcome.report
    against = f" and {escape(report['against']['url'])}" if report["against"] else ""
    title = f"Benchmark of {report['model']}"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p>{escape(report['target']['url'])}{against} · {report['started']} · run {report['run']} · "
        f"ended by {escape(report['stop_reason'] or 'nothing yet')}</p>",
        _results(report["results"]),
        _comparisons(report["comparisons"]),
        _gate(report.get("gate")),
        _since_last(report.get("since_last", [])),
        f'<h2>Plots</h2><div class="plots">{"".join(_plots(outcome))}</div>',
        _causes(report["results"]),
        f"<h2>How far to trust it</h2><p>{escape(report.get('calibration_text', ''))}</p>",
        _list([*report["notes"], *(note for one in report["results"] for note in one["notes"])]),
        _definitions(report),
        "</body></html>\n",
    ]
    return "".join(parts)


def number(value: float | None, scale: float = 1.0, digits: int = 1) -> str:
    """A figure, or a dash."""
    return "-" if value is None else f"{value * scale:.{digits}f}"


def cell(figure: Mapping[str, Any], scale: float = 1.0, digits: int = 1) -> str:
    """A table cell: value and interval; the reason on a withheld one."""
    if figure.get("value") is None:
        return f'<td title="{escape(str(figure.get("refused", "not measured")), quote=True)}">not told</td>'
    interval = ""
    if figure.get("low") is not None:
        interval = f" <small>{number(figure['low'], scale, digits)}..{number(figure['high'], scale, digits)}</small>"
    return f"<td>{number(figure['value'], scale, digits)}{interval}</td>"


def _level(summary: Mapping[str, Any]) -> str:
    return f"{summary['level']:g} {'requests/s' if summary['mode'] == 'open' else 'at once'}"


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    heads = [
        "target", "load", "complete", "failed", "TTFT p50 ms", "p90", "p99", "ITL p50 ms", "whole p50 ms",
        "tokens/s", "requests/s", "good of all %",
    ]  # fmt: skip
    rows = []
    for one in results:
        latency = one["latency"]
        suffix = "_intended" if one["mode"] == "open" else ""
        ttft, whole = latency[f"ttft{suffix}"], latency[f"e2e{suffix}"]
        cells = [f"<td>{escape(one['target'])}</td><td>{_level(one)}</td><td>{one['requests']['ok']}</td>"]
        cells.append(f"<td>{one['requests']['failed']}</td>")
        cells += [cell(ttft[name], 1000) for name in ("p50", "p90", "p99")]
        cells += [cell(latency["itl"]["p50"], 1000, 2), cell(whole["p50"], 1000)]
        cells += [cell(one["output_tokens_per_second"]), cell(one["requests_per_second"], 1, 2)]
        good = one["goodput"]["share"] if one["goodput"] else {"value": None, "refused": "no SLO was given"}
        cells.append(cell(good, 100))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f"<h2>Results</h2><table><tr>{head}</tr>{''.join(rows)}</table>"
        "<p><small>Small: 95 % interval. In an open loop latencies count from the intended send time. "
        "“not told”: see the reason when pointing at it.</small></p>"
    )


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
    if not comparisons:
        return ""
    return "<h2>Comparison, interleaved</h2>" + _list([one["sentence"] for one in comparisons])


def _gate(gate: Mapping[str, Any] | None) -> str:
    if not gate or not gate["outcomes"]:
        return ""
    rows = []
    for one in gate["outcomes"]:
        bounds = " ".join(f"{sign} {one[key]:g}" for key, sign in BOUNDS if one.get(key) is not None)
        beyond = " (better than the band)" if one.get("beyond") else ""
        level = "" if one["level"] is None else f"{one['level']:g}"
        rows.append(
            f"<tr><td>{escape(one['metric'])}</td><td>{level}</td><td>{bounds}</td>"
            f"<td>{number(one['value'], 1, 4)}</td>"
            f'<td class="{one["verdict"]}">{one["verdict"]}{beyond}</td><td>{"yes" if one["gated"] else "no"}</td>'
            f'<td>{one["supported"]}</td><td class="words">{escape(str(one.get("why", "")))}</td></tr>'
        )
    heads = ("expectation", "at once", "bound", "measured", "verdict", "can fail", "supported by its source", "why")
    head = "".join(f"<th>{name}</th>" for name in heads)
    verdict = "passed" if gate["passed"] else "failed: " + ", ".join(gate["failing"])
    return f"<h2>Expectations: {escape(verdict)}</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _since_last(changes: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for change in changes:
        for one in change["figures"]:
            rows.append(
                f"<tr><td>{escape(change['target'])}</td><td>{change['level']:g}</td><td>{one['metric']}</td>"
                f"<td>{one['before']:.4g}</td><td>{one['now']:.4g}</td><td>{(one['relative'] or 0) * 100:+.1f} %</td>"
                f'<td class="{one["verdict"]}">{one["verdict"]}</td></tr>'
            )
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("target", "load", "figure", "last", "now", "change", "verdict"))
    return f"<h2>Since {changes[0]['since']}</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _causes(results: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(one['target'])}</td><td>{_level(one)}</td><td>{found['cause']}</td><td>{found['count']}</td>"
        f'<td class="words">{escape(found["meaning"])}</td><td class="words">{escape(found["example"])}</td></tr>'
        for one in results
        for found in one["causes"]
    ]
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("target", "load", "cause", "count", "meaning", "example"))
    return f"<h2>Failures</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _plots(outcome: Outcome) -> list[str]:
    results = outcome.results

    def name_of(result: LoadResult) -> str:
        return f"{result.target} {result.load.level:g}{'/s' if result.load.mode == 'open' else ''}"

    distribution, over_time = [], []
    for result in results:
        suffix = "_intended" if result.load.mode == "open" else ""
        pairs = [
            (record.intended - result.started, value * 1000)
            for record in result.records
            if record.ok and (value := getattr(record, f"ttft{suffix}")) is not None
        ]
        distribution.append(plots.Series(name_of(result), plots.cumulative([value for _, value in pairs])))
        over_time.append(plots.Series(name_of(result), pairs, style="dots"))
    drawn = [
        plots.chart("Distribution of the time to first token", "TTFT, ms", "share of requests", distribution),
        plots.chart("Time to first token over time", "seconds since the start", "TTFT, ms", over_time),
        plots.chart(
            "Throughput against load", "at once (or requests/s)", "output tokens/s", _throughput(outcome.report)
        ),
    ]
    rows = [
        (f"{one['metric']} p50, {one['level']:g} at once", one["value"] * 1000, one["low"] * 1000, one["high"] * 1000)
        for one in outcome.report["comparisons"]
        if one["value"] is not None
    ]
    if outcome.report["against"]:
        labels = (outcome.report["target"]["label"], outcome.report["against"]["label"])
        unit = f"ms, {labels[0]} minus {labels[1]} (right: {labels[0]} is slower)"
        drawn.append(plots.forest("Difference", rows, unit))
    return [f"<figure>{one}</figure>" for one in drawn]


def _throughput(report: Mapping[str, Any]) -> list[plots.Series]:
    by_target: dict[str, list[Mapping[str, Any]]] = {}
    for one in report["results"]:
        if one["output_tokens_per_second"].get("value"):
            by_target.setdefault(one["target"], []).append(one)
    series = []
    for target, those in by_target.items():
        those = sorted(those, key=lambda one: float(one["level"]))
        rates = [one["output_tokens_per_second"] for one in those]
        points = [(one["level"], rate["value"]) for one, rate in zip(those, rates, strict=True)]
        series.append(plots.Series(target, points, [(rate["low"], rate["high"]) for rate in rates], style="both"))
    return series


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(one)}</li>" for one in dict.fromkeys(sentences))
    return f"<ul>{items}</ul>" if items else ""


def _definitions(report: Mapping[str, Any]) -> str:
    words = report["definitions"].items()
    rows = "".join(f"<tr><td>{name}</td><td class='words'>{escape(text)}</td></tr>" for name, text in words)
    content = json.dumps({key: report[key] for key in ("workload", "plan", "client")}, indent=1)
    return f"<h2>Definitions</h2><table>{rows}</table><h2>What was asked</h2><pre>{escape(content)}</pre>"
