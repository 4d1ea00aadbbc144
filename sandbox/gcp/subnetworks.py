"""Subnetworks with the rules that a person runs into: overlaps, the auto-mode range, proxy-only subnets, users."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from sandbox.gcp import catalog
from sandbox.gcp.api import Call, handles
from sandbox.gcp.compute import check_new, name_of, patch, scope_of, start
from sandbox.gcp.errors import (
    ApiError,
    compute_in_use,
    compute_invalid,
    compute_not_found,
    compute_required,
)
from sandbox.gcp.world import PROXY_PURPOSES, subnet_defaults

Json = dict[str, Any]

MANAGED_PURPOSES = (*PROXY_PURPOSES, "GLOBAL_MANAGED_PROXY")
RANGE_FIELD = "resource.ipCidrRange"
SMALLEST_PROXY_PREFIX = 26
# Ranges that a subnet may not have (VPC documentation, "prohibited IPv4 subnet ranges").
PROHIBITED = [
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "199.36.153.4/30",
                 "199.36.153.8/30")
]  # fmt: skip


@handles("compute.subnetworks.insert")
def insert(call: Call) -> Json:
    """Create a subnet. All that can be said against it is said at once, as the real API does."""
    if (again := call.operations.repeated(call.argument("requestId") or None)) is not None:
        return again
    scope, body = scope_of(call), dict(call.body)
    name = check_new(call)
    if not body.get("network"):
        raise compute_required("resource.network")
    network = _network(call, body["network"])
    body["network"] = network["selfLink"]
    wanted = _range(body.get("ipCidrRange"))
    if body.get("purpose") in MANAGED_PURPOSES:
        _check_managed(call, body, wanted, network)
    elif body.get("role"):
        raise compute_invalid(
            "resource.role", body["role"], "Subnetwork role is only allowed for proxy-only subnetworks."
        )
    _check_range(call, wanted, network)
    body["ipCidrRange"] = str(wanted)
    for key in ("region", "kind", "id", "selfLink", "gatewayAddress", "fingerprint"):
        body.pop(key, None)

    def add() -> None:
        with call.world.mutate():
            _check_range(call, wanted, network)
            call.world.compute.insert("subnetworks", scope, subnet_defaults(body))

    return start(call, name, add, event="subnet-insert")


def _network(call: Call, reference: str) -> Json:
    name = reference.rsplit("/", 1)[-1]
    link = call.world.compute.canonical(reference)
    expected = call.world.compute.link("networks", "global", name)
    network = call.world.compute.get("networks", "global", name)
    if network is None or (link != name and link != expected):
        path = str(link).partition("/compute/v1/")[2] or call.world.compute.path("networks", "global", name)
        raise compute_not_found(path)
    return network


def _range(text: Any) -> ipaddress.IPv4Network:
    if not text:
        raise compute_required(RANGE_FIELD)
    try:
        wanted = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        raise compute_invalid(RANGE_FIELD, text, "Must be a CIDR address range.") from None
    if "/" not in str(text) or str(wanted) != str(text):
        why = f"Invalid network range: the address must be the first of the range ({wanted})."
        raise compute_invalid(RANGE_FIELD, text, why)
    if wanted.prefixlen > 29:
        raise compute_invalid(RANGE_FIELD, text, "Subnetwork range is too small: at most /29.")
    if wanted.prefixlen < 4 or any(wanted.overlaps(net) for net in PROHIBITED):
        raise compute_invalid(RANGE_FIELD, text, "IP range is not allowed as a subnetwork range.")
    return wanted


def _check_managed(call: Call, body: Json, wanted: ipaddress.IPv4Network, network: Json) -> None:
    """Rules of subnets that Google's Envoy proxies live in."""
    purpose = body["purpose"]
    if not body.get("role"):
        why = f"Subnetwork role must be specified when purpose set to {purpose}."
        raise compute_invalid("resource.role", "UNSPECIFIED_ROLE", why)
    allowed = {"name", "ipCidrRange", "network", "purpose", "role", "region", "description"}
    extra = [key for key in body if key not in allowed and body[key]]
    if extra:
        shown = json.dumps(body[extra[0]], indent=2).replace("\n", "")
        why = f"Invalid field set in subnetwork with purpose {purpose}."
        raise compute_invalid(f"resource.{extra[0]}", shown, why)
    if wanted.prefixlen > SMALLEST_PROXY_PREFIX:
        why = f"Subnetwork with purpose {purpose} must have a range of at least 64 addresses (/26 or larger)."
        raise compute_invalid(RANGE_FIELD, body["ipCidrRange"], why)
    if body["role"] == "ACTIVE":
        for subnet in call.world.compute.list("subnetworks", scope_of(call)):
            family = (
                subnet.get("purpose") in PROXY_PURPOSES
                if purpose in PROXY_PURPOSES
                else subnet.get("purpose") == purpose
            )
            if family and subnet.get("role") == "ACTIVE" and subnet["network"] == network["selfLink"]:
                why = (
                    f"An active subnetwork with purpose {subnet['purpose']} already exists in the network and region: "
                    f"'{subnet['name']}'."
                )
                raise compute_invalid("resource.role", "ACTIVE", why)


def _check_range(call: Call, wanted: ipaddress.IPv4Network, network: Json) -> None:
    auto = ipaddress.ip_network(catalog.AUTO_RANGE)
    if network.get("autoCreateSubnetworks") and wanted.overlaps(auto):
        why = f"Extended subnetworks in auto subnet mode networks cannot overlap with {auto}."
        raise compute_invalid(RANGE_FIELD, wanted, why)
    for subnet in call.world.compute.list("subnetworks"):
        if subnet["network"] != network["selfLink"]:
            continue
        taken = [subnet["ipCidrRange"], *(extra["ipCidrRange"] for extra in subnet.get("secondaryIpRanges", []))]
        if any(wanted.overlaps(ipaddress.ip_network(one)) for one in taken):
            region = subnet["region"].rsplit("/", 1)[-1]
            other = f"existing subnetwork '{subnet['name']}' in region '{region}'"
            why = f"Invalid IPCidrRange: {wanted} conflicts with {other}."
            raise compute_invalid(RANGE_FIELD, wanted, why)


@handles("compute.subnetworks.delete")
def delete(call: Call) -> Json:
    """Refused for auto-mode subnets and while anything uses the subnet."""
    if (again := call.operations.repeated(call.argument("requestId") or None)) is not None:
        return again
    world, scope, name = call.world, scope_of(call), name_of(call)
    subnet = world.compute.need("subnetworks", scope, name)
    network = world.compute.get("networks", "global", subnet["network"].rsplit("/", 1)[-1])
    if network and network.get("autoCreateSubnetworks") and name == network["name"]:
        raise ApiError(400, "Cannot delete auto subnetwork from an auto subnet mode network.", reason="invalidUsage")

    def check() -> None:
        users = world.subnet_users(name, call.params["region"])
        if users:
            raise compute_in_use("subnetwork", world.compute.path("subnetworks", scope, name), users[0])

    def remove() -> None:
        with world.mutate():
            check()
            world.compute.delete("subnetworks", scope, name)

    check()
    return start(call, name, remove, event="subnet-delete")


@handles("compute.subnetworks.patch")
def patch_subnet(call: Call) -> Json:
    subnet = call.world.compute.need("subnetworks", scope_of(call), name_of(call))
    if subnet.get("purpose") in MANAGED_PURPOSES and set(call.body) - {"role", "fingerprint", "description", "name"}:
        raise ApiError(400, f"Invalid field set in subnetwork with purpose {subnet['purpose']}.", reason="invalid")
    if "ipCidrRange" in call.body:
        raise compute_invalid(
            RANGE_FIELD, call.body["ipCidrRange"], "Use expandIpCidrRange to change a subnetwork's range."
        )
    return patch(call)


@handles("compute.subnetworks.expandIpCidrRange")
def expand(call: Call) -> Json:
    """Only grows; not for proxy-only subnets."""
    scope, name = scope_of(call), name_of(call)
    subnet = call.world.compute.need("subnetworks", scope, name)
    wanted, current = _range(call.body.get("ipCidrRange")), ipaddress.IPv4Network(subnet["ipCidrRange"])
    if subnet.get("purpose") in MANAGED_PURPOSES:
        raise ApiError(400, f"Invalid field set in subnetwork with purpose {subnet['purpose']}.", reason="invalid")
    if not current.subnet_of(wanted) or current == wanted:
        raise compute_invalid(
            "ipCidrRange", wanted, f"New range must be larger and contain the current range {current}."
        )
    fields = {"ipCidrRange": str(wanted)}
    return start(call, name, lambda: call.world.compute.patch("subnetworks", scope, name, fields))
