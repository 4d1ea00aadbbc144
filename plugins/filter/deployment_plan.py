# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter ``deployment_plan``: servers, pools, releases and rules of a pattern with its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.plugin_utils import plans


def deployment_plan(
    pattern: Mapping[str, Any],
    profile: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What is to be deployed; see plugin_utils/plans.py. Raises AnsibleError with the code of what is wrong."""
    try:
        return plans.make_plan(pattern, profile, models, settings)
    except LlmdError as error:
        raise AnsibleError(str(error)) from error


class FilterModule:
    """Names the filters of this file for Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"deployment_plan": deployment_plan}
