# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``run_stages``: how long each stage of a run took, from the marks between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.plugin_utils import report_page as pages


def run_stages(marks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages {name, seconds, begin} from marks {name, at}; the first mark is the start."""
    return pages.stages_of(marks)


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"run_stages": run_stages}
