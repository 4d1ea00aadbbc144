"""Address planning and the fabric's names."""

from __future__ import annotations

import ipaddress
import itertools

import pytest

from sandbox import fabric
from sandbox import paths as layout
from sandbox.fabric.network import owned_names
from sandbox.kubernetes.addresses import (
    MAX_CLUSTERS,
    MAX_NODE_ADDRESSES,
    NODES_PER_CLUSTER,
    ClusterPlan,
    NodePlan,
    OutOfAddresses,
    lowest_free,
    service_api_address,
)


def test_first_cluster() -> None:
    plan = ClusterPlan(1)
    assert (plan.role, plan.gateway, plan.endpoint, str(plan.range)) == (
        "cp1",
        "172.16.1.1",
        "172.16.1.2",
        "172.16.1.0/28",
    )
    assert plan.pod_range == "10.4.0.0/14"
    assert plan.pod_cidr(1) == "10.4.0.0/24"
    assert plan.pod_cidr(257) == "10.5.0.0/24"


def test_first_node() -> None:
    node = NodePlan(ClusterPlan(2), number=3, slot=0)
    assert (node.role, node.internal_ip, node.internal_cidr, node.pod_cidr) == (
        "n2-3",
        "10.128.0.10",
        "10.128.0.10/20",
        "10.8.2.0/24",
    )


def test_no_two_ranges_overlap() -> None:
    fixed = [layout.VPC_SUBNET, layout.SERVICE_RANGE, layout.LOAD_BALANCER_RANGE, "10.128.0.0/9"]
    plans = [ClusterPlan(index) for index in range(1, MAX_CLUSTERS + 1)]
    networks = [ipaddress.ip_network(plan.pod_range) for plan in plans] + [plan.range for plan in plans]
    for one, other in itertools.combinations(networks, 2):
        assert not one.overlaps(other)
    for one, text in itertools.product(networks, fixed):
        assert not one.overlaps(ipaddress.ip_network(text))


def test_last_addresses_are_inside_their_ranges() -> None:
    last = ClusterPlan(MAX_CLUSTERS)
    assert ipaddress.ip_network(last.pod_cidr(NODES_PER_CLUSTER)).subnet_of(ipaddress.ip_network(last.pod_range))  # type: ignore[arg-type]
    node = NodePlan(last, 1, MAX_NODE_ADDRESSES - 1)
    assert node.internal_ip == "10.128.0.249"
    assert ipaddress.ip_address(node.internal_ip) in ipaddress.ip_network(layout.VPC_SUBNET)


def test_interface_names_fit() -> None:
    assert len(NodePlan(ClusterPlan(MAX_CLUSTERS), NODES_PER_CLUSTER, 0).role) <= 15


def test_service_api_address_is_in_the_service_range() -> None:
    assert service_api_address() == "34.118.224.1"
    assert ipaddress.ip_address(layout.CLUSTER_DNS) in ipaddress.ip_network(layout.SERVICE_RANGE)


def test_lowest_free_number_is_used_again() -> None:
    assert lowest_free([], first=1, limit=3, what="x") == 1
    assert lowest_free([1, 3], first=1, limit=3, what="x") == 2


def test_out_of_addresses_names_what() -> None:
    with pytest.raises(OutOfAddresses, match="another cluster"):
        lowest_free([1, 2, 3], first=1, limit=3, what="cluster")


def test_mac_address_is_compute_engines() -> None:
    assert fabric.mac_address("10.128.0.10") == "42:01:0a:80:00:0a"


def test_only_own_namespaces_are_owned() -> None:
    names = ["llmd-fabric", "llmd-cp1", "llmd-n1-12", "llmd-tools", "llmd2-fabric", "cni-1", "llmd-n1", "fabric"]
    assert owned_names("llmd", names) == ["llmd-cp1", "llmd-fabric", "llmd-n1-12"]
