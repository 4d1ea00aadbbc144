"""The sandbox's one long-running Python process: Google's APIs, and what Google runs behind them.

    python -m sandbox.daemon --speed 60

It runs inside the fabric namespace; ``sandbox up`` starts it. No cluster exists until the API is asked for one. The
processes of clusters are not its children in the sense of life: ``sandbox down`` finds and ends them by their records,
also where this process was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from sandbox import hub
from sandbox.gcp.backend import ClusterBackend
from sandbox.gcp.credentials import write_credentials, write_private
from sandbox.gcp.emulator import Emulator
from sandbox.gcp.server import serve
from sandbox.gcp.tls import CertificateAuthority
from sandbox.gcp.world import World
from sandbox.gke import make_autoscalers, make_controllers
from sandbox.kubernetes.manager import ClusterManager
from sandbox.paths import API_ADDRESS, API_PORT, HUB_ADDRESS, HUB_PORT, Paths, current
from sandbox.timing import Timing

PATIENCE = 8.0  # seconds for the parts to end by themselves


def start(paths: Paths, timing: Timing) -> list[Callable[[], object]]:
    """Start every part; returns what stops them, to be called in reverse order."""
    world = World()
    backend = ClusterManager(paths, timing)
    emulator = Emulator(world, backend, timing)
    authority = CertificateAuthority()
    write_credentials(world, paths, authority=authority)
    stops: list[Callable[[], object]] = [backend.stop]
    stops.append(hub.serve(HUB_ADDRESS, HUB_PORT, timing).stop)
    stops.append(make_controllers(world, backend, timing, paths).stop)
    stops.append(make_autoscalers(emulator, backend, timing).stop)
    world.on_change(lambda: keep_kubeconfig(world, backend, paths))
    # Last: an answer on this address means that everything behind it is there.
    stops.append(serve(emulator, API_ADDRESS, API_PORT, authority=authority, logs=paths.logs).stop)
    return stops


def keep_kubeconfig(world: World, backend: ClusterBackend, paths: Paths) -> None:
    """Keep an administrator's kubeconfig of the first running cluster for `sandbox exec kubectl`; none without one."""
    target = paths.state / "kubeconfig"
    running = sorted(key for key, cluster in world.clusters.items() if cluster.get("status") == "RUNNING")
    if not running:
        target.unlink(missing_ok=True)
    elif not target.exists():
        with contextlib.suppress(KeyError, OSError):  # the cluster may be going this very moment
            write_private(target, backend.admin(running[0]).kubeconfig.read_text(encoding="utf-8"))


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m sandbox.daemon", description=__doc__.splitlines()[0])
    parser.add_argument("--speed", type=float, default=60.0, help="how much faster than the real thing; 0: at once")
    speed: float = parser.parse_args().speed
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    stops = start(current(), Timing(speed))
    logging.getLogger("sandbox.daemon").info("up, speed %g", speed)
    asked.wait()
    ending = threading.Thread(target=lambda: [stop() for stop in reversed(stops)], daemon=True)
    ending.start()
    ending.join(PATIENCE)
    # Threads that still wait for a cluster that is gone must not hold anybody up: what lives on has its record on disk.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
