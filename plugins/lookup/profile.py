# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup of a version profile: every version, label and metric name that belongs to one llm-d release set."""

from __future__ import annotations

DOCUMENTATION = r"""
name: profile
author: llmd.gke founders
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

import functools
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

# The parser in C takes a tenth of the time; every task that asks pays it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SHIPPED = Path(__file__).resolve().parent.parent / "plugin_utils" / "profiles"
REQUIRED = (
    *("name", "layout", "gke", "charts", "images", "crd_url", "crds"),
    *("labels", "values", "gateway", "pool", "picker", "model_server"),
)


@functools.cache
def read_profile(name: str) -> dict[str, Any]:
    """Content of profile ``name`` (or of the file at an absolute path); not to be changed.

    Raises AnsibleError naming what is there when the profile is unknown or lacks a section.
    """
    path = Path(name) if name.startswith("/") else SHIPPED / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yml")))
        raise AnsibleError(
            f"PROFILE_UNKNOWN: there is no version profile {name!r}.\nKnown profiles: {known}.\n"
            "What now: set llmd_profile to one of them, or to the absolute path of a profile file of your own."
        )
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    missing = [key for key in REQUIRED if not isinstance(content, dict) or key not in content]
    if missing:
        raise AnsibleError(f"PROFILE_INVALID: {path} lacks {', '.join(missing)}.\nWhat now: compare it with {SHIPPED}.")
    profile: dict[str, Any] = content
    return profile


class LookupModule(LookupBase):  # type: ignore[misc]
    """Thin entry: names in, profiles out."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [read_profile(str(term)) for term in terms]
