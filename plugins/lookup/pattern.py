# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup of a deployment pattern: which releases, model servers, routes and proofs make it up."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pattern
author:
  - The llmd.gke contributors (@llmd-gke)
short_description: Read a deployment pattern
version_added: 0.1.0
description:
  - Returns a pattern that this collection ships, or one from a file of your own.
  - A pattern is data. Filter P(llmd.gke.deployment_plan#filter) makes the plan of a deployment from it.
options:
  _terms:
    description: Pattern names (V(pattern2)), or absolute paths of YAML files of the same shape.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show what a pattern is about
  ansible.builtin.debug:
    msg: "{{ lookup('llmd.gke.pattern', 'pattern2').title }}"
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

SHIPPED = Path(__file__).resolve().parent.parent / "plugin_utils" / "patterns"
KIND = Kind(
    "pattern",
    "llmd_pattern",
    "PATTERN_UNKNOWN",
    "PATTERN_INVALID",
    SHIPPED,
    ("name", "title", "models", "workload", "router", "charts", "defaults", "proofs"),
)
read_pattern = KIND.read


class LookupModule(LookupBase):  # type: ignore[misc]
    """Thin entry: names in, patterns out."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [read_pattern(str(term)) for term in terms]
