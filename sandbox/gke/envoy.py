"""The Envoy process that stands for Google's load balancers: one for all Gateways of the sandbox.

It runs in the fabric's namespace and reads its configuration from files (tmp + rename). Load balancer addresses are
/32s on that namespace's loopback interface.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from pathlib import Path

from sandbox import processes
from sandbox.gke import xds
from sandbox.gke.xds import Site
from sandbox.paths import Paths
from sandbox.timing import Timing

log = logging.getLogger(__name__)

NAME = "envoy"
ADMIN = ("127.0.0.1", 19000)


def binary(paths: Paths) -> Path:
    """Envoy's binary."""
    return paths.envoy


def write(path: Path, text: str) -> bool:
    """Replace a file by renaming, as Envoy's watch wants it. False where nothing would change."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except OSError:
        pass
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.touch(mode=0o600)  # private keys of listeners are in it
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)
    return True


class EnvoyFleet:
    """Envoy and its files. ``namespace`` None: in the current network namespace and without adding addresses."""

    def __init__(
        self, paths: Paths, timing: Timing, *, namespace: str | None = "", admin: tuple[str, int] = ADMIN
    ) -> None:
        self._paths = paths
        self._timing = timing
        self._namespace = paths.fabric if namespace == "" else namespace
        self._admin = admin
        self._lock = threading.Lock()
        self._sites: dict[str, Site] = {}
        self._addresses: set[str] = set()

    @property
    def folder(self) -> Path:
        return self._paths.state / "envoy"

    @property
    def _xds(self) -> Path:
        return self.folder / "xds"

    @property
    def _processes(self) -> Path:
        return self._paths.state / "processes"

    def set_site(self, site: Site) -> None:
        """Serve what one cluster's Gateways want; replaces what the same owner gave before."""
        with self._lock:
            if self._sites.get(site.owner) == site and (self._process() or not site.frontends):
                return
            self._sites[site.owner] = site
            self._render()

    def remove_site(self, owner: str) -> None:
        """Stop serving for a cluster."""
        with self._lock:
            if self._sites.pop(owner, None) is not None:
                self._render()

    def ensure_running(self) -> None:
        """Start Envoy again where it ended by itself."""
        with self._lock:
            if any(site.frontends for site in self._sites.values()) and self._process() is None:
                self._render()

    def stop(self) -> None:
        """End Envoy."""
        with self._lock:
            process = self._process()
            if process is not None:
                processes.stop(process, self._processes, grace=3.0)

    def _process(self) -> processes.Process | None:
        processes_here = [item for item in processes.recorded(self._processes) if item.name == NAME]
        for item in processes_here:
            processes.reap(item.pid)
        return next((item for item in processes_here if item.alive()), None)

    def _render(self) -> None:
        wanted = {item.address for site in self._sites.values() for item in site.frontends}
        self._bind(wanted)
        self._xds.mkdir(parents=True, exist_ok=True)
        files = xds.files(self._sites.values(), self._xds)
        for name, text in files.items():
            write(self._xds / name, text)
        for path in self._xds.glob("?ds-*.json"):
            if path.name not in files:
                path.unlink(missing_ok=True)
        if wanted and self._process() is None:
            self._start()
        self._unbind(wanted)

    def _start(self) -> None:
        path = self.folder / "bootstrap.json"
        write(path, json.dumps(xds.bootstrap(self._xds, self._admin), indent=1) + "\n")
        command = [str(binary(self._paths)), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id"]
        command += ["--drain-time-s", "5", "--log-level", "warning"]
        log_file = self._paths.logs / "envoy.log"
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)}
        processes.start(
            NAME, command, folder=self._processes, log=log_file, namespace=self._namespace, environment=environment
        )

    def _ip(self, action: str, address: str) -> None:
        if self._namespace is None:
            return
        command = ["ip", "-n", self._namespace, "address", action, f"{address}/32", "dev", "lo"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 and "exists" not in done.stderr and "already assigned" not in done.stderr:
            log.warning("%s: %s", " ".join(command), done.stderr.strip())

    def _bind(self, wanted: set[str]) -> None:
        for address in sorted(wanted - self._addresses):
            self._ip("add", address)
            self._addresses.add(address)

    def _unbind(self, wanted: set[str]) -> None:
        for address in sorted(self._addresses - wanted):
            self._ip("del", address)
            self._addresses.discard(address)
