# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status conditions, read with care. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Condition:
    """One condition. ``status`` is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    fresh: bool = True
    initial: bool = False

    @property
    def true(self) -> bool:
        """True, and about the object as it is now."""
        return self.status == "True" and self.fresh

    @property
    def false(self) -> bool:
        """False as a judgement: not the "nobody has looked yet" that objects are born with, not about an older spec."""
        return self.status == "False" and self.fresh and not self.initial

    def say(self) -> str:
        """As in: Programmed=False (Invalid: message)."""
        words = ": ".join(part for part in (self.reason, self.message) if part)
        suffix = "" if self.fresh else ", of an older generation"
        return f"{self.type}={self.status}{f' ({words}{suffix})' if words or suffix else ''}"


ABSENT = Condition(type="", status="Unknown", reason="", message="", fresh=False, initial=True)


def is_initial(raw: dict[str, Any]) -> bool:
    """Whether a condition is the placeholder written at creation.

    GKE Gateways start as Scheduled/Accepted/Programmed with reason NotReconciled or Pending, "Waiting for controller",
    lastTransitionTime 1970-01-01T00:00:00Z (recorded dumps; the Gateway API CRD's own defaults).
    """
    if str(raw.get("lastTransitionTime") or "").startswith("1970-01-01"):
        return True
    return raw.get("message") == "Waiting for controller" and raw.get("reason") in ("NotReconciled", "Pending")


def find_condition(conditions: list[dict[str, Any]] | None, type_: str, generation: int | None = None) -> Condition:
    """The named condition; one that reads as "Unknown" if it is absent.

    generation: the object's metadata.generation; a condition that observed an older one is not fresh. A controller that
    writes no observedGeneration (0 or absent) is taken at its word.
    """
    for raw in conditions or []:
        if raw.get("type") != type_:
            continue
        observed = int(raw.get("observedGeneration") or 0)
        fresh = not observed or generation is None or observed >= generation
        return Condition(
            type=type_,
            status=str(raw.get("status") or "Unknown"),
            reason=str(raw.get("reason") or ""),
            message=str(raw.get("message") or ""),
            fresh=fresh,
            initial=is_initial(raw),
        )
    return Condition(type=type_, status="Unknown", fresh=False, initial=True)


def of_object(manifest: dict[str, Any], type_: str) -> Condition:
    """A condition of an ordinary object: status.conditions against metadata.generation."""
    metadata = manifest.get("metadata") or {}
    status = manifest.get("status") or {}
    generation = metadata.get("generation")
    return find_condition(status.get("conditions"), type_, int(generation) if generation else None)


def summary(conditions: list[dict[str, Any]] | None) -> dict[str, str]:
    """{type: "status (reason)"} for results."""
    return {
        str(raw.get("type")): f"{raw.get('status')}{' (' + str(raw['reason']) + ')' if raw.get('reason') else ''}"
        for raw in conditions or []
    }
