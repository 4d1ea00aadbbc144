"""Which addresses and names clusters and nodes get. Pure arithmetic on the layout in ``sandbox.paths``."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from sandbox import paths as layout

MAX_CLUSTERS = 31  # cluster n has pods in 10.(4n).0.0/14, and 10.128.0.0/9 is the VPC's
NODES_PER_CLUSTER = 1024  # a /14 has as many /24
FIRST_NODE_ADDRESS = ipaddress.IPv4Address(layout.VPC_SUBNET.partition("/")[0]) + 10
MAX_NODE_ADDRESSES = 240  # up to 10.128.0.249; the rest of the subnet is for load balancers and the like


class OutOfAddresses(RuntimeError):
    """More clusters or nodes than the sandbox has addresses for."""


@dataclass(frozen=True)
class ClusterPlan:
    """Cluster number ``index`` (from 1) of a sandbox."""

    index: int

    @property
    def role(self) -> str:
        return f"cp{self.index}"

    @property
    def range(self) -> ipaddress.IPv4Network:
        """The control plane's /28."""
        base = ipaddress.IPv4Network(layout.CONTROL_PLANE_RANGE).network_address
        return ipaddress.IPv4Network((base + 256 * self.index, 28))

    @property
    def gateway(self) -> str:
        return str(self.range.network_address + 1)

    @property
    def endpoint(self) -> str:
        """Address of the API server (port 443)."""
        return str(self.range.network_address + 2)

    @property
    def pod_range(self) -> str:
        return f"10.{4 * self.index}.0.0/14"

    def pod_cidr(self, number: int) -> str:
        """Pod addresses of node ``number`` (from 1)."""
        base = ipaddress.IPv4Network(self.pod_range).network_address
        return f"{base + 256 * (number - 1)}/24"


@dataclass(frozen=True)
class NodePlan:
    """Node ``number`` (from 1) of a cluster; ``slot`` (from 0) is its place in the VPC's node addresses."""

    cluster: ClusterPlan
    number: int
    slot: int

    @property
    def role(self) -> str:
        return f"n{self.cluster.index}-{self.number}"

    @property
    def internal_ip(self) -> str:
        return str(FIRST_NODE_ADDRESS + self.slot)

    @property
    def internal_cidr(self) -> str:
        return f"{self.internal_ip}/{ipaddress.IPv4Network(layout.VPC_SUBNET).prefixlen}"

    @property
    def pod_cidr(self) -> str:
        return self.cluster.pod_cidr(self.number)


def lowest_free(taken: Collection[int], *, first: int, limit: int, what: str) -> int:
    """The lowest number from ``first`` that is not taken; ``limit`` numbers exist."""
    for number in range(first, first + limit):
        if number not in taken:
            return number
    raise OutOfAddresses(f"the sandbox has no address left for another {what} (at most {limit})")


def service_api_address() -> str:
    """ClusterIP of the Service ``default/kubernetes``: the first address of the Service range."""
    return str(ipaddress.IPv4Network(layout.SERVICE_RANGE).network_address + 1)
