# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several deployments in one run: whether they are really several. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.llmd.inputs import Problem

Variables = Mapping[str, Any]
REMEDY = {
    "llmd_cluster_name": "give each host its own llmd_cluster_name, llmd_zone or llmd_project in host_vars.",
    "llmd_deployment": "leave llmd_deployment out (it is the host's name), or give each host its own.",
    "llmd_artifacts_dir": "leave llmd_artifacts_dir out, or put {{ llmd_deployment }} into it.",
}


def places(host: str, given: Variables, defaults: Variables) -> dict[str, tuple[str, ...]]:
    """What must be one host's alone, by the variable that sets it, from what the inventory gives the host."""

    def value(name: str) -> str:
        return str(given.get(name) or defaults.get(name) or "")

    project, region = value("llmd_project"), value("llmd_region")
    deployment = str(given.get("llmd_deployment") or host)
    zone = str(given.get("llmd_zone") or f"{region}-a")
    return {
        "llmd_cluster_name": (project, zone, value("llmd_cluster_name")),
        "llmd_deployment": (project, deployment),
        "llmd_artifacts_dir": (str(given.get("llmd_artifacts_dir") or deployment),),
    }


def collisions(hosts: Mapping[str, Variables], defaults: Variables) -> list[Problem]:
    """Hosts of one run that would work on the same cluster, carry the same mark, or write the same files."""
    found: list[Problem] = []
    taken: dict[tuple[str, tuple[str, ...]], str] = {}
    for host, given in hosts.items():
        for name, place in places(host, given, defaults).items():
            first = taken.setdefault((name, place), host)
            if first != host:
                why = f"hosts {first} and {host} are two deployments and have the same: {' / '.join(place)}."
                found.append(Problem("FLEET_COLLISION", name, why, REMEDY[name]))
    return found
