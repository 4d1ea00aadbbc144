# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the nodes of a pool stand to each other: placement side by side, and networks beside the ordinary one. Pure.

All of it is decided when a pool is made. What is None or empty is not our business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import Json

PLACEMENTS = {"compact": "COMPACT"}


@dataclass(frozen=True)
class Fabric:
    """placement: (compact, name of a resource policy of one's own or ""). networks: (network, subnetwork) beside eth0.

    profile: auto lets GKE make the networks that an accelerator machine has (RDMA among them).
    """

    placement: tuple[str, str] | None = None
    profile: str = ""
    gvnic: bool | None = None
    networks: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Fabric:
        """From a pool's module options. Raises ConfigurationError NODE_POOL_INVALID."""
        placement, networks = options.get("placement"), options.get("additional_networks")
        profile = options.get("accelerator_network_profile") or ""
        if profile and networks:
            raise ConfigurationError(
                f"Node pool {options['name']}: an accelerator network profile makes the networks itself",
                code="NODE_POOL_INVALID",
                remedy="Leave out one of accelerator_network_profile and additional_networks.",
            )
        return cls(
            placement=None if placement is None else (placement["type"], placement.get("policy") or ""),
            profile=profile,
            gvnic=options.get("gvnic"),
            networks=None if networks is None else tuple((one["network"], one["subnetwork"]) for one in networks),
        )

    def add_to(self, body: Json) -> None:
        """Write it into the body of a create call (container v1: NodePool)."""
        if self.placement:
            kind, policy = self.placement
            body["placementPolicy"] = {"type": PLACEMENTS[kind]} | ({"policyName": policy} if policy else {})
        if self.gvnic is not None:
            body["config"]["gvnic"] = {"enabled": self.gvnic}
        network: Json = {}
        if self.profile:
            network["acceleratorNetworkProfile"] = self.profile
        if self.networks:
            pairs = [{"network": name, "subnetwork": subnetwork} for name, subnetwork in self.networks]
            network["additionalNodeNetworkConfigs"] = pairs
        if network:
            body["networkConfig"] = network

    def differences(self, seen: Json) -> list[str]:
        """What another pool would be needed for. seen: the pool's view."""
        wrong = []
        have = seen["placement"]
        if self.placement and (not have or (have["type"], have["policy"]) != self.placement):
            said = " ".join(filter(None, have.values())) if have else "none"
            wrong.append(f"placement is {said}, not {' '.join(filter(None, self.placement))}")
        if self.profile and self.profile != seen["accelerator_network_profile"]:
            said = seen["accelerator_network_profile"] or "none"
            wrong.append(f"accelerator_network_profile is {said}, not {self.profile}")
        if self.gvnic is not None and self.gvnic != seen["gvnic"]:
            wrong.append(f"gvnic is {seen['gvnic']}, not {self.gvnic}")
        if self.networks is not None:
            names = [f"{_last(name)}/{_last(subnetwork)}" for name, subnetwork in self.networks]
            there = [f"{one['network']}/{one['subnetwork']}" for one in seen["additional_networks"]]
            if names != there:
                wrong.append(f"additional_networks are {', '.join(there) or 'none'}, not {', '.join(names) or 'none'}")
        return wrong


def view(found: Json) -> Json:
    """The part of a pool's view that is about this."""
    placement, network = found.get("placementPolicy") or {}, found.get("networkConfig") or {}
    kinds = {value: name for name, value in PLACEMENTS.items()}
    kind = kinds.get(str(placement.get("type") or ""))
    return {
        "placement": {"type": kind, "policy": str(placement.get("policyName") or "")} if kind else None,
        "accelerator_network_profile": str(network.get("acceleratorNetworkProfile") or ""),
        "gvnic": bool(((found.get("config") or {}).get("gvnic") or {}).get("enabled")),
        "additional_networks": [
            {"network": _last(one.get("network")), "subnetwork": _last(one.get("subnetwork"))}
            for one in network.get("additionalNodeNetworkConfigs") or []
        ],
    }


def _last(value: object) -> str:
    return str(value or "").rsplit("/", 1)[-1]
