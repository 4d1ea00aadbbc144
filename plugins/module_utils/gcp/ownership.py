# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is ours: labels where Google has labels, a marker in the description where it has not."""

from __future__ import annotations

import re
from collections.abc import Mapping

MANAGED_BY = "managed-by"
MANAGER = "llmd-gke"
DEPLOYMENT = "llmd-deployment"
MARKER = f"{MANAGED_BY}={MANAGER}"


def labels(deployment: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Resource labels of something that we make; the caller's own never hide the mark."""
    result = {str(k): str(v) for k, v in (extra or {}).items()}
    result[MANAGED_BY] = MANAGER
    if deployment:
        result[DEPLOYMENT] = deployment
    return result


def owned(found: Mapping[str, str] | None, deployment: str = "") -> bool:
    """True where the labels say that we made it, and for this deployment if one is given."""
    found = found or {}
    if found.get(MANAGED_BY) != MANAGER:
        return False
    return not deployment or found.get(DEPLOYMENT, deployment) == deployment


def description(text: str, deployment: str) -> str:
    """A description that carries the mark."""
    mark = f"{MARKER} {DEPLOYMENT}={deployment}" if deployment else MARKER
    return f"{text} ({mark})"


def owned_by_description(text: str, deployment: str = "") -> bool:
    """The same question for things without labels."""
    if MARKER not in text:
        return False
    match = re.search(rf"{DEPLOYMENT}=([\w-]+)", text)
    return not deployment or match is None or match.group(1) == deployment
