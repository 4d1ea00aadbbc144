# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until objects that were deleted have gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ansible_collections.llmd.gke.plugins.module_utils.errors import WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import Kind
from ansible_collections.llmd.gke.plugins.module_utils.kube.observing import Seen, tolerant
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, Verdict, wait_until


class Named(Protocol):
    """One object, by what it is found and called."""

    @property
    def kind(self) -> Kind: ...

    @property
    def name(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    def say(self) -> str: ...


def wait_gone(
    client: KubeClient,
    objects: Sequence[Named],
    timeout: float,
    interval: float,
    clock: Clock | None = None,
    *,
    what: str,
    code: str,
    remedy: str,
) -> None:
    """Wait until none of them is there. what: who they are, in words; code and remedy: of the WaitTimeout raised."""

    def judge(seen: Seen[list[Named]]) -> Verdict:
        if seen.trouble or seen.value is None:
            return Verdict(False, seen.trouble)
        return Verdict(not seen.value, "still there: " + ", ".join(one.say() for one in seen.value))

    def explain(seen: Seen[list[Named]]) -> WaitTimeout:
        finalizers = {}
        for one in seen.value or []:
            live = client.get(one.kind, one.name, one.namespace)
            finalizers[one.say()] = ((live or {}).get("metadata") or {}).get("finalizers") or []
        words = "; ".join(f"{name}: finalizers {', '.join(names) or 'none'}" for name, names in finalizers.items())
        return WaitTimeout(
            f"{what} are not gone after {timeout:.0f} s.",
            code=code,
            why=seen.trouble or words,
            remedy=remedy,
            evidence=finalizers,
        )

    left = list(objects)

    def observe() -> list[Named]:
        left[:] = [one for one in left if client.get(one.kind, one.name, one.namespace) is not None]
        return list(left)

    wait_until(
        tolerant(observe),
        judge,
        what=f"{what} gone",
        timeout=timeout,
        interval=interval,
        clock=clock,
        explain=explain,
    )
