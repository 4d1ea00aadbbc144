# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that waits. Conditions are pure functions, time is injected, what is waited for is said aloud."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ansible_collections.llmd.gke.plugins.module_utils.errors import WaitTimeout

PROGRESS_FILE = "LLMD_GKE_PROGRESS_FILE"

T = TypeVar("T")


class Clock(Protocol):
    """Time as a collaborator, so that tests never really sleep."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The real time."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Verdict:
    """What one look at the world says. ``detail`` is a short phrase for a person ("2 of 3 backends HEALTHY")."""

    done: bool
    detail: str = ""


def report_progress(message: str, *, path: str | None = None) -> None:
    """Say what is going on, for the ``llmd.gke.progress`` callback to show live; silent where nobody listens.

    One JSON object a line is appended to the file that the callback names in the environment.
    """
    target = path if path is not None else os.environ.get(PROGRESS_FILE)
    if not target:
        return
    line = json.dumps({"time": time.time(), "message": message})
    try:
        with open(target, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError:
        return  # progress is a courtesy: a full disk must not fail the work itself


def wait_until(
    observe: Callable[[], T],
    judge: Callable[[T], Verdict],
    *,
    what: str,
    timeout: float,
    interval: float = 2.0,
    clock: Clock | None = None,
    explain: Callable[[T], WaitTimeout] | None = None,
    progress: Callable[[str], Any] = report_progress,
) -> T:
    """Look, judge, sleep, until the verdict is done; return what was last seen.

    what: the condition in words ("Gateway llm-d/infra-pattern1-inference-gateway Programmed"). timeout and interval in
    seconds; the first look is immediate, the last one happens at the deadline, not before it. ``judge`` may raise an
    ``LlmdError`` to end early where waiting is pointless. On expiry ``explain`` makes the error from the last
    observation; without it a plain ``WaitTimeout`` (code WAIT_TIMEOUT) is raised.
    """
    time_source = clock or SystemClock()
    start = time_source.now()
    last_detail: str | None = None
    while True:
        seen = observe()
        verdict = judge(seen)
        waited = time_source.now() - start
        if verdict.done:
            if last_detail is not None:
                progress(f"{what}: done ({waited:.0f} s)")
            return seen
        if verdict.detail != last_detail:
            progress(f"{what}: {verdict.detail or 'not yet'} ({waited:.0f} s)")
            last_detail = verdict.detail
        if waited >= timeout:
            if explain is not None:
                raise explain(seen)
            raise WaitTimeout(
                f"{what} did not come true within {timeout:.0f} s",
                code="WAIT_TIMEOUT",
                why=verdict.detail,
                remedy="Look at the evidence, then run again: what is done is kept. Raise the timeout if it was close.",
                evidence=seen,
            )
        time_source.sleep(min(interval, max(0.0, timeout - waited)))
