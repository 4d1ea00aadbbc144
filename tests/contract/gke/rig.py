"""Pods, pickers and a body-based router on loopback addresses, behind the fleet's Envoy."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

Address = tuple[str, int]
REPOSITORY = Path(__file__).resolve().parents[3]


class Pod(BaseHTTPRequestHandler):
    """Says who it is, and what it got. ``slow=N`` in the path: the answer comes in N pieces, 20 ms apart."""

    protocol_version = "HTTP/1.1"

    def _answer(self, body: bytes) -> None:
        asked = self.headers.get("X-Gateway-Model-Name")
        found = {"pod": self.connection.getsockname()[0], "path": self.path, "body": body.decode(), "model": asked}
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces = int(self.path.partition("slow=")[2] or 1)
        step = -(-len(data) // pieces)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
            if pieces > 1:
                time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") != "chunked":
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            return
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self._answer(body)

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def pod_servers(*addresses: str) -> Iterator[list[Address]]:
    """One server an address, all on the same port."""
    first = _Server((addresses[0], 0), Pod)
    servers = [first, *(_Server((address, first.server_address[1]), Pod) for address in addresses[1:])]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield [(str(server.server_address[0]), server.server_address[1]) for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def until(check: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "what was asked did not come to be served"
        time.sleep(0.05)


def picker_module() -> ModuleType:
    """picker.py, which cannot be imported where grpc is absent."""
    return importlib.import_module(".picker", __package__)


class Router:
    """The body-based router's stand-in as a process."""

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self._log = log
        self._ports = [free_port(address) for _ in range(3)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> Address:
        return self.address, self._ports[0]

    def start(self) -> None:
        names = ("--grpc-port", "--grpc-health-port", "--metrics-port")
        ports = [word for name, port in zip(names, self._ports, strict=True) for word in (name, str(port))]
        command = [sys.executable, "-P", "-m", "sandbox.images.body_router", "--streaming", "--v", "3", *ports]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LLMD_SANDBOX_BIND": self.address}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until(lambda: socket.socket().connect_ex(self.place) == 0)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None
