# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a cluster that have a form of their own: authorized networks, maintenance window, versions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import Json

Networks = tuple[tuple[str, str], ...]  # (range, name)


def authorized_networks(options: Sequence[Mapping[str, Any]] | None) -> Networks | None:
    """Who may reach the control plane, None where nobody asks. Raises ConfigurationError CIDR_INVALID."""
    if options is None:
        return None
    found = []
    for option in options:
        try:
            network = ipaddress.ip_network(str(option["cidr"]))
        except ValueError as error:
            raise ConfigurationError(
                f"authorized_networks: {option['cidr']!r} is not a range",
                code="CIDR_INVALID",
                why=str(error),
                remedy="Give an address range such as 203.0.113.0/24; one address is /32.",
            ) from error
        found.append((str(network), str(option.get("name") or "")))
    return tuple(sorted(found))


def authorized_networks_body(networks: Networks) -> Json:
    """An empty list turns the restriction off."""
    blocks: list[Json] = [{"cidrBlock": cidr} | ({"displayName": name} if name else {}) for cidr, name in networks]
    return {"enabled": True, "cidrBlocks": blocks} if blocks else {"enabled": False}


def authorized_networks_view(config: Json) -> list[Json]:
    if not config.get("enabled"):
        return []
    blocks = [(str(b.get("cidrBlock", "")), str(b.get("displayName") or "")) for b in config.get("cidrBlocks") or []]
    return [{"cidr": cidr, "name": name} for cidr, name in sorted(blocks)]


@dataclass(frozen=True)
class Window:
    """When GKE may do its maintenance: daily from ``start`` (HH:MM, GMT), or ``start`` to ``end`` by ``recurrence``."""

    start: str
    end: str = ""
    recurrence: str = ""

    def body(self) -> Json:
        if not self.recurrence:
            return {"dailyMaintenanceWindow": {"startTime": self.start}}
        window = {"startTime": self.start, "endTime": self.end}
        return {"recurringWindow": {"window": window, "recurrence": self.recurrence}}

    def as_view(self) -> Json:
        return {"start": self.start, "end": self.end, "recurrence": self.recurrence}


def maintenance_window(option: Mapping[str, Any] | None) -> Window | None:
    """Raises ConfigurationError MAINTENANCE_WINDOW_INVALID."""
    if option is None:
        return None
    window = Window(str(option["start"]), str(option.get("end") or ""), str(option.get("recurrence") or ""))
    daily = re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", window.start) is not None
    if bool(window.end) != bool(window.recurrence) or daily == bool(window.recurrence):
        raise ConfigurationError(
            "maintenance_window is neither a daily nor a recurring window",
            code="MAINTENANCE_WINDOW_INVALID",
            why=f"start {window.start!r}, end {window.end!r}, recurrence {window.recurrence!r}",
            remedy="Daily: start as HH:MM in GMT, alone. Recurring: start and end in RFC 3339 and recurrence, "
            "for example FREQ=WEEKLY;BYDAY=SA,SU.",
        )
    return window


def maintenance_view(policy: Json) -> Json | None:
    window = policy.get("window") or {}
    daily, recurring = window.get("dailyMaintenanceWindow"), window.get("recurringWindow")
    if daily:
        return Window(str(daily.get("startTime", ""))).as_view()
    if recurring:
        times = recurring.get("window") or {}
        start, end = str(times.get("startTime", "")), str(times.get("endTime", ""))
        return Window(start, end, str(recurring.get("recurrence", ""))).as_view()
    return None


def maintenance_body(window: Window, policy: Json) -> Json:
    """The whole policy for setMaintenancePolicy: exclusions that somebody set stay."""
    exclusions = (policy.get("window") or {}).get("maintenanceExclusions")
    body: Json = {"window": window.body() | ({"maintenanceExclusions": exclusions} if exclusions else {})}
    if policy.get("disruptionBudget"):
        body["disruptionBudget"] = policy["disruptionBudget"]
    return body | ({"resourceVersion": policy["resourceVersion"]} if policy.get("resourceVersion") else {})


def is_newer(wanted: str, current: str) -> bool:
    """Whether a version (``1.36``, ``1.36.4-gke.1``) is beyond the current one; aliases and equal prefixes are not."""
    new, old = (tuple(int(part) for part in re.findall(r"\d+", text)) for text in (wanted, current))
    return bool(new) and bool(old) and new > old[: len(new)]
