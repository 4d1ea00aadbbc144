"""Conditions: making them, and merging them so that a time changes only where a status did."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

Condition = dict[str, Any]
EPOCH = "1970-01-01T00:00:00Z"


def now() -> str:
    """This moment as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: bool | str, reason: str, message: str = "", generation: int = 1) -> Condition:
    """One condition without a time. ``status``: a truth value, or ``Unknown``."""
    return {
        "type": kind,
        "status": status if isinstance(status, str) else str(status),
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }


def merge(old: Iterable[Condition], new: Iterable[Condition], *, moment: str | None = None) -> list[Condition]:
    """``new`` with times: the old time where the status is the same, else ``moment`` (default now)."""
    known = {item.get("type"): item for item in old}
    stamp = moment or now()
    merged = []
    for item in new:
        before = known.get(item["type"])
        same = before is not None and before.get("status") == item["status"]
        time = (before or {}).get("lastTransitionTime") if same else item.get("lastTransitionTime")
        merged.append({**item, "lastTransitionTime": time or stamp})
    return merged


def status_of(conditions: Sequence[Condition] | None, kind: str) -> str:
    """Status of one condition; an absent one is Unknown."""
    for item in conditions or []:
        if item.get("type") == kind:
            return str(item.get("status"))
    return "Unknown"
