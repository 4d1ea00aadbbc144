"""The cost filter: known prices add up, unknown ones are never shown as free."""

from __future__ import annotations

import pytest
from ansible_collections.llmd.gke.plugins.filter.hourly_cost import hourly_cost

T4_POOL = {
    "name": "nvidia-t4-pool",
    "machine_type": "n1-standard-4",
    "node_count": 1,
    "accelerator": {"type": "nvidia-tesla-t4", "count": 1},
}
CPU_POOL = {"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2}


def test_the_runbooks_cluster_has_every_part_of_its_price() -> None:
    cost = hourly_cost([CPU_POOL, T4_POOL])
    disk = 100 * 0.000137
    expected = 0.10 + 2 * (0.19 + disk) + (0.19 + 0.35 + disk) + 0.025
    assert cost["usd"] == pytest.approx(expected, abs=0.006)
    assert cost["complete"]
    assert [line["what"].split(":")[0] for line in cost["lines"]] == [
        "GKE cluster management",
        "node pool default-pool",
        "node pool nvidia-t4-pool",
        "load balancer, 1 forwarding rule(s)",
    ]


def test_a_pool_scaled_to_zero_costs_nothing() -> None:
    cost = hourly_cost([{**T4_POOL, "node_count": 0}], forwarding_rules=0, clusters=0)
    assert cost["usd"] == 0
    assert cost["complete"]


@pytest.mark.parametrize(
    "pool", [{**CPU_POOL, "machine_type": "z9-huge"}, {**T4_POOL, "accelerator": {"type": "nvidia-x1", "count": 1}}]
)
def test_an_unlisted_price_is_unknown(pool: dict[str, object]) -> None:
    cost = hourly_cost([pool], forwarding_rules=0, clusters=0)
    assert not cost["complete"]
    assert cost["lines"][0]["usd"] is None


def test_spot_is_cheaper_and_built_in_accelerators_are_not_paid_twice() -> None:
    full = hourly_cost([T4_POOL], 0, 0)["usd"]
    assert hourly_cost([{**T4_POOL, "spot": True}], 0, 0)["usd"] < full
    l4 = {
        "name": "l4",
        "machine_type": "g2-standard-4",
        "node_count": 1,
        "accelerator": {"type": "nvidia-l4", "count": 1},
    }
    assert hourly_cost([l4], 0, 0)["usd"] == pytest.approx(0.72, abs=0.01)
