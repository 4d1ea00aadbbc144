# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds up list prices. A price that is not listed is None, never zero: what is unknown must not look free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

PRICES = Path(__file__).resolve().parent / "pricing.yml"
HOURS = 730.0  # Google's month
WITH_GPUS = ("g2", "a2", "a3")  # machine families whose price has the GPUs in it
Line = dict[str, Any]


def load(prices_file: str = "", overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The price list, with ``overrides`` over it: one price, or one entry of a table, at a time."""
    prices = dict(yaml.safe_load(Path(prices_file or PRICES).read_text(encoding="utf-8")))
    for name, value in (overrides or {}).items():
        prices[name] = {**prices.get(name, {}), **value} if isinstance(value, Mapping) else value
    return prices


def family(machine_type: Any) -> str:
    """Of a machine type: n1 of n1-standard-4."""
    return str(machine_type or "").partition("-")[0]


def has_gpu(pool: Mapping[str, Any]) -> bool:
    return bool(pool.get("accelerator")) or family(pool.get("machine_type")) in WITH_GPUS


def pool_line(pool: Mapping[str, Any], nodes: int, prices: Mapping[str, Any]) -> Line:
    """Machines, GPUs, boot disks and external addresses of one node pool."""
    machine = str(pool.get("machine_type", ""))
    accelerator = pool.get("accelerator") or {}
    rate = prices["machine_types"].get(machine)
    gpu_rate: float | None = 0.0
    if accelerator and family(machine) not in WITH_GPUS:
        gpu_rate = prices["accelerators"].get(accelerator.get("type"))
        if gpu_rate is not None:
            gpu_rate *= int(accelerator.get("count", 1))
    disk = disk_hour(float(pool.get("disk_size_gb") or 100), str(pool.get("disk_type") or "pd-balanced"), prices)
    what = f"{nodes} x {machine}"
    if accelerator:
        what += f" + {accelerator.get('count', 1)} x {accelerator.get('type')}"
    spot = bool(pool.get("spot"))
    usd = None
    if nodes == 0:
        usd = 0.0
    elif rate is not None and gpu_rate is not None and disk is not None:
        factor = prices["spot_factor"] if spot else 1.0
        address = prices["node_address_spot" if spot else "node_address"]
        usd = round(nodes * ((rate + gpu_rate) * factor + disk + address), 4)
    return {"what": f"node pool {pool.get('name')}: {what}{' spot' if spot else ''}", "usd": usd}


def disk_hour(size_gb: float, kind: str, prices: Mapping[str, Any]) -> float | None:
    month = prices["disk_gb_month"].get(kind)
    return None if month is None else size_gb * month / HOURS


def total(lines: Sequence[Line], prices: Mapping[str, Any]) -> dict[str, Any]:
    """Lines with their sum, and whether every one of them has a price."""
    known = [float(line["usd"]) for line in lines if line["usd"] is not None]
    return {
        "lines": list(lines),
        "usd": round(sum(known), 2),
        "complete": len(known) == len(lines),
        "as_of": prices["as_of"],
        "region": prices["region"],
        "provenance": str(prices.get("provenance") or f"{prices['region']} list prices of {prices['as_of']}"),
    }


def hourly(
    pools: Sequence[Mapping[str, Any]], prices: Mapping[str, Any], *, forwarding_rules: int = 1, clusters: int = 1
) -> dict[str, Any]:
    """What a cluster with these pools and load-balancer rules costs an hour."""
    lines: list[Line] = []
    if clusters:
        lines.append({"what": "GKE cluster management", "usd": round(clusters * prices["cluster_fee"], 4)})
    lines += [pool_line(pool, int(pool.get("node_count") or 0), prices) for pool in pools]
    if forwarding_rules:
        usd = round(forwarding_rules * prices["forwarding_rule"], 4)
        lines.append({"what": f"load balancer, {forwarding_rules} forwarding rule(s)", "usd": usd})
    return total(lines, prices)


def paused(pools: Sequence[Mapping[str, Any]], cpu_nodes: int | None = None) -> list[dict[str, Any]]:
    """The pools of a paused deployment: no GPU nodes, and ``cpu_nodes`` of the others where given."""
    result = []
    for pool in pools:
        nodes = int(pool.get("node_count") or 0)
        kept = 0 if has_gpu(pool) else nodes if cpu_nodes is None else min(nodes, cpu_nodes)
        result.append({**pool, "node_count": kept})
    return result


def leftover_line(item: Mapping[str, Any], prices: Mapping[str, Any]) -> Line:
    """What one leftover of an orphan scan costs an hour."""
    kind = str(item.get("kind"))
    usd: float | None = float(prices["leftovers"].get(kind, 0.0))
    if kind == "addresses":  # one that a forwarding rule uses is paid with the rule
        usd = 0.0 if item.get("in_use") else prices["unused_address"]
    elif kind == "disks":
        usd = disk_hour(float(item.get("size_gb") or 0), str(item.get("type") or "pd-standard"), prices)
    elif kind == "forwardingRules":
        usd = prices["forwarding_rule"]
    elif kind in ("instanceGroups", "instanceGroupManagers"):
        usd = None  # its machines cost what they are; the scan does not look into it
    rounded = None if usd is None else round(usd, 4)
    return {"what": f"{kind} {item.get('scope')}/{item.get('name')}", "usd": rounded}
