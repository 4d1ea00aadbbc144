# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Address ranges for a proxy-only subnet: judged before anything is sent, with a free one to suggest. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

AUTO_MODE_RANGE = ipaddress.IPv4Network("10.128.0.0/9")
SMALLEST_PREFIX = 26  # a proxy-only subnet needs 64 addresses or more
RECOMMENDED_PREFIX = 23
# Ranges that no VPC subnet can use: https://cloud.google.com/vpc/docs/subnets#prohibited-ipv4-ranges
PROHIBITED = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "199.36.153.4/30",
        "199.36.153.8/30",
        "224.0.0.0/4",
        "255.255.255.255/32",
    )
)
# Searched in this order for a suggestion. 172.17.0.0/16 is left out: Docker's bridge on nodes uses it.
SUGGESTED_FROM = ("192.168.0.0/16", "172.24.0.0/13", "10.64.0.0/10")


@dataclass(frozen=True)
class TakenRange:
    """A range in use and by what, in words ("subnet default in us-central1")."""

    network: ipaddress.IPv4Network
    owner: str


def suggest(prefix: int, taken: Iterable[TakenRange]) -> str:
    """A free range of that size, empty where none is found."""
    occupied = [item.network for item in taken]
    for pool in SUGGESTED_FROM:
        network = ipaddress.IPv4Network(pool)
        if prefix < network.prefixlen:
            continue
        for candidate in network.subnets(new_prefix=prefix):
            if not any(candidate.overlaps(other) for other in occupied):
                return str(candidate)
    return ""


def parse(text: str) -> ipaddress.IPv4Network:
    """The range as a network. Raises ConfigurationError CIDR_INVALID, CIDR_HOST_BITS, CIDR_TOO_SMALL."""
    example = f"for example 192.168.0.0/{RECOMMENDED_PREFIX}"
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigurationError(
            f"The proxy-only range {text!r} is not a CIDR range",
            code="CIDR_INVALID",
            why=str(error),
            remedy=f"Give one, {example}.",
        ) from error
    if not isinstance(loose, ipaddress.IPv4Network) or "/" not in text:
        raise ConfigurationError(
            f"The proxy-only range {text!r} is not an IPv4 range with a prefix length",
            code="CIDR_INVALID",
            remedy=f"Give one, {example}.",
        )
    if text.split("/", 1)[0] != str(loose.network_address):
        raise ConfigurationError(
            f"The proxy-only range {text} has host bits set",
            code="CIDR_HOST_BITS",
            why=f"The address must be the first of its range: {loose}",
            remedy=f"Use {loose}.",
        )
    if loose.prefixlen > SMALLEST_PREFIX:
        raise ConfigurationError(
            f"The proxy-only range {text} is too small",
            code="CIDR_TOO_SMALL",
            why=f"/{loose.prefixlen} has {loose.num_addresses} addresses; /{SMALLEST_PREFIX} (64) is the least, "
            f"/{RECOMMENDED_PREFIX} is recommended",
            remedy=f"Use {loose.network_address}/{RECOMMENDED_PREFIX} if that is free and aligned, {example}.",
        )
    return loose


def check(text: str, *, auto_mode: bool, taken: Iterable[TakenRange], network: str = "") -> ipaddress.IPv4Network:
    """Judge a range against the network's rules and what is taken; the network where it is fine.

    Raises ConfigurationError: what ``parse`` raises, CIDR_RESERVED_RANGE, CIDR_CONFLICT. Names what is in the way.
    """
    wanted = parse(text)
    occupied = list(taken)
    reserved = [*occupied, TakenRange(AUTO_MODE_RANGE, "auto mode")]
    free = suggest(wanted.prefixlen, reserved)
    remedy = (
        f"Use a free range: llmd_proxy_subnet.range={free}."
        if free
        else "Use a range that nothing in the network uses."
    )
    where = f"network {network}" if network else ""
    if auto_mode and wanted.overlaps(AUTO_MODE_RANGE):
        raise ConfigurationError(
            f"The proxy-only range {text} lies in {AUTO_MODE_RANGE}, which an auto-mode network keeps for itself",
            code="CIDR_RESERVED_RANGE",
            where=where,
            why=f"Auto-mode networks take their subnets of all regions, present and future, from {AUTO_MODE_RANGE}",
            remedy=remedy,
        )
    for prohibited in PROHIBITED:
        if wanted.overlaps(prohibited):
            raise ConfigurationError(
                f"The proxy-only range {text} overlaps {prohibited}, which no VPC subnet may use",
                code="CIDR_RESERVED_RANGE",
                where=where,
                remedy=remedy,
            )
    for item in occupied:
        if wanted.overlaps(item.network):
            raise ConfigurationError(
                f"The proxy-only range {text} overlaps {item.network} of {item.owner}",
                code="CIDR_CONFLICT",
                where=where,
                why=f"{item.owner} uses {item.network}",
                remedy=remedy,
                evidence={"wanted": text, "taken": [{"range": str(t.network), "by": t.owner} for t in occupied]},
            )
    return wanted
