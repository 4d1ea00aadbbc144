# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup of a deployment pattern: which releases, model servers, routes and proofs make it up."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pattern
author: llmd.gke founders
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

import functools
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

# The parser in C takes a tenth of the time; every task that asks pays it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SHIPPED = Path(__file__).resolve().parent.parent / "plugin_utils" / "patterns"
REQUIRED = ("name", "title", "models", "workload", "router", "charts", "defaults", "proofs")


@functools.cache
def read_pattern(name: str) -> dict[str, Any]:
    """Content of pattern ``name`` (or of the file at an absolute path); not to be changed.

    Raises AnsibleError naming what is there when the pattern is unknown or lacks a section.
    """
    path = Path(name) if name.startswith("/") else SHIPPED / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yml")))
        raise AnsibleError(
            f"PATTERN_UNKNOWN: there is no pattern {name!r}.\nKnown patterns: {known}.\n"
            "What now: set llmd_pattern to one of them, or to the absolute path of a pattern file of your own."
        )
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    missing = [key for key in REQUIRED if not isinstance(content, dict) or key not in content]
    if missing:
        raise AnsibleError(f"PATTERN_INVALID: {path} lacks {', '.join(missing)}.\nWhat now: compare it with {SHIPPED}.")
    pattern: dict[str, Any] = content
    return pattern


class LookupModule(LookupBase):  # type: ignore[misc]
    """Thin entry: names in, patterns out."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [read_pattern(str(term)) for term in terms]
