# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recognised cause, as a value. Predicates return problems; callers decide when one becomes an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import KubernetesError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock


@dataclass(frozen=True)
class Problem:
    """Why something is not as it should be.

    fatal: waiting alone is not known to heal it (somebody must act), so a wait may end early once it was seen steadily.
    """

    code: str
    what: str
    why: str = ""
    remedy: str = ""
    where: str = ""
    fatal: bool = False
    evidence: Any = None

    def error(self, kind: Callable[..., LlmdError] = KubernetesError) -> LlmdError:
        """The problem as an exception of the tree."""
        return kind(
            self.what, code=self.code, where=self.where, why=self.why, remedy=self.remedy, evidence=self.evidence
        )

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "remedy": self.remedy,
            "fatal": self.fatal,
        }


class Steady:
    """Tells a state that stays from one that only passes.

    A controller or kubelet that has not retried yet shows yesterday's failure: no failure is believed at first sight.
    """

    def __init__(self, clock: Clock, grace: float) -> None:
        """grace: seconds for which a key must be seen without interruption."""
        self._clock = clock
        self._grace = grace
        self._key: str | None = None
        self._since = 0.0

    def seen(self, key: str | None) -> bool:
        """Report one look; True when the same key was there for the whole grace period. None means "all is well"."""
        now = self._clock.now()
        if key != self._key:
            self._key = key
            self._since = now
        return key is not None and now - self._since >= self._grace
