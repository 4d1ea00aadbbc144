# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This run against one that was kept: before and after an upgrade, where both cannot run side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark import statistics
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.compare import METRICS, verdict
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import LoadResult
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

PARTS = 10
MOST_DRAWS = 2_000_000
Key = tuple[str, float]
Values = list[tuple[float, float]]  # (when it was sent, value)


@dataclass
class Stored:
    """An earlier run: its report, and latencies by load (mode, level) and metric."""

    report: dict[str, Any]
    values: dict[Key, dict[str, Values]]


def load(path: str) -> Stored:
    """From the folder of a run (or its benchmark.json). Raises ConfigurationError BASELINE_INVALID."""
    given = Path(path)
    folder = given.parent if given.suffix == ".json" else given
    try:
        report = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
        label = str(report["target"]["label"])
        modes = {float(one["level"]): str(one["mode"]) for one in report["results"] if one["target"] == label}
        values: dict[Key, dict[str, Values]] = {}
        for line in (folder / "requests.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            level = float(record["level"])
            if record["target"] == label and record["phase"] == "measure" and not record["cause"] and level in modes:
                of_load = values.setdefault((modes[level], level), {name: [] for name in METRICS})
                for name in METRICS:
                    if record[name] is not None:
                        of_load[name].append((float(record["sent"]), float(record[name])))
        names = {"run": str(report["run"]), "started": str(report["started"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} holds no earlier run.",
            code="BASELINE_INVALID",
            where=str(folder),
            why=f"{type(error).__name__}: {error}",
            remedy="Give the folder of an earlier run, with its benchmark.json and requests.jsonl.",
        ) from error
    return Stored({**report, **names}, values)


def unlike(report: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """What was asked otherwise then, in words: with any of it the two runs do not answer the same question."""
    found = []
    for name in ("model", "api", "workload"):
        if report.get(name) != stored.get(name):
            found.append(f"{name} was {json.dumps(stored.get(name))}, now {json.dumps(report.get(name))}")
    engines = [(one.get("engine") or {}).get("name", "builtin") for one in (stored, report)]
    if engines[0] != engines[1]:
        found.append(f"the engine was {engines[0]}, now {engines[1]}")
    return found


def against(stored: Stored, report: Mapping[str, Any], results: Sequence[LoadResult], seed: int = 1) -> dict[str, Any]:
    """Every load that both runs have, metric by metric, and what must be known before it is believed."""
    differs = unlike(report, stored.report)
    changes = []
    for result in results:
        before = stored.values.get((result.load.mode, float(result.load.level)))
        if before is None or differs or result.target != report["target"]["label"]:
            continue
        for name in METRICS:
            now = [(r.sent, value) for r in result.records if r.ok and (value := getattr(r, name)) is not None]
            changes.append({"level": result.load.level, **change(name, before[name], now, seed)})
    return {
        "run": stored.report["run"],
        "started": stored.report["started"],
        "url": stored.report["target"]["url"],
        "unlike": differs,
        "changes": changes,
        "sentence": _whole(stored, differs, changes),
    }


def _whole(stored: Stored, differs: Sequence[str], changes: Sequence[Mapping[str, Any]]) -> str:
    when = stored.report["started"]
    if differs:
        return f"Not compared with the run of {when}: " + "; ".join(differs) + "."
    if not changes:
        return f"Not compared with the run of {when}: it has no load in common with this one."
    return (
        f"Compared with the run of {when}, which is over: the intervals hold chance within each run, not what else"
        " changed between them (nodes, neighbours, time of day, caches). A difference is a reason to look, not a proof"
        " of its cause; for that measure both in turns (against)."
    )


def change(name: str, before: Values, now: Values, seed: int = 1) -> dict[str, Any]:
    """Median now minus median then, with a 95 % interval. Runs are resampled in parts, for requests come in streaks."""
    counts = [len(now), len(before)]
    if min(counts) < statistics.needed(0.5):
        why = f"{name}: too few complete answers to compare ({counts[0]} now, {counts[1]} then)."
        return {"metric": name, "quantile": 0.5, "value": None, "counts": counts, "sentence": why}
    point = [statistics.median([value for _unused, value in side]) for side in (now, before)]
    rounds = max(200, min(2000, MOST_DRAWS // sum(counts)))
    low, high = statistics.bootstrap_apart(parts(now), parts(before), statistics.median, rounds=rounds, seed=seed)
    found: dict[str, Any] = {
        "metric": name, "quantile": 0.5, "a": point[0], "b": point[1], "value": point[0] - point[1], "low": low,
        "high": high, "relative": (point[0] - point[1]) / point[1] if point[1] else None, "counts": counts,
        "verdict": verdict(low, high, 0.0),
    }  # fmt: skip
    found["sentence"] = sentence(found)
    return found


def parts(values: Values, number: int = PARTS) -> list[list[float]]:
    """Values in the order they were sent, in ``number`` parts of about the same size."""
    ordered = [value for _unused, value in sorted(values)]
    edges = [round(position * len(ordered) / number) for position in range(number + 1)]
    return [ordered[a:b] for a, b in pairwise(edges) if b > a]


def sentence(found: Mapping[str, Any]) -> str:
    """One metric in words."""
    what, unit, scale = METRICS[found["metric"]]
    value, low, high = (found[key] * scale for key in ("value", "low", "high"))
    interval = f"95 % interval {low:+.2f} to {high:+.2f} {unit}"
    if found["verdict"] == "none":
        return f"{what}: no provable change at the median ({interval})."
    word = "later" if found["verdict"] == "slower" else "earlier"
    relative = f", {abs(found['relative']) * 100:.1f} %" if found["relative"] is not None else ""
    return f"{what}: {abs(value):.2f} {unit}{relative} {word} than then at the median ({interval})."
