"""Health checks: real HTTP and TCP probes of pods, and their results as getHealth gives them.

Google's probers sit outside of the cluster; these run in the fabric's namespace, from where every pod can be reached.
"""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.gke.model import Endpoint, HealthCheck
from sandbox.timing import Timing

log = logging.getLogger(__name__)

HEALTHY, UNHEALTHY = "HEALTHY", "UNHEALTHY"
_FASTEST = 1.0  # seconds between probes of one endpoint at the least: this machine is small
_PATIENCE = 5.0  # a local pod that has not answered by then will not


@dataclass(frozen=True)
class Target:
    """What one backend service probes. ``group``: the name of its NEGs; ``zones``: where it has one."""

    check: HealthCheck
    endpoints: tuple[Endpoint, ...]
    group: str
    zones: tuple[str, ...]

    def zone(self, endpoint: Endpoint) -> str:
        return endpoint.zone if endpoint.zone in self.zones else self.zones[0] if self.zones else ""


@dataclass(frozen=True)
class State:
    """What is known of one endpoint. ``state`` empty: not yet probed. ``streak``: equal results in a row."""

    state: str = ""
    last: bool | None = None
    streak: int = 0
    due: float = 0.0


def advance(before: State, passed: bool, check: HealthCheck, due: float) -> State:
    """Take in one probe. The first result decides at once; later ones need the check's thresholds."""
    streak = before.streak + 1 if before.last is passed else 1
    state = before.state
    if not state or streak >= (check.healthy if passed else check.unhealthy):
        state = HEALTHY if passed else UNHEALTHY
    return replace(before, state=state, last=passed, streak=streak, due=due)


def probe(check: HealthCheck, endpoint: Endpoint) -> bool:
    """One probe. HTTP must answer exactly 200 (redirects are failures); everything else must take a connection."""
    port = check.port or endpoint.port
    timeout = min(float(check.timeout), _PATIENCE)
    if check.kind != "HTTP":
        try:
            with socket.create_connection((endpoint.ip, port), timeout):
                return True
        except OSError:
            return False
    connection = http.client.HTTPConnection(endpoint.ip, port, timeout=timeout)
    headers = {"User-Agent": "GoogleHC/1.0", "Connection": "close", **({"Host": check.host} if check.host else {})}
    try:
        connection.request("GET", check.path, headers=headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class _Watched:
    owner: str
    target: Target
    states: dict[tuple[str, int], State] = field(default_factory=dict)


class Prober:
    """Probes the endpoints of every backend service in a few threads. ``changed`` is called when a state changes."""

    def __init__(self, timing: Timing, probe_with: Callable[[HealthCheck, Endpoint], bool] = probe) -> None:
        self._timing = timing
        self._probe = probe_with
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._listeners: list[Callable[[], None]] = []
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def on_change(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def set_targets(self, owner: str, targets: Mapping[str, Target]) -> None:
        """Replace what ``owner`` (a cluster) has probed, by backend service name; known states are kept."""
        delay = self._timing.seconds("health-check-propagation")
        with self._lock:
            for name in [name for name, item in self._watched.items() if item.owner == owner and name not in targets]:
                del self._watched[name]
            for name, target in targets.items():
                watched = self._watched.setdefault(name, _Watched(owner, target))
                watched.owner = owner
                fresh = time.monotonic() + delay
                if watched.target.check != target.check:
                    watched.states = {key: replace(state, due=0.0) for key, state in watched.states.items()}
                watched.target = target
                keys = {(item.ip, item.port) for item in target.endpoints}
                states = {key: state for key, state in watched.states.items() if key in keys}
                watched.states = {key: states.get(key) or State(due=fresh) for key in keys}
            if targets and self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, daemon=True, name="health-checks")
                self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def healthy(self, service: str) -> set[tuple[str, int]]:
        """Healthy (address, port) pairs of a backend service."""
        with self._lock:
            watched = self._watched.get(service)
            states = watched.states if watched else {}
            return {key for key, state in states.items() if state.state == HEALTHY}

    def entries(self, service: str, group: str, instance_url: Callable[[str, str], str]) -> list[dict[str, Any]]:
        """healthStatus of one backend service in one of its NEGs, given by URL. Unprobed endpoints are left out."""
        segments = group.split("/")
        with self._lock:
            watched = self._watched.get(service)
            if watched is None or watched.target.group != segments[-1]:
                return []
            target, states = watched.target, dict(watched.states)
        zone = segments[-3] if len(segments) > 2 else ""
        found = []
        for endpoint in target.endpoints:
            state = states.get((endpoint.ip, endpoint.port))
            if state is not None and state.state and target.zone(endpoint) == zone:
                entry = {"healthState": state.state, "ipAddress": endpoint.ip, "port": endpoint.port}
                if endpoint.instance:
                    entry["instance"] = instance_url(zone, endpoint.instance)
                found.append(entry)
        return found

    def _run(self) -> None:
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="probe") as pool:
            while not self._stop.is_set():
                self._wake.clear()
                due = self._due(time.monotonic())
                results = list(pool.map(lambda item: self._probe(item[1], item[2]), due))
                if self._record(due, results):
                    for callback in self._listeners:
                        callback()
                self._wake.wait(self._pause(time.monotonic()))

    def _due(self, now: float) -> list[tuple[str, HealthCheck, Endpoint]]:
        with self._lock:
            return [
                (name, watched.target.check, endpoint)
                for name, watched in self._watched.items()
                for endpoint in watched.target.endpoints
                if watched.states.get((endpoint.ip, endpoint.port), State()).due <= now
            ]

    def _record(self, due: Iterable[tuple[str, HealthCheck, Endpoint]], results: Iterable[bool]) -> bool:
        changed = False
        now = time.monotonic()
        with self._lock:
            for (name, check, endpoint), passed in zip(due, results, strict=True):
                watched = self._watched.get(name)
                key = endpoint.ip, endpoint.port
                if watched is None or key not in watched.states:
                    continue
                before = watched.states[key]
                after = advance(before, passed, check, now + self._interval(check))
                watched.states[key] = after
                changed |= after.state != before.state
        return changed

    def _interval(self, check: HealthCheck) -> float:
        speed = self._timing.speed
        return max(_FASTEST, check.interval / speed) if speed else _FASTEST

    def _pause(self, now: float) -> float | None:
        with self._lock:
            moments = [state.due for watched in self._watched.values() for state in watched.states.values()]
        return min(max(min(moments) - now, 0.02), 5.0) if moments else None
