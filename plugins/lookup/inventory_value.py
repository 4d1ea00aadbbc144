# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_value
short_description: What the inventory itself says about a variable of this host
version_added: 0.1.0
description:
  - Reads the inventory without this run's extra variables, facts and registered results, so that a play can tell
    whether what it does will last. Variables beside the playbook count as the inventory's.
  - Templates are not rendered. A variable that the inventory does not have gives nothing.
options:
  _terms:
    description: Names of variables.
    type: list
    elements: str
    required: true
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Will that last?
  ansible.builtin.debug:
    msg: "the inventory says {{ lookup('llmd.gke.inventory_value', 'llmd_replicas') }}"
"""

RETURN = r"""
_list:
  description: Their values, as written.
  type: list
  elements: raw
"""

from collections.abc import Iterable
from typing import Any

from ansible.inventory.helpers import sort_groups
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase
from ansible.vars.plugins import get_vars_from_inventory_sources, get_vars_from_path


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible's classes carry no types
    """The lookup."""

    def run(self, terms: Iterable[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        known = variables or {}
        sources = [str(source) for source in known.get("ansible_inventory_sources") or []]
        host = InventoryManager(loader=self._loader, sources=sources).get_host(str(known.get("inventory_hostname", "")))
        if host is None:
            return []
        folder = known.get("playbook_dir")
        found: dict[str, Any] = {}
        for entity in [*sort_groups(host.get_groups()), host]:
            found |= entity.get_vars()
            found |= get_vars_from_inventory_sources(self._loader, sources, [entity], "all")
            if folder:
                found |= get_vars_from_path(self._loader, str(folder), [entity], "all")
        return [found[term] for term in terms if term in found]
