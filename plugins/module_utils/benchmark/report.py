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
:root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--ink:#1d2733;--soft:#66717f;--rule:#e3e7ec;--good:#1b7f4d;
--bad:#b3261e;--open:#8a6100;--c0:#1668a8;--c1:#c4512d;--c2:#3f8f4f;--c3:#7d5ba6;--c4:#a97c00;--c5:#5b6673;--c6:#c2417c;--c7:#1c8c8c}
@media(prefers-color-scheme:dark){:root{--back:#12161b;--card:#1b2129;--ink:#e6eaef;--soft:#98a3b0;--rule:#2d3641;
--good:#5fd39a;--bad:#ff8a80;--open:#f0c55b;--c0:#64b5f6;--c1:#ff9e7a;--c2:#81cf8e;--c3:#c3a2ec;--c4:#e5c055;--c5:#aab4c0;
--c6:#f48fb1;--c7:#67d0d0}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:1280px;margin:0 auto;
padding:1.6em 1.2em 3em}
h1{font-size:1.6em;margin:0}h2{font-size:1.15em;margin:2.2em 0 .6em}p.about{color:var(--soft);margin:.3em 0 1.4em}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:.8em}
.card,figure,.wide{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:.8em 1em}
.card b{display:block;font-size:1.7em;line-height:1.25;font-weight:600}.card span{color:var(--soft);font-size:.86em}
.wide{overflow-x:auto;padding:.2em .4em}
table{border-collapse:collapse;width:100%}td,th{padding:.38em .8em;border-bottom:1px solid var(--rule);text-align:right}
tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:600;font-size:.86em}
td,th{white-space:nowrap;font-variant-numeric:tabular-nums}
td:first-child,th:first-child,td.words{text-align:left}td.words{white-space:normal;min-width:16em}
small{color:var(--soft)}figure{margin:0}figcaption{font-weight:600}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:1em}
svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--soft)}
.legend{display:flex;flex-wrap:wrap}.legend span{font-size:.82em;font-weight:600;margin-right:1em;white-space:nowrap}
.legend span:before{content:"\\25CF\\00A0"}
.s0{color:var(--c0)}.s1{color:var(--c1)}.s2{color:var(--c2)}.s3{color:var(--c3)}.s4{color:var(--c4)}.s5{color:var(--c5)}
.s6{color:var(--c6)}.s7{color:var(--c7)}
.line{stroke:currentColor;fill:none;stroke-width:2}.dot{fill:currentColor;fill-opacity:.75}
.even{color:var(--soft)}.later{color:var(--bad)}.sooner{color:var(--good)}
.grid{stroke:var(--rule)}.axis{stroke:var(--ink)}.missed,.worse{color:var(--bad)}.met,.better{color:var(--good)}
.undecided,.unknown,.not_run{color:var(--open)}.none{color:var(--soft)}
ul{padding-left:1.2em;margin:.4em 0}pre{overflow-x:auto;font-size:.85em;color:var(--soft)}
summary{cursor:pointer;color:var(--soft)}
@media print{body{background:#fff}.card,figure,.wide{break-inside:avoid}}
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
    """The HTML page: one file, no script, nothing fetched."""
    report = outcome.report
    against = f" and {escape(report['against']['url'])}" if report["against"] else ""
    engine = report.get("engine")
    by = f" · by {escape(engine['name'])} {escape(engine['version'])}" if engine else ""
    title = f"Benchmark of {report['model']}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f'<p class="about">{escape(report["target"]["url"])}{against} · {report["started"]} · run {report["run"]}{by}',
        f" · ended by {escape(report['stop_reason'] or 'nothing yet')}</p>",
        _cards(report),
        _results(report["results"]),
        _comparisons(report["comparisons"]),
        _baseline(report.get("baseline")),
        _gate(report.get("gate")),
        _since_last(report.get("since_last", [])),
        f'<h2>Plots</h2><div class="plots">{"".join(_plots(outcome))}</div>',
        _causes(report["results"]),
        _own(report["results"], engine),
        f"<h2>How far to trust it</h2><p>{escape(report.get('calibration_text', ''))}</p>",
        _list([*report["notes"], *(note for one in report["results"] for note in one["notes"])]),
        _definitions(report),
        "</body></html>\n",
    ]
    return "".join(parts)


def _cards(report: Mapping[str, Any]) -> str:
    """The figures that one asks for first, of the load that generated most."""
    own = [one for one in report["results"] if one["target"] == report["target"]["label"]]
    if not own:
        return ""
    best = max(own, key=lambda one: one["output_tokens_per_second"]["value"] or 0.0)
    suffix = "_intended" if best["mode"] == "open" else ""
    latency = best["latency"]
    figures = [
        ("time to first token, median", latency[f"ttft{suffix}"]["p50"], 1000, "ms"),
        ("between two tokens, median", latency["itl"]["p50"], 1000, "ms"),
        ("whole answer, median", latency[f"e2e{suffix}"]["p50"], 1, "s"),
        ("generated tokens a second", best["output_tokens_per_second"], 1, ""),
        ("complete answers", best["success"], 100, "%"),
    ]
    cards = "".join(
        f'<div class="card"><b>{_told(figure, scale, unit)}</b><span>{words}</span></div>'
        for words, figure, scale, unit in figures
    )
    more = " (the load that generated most)" if len(own) > 1 else ""
    return f'<div class="cards">{cards}</div><p><small>{escape(best["target"])}, {_level(best)}{more}</small></p>'


def _told(figure: Mapping[str, Any], scale: float, unit: str) -> str:
    value = figure.get("value")
    return "not told" if value is None else f"{significant(value, scale)} {unit}"


def significant(value: float, scale: float) -> str:
    """Three digits, which is more than most benchmarks carry."""
    scaled = value * scale
    digits = 0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
    return f"{scaled:,.{digits}f}".replace(",", "\u202f")


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


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
    return (
        f"<h2>Results</h2>{_table(heads, rows)}"
        "<p><small>Small: 95 % interval. In an open loop latencies count from the intended send time. "
        "&ldquo;not told&rdquo;: see the reason when pointing at it.</small></p>"
    )


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
    if not comparisons:
        return ""
    heads, tails = [], []
    for one in comparisons:
        head, mark, tail = str(one["sentence"]).partition(" It holds for ")
        heads.append(f"{one['level']:g} at once: {head}")
        if mark:
            tails.append(tail.partition(" at once, ")[2])
    bounds = f"<p><small>Each holds for its load, {escape(tails[0])}</small></p>" if tails else ""
    return "<h2>Comparison, interleaved</h2>" + _list(heads) + bounds


def _baseline(baseline: Mapping[str, Any] | None) -> str:
    if not baseline:
        return ""
    lines = [f"{one['level']:g}: {one['sentence']}" for one in baseline["changes"]]
    return f"<h2>Against the run kept</h2><p>{escape(baseline['sentence'])}</p>" + _list(lines)


def _own(results: Sequence[Mapping[str, Any]], engine: Mapping[str, Any] | None) -> str:
    """An engine's own summary beside ours, from the same requests: definitions differ, and this shows by how much."""
    if not engine:
        return ""
    rows = []
    for one in results:
        for name, value in one.get("own", {}).items():
            if value is None:
                continue
            path, _unused, part = name.partition(".")
            ours = one["latency"][path][part].get("value") if part else one[path].get("value")
            scale, unit = (1000, "ms") if part else (1, "tokens/s")
            rows.append(
                f"<tr><td>{_level(one)}</td><td>{escape(name)}</td><td>{number(value, scale, 2)} {unit}</td>"
                f"<td>{number(ours, scale, 2)} {unit}</td></tr>"
            )
    if not rows:
        return ""
    heads = ("load", "figure", f"as {escape(engine['name'])} says it", "as defined here")
    return f"<h2>In the engine's own words</h2>{_table(heads, rows)}"


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
    verdict = "passed" if gate["passed"] else "failed: " + ", ".join(gate["failing"])
    return f"<h2>Expectations: {escape(verdict)}</h2>{_table(heads, rows)}"


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
    heads = ("target", "load", "figure", "last", "now", "change", "verdict")
    return f"<h2>Since {changes[0]['since']}</h2>{_table(heads, rows)}"


def _causes(results: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(one['target'])}</td><td>{_level(one)}</td><td>{found['cause']}</td><td>{found['count']}</td>"
        f'<td class="words">{escape(found["meaning"])}</td><td class="words">{escape(found["example"])}</td></tr>'
        for one in results
        for found in one["causes"]
    ]
    if not rows:
        return ""
    return f"<h2>Failures</h2>{_table(('target', 'load', 'cause', 'count', 'meaning', 'example'), rows)}"


def _plots(outcome: Outcome) -> list[str]:
    results = outcome.results

    def name_of(result: LoadResult) -> str:
        return f"{result.target} {result.load.level:g}{'/s' if result.load.mode == 'open' else ''}"

    first, between, over_time = [], [], []
    for result in results:
        suffix = "_intended" if result.load.mode == "open" else ""
        good = [record for record in result.records if record.ok]
        pairs = [
            (record.intended - result.started, value * 1000)
            for record in good
            if (value := getattr(record, f"ttft{suffix}")) is not None
        ]
        gaps = [record.itl * 1000 for record in good if record.itl is not None]
        name = name_of(result)
        first.append(plots.Series(name, plots.cumulative([value for _unused, value in pairs]), style="steps"))
        between.append(plots.Series(name, plots.cumulative(gaps), style="steps"))
        over_time.append(plots.Series(name, pairs, style="dots"))
    share = "share of requests"
    timed = not outcome.report.get("engine") or any(x > 0 for one in over_time for x, _unused in one.points)
    when = "seconds since the start" if timed else "the engine does not say when"
    drawn = [
        plots.chart("Distribution of the time to first token", "TTFT, ms", share, first),
        plots.chart("Distribution of the inter-token latency", "ITL, ms", share, between),
        plots.chart("Time to first token over time", when, "TTFT, ms", over_time),
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
        drawn.append(plots.forest("Difference, measured in turns", rows, unit))
    if stored := outcome.report.get("baseline"):
        changes = [
            (f"{one['metric']}, {one['level']:g}", one["value"] * 1000, one["low"] * 1000, one["high"] * 1000)
            for one in stored["changes"]
            if one["value"] is not None
        ]
        unit = f"ms, now minus {stored['started']} (right: slower now)"
        drawn.append(plots.forest("Change since the run kept", changes, unit))
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
        bars = [(rate.get("low", rate["value"]), rate.get("high", rate["value"])) for rate in rates]
        series.append(plots.Series(target, points, bars, style="both"))
    return series


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(one)}</li>" for one in dict.fromkeys(sentences))
    return f"<ul>{items}</ul>" if items else ""


def _definitions(report: Mapping[str, Any]) -> str:
    words = report["definitions"].items()
    rows = "".join(f"<tr><td>{name}</td><td class='words'>{escape(text)}</td></tr>" for name, text in words)
    content = json.dumps({key: report[key] for key in ("workload", "plan", "client")}, indent=1)
    return (
        f'<h2>Definitions</h2><div class="wide"><table>{rows}</table></div>'
        "<h2>What was asked</h2><details><summary>workload, bounds and client</summary>"
        f"<pre>{escape(content)}</pre></details>"
    )
