from __future__ import annotations

import threading
import time

from sandbox.gke.health import HEALTHY, UNHEALTHY, Prober, State, Target, advance
from sandbox.gke.model import Endpoint, HealthCheck
from sandbox.timing import Timing

CHECK = HealthCheck(healthy=2, unhealthy=3)
ONE = Endpoint("10.4.0.2", 8000, "us-central1-a", "n1")
TWO = Endpoint("10.4.0.3", 8000, "us-central1-b", "n2")
GROUP = "https://www.googleapis.com/compute/v1/projects/p/zones/us-central1-a/networkEndpointGroups/neg"


def test_the_first_probe_decides() -> None:
    assert advance(State(), True, CHECK, 1.0).state == HEALTHY
    assert advance(State(), False, CHECK, 1.0).state == UNHEALTHY


def test_later_ones_need_the_thresholds() -> None:
    state = advance(State(), True, CHECK, 1.0)
    for expected in (HEALTHY, HEALTHY, UNHEALTHY, UNHEALTHY):
        state = advance(state, False, CHECK, 1.0)
        assert state.state == expected
    state = advance(state, True, CHECK, 1.0)
    assert state.state == UNHEALTHY
    assert advance(state, True, CHECK, 1.0).state == HEALTHY


def test_entries_have_the_shape_of_get_health() -> None:
    changed = threading.Event()
    prober = Prober(Timing(0), lambda check, endpoint: endpoint.ip == "10.4.0.2")
    prober.on_change(changed.set)

    def url(zone: str, name: str) -> str:
        return f"{zone}/{name}"

    target = Target(CHECK, (ONE, TWO), "neg", ("us-central1-a", "us-central1-b"))
    try:
        prober.set_targets("cluster", {"service": target})
        deadline = time.monotonic() + 5
        while len(prober.entries("service", GROUP, url)) < 1 and time.monotonic() < deadline:
            changed.wait(0.05)
        assert prober.entries("service", GROUP, url) == [
            {"healthState": HEALTHY, "ipAddress": "10.4.0.2", "port": 8000, "instance": "us-central1-a/n1"}
        ]
        other = GROUP.replace("us-central1-a", "us-central1-b")
        assert [item["healthState"] for item in prober.entries("service", other, url)] == [UNHEALTHY]
        assert prober.healthy("service") == {("10.4.0.2", 8000)}
        assert prober.entries("service", GROUP.replace("/neg", "/another"), url) == []
        prober.set_targets("cluster", {})
        assert prober.entries("service", GROUP, url) == []
    finally:
        prober.stop()


def test_nothing_is_known_before_the_first_probe() -> None:
    prober = Prober(Timing(0.001))
    try:
        prober.set_targets("cluster", {"service": Target(CHECK, (ONE,), "neg", ("us-central1-a",))})
        assert prober.entries("service", GROUP, lambda zone, name: name) == []
        assert prober.healthy("service") == set()
    finally:
        prober.stop()
