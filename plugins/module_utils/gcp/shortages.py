# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quota and stockout answers, taken apart: which metric, where, limit, use and request; which zones have some. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GKE_QUOTA = re.compile(
    r"resource \"(?P<metric>\w+)\": request requires '(?P<asked>[\d.]+)' and is short '(?P<short>[\d.]+)'\.\s+"
    r"project has a quota of '(?P<limit>[\d.]+)' with '(?P<free>[\d.]+)' available"
)
COMPUTE_QUOTA = re.compile(
    r"Quota '(?P<metric>[\w./-]+)' exceeded\.\s+Limit: (?P<limit>[\d.]+)"
    r"(?: in region (?P<region>[\w-]+)| (?P<all>globally))?"
)


@dataclass(frozen=True)
class Shortage:
    """One exceeded quota; None and empty for what Google did not tell."""

    metric: str
    region: str = ""
    limit: float | None = None
    used: float | None = None
    asked: float | None = None

    def __str__(self) -> str:
        numbers = [f"{name} {value:g}" for name, value in self._numbers() if value is not None]
        return f"quota {self.metric}{f' in {self.region}' if self.region else ''}: {', '.join(numbers) or 'exceeded'}"

    def _numbers(self) -> list[tuple[str, float | None]]:
        return [("limit", self.limit), ("used", self.used), ("asked", self.asked)]


def quotas(message: str, raw: Any = None, region: str = "") -> list[Shortage]:
    """Every exceeded quota that a message or its machine-readable details name. ``region``: where Google says none."""
    found: dict[str, Shortage] = {}
    for match in GKE_QUOTA.finditer(message):
        limit, free = float(match["limit"]), float(match["free"])
        found[match["metric"]] = Shortage(match["metric"], region, limit, limit - free, float(match["asked"]))
    for match in COMPUTE_QUOTA.finditer(message):
        where = "all regions" if match["all"] else match["region"] or region
        found.setdefault(match["metric"], Shortage(match["metric"], where, float(match["limit"].rstrip("."))))
    for info in _named(raw, "quotaInfo"):
        if isinstance(info, dict):
            name = str(info.get("limitName") or info.get("metricName", "")).rsplit("/", 1)[-1].split("-per-", 1)[0]
            where = str((info.get("dimensions") or {}).get("region") or region)
            if not found:
                found[name] = Shortage(name, where, float(info.get("limit") or 0))
    return list(found.values())


def zones_available(raw: Any) -> list[str]:
    """Zones that Google says still have what is out of stock (``zonesAvailable``), in its order."""
    zones: list[str] = []
    for value in _named(raw, "zonesAvailable"):
        zones += [zone for zone in re.split(r"[,\s]+", str(value)) if zone]
    return list(dict.fromkeys(zones))


def _named(raw: Any, key: str) -> Iterator[Any]:
    """Every value under ``key``, at any depth."""
    if isinstance(raw, Mapping):
        for name, value in raw.items():
            if name == key:
                yield value
            else:
                yield from _named(value, key)
    elif isinstance(raw, list | tuple):
        for item in raw:
            yield from _named(item, key)


def region_in(where: str) -> str:
    """The region that a resource's address names, for quota texts that leave it out."""
    match = re.search(r"/(?:regions|locations|zones)/([a-z]+-[a-z]+\d+)(?:-[a-z])?(?:/|$)", where)
    return match.group(1) if match else ""
