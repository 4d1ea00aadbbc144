# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``fleet_row``: what was read of one deployment as a row of the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import fleet

Json = Mapping[str, Any]


def fleet_row(
    deployment: Json, status: Json | None = None, verify: Json | None = None, drift: Json | None = None, error: str = ""
) -> dict[str, Any]:
    """The row of a deployment {name, project, location, cluster, page}."""
    return fleet.row(deployment, status or {}, verify or {}, drift, error)


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"fleet_row": fleet_row}
