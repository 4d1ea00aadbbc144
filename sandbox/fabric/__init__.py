"""The sandbox's network: namespaces, one bridge as the VPC, routes. Nothing outside namespaces is ever touched."""

from __future__ import annotations

from sandbox.fabric.network import (
    FabricError,
    add_address,
    add_route,
    attach,
    create,
    destroy,
    detach,
    mac_address,
    namespaces,
    remove_address,
    remove_route,
)

__all__ = [
    "FabricError",
    "add_address",
    "add_route",
    "attach",
    "create",
    "destroy",
    "detach",
    "mac_address",
    "namespaces",
    "remove_address",
    "remove_route",
]
