# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All deployments of an inventory on one page: a row for each, as lines for a terminal and as HTML. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils.report_page import STYLE, moment, money, words

Json = Mapping[str, Any]
# State -> how it is shown. What is first is the worst, and where the table begins.
TONES = {"unknown": "bad", "broken": "bad", "degraded": "warn", "paused": "plain", "absent": "plain", "serving": "good"}
STYLE_OF_TABLE = (
    "th{text-align:left;font-weight:600;color:var(--soft);padding:.3em 1em .5em 0;white-space:nowrap}"
    ".fleet td{padding-right:1em}.fleet .tag{white-space:nowrap}.fleet td:nth-child(3){min-width:11em}"
    # On a phone each deployment is a block, and what a column's head would say stands before its value.
    "@media(max-width:900px){.fleet tr{display:block;border-top:1px solid var(--line);padding:.6em 0}"
    ".fleet tr:first-child{display:none}.fleet td{display:block;border:0;padding:.12em 0}"
    ".fleet td[data-of]::before{content:attr(data-of) ' ';color:var(--soft)}}"
)


def state_of(status: Json, error: str) -> str:
    """In a word: serving, degraded, broken, paused, absent (no cluster), or unknown where it could not be looked at."""
    lease = status.get("lease") or {}
    if not status:
        return "unknown"
    if lease.get("state") == "no_cluster":
        return "absent"
    if lease.get("paused_since"):
        return "paused"
    replicas = status.get("replicas") or {}
    ready, wanted = int(replicas.get("ready") or 0), replicas.get("wanted")
    if not status.get("endpoint") or ready == 0:
        return "broken"
    errors = any(one.get("severity") in ("error", "critical") for one in status.get("findings") or [])
    return "degraded" if error or errors or (wanted is not None and ready < int(wanted)) else "serving"


def verified(last: Json) -> str:
    """What the last verification said: passed, failed or never."""
    return "never" if not last else "passed" if last.get("passed") else "failed"


def row(deployment: Json, status: Json, verify: Json, drift: Json | None, error: str = "") -> dict[str, Any]:
    """One deployment. ``deployment``: name, project, location, cluster, page; ``drift`` None: not looked for."""
    last = verify or status.get("last_verify") or {}
    cost = status.get("cost") or {}
    state = state_of(status, error)
    replicas = status.get("replicas") or {}
    return {
        **deployment,
        "state": state,
        "endpoint": str(status.get("endpoint") or ""),
        "models": list(status.get("models") or []),
        "ready": replicas.get("ready"),
        "wanted": replicas.get("wanted"),
        "verified": verified(last),
        "well": state in ("serving", "paused", "absent") and verified(last) != "failed",
        "verified_at": str(last.get("at") or ""),
        "usd": 0.0 if state == "absent" else cost.get("usd"),
        "cost_complete": state == "absent" or bool(cost.get("complete", False)),
        "drift": None if drift is None else len(drift.get("differences") or []),
        "findings": [str(one.get("code")) for one in status.get("findings") or []],
        "lease": str((status.get("lease") or {}).get("until") or ""),
        "error": error.strip(),
    }


def summary(rows: Sequence[Json], at: str = "") -> dict[str, Any]:
    """Rows, the worst first, and their sums. ``usd`` counts what is known, ``complete`` says whether that is all."""
    order = list(TONES)
    ordered = sorted(rows, key=lambda one: (order.index(str(one["state"])), str(one["name"])))
    known = [float(one["usd"]) for one in rows if one.get("usd") is not None]
    return {
        "at": at,
        "deployments": ordered,
        "states": {state: count for state in order if (count := sum(one["state"] == state for one in rows))},
        "verified": sum(one["verified"] == "passed" for one in rows),
        "drifted": sum(bool(one["drift"]) for one in rows),
        "usd": round(sum(known), 2),
        "complete": len(known) == len(rows) and all(one.get("cost_complete") for one in rows),
        "healthy": all(one["well"] for one in rows),
    }


def _cost(one: Json) -> str:
    return "?" if one.get("usd") is None else money(one["usd"]) + ("" if one.get("cost_complete") else "+")


def _drift(one: Json) -> str:
    return "not looked" if one["drift"] is None else "none" if not one["drift"] else f"{one['drift']} differences"


def _place(one: Json) -> str:
    return f"{one.get('project')}/{one.get('location')}"


def table(document: Json) -> list[str]:
    """For a terminal: a line for each deployment, columns as wide as they need, then the sums."""
    head = ("deployment", "state", "verified", "USD/h", "drift", "endpoint", "where")
    cells = [head]
    for one in document["deployments"]:
        cells.append(
            (str(one["name"]), str(one["state"]), str(one["verified"]), _cost(one), _drift(one),
             str(one["endpoint"]) or "none", _place(one))
        )  # fmt: skip
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    for one in document["deployments"]:
        if one["error"]:
            lines.append(f"{one['name']}: {one['error'].splitlines()[0]}")
        elif one["findings"]:
            lines.append(f"{one['name']}: {', '.join(one['findings'])}")
    states = ", ".join(f"{count} {state}" for state, count in document["states"].items())
    more = "" if document["complete"] else " and what is not known"
    lines.append(
        f"{len(document['deployments'])} deployments: {states}; {document['verified']} verified, {document['drifted']} "
        f"drifted; {money(document['usd'])} USD an hour{more}"
    )
    return lines


def page(document: Json) -> str:
    """One self-contained HTML page: no script, nothing from elsewhere."""
    rows = "".join(_row(one) for one in document["deployments"])
    names = ("deployment", "state", "endpoint", "verified", "USD an hour", "drift", "findings")
    head = "".join(f"<th>{name}</th>" for name in names)
    cards = "".join(
        f'<div class="card"><span class="soft">{words(name)}</span><b>{words(value)}</b></div>'
        for name, value in _cards(document)
    )
    tone = "good" if document["healthy"] else "bad"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>llm-d fleet</title>'
        f"<style>{STYLE.read_text(encoding='utf-8')}{STYLE_OF_TABLE}</style></head><body><main>"
        f'<header><div><p class="soft kicker">llm-d on GKE</p><h1>Fleet</h1><p class="soft">'
        f"{words(moment(str(document.get('at') or '')))}</p></div>"
        f'<span class="pill {tone}">{"healthy" if document["healthy"] else "needs a look"}</span></header>'
        f'<div class="cards">{cards}</div>'
        f'<section><h2>Deployments</h2><table class="fleet"><tr>{head}</tr>{rows}</table></section>'
        '<footer class="soft">List prices, not a bill. Written by the collection llmd.gke; no secret is in it.</footer>'
        "</main></body></html>\n"
    )


def _cards(document: Json) -> list[tuple[str, str]]:
    count = len(document["deployments"])
    more = "" if document["complete"] else " +"
    return [
        ("deployments", str(count)),
        ("serving", f"{document['states'].get('serving', 0)} of {count}"),
        ("verified", f"{document['verified']} of {count}"),
        ("drifted", str(document["drifted"])),
        ("in all", f"{money(document['usd'])} USD/h{more}"),
    ]


def _row(one: Json) -> str:
    tone = TONES[str(one["state"])]
    where = " · ".join(str(one[key]) for key in ("cluster", "location", "project") if one.get(key))
    name = words(one["name"])
    if one.get("page"):
        name = f'<a href="{words(one["page"])}">{name}</a>'
    replicas = f"{one['ready']} of {one['wanted']} ready" if one.get("wanted") is not None else ""
    endpoint = f'<a href="{words(one["endpoint"])}">{words(one["endpoint"])}</a>' if one["endpoint"] else "none"
    verdict = {"passed": "good", "failed": "bad", "never": "plain"}[str(one["verified"])]
    drift = "plain" if one["drift"] is None else "warn" if one["drift"] else "good"
    trouble = words(one["error"]) or ", ".join(f"<code>{words(code)}</code>" for code in one["findings"]) or "none"
    return (
        f'<tr><td><b>{name}</b><br><span class="soft">{words(where)}</span></td>'
        f'<td><span class="tag {tone}">{words(one["state"])}</span><br><span class="soft">{words(replicas)}</span></td>'
        f'<td>{endpoint}<br><span class="soft">{words(", ".join(one["models"]))}</span></td>'
        f'<td data-of="verified"><span class="tag {verdict}">{words(one["verified"])}</span><br>'
        f'<span class="soft">{words(moment(str(one["verified_at"])))}</span></td>'
        f'<td data-of="USD an hour">{_cost(one)}</td>'
        f'<td data-of="drift"><span class="tag {drift}">{_drift(one)}</span></td>'
        f'<td data-of="findings">{trouble}</td></tr>'
    )
