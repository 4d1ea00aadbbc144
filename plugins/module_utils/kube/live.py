# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An object that is wanted, and what of a live one may be compared with it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import Kind

# What the server writes by itself, or another tool's memory: no part of what anybody asked for.
BOOKKEEPING = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
MEMORY = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class Target:
    """One object of a manifest, with its namespace filled in."""

    kind: Kind
    document: dict[str, Any]
    namespace: str

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    def say(self) -> str:
        """As in: Deployment llm-d/gaie-pattern1-epp."""
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind.kind} {where}"


def essence(live: dict[str, Any]) -> dict[str, Any]:
    """An object without status and bookkeeping: what may be compared, and shown."""
    metadata = {key: value for key, value in (live.get("metadata") or {}).items() if key not in BOOKKEEPING}
    notes = {key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key != MEMORY}
    if notes:
        metadata["annotations"] = notes
    return {**{key: value for key, value in live.items() if key != "status"}, "metadata": metadata}
