# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``fleet_summary``: rows of deployments as one document with a table and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import fleet


def fleet_summary(rows: Sequence[Mapping[str, Any]], at: str = "") -> dict[str, Any]:
    """{document, table (lines), page (HTML)} of all rows."""
    document = fleet.summary(rows, at)
    return {"document": document, "table": fleet.table(document), "page": fleet.page(document)}


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"fleet_summary": fleet_summary}
