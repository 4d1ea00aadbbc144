"""How long after a condition has come true does a wait return? Measured with the modules' own intervals, printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Verdict, wait_until

MODULES = Path(__file__).resolve().parents[3] / "plugins/modules"
LOOK_SECONDS = 0.5  # what one look costs on a slow connection
WAITING = sorted(
    path.stem for path in MODULES.glob("*.py") if re.search(r"^            +interval=\{", path.read_text(), re.M)
)


class Clock:
    """Looks cost time, too."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def interval_of(module: str) -> float:
    found = re.search(r'interval=\{"type": "float", "default": ([\d.]+)\}', (MODULES / f"{module}.py").read_text())
    assert found
    return float(found[1])


def overshoot(interval: float, at: float) -> float:
    clock = Clock()

    def look() -> bool:
        seen = clock.time >= at
        clock.time += LOOK_SECONDS
        return seen

    wait_until(look, Verdict, what="it", timeout=600, interval=interval, clock=clock)
    return clock.time - at


def test_there_are_waits() -> None:
    assert {"backend_health", "gateway_reconcile", "helm_releases"} <= set(WAITING)


@pytest.mark.parametrize("module", WAITING)
def test_a_wait_returns_within_two_seconds(module: str, figure: Callable[[str], None]) -> None:
    interval = interval_of(module)
    worst = max(overshoot(interval, 10 + step / 20) for step in range(int(20 * (interval + LOOK_SECONDS)) + 1))
    figure(f"{module}: {worst:.2f} s at most after the condition (look every {interval:g} s, each {LOOK_SECONDS} s)")
    assert worst <= 2.0 + 1e-9
