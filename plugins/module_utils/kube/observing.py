# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a cluster that may stumble: an API server that throttles or restarts must not end a long wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem

T = TypeVar("T")


@dataclass(frozen=True)
class Seen(Generic[T]):
    """One look. ``value``: what was last seen (None: nothing yet); ``trouble``: why this look failed, if it did."""

    value: T | None
    trouble: str = ""


def tolerant(observe: Callable[[], T]) -> Callable[[], Seen[T]]:
    """An ``observe`` for ``wait_until`` that turns passing API trouble into "ask again", keeping what it saw last."""
    last: list[T] = []

    def look() -> Seen[T]:
        try:
            value = observe()
        except ApiProblem as problem:
            if not problem.transient:
                raise
            return Seen(
                last[0] if last else None, f"the Kubernetes API does not answer well ({problem.why or problem.what})"
            )
        last[:] = [value]
        return Seen(value)

    return look
