# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``cost_estimate``: a deployment running, paused, forgotten for a month, and per million output tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import prices as price_list


def cost_estimate(
    pools: Sequence[Mapping[str, Any]],
    forwarding_rules: int = 1,
    paused_cpu_nodes: int | None = None,
    output_tokens_per_second: float = 0.0,
    proxied_gb: float = 0.0,
    prices_file: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """``running`` and ``paused`` as ``hourly_cost``; ``month`` (730 h) for both; ``million_tokens`` where measured."""
    prices = price_list.load(prices_file, overrides)
    running = price_list.hourly(pools, prices, forwarding_rules=forwarding_rules)
    asleep = price_list.hourly(price_list.paused(pools, paused_cpu_nodes), prices, forwarding_rules=forwarding_rules)
    data = round(proxied_gb * float(prices["proxied_gb"]), 2)
    rate = float(output_tokens_per_second)
    return {
        "running": running,
        "paused": asleep,
        "saved": round(running["usd"] - asleep["usd"], 2),
        "month": {
            "running": round(running["usd"] * price_list.HOURS + data, 2),
            "paused": round(asleep["usd"] * price_list.HOURS, 2),
        },
        "proxied": data,
        "million_tokens": round(running["usd"] / (rate * 3600) * 1e6, 2) if rate > 0 else None,
        "complete": running["complete"] and asleep["complete"],
        "as_of": prices["as_of"],
        "region": prices["region"],
    }


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"cost_estimate": cost_estimate}
