# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``hourly_cost``: what a cluster description costs an hour, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

PRICES = Path(__file__).resolve().parent.parent / "plugin_utils" / "pricing.yml"


def pool_line(pool: Mapping[str, Any], nodes: int, prices: Mapping[str, Any]) -> dict[str, Any]:
    """Cost line of one node pool. ``usd`` is None where a price is not listed: unknown is never shown as free."""
    machine = str(pool.get("machine_type", ""))
    accelerator = pool.get("accelerator") or {}
    rate = prices["machine_types"].get(machine)
    gpu_rate: float | None = 0.0
    if accelerator and machine.split("-")[0] not in ("g2", "a2", "a3"):
        gpu_rate = prices["accelerators"].get(accelerator.get("type"))
        if gpu_rate is not None:
            gpu_rate *= int(accelerator.get("count", 1))
    disk = float(pool.get("disk_size_gb") or 100) * prices["boot_disk_gb"]
    what = f"{nodes} x {machine}"
    if accelerator:
        what += f" + {accelerator.get('count', 1)} x {accelerator.get('type')}"
    usd = None
    if rate is not None and gpu_rate is not None:
        factor = prices["spot_factor"] if pool.get("spot") else 1.0
        usd = round(nodes * ((rate + gpu_rate) * factor + disk), 4)
    return {"what": f"node pool {pool.get('name')}: {what}", "usd": usd}


def hourly_cost(
    pools: Sequence[Mapping[str, Any]], forwarding_rules: int = 1, clusters: int = 1, prices_file: str = ""
) -> dict[str, Any]:
    """Cost an hour of node pools as ``llmd.gke.gke_cluster`` describes them, with the cluster fee and load balancer.

    pools: dictionaries with name, machine_type, node_count, accelerator {type, count}, spot, disk_size_gb. Returns
    {lines: [{what, usd}], usd (sum of the known lines), complete (False where a price is not listed), as_of, region}.
    """
    prices = yaml.safe_load(Path(prices_file or PRICES).read_text(encoding="utf-8"))
    lines: list[dict[str, Any]] = []
    if clusters:
        lines.append({"what": "GKE cluster management", "usd": round(clusters * prices["cluster_fee"], 4)})
    lines += [pool_line(pool, int(pool.get("node_count") or 0), prices) for pool in pools]
    if forwarding_rules:
        usd = round(forwarding_rules * prices["forwarding_rule"], 4)
        lines.append({"what": f"load balancer, {forwarding_rules} forwarding rule(s)", "usd": usd})
    known = [float(line["usd"]) for line in lines if line["usd"] is not None]
    return {
        "lines": lines,
        "usd": round(sum(known), 2),
        "complete": len(known) == len(lines),
        "as_of": prices["as_of"],
        "region": prices["region"],
    }


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"hourly_cost": hourly_cost}
