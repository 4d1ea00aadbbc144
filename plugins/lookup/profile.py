# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup of a version profile: every version, label and metric name that belongs to one llm-d release set."""

from __future__ import annotations

DOCUMENTATION = r"""
name: profile
author:
  - The llmd.gke contributors (@llmd-gke)
short_description: Read a version profile of llm-d
version_added: 0.1.0
description:
  - Returns the content of a version profile that this collection ships, or of a profile file of your own.
  - A profile holds every version, image, label and metric name that depends on the llm-d release set.
options:
  _terms:
    description: Profile names (V(llm-d-0.4)), or absolute paths of YAML files of the same shape.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show the chart versions of a profile
  ansible.builtin.debug:
    msg: "{{ lookup('llmd.gke.profile', 'llm-d-0.4').charts }}"
"""

RETURN = r"""
_raw:
  description: One dictionary for each name.
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.llmd.gke.plugins.plugin_utils.shipped import Kind

SHIPPED = Path(__file__).resolve().parent.parent / "plugin_utils" / "profiles"
KIND = Kind(
    "version profile",
    "llmd_profile",
    "PROFILE_UNKNOWN",
    "PROFILE_INVALID",
    SHIPPED,
    (
        *("name", "layout", "gke", "charts", "images", "crd_url", "crds"),
        *("labels", "values", "gateway", "pool", "picker", "model_server"),
    ),
)
read_profile = KIND.read


class LookupModule(LookupBase):  # type: ignore[misc]
    """Thin entry: names in, profiles out."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [read_profile(str(term)) for term in terms]
