# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``report_page``: a run's report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import report_page as pages


def report_page(report: Mapping[str, Any]) -> str:
    """The page of a report as role ``report`` puts it together."""
    return pages.page(report)


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"report_page": report_page}
