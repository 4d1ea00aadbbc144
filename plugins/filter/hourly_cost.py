# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``hourly_cost``: what a cluster description costs an hour, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import prices as price_list


def hourly_cost(
    pools: Sequence[Mapping[str, Any]],
    forwarding_rules: int = 1,
    clusters: int = 1,
    prices_file: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Cost an hour of node pools as ``llmd.gke.gke_cluster`` describes them, with the cluster fee and load balancer.

    pools: dictionaries with name, machine_type, node_count, accelerator {type, count}, spot, disk_size_gb. Returns
    {lines: [{what, usd}], usd (sum of the known lines), complete (False where a price is not listed), as_of, region}.
    """
    prices = price_list.load(prices_file, overrides)
    return price_list.hourly(pools, prices, forwarding_rules=forwarding_rules, clusters=clusters)


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"hourly_cost": hourly_cost}
