# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes events, read for what they say last. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def event_time(event: dict[str, Any]) -> str:
    """When an event was last seen (RFC 3339, comparable as text): old and new style events store it differently."""
    series = event.get("series") or {}
    metadata = event.get("metadata") or {}
    stamps = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        metadata.get("creationTimestamp"),
    )
    return max((str(stamp) for stamp in stamps if stamp), default="")


def newest_first(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events by the time they were last seen, the newest in front."""
    return sorted(events, key=event_time, reverse=True)


@dataclass(frozen=True)
class Mark:
    """Which events there were at one moment, to tell later whether one is new or was repeated since."""

    seen: frozenset[tuple[str, str, int]]

    @staticmethod
    def _key(event: dict[str, Any]) -> tuple[str, str, int]:
        metadata = event.get("metadata") or {}
        series = event.get("series") or {}
        count = series.get("count") or event.get("count") or 1
        return str(metadata.get("uid") or metadata.get("name") or ""), event_time(event), int(count)

    @classmethod
    def of(cls, events: list[dict[str, Any]]) -> Mark:
        return cls(frozenset(cls._key(event) for event in events))

    def is_new(self, event: dict[str, Any]) -> bool:
        """Whether the event appeared or was repeated after the mark was taken."""
        return self._key(event) not in self.seen


def current_warnings(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Warnings that no later success has answered, newest first.

    A controller says "SYNC ... was a success" once it is through; older Warnings are history then.
    """
    warnings = []
    for event in newest_first(events):
        if event.get("type") == "Warning":
            warnings.append(event)
        elif event.get("reason") == "SYNC" and "was a success" in str(event.get("message") or ""):
            break
    return warnings


def brief(events: list[dict[str, Any]], limit: int = 5) -> list[dict[str, str]]:
    """The part of events that a person reads, for evidence."""
    return [
        {
            "type": str(event.get("type") or ""),
            "reason": str(event.get("reason") or ""),
            "message": str(event.get("message") or ""),
            "last_seen": event_time(event),
        }
        for event in events[:limit]
    ]


def message_of(event: dict[str, Any] | None) -> str:
    """An event's message, "" for none."""
    return str((event or {}).get("message") or "")
