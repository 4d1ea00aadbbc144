# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``leftover_cost``: what the leftovers of an orphan scan cost an hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import prices as price_list


def leftover_cost(
    leftovers: Sequence[Mapping[str, Any]], prices_file: str = "", overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Sum over ``leftovers`` of ``llmd.gke.orphan_scan``, in the form of ``hourly_cost``."""
    prices = price_list.load(prices_file, overrides)
    return price_list.total([price_list.leftover_line(item, prices) for item in leftovers], prices)


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"leftover_cost": leftover_cost}
