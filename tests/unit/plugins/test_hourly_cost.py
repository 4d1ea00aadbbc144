"""The cost filter: known prices add up, unknown ones are never shown as free."""

from __future__ import annotations

import pytest
from ansible_collections.llmd.gke.plugins.filter.cost_estimate import cost_estimate
from ansible_collections.llmd.gke.plugins.filter.hourly_cost import hourly_cost
from ansible_collections.llmd.gke.plugins.filter.leftover_cost import leftover_cost

T4_POOL = {
    "name": "nvidia-t4-pool",
    "machine_type": "n1-standard-4",
    "node_count": 1,
    "accelerator": {"type": "nvidia-tesla-t4", "count": 1},
}
CPU_POOL = {"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2}


def test_the_runbooks_cluster_has_every_part_of_its_price() -> None:
    cost = hourly_cost([CPU_POOL, T4_POOL])
    disk, address = 100 * 0.10 / 730, 0.005
    expected = 0.10 + 2 * (0.19 + disk + address) + (0.19 + 0.35 + disk + address) + 0.025
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
    assert hourly_cost([l4], 0, 0)["usd"] == pytest.approx(0.73, abs=0.01)


RUNBOOK = [{**CPU_POOL, "machine_type": "e2-standard-4"}, T4_POOL]
BARE = {"cluster_fee": 0, "node_address": 0, "disk_gb_month": {"pd-balanced": 0}}


def test_the_runbooks_own_figures_follow_from_what_it_leaves_out() -> None:
    """0.81 an hour is machines and GPU alone; 0.14 is one CPU node alone, rounded; 0.10 is the cluster fee alone."""
    assert hourly_cost(RUNBOOK, forwarding_rules=0, overrides=BARE)["usd"] == pytest.approx(0.81, abs=0.005)
    one = [{**RUNBOOK[0], "node_count": 1}]
    assert hourly_cost(one, forwarding_rules=0, overrides=BARE)["usd"] == pytest.approx(0.14, abs=0.011)
    assert hourly_cost([], forwarding_rules=0)["usd"] == 0.10
    assert hourly_cost(RUNBOOK)["usd"] == pytest.approx(0.99, abs=0.005)


def test_a_pause_saves_the_gpu_nodes_and_a_month_is_730_hours() -> None:
    cost = cost_estimate([CPU_POOL, T4_POOL], paused_cpu_nodes=1, output_tokens_per_second=100, proxied_gb=10)
    assert cost["saved"] == pytest.approx(cost["running"]["usd"] - cost["paused"]["usd"], abs=0.001)
    gpu_node = 0.19 + 0.35 + 10 / 730 + 0.005
    cpu_node = 0.19 + 10 / 730 + 0.005
    assert cost["saved"] == pytest.approx(gpu_node + cpu_node, abs=0.011)
    assert cost["month"]["running"] == pytest.approx(cost["running"]["usd"] * 730 + 0.08, abs=0.01)
    assert cost["million_tokens"] == pytest.approx(cost["running"]["usd"] / 0.36, abs=0.01)
    assert cost_estimate([T4_POOL])["million_tokens"] is None


def test_leftovers_are_priced_by_what_they_are() -> None:
    left = [
        {"kind": "forwardingRules", "scope": "global", "name": "a"},
        {"kind": "addresses", "scope": "global", "name": "b", "in_use": True},
        {"kind": "addresses", "scope": "global", "name": "c", "in_use": False},
        {"kind": "disks", "scope": "zones/z", "name": "d", "size_gb": "73", "type": "pd-balanced"},
        {"kind": "healthChecks", "scope": "global", "name": "e"},
    ]
    cost = leftover_cost(left)
    assert [line["usd"] for line in cost["lines"]] == [0.025, 0.0, 0.01, 0.01, 0.0]
    assert cost["complete"]
    assert not leftover_cost([{"kind": "disks", "name": "x", "size_gb": 1, "type": "hyperdisk"}])["complete"]
    assert not leftover_cost([{"kind": "instanceGroupManagers", "name": "x"}])["complete"]
    assert leftover_cost([])["usd"] == 0
