# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's report as one HTML page: no script, no font, nothing from elsewhere; light and dark, for screen and phone."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import report_drawing

STYLE = Path(__file__).resolve().parent / "report.css"
Json = Mapping[str, Any]
WORDS = {"passed": "verified", "failed": "failed", "done": "done", "dry": "dry run"}
TONES = {"passed": "good", "failed": "bad", "done": "good", "dry": "plain"}
SEVERITIES = {"error": "bad", "critical": "bad", "warning": "warn"}


def stages_of(marks: Sequence[Json]) -> list[dict[str, Any]]:
    """What lies between marks ({name, at}): {name, seconds, begin (seconds after the first mark)}."""
    stages = []
    for before, after in itertools.pairwise(marks):
        begin, end = float(before["at"]) - float(marks[0]["at"]), float(after["at"]) - float(marks[0]["at"])
        stages.append({"name": str(after["name"]), "seconds": round(end - begin, 3), "begin": round(begin, 3)})
    return stages


def page(report: Json) -> str:
    """The whole page. ``report``: the document that is also kept as JSON; what is missing in it is left out."""
    title = f"{report.get('run') or 'run'} · {report.get('deployment', '')}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>llm-d {escape(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head><body><main>",
        _head(report),
        _cards(report),
        _failure(report),
        _findings(report),
        _topology(report),
        _timeline(report),
        '<div class="two">',
        _checks(report),
        _cost(report),
        "</div>",
        _lines(report),
        _next(report),
        _versions(report),
        _foot(report),
        "</main></body></html>\n",
    ]
    return "".join(parts)


def duration(seconds: float) -> str:
    """Seconds for a person."""
    if seconds < 99.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}h {minutes % 60:02}m" if minutes >= 60 else f"{minutes}m {rest:02}s"


def money(usd: float | None, digits: int = 2) -> str:
    return "?" if usd is None else f"{usd:,.{digits}f}"


def moment(text: str) -> str:
    """An ISO moment for a person."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return found.strftime("%-d %B %Y, %H:%M UTC") if found.tzinfo else text


def words(value: object) -> str:
    """A value as text that is safe in a page; nothing for nothing."""
    return "" if value is None else escape(str(value))


def section(title: str, body: str, note: str = "", kind: str = "") -> str:
    small = f' <small class="soft">{escape(note)}</small>' if note else ""
    return f'<section class="{kind}"><h2>{escape(title)}{small}</h2>{body}</section>'


def _head(report: Json) -> str:
    outcome = str(report.get("outcome") or "done")
    where = " · ".join(str(report[key]) for key in ("cluster", "location", "project") if report.get(key))
    return (
        f'<header><div><p class="soft kicker">llm-d on GKE · {escape(str(report.get("run") or "run"))}</p>'
        f"<h1>{escape(str(report.get('deployment', '')))}</h1>"
        f'<p class="soft">{escape(where)}<br>{escape(moment(str(report.get("at") or "")))}</p></div>'
        f'<span class="pill {TONES.get(outcome, "plain")}">{escape(WORDS.get(outcome, outcome))}</span></header>'
    )


def _cards(report: Json) -> str:
    cards = []
    checks = report.get("checks") or []
    if checks:
        good = sum(bool(check.get("ok")) for check in checks)
        cards.append(("verified", f"{good} of {len(checks)}", "good" if good == len(checks) else "bad"))
    stages = report.get("stages") or []
    if stages:
        cards.append(("took", duration(sum(float(stage["seconds"]) for stage in stages)), ""))
    estimate, cost = report.get("estimate") or {}, report.get("cost") or {}
    if cost:
        cards.append(("running", f"{money(cost['usd'])} USD/h", ""))
    if estimate:
        cards.append(("paused", f"{money(estimate['paused']['usd'])} USD/h", ""))
    if report.get("model"):
        cards.append(("model", str(report["model"]), "words"))
    if report.get("lease"):
        cards.append(_lease(report["lease"]))
    cards += [(str(one["name"]), str(one["value"]), "words") for one in report.get("facts") or []]
    shown = "".join(
        f'<div class="card {kind}"><span class="soft">{escape(name)}</span><b>{escape(value)}</b></div>'
        for name, value, kind in cards
    )
    return f'<div class="cards">{shown}</div>' if shown else ""


def _lease(lease: Json) -> tuple[str, str, str]:
    """The card of a lease: how long it still is."""
    if lease.get("expired"):
        return "lease", f"over since {moment(str(lease.get('until') or ''))}", "words bad"
    return "leased until", moment(str(lease.get("until") or "")), "words"


def _failure(report: Json) -> str:
    failure = report.get("failure") or {}
    if not failure:
        return ""
    task = f"<p class='soft'>at: {escape(str(failure.get('task')))}</p>" if failure.get("task") else ""
    return section(
        "Why it failed", f"<pre class='bad'>{escape(str(failure.get('message')))}</pre>{task}", kind="bad-edge"
    )


def _findings(report: Json) -> str:
    findings = report.get("findings") or []
    if not findings:
        return ""
    items = []
    for one in findings:
        tone = SEVERITIES.get(str(one.get("severity")), "plain")
        follows = ""
        if one.get("follows_from"):
            follows = f" <small class='soft'>follows from {words(one['follows_from'])}</small>"
        remedy = f"<p class='soft'>{words(one['remedy'])}</p>" if one.get("remedy") else ""
        items.append(
            f'<li><span class="tag {tone}">{words(one.get("severity"))}</span> '
            f"<code>{words(one.get('code'))}</code>{follows}<p>{words(one.get('what'))}</p>{remedy}</li>"
        )
    return section("Findings", f'<ul class="findings">{"".join(items)}</ul>', f"{len(findings)}, causes first")


def _topology(report: Json) -> str:
    topology = report.get("topology") or {}
    if not topology.get("pools"):
        return ""
    legend = '<p class="legend soft"><i class="good"></i>healthy <i class="bad"></i>not <i class="unknown"></i>not read'
    legend += ' <span class="dash"></span>asks before each request</p>'
    return section("Topology", report_drawing.across(topology) + report_drawing.down(topology) + legend)


def _timeline(report: Json) -> str:
    stages = list(report.get("stages") or [])
    if not stages:
        return ""
    begin, placed = 0.0, []
    for stage in stages:
        start = float(stage.get("begin", begin))
        placed.append((str(stage["name"]), start, float(stage["seconds"]), str(stage.get("kind") or "")))
        begin = start + float(stage["seconds"])
    whole = max(max(start + seconds for _name, start, seconds, _kind in placed), 0.001)
    rows = []
    for number, (name, start, seconds, kind) in enumerate(placed):
        left, width = 100 * start / whole, max(0.4, 100 * seconds / whole)
        tone = "failed" if report.get("outcome") == "failed" and number == len(placed) - 1 else kind
        rows.append(
            f'<div class="stage"><span>{escape(name)}</span><div class="track" title="{escape(name)}: begins after '
            f'{duration(start)}, takes {duration(seconds)}"><i class="{escape(tone)}" style="left:{left:.2f}%;width:'
            f'{min(width, 100 - left):.2f}%"></i></div><b>{duration(seconds)}</b></div>'
        )
    marks = "".join(f"<i style='left:{25 * part}%'>{duration(whole * part / 4)}</i>" for part in range(5))
    axis = f'<div class="stage axis"><span></span><div class="track">{marks}</div><b></b></div>'
    return section("Timeline", f'<div class="gantt">{"".join(rows)}{axis}</div>', f"{duration(whole)} in all")


def _checks(report: Json) -> str:
    checks = report.get("checks") or []
    if not checks:
        return ""
    rows = ""
    for one in checks:
        tone, verdict = ("good", "PASS") if one.get("ok") else ("bad", "FAIL")
        rows += f'<tr><td><span class="tag {tone}">{verdict}</span></td><td><b>{words(one.get("name"))}</b><br>'
        rows += f'<span class="soft">{words(one.get("detail"))}</span></td></tr>'
    return section("Verification", f"<table>{rows}</table>")


def _cost(report: Json) -> str:
    cost, estimate = report.get("cost") or {}, report.get("estimate") or {}
    if not cost:
        return ""
    rows = "".join(
        f"<tr><td>{words(line['what'])}</td><td class='number'>{money(line['usd'], 4)}</td></tr>"
        for line in cost.get("lines") or []
    )
    rows += f"<tr class='sum'><td>in all, an hour</td><td class='number'>{money(cost['usd'])} USD</td></tr>"
    missing = ""
    if not cost.get("complete", True):
        missing = "<p class='warn'>COST_INCOMPLETE: a price marked ? is not listed; set it in llmd_prices.</p>"
    source = str(cost.get("provenance") or f"list prices of {cost.get('region')}, {cost.get('as_of')}")
    bars = _estimate(estimate) if estimate else ""
    return section("Cost", f"{bars}<table>{rows}</table>{missing}<p class='soft'>{escape(source)}; not a bill.</p>")


def _estimate(estimate: Json) -> str:
    """Running beside paused, and what a month of either costs."""
    top, bars = max(float(estimate["running"]["usd"]), 0.01), ""
    for name in ("running", "paused"):
        usd = float(estimate[name]["usd"])
        bars += f'<div class="bar"><span>{name}</span><div><i class="{name}" style="width:{100 * usd / top:.1f}%">'
        bars += f"</i></div><b>{money(usd)} USD/h</b></div>"
    month = estimate["month"]
    bars += f"<p>Forgotten for a month: <b>{money(month['running'], 0)} USD</b> running, "
    bars += f"<b>{money(month['paused'], 0)} USD</b> paused.</p>"
    if estimate.get("million_tokens"):
        price = f"<b>{money(estimate['million_tokens'])} USD</b>"
        bars += f"<p>A million output tokens: {price} at the last benchmark's rate.</p>"
    return bars


def _lines(report: Json) -> str:
    lines = [str(line) for line in report.get("lines") or []]
    return section("What was done", f"<pre>{escape(chr(10).join(lines))}</pre>") if lines else ""


def _next(report: Json) -> str:
    commands = report.get("commands") or []
    rows = "".join(f"<dt>{words(one['name'])}</dt><dd><code>{words(one['command'])}</code></dd>" for one in commands)
    return section("Next", f"<dl class='commands'>{rows}</dl>") if rows else ""


def _versions(report: Json) -> str:
    versions = report.get("versions") or {}
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td class='words'>{escape(str(value))}</td></tr>"
        for name, value in versions.items()
        if value
    )
    return section("Versions", f"<table class='versions'>{rows}</table>") if rows else ""


def _foot(report: Json) -> str:
    file = str(report.get("json_name") or "")
    link = f'The same as data: <a href="{escape(file, quote=True)}">{escape(file)}</a>. ' if file else ""
    return f'<footer class="soft">{link}Written by the collection llmd.gke; no secret is in it.</footer>'
