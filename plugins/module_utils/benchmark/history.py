# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What earlier runs measured: one JSON line a run, and the comparison of this run with the last like it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.slo import find

FIGURES = {
    "ttft.p50": "lower",
    "ttft.p99": "lower",
    "itl.p50": "lower",
    "e2e.p50": "lower",
    "output_tokens_per_second": "higher",
    "success": "higher",
}
LEAST_CHANGE = 0.02


def fingerprint(content: Mapping[str, Any]) -> str:
    """What makes two runs comparable (target label, model, workload, load) as a short name."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def line_of(summary: Mapping[str, Any], *, when: str, run: str, key: str) -> dict[str, Any]:
    """The line of a run that the history keeps."""
    figures = {name: {part: find(summary, name).get(part) for part in ("value", "low", "high")} for name in FIGURES}
    whose = {"target": summary["target"], "level": summary["level"]}
    return {"when": when, "run": run, "key": key, **whose, "figures": figures}


def read(path: str) -> list[dict[str, Any]]:
    """Lines of a history file; one that cannot be read (a write that was cut off) is passed over."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError:
        return []
    lines = []
    for raw in text.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and "key" in line and "figures" in line:
            lines.append(line)
    return lines


def append(path: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines at the end. Raises OSError."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(line) + "\n")


def against_last(current: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Changes from the last run with the same key: {since, figures: [{metric, before, now, relative, verdict}]}.

    verdict: better or worse where the difference is larger than chance (both intervals give the noise) and than
    LEAST_CHANGE; same otherwise. Two runs are one comparison each: for a cause measure both interleaved (A/B).
    """
    before = next((line for line in reversed(earlier) if line["key"] == current["key"]), None)
    if before is None:
        return None
    changes = []
    for metric, better in FIGURES.items():
        old, new = before["figures"].get(metric) or {}, current["figures"][metric]
        if old.get("value") is None or new["value"] is None:
            continue
        difference = new["value"] - old["value"]
        noise = math.hypot(_half(old), _half(new))
        relative = difference / old["value"] if old["value"] else None
        verdict = "same"
        if abs(difference) > noise and relative is not None and abs(relative) > LEAST_CHANGE:
            verdict = "better" if (difference < 0) == (better == "lower") else "worse"
        changes.append(
            {"metric": metric, "before": old["value"], "now": new["value"], "relative": relative, "verdict": verdict}
        )
    return {"since": before["when"], "run": before["run"], "level": current["level"], "figures": changes}


def _half(figure: Mapping[str, Any]) -> float:
    low, high = figure.get("low"), figure.get("high")
    return (high - low) / 2 if low is not None and high is not None else 0.0
