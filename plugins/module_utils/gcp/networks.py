# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VPC networks and the subnets in them, as read from the compute API."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.gcp.ranges import TakenRange
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment


@dataclass(frozen=True)
class NetworkRef:
    """A network by project and name: of this project, or of the host project of a shared VPC."""

    project: str
    name: str

    @property
    def path(self) -> str:
        return f"projects/{segment(self.project)}/global/networks/{segment(self.name)}"


def network_ref(text: str, project: str) -> NetworkRef:
    """``default``, ``projects/HOST/global/networks/N`` or a full URL."""
    if "projects/" in text:
        parts = text.split("projects/", 1)[1].split("/")
        return NetworkRef(parts[0], parts[-1])
    return NetworkRef(project, text)


def get_network(session: GoogleSession, ref: NetworkRef) -> Json:
    """The network. Raises GoogleApiError NOT_FOUND, API_DISABLED, ..."""
    return session.call("compute.networks.get", "GET", ref.path)


def is_auto_mode(network: Json) -> bool:
    return bool(network.get("autoCreateSubnetworks"))


def subnets_of(session: GoogleSession, ref: NetworkRef) -> list[Json]:
    """Every subnet of the network in all regions (ranges must be unique across the whole network)."""
    path = f"projects/{segment(ref.project)}/aggregated/subnetworks"
    found: list[Json] = []
    for page in session.pages("compute.subnetworks.aggregatedList", path):
        for scope in (page.get("items") or {}).values():
            found.extend(scope.get("subnetworks") or [])
    return [subnet for subnet in found if network_ref(str(subnet.get("network", "")), ref.project).name == ref.name]


def region_of(subnet: Json) -> str:
    return str(subnet.get("region", "")).rsplit("/", 1)[-1]


def taken_ranges(subnets: list[Json]) -> list[TakenRange]:
    """Primary and secondary ranges of the subnets, each with its owner in words."""
    taken = []
    for subnet in subnets:
        owner = f"subnet {subnet.get('name')} in {region_of(subnet)}"
        if subnet.get("ipCidrRange"):
            taken.append(TakenRange(ipaddress.IPv4Network(subnet["ipCidrRange"]), owner))
        for secondary in subnet.get("secondaryIpRanges") or []:
            detail = f"secondary range {secondary.get('rangeName')} of {owner}"
            taken.append(TakenRange(ipaddress.IPv4Network(secondary["ipCidrRange"]), detail))
    return taken
