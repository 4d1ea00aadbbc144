# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus text and picker logs, read for the few things we ask. Pure functions."""

from __future__ import annotations

import json
import re

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SCORERS = re.compile(r"Scorers: \[([^\]]*)\]")


def total(text: str, metric: str, labels: dict[str, str] | None = None) -> float | None:
    """The sum over all series of a metric that carry the labels; None if there is no such series."""
    found: list[float] = []
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if not match or match["name"] != metric:
            continue
        carried = dict(_LABEL.findall(match["labels"] or ""))
        if all(carried.get(key) == value for key, value in (labels or {}).items()):
            found.append(float(match["value"]))
    return sum(found) if found else None


def parse_scorers(scheduler_config: str) -> dict[str, float]:
    """Scorer weights from the picker's description of its configuration.

    "... Scorers: [queue-scorer/queue-scorer: 2, prefix-cache-scorer/prefix-cache-scorer: 3], Picker: ..." gives
    {"queue-scorer": 2.0, "prefix-cache-scorer": 3.0}. Type and name of a plugin are both written; either finds it.
    """
    weights: dict[str, float] = {}
    for group in _SCORERS.findall(scheduler_config):
        for entry in group.split(","):
            name, _unused, weight = entry.strip().rpartition(":")
            for part in name.split("/"):
                if part.strip():
                    weights[part.strip()] = float(weight)
    return weights


def scorers_from_log(log: str) -> dict[str, float]:
    """Scorer weights from the picker's start-up line "parsed config"; {} if the log does not hold it (any more)."""
    for line in reversed(log.splitlines()):
        if "parsed config" not in line:
            continue
        try:
            entry = json.loads(line[line.index("{") :])
        except ValueError:
            entry = {}
        config = str(entry.get("scheduler-config") or line)
        weights = parse_scorers(config)
        if weights:
            return weights
    return {}


def compare_scorers(expected: dict[str, float], found: dict[str, float]) -> list[str]:
    """The differences in words, none if every expected weight is there."""
    return [
        f"{name}: {found[name]:g} instead of {weight:g}" if name in found else f"{name}: absent"
        for name, weight in expected.items()
        if found.get(name) != weight
    ]
