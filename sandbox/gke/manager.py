"""Starts and stops what GKE runs for each cluster, following the project's clusters."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol

from sandbox.gke.addons import Addons
from sandbox.gke.compute import Json, World, place_of
from sandbox.gke.controller import GatewayController
from sandbox.gke.envoy import EnvoyFleet
from sandbox.gke.health import Prober
from sandbox.gke.kubeapi import Admin
from sandbox.paths import Paths
from sandbox.timing import Timing

log = logging.getLogger(__name__)

_SERVED = ("RUNNING", "RECONCILING", "DEGRADED", "ERROR")
_TICK = 2.0


class Backend(Protocol):
    """The part of ``sandbox.gcp.backend.ClusterBackend`` that is used here."""

    def admin(self, key: str) -> Any: ...


def wants_gateway_api(cluster: Json) -> bool:
    """Whether a cluster is up and has GKE's Gateway API on."""
    config = (cluster.get("networkConfig") or {}).get("gatewayApiConfig") or {}
    return config.get("channel") == "CHANNEL_STANDARD" and cluster.get("status") in _SERVED


class Controllers:
    """All controllers of the sandbox. ``sync`` looks at the clusters at once; ``stop`` ends everything."""

    def __init__(self, world: World, backend: Backend, timing: Timing, paths: Paths, *, envoy: EnvoyFleet) -> None:
        self._world = world
        self._backend = backend
        self._timing = timing
        self._paths = paths
        self._envoy = envoy
        self._prober = Prober(timing)
        self._addons = Addons()
        self._running: dict[str, tuple[str, GatewayController]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="gke-controllers")
        world.group_health = self.group_health
        world.on_change(self._changed)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End all controllers, health checks and Envoy."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)
        with self._lock:
            for _server, controller in self._running.values():
                controller.stop()
            self._running.clear()
        self._prober.stop()
        self._envoy.stop()

    def group_health(self, service: Json, group: str) -> list[Json]:
        """healthStatus entries of one backend service in one of its groups (``world.group_health``)."""
        project = group.partition("/projects/")[2].partition("/")[0]

        def instance_url(zone: str, name: str) -> str:
            return f"https://www.googleapis.com/compute/v1/projects/{project}/zones/{zone}/instances/{name}"

        return self._prober.entries(str(service.get("name", "")), group, instance_url)

    def sync(self) -> None:
        """Start controllers of clusters that have the Gateway API, stop those of clusters that have it no more."""
        with self._world.lock:
            wanted = {key: place_of(key, item) for key, item in self._world.clusters.items() if wants_gateway_api(item)}
        with self._lock:
            for key in [key for key in self._running if key not in wanted]:
                self._running.pop(key)[1].stop()
            for key in wanted:
                if not self._stop.is_set():
                    self._one(key)
            for _server, controller in self._running.values():
                controller.wake()
        self._envoy.ensure_running()

    def _one(self, key: str) -> None:
        try:
            admin: Admin = self._backend.admin(key)
        except KeyError:
            return
        identity = f"{admin.server} {_content(admin.ca_file)}"
        running = self._running.get(key)
        if running is not None and running[0] == identity:
            return
        if running is not None:  # deleted and made again between two looks
            self._running.pop(key)[1].stop()
        try:
            self._addons.enable_gateway_api(admin)
        except Exception as error:
            log.warning("Gateway API of %s: %s (will try again)", key, error)
            return
        controller = GatewayController(
            self._world, admin, key, self._timing, self._paths, self._envoy, prober=self._prober
        )
        controller.start()
        self._running[key] = identity, controller

    def _changed(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(_TICK)
            self._stop.wait(0.05)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self.sync()
            except Exception:
                log.exception("controllers")


def _content(path: Any) -> str:
    try:
        return str(path.read_text(encoding="utf-8"))
    except OSError:
        return ""


def make_controllers(world: World, backend: Backend, timing: Timing, paths: Paths) -> Controllers:
    """The controllers of a sandbox, running; the daemon calls this once and ``stop`` at its end."""
    controllers = Controllers(world, backend, timing, paths, envoy=EnvoyFleet(paths, timing))
    controllers.start()
    return controllers
