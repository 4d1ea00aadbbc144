"""A loopback port of the host that leads to the first Gateway inside: ``python -m sandbox.cli.forward``.

It asks the sandbox anew for the Gateway's address every second or so, so it may be started before there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.cli import network
from sandbox.paths import LOAD_BALANCER_RANGE, Paths, current

GATEWAY_PORT = 80
TRIES = 20  # ports looked at, from the wanted one upwards
_CHUNK = 65536


def record_file(paths: Paths) -> Path:
    """Where the forwarder tells the port that it got."""
    return paths.state / "forward.json"


def listen(port: int, tries: int = TRIES) -> socket.socket | None:
    """A listening socket on 127.0.0.1 at ``port`` or the next free one; None where all are taken."""
    for candidate in range(port, min(port + tries, 65536)):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", candidate))
            server.listen(64)
            return server
        except OSError:
            server.close()
    return None


def gateway_address(status: Any) -> str | None:
    """Address of the first Gateway that has one, from the daemon's status."""
    gateways = status.get("gateways") if isinstance(status, dict) else None
    for gateway in gateways if isinstance(gateways, list) else []:
        address = gateway.get("address") if isinstance(gateway, dict) else None
        if isinstance(address, str) and address:
            return address
    return None


def balancer_address(addresses: Any) -> str | None:
    """The first load balancer address that the fabric carries, from ``ip -json addr``."""
    balancers = ipaddress.ip_network(LOAD_BALANCER_RANGE)
    for link in addresses if isinstance(addresses, list) else []:
        for entry in link.get("addr_info", []):
            with contextlib.suppress(ValueError):
                if ipaddress.ip_address(entry.get("local", "")) in balancers:
                    return str(entry["local"])
    return None


class Target:
    """The current Gateway's address, looked up at most once a second."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self._looked = 0.0
        self._address: str | None = None

    def address(self) -> str | None:
        with self._lock:
            if time.monotonic() - self._looked > 1.0:
                self._address = self._look()
                self._looked = time.monotonic()
            return self._address

    def _look(self) -> str | None:
        with contextlib.suppress(OSError, ValueError, network.ControlError):
            found = gateway_address(network.control(self._paths, "GET", "status"))
            if found:
                return found
        command = ["ip", "-n", self._paths.fabric, "-json", "addr", "show", "dev", "lo"]
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            output = subprocess.run(command, capture_output=True, timeout=5, check=False).stdout
            return balancer_address(json.loads(output or b"[]"))
        return None


def refuse(client: socket.socket, text: str) -> None:
    """Answer whatever was asked with 503 and a sentence."""
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    with contextlib.suppress(OSError):
        client.settimeout(2)
        client.recv(_CHUNK)
        client.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes one way until ``source`` ends, then say so to ``sink``."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Copy bytes both ways until both sides have ended. A thread each way: neither may wait for the other."""
    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join()


def serve_one(client: socket.socket, paths: Paths, target: Target) -> None:
    """Handle one connection, in a thread of its own (which moves into the fabric)."""
    with client:
        address = target.address()
        if address is None:
            refuse(client, "The sandbox has no Gateway yet: run the playbook first (make demo).")
            return
        try:
            network.enter(network.namespace_file(paths.fabric))
            upstream = socket.create_connection((address, GATEWAY_PORT), timeout=5)
        except OSError as error:
            refuse(client, f"The sandbox's Gateway at {address} does not answer: {error}")
            return
        with upstream, contextlib.suppress(OSError):
            upstream.settimeout(None)
            relay(client, upstream)


def main(arguments: Sequence[str] | None = None) -> int:
    """Listen until ended. The port that was free goes to ``record_file``; exit code 1 where none was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args(arguments)
    paths = current()
    server = listen(options.port)
    port = server.getsockname()[1] if server else None
    temporary = record_file(paths).with_suffix(".tmp")
    temporary.write_text(json.dumps({"port": port, "wanted": options.port, "pid": os.getpid()}), encoding="utf-8")
    temporary.rename(record_file(paths))
    if server is None:
        print(f"ports {options.port} to {options.port + TRIES - 1} are all taken", file=sys.stderr)
        return 1
    target = Target(paths)
    while True:
        client, _ = server.accept()
        threading.Thread(target=serve_one, args=(client, paths, target), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
