"""HTTP front end: Google hosts by path prefix and as a forward proxy with TLS, on one port.

- ``http://ADDRESS/<google host>/<path>``: for clients whose endpoint can be overridden.
- ``CONNECT <google host>:443``: for everything else (HTTPS_PROXY and our CA).
- ``/control/...``, ``/kubernetes/tokenreview/<key>``, ``/kubernetes/accessreview/<key>``, ``/computeMetadata/...``.
"""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import json
import logging
import os
import selectors
import socket
import socketserver
import ssl
import struct
import threading
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from sandbox.gcp import accessreview, batch, tokenreview
from sandbox.gcp.control import Control
from sandbox.gcp.emulator import Answer, Emulator
from sandbox.gcp.errors import ApiError
from sandbox.gcp.oauth import METADATA_HOSTS
from sandbox.gcp.requestlog import RequestLog
from sandbox.gcp.tls import CertificateAuthority

log = logging.getLogger(__name__)

MAX_BODY = 16 * 1024 * 1024
# The sandbox's own networks: the proxy passes connections to them on, and to nowhere else.
INSIDE = [ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "203.0.113.0/24")]


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Threaded server around one emulator. ``url`` is where it listens."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, emulator: Emulator, address: str, port: int, authority: CertificateAuthority, logs: Path | None
    ) -> None:
        self.emulator, self.authority = emulator, authority
        self.control = Control(emulator)
        self.request_log = RequestLog(logs / "gcp-requests.jsonl" if logs else None)
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        # HTTPServer looks up the machine's name here, which can hang without DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        port = "" if self.server_port == 80 else f":{self.server_port}"
        return f"http://{self.server_name}{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("connection of %s ended", client_address, exc_info=True)

    def stop(self) -> None:
        """Stop listening and let waiting operations go."""
        self.shutdown()
        self.server_close()
        self.emulator.close()


def serve(
    emulator: Emulator,
    address: str,
    port: int,
    *,
    authority: CertificateAuthority | None = None,
    logs: Path | None = None,
) -> Server:
    """Start serving in a thread. Port 0 takes any free one (``server.server_port``). OSError where it is taken."""
    server = Server(emulator, address, port, authority or CertificateAuthority(), logs)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="gcp-http", daemon=True).start()
    return server


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ESF"
    sys_version = ""
    disable_nagle_algorithm = True  # small answers would wait 40 ms for an acknowledgement
    wbufsize = 65536
    timeout = 600
    through: str | None = None  # host of a CONNECT

    @property
    def front(self) -> Server:
        return cast(Server, self.server)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    # --- proxy -------------------------------------------------------------------------------------------------

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        if _inside(host):
            self._tunnel(host, int(port))
            return
        if not (host.endswith((".googleapis.com", ".google.com")) or host in METADATA_HOSTS):
            self._send(
                Answer(403, {"error": f"The sandbox's proxy reaches Google's APIs and the sandbox only, not {host}."})
            )
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        try:
            secure = self.front.authority.context(host).wrap_socket(self.connection, server_side=True)
        except (ssl.SSLError, OSError) as error:
            log.info("TLS for %s: %s", host, error)
            self.close_connection = True
            return
        self.connection, self.through = secure, host
        self.rfile, self.wfile = secure.makefile("rb"), cast(Any, secure.makefile("wb", self.wbufsize))
        self.close_connection = False
        with contextlib.suppress(OSError, ValueError):
            while not self.close_connection:
                self.handle_one_request()
        with contextlib.suppress(OSError, ValueError):
            secure.close()
        self.close_connection = True

    def _tunnel(self, host: str, port: int) -> None:
        """Pass bytes both ways until one side ends: an API server or the gateway, reached through the proxy."""
        self.close_connection = True
        try:
            other = socket.create_connection((host, port), timeout=10)
        except OSError as error:
            self._send(Answer(502, {"error": f"{host}:{port}: {error}"}))
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        with other, selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ, other)
            selector.register(other, selectors.EVENT_READ, self.connection)
            while events := selector.select(timeout=self.timeout):
                for key, _ in events:
                    data = cast(socket.socket, key.fileobj).recv(65536)
                    if not data:
                        return
                    key.data.sendall(data)

    # --- requests ----------------------------------------------------------------------------------------------

    def _any(self) -> None:
        raw = self._read()
        if raw is None:
            return
        parts = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        host, path = self._place(parts)
        if host == "control":
            return self._control(path, query, raw)
        if host == "kubernetes":
            return self._kubernetes(path, raw)
        if path.startswith("/batch"):
            return self._batch(host, raw)
        self._send(self._google(host, self.command, path, query, cast(Mapping[str, str], self.headers), raw))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def _read(self) -> bytes | None:
        """The request's body; None where it was refused."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._read_chunks()
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            self._send(Answer(413, {"error": {"code": 413, "message": "Request Entity Too Large"}}))
            return None
        return self.rfile.read(length) if length else b""

    def _read_chunks(self) -> bytes:
        pieces = []
        while size := int(self.rfile.readline(100).split(b";")[0] or b"0", 16):
            pieces.append(self.rfile.read(min(size, MAX_BODY)))
            self.rfile.readline(100)
        while self.rfile.readline(1000).strip():
            pass
        return b"".join(pieces)

    def _place(self, parts: urllib.parse.SplitResult) -> tuple[str, str]:
        """Host and path that a request means, however it came."""
        if self.through is not None:
            return self.through, parts.path
        if parts.netloc:  # a proxy's absolute form
            return parts.hostname or "", parts.path
        if parts.path == "/" or parts.path.startswith("/computeMetadata"):
            return METADATA_HOSTS[0], parts.path
        _, host, *rest = parts.path.split("/", 2)
        return host, "/" + "".join(rest)

    def _google(
        self, host: str, verb: str, path: str, query: dict[str, list[str]], headers: Mapping[str, str], raw: bytes
    ) -> Answer:
        begun = time.monotonic()
        answer = self.front.emulator.handle(host, verb, path, query, headers, raw)
        seconds = time.monotonic() - begun
        self.front.request_log.write(host, verb, path, query, headers, raw, answer, seconds)
        return answer

    def _batch(self, host: str, raw: bytes) -> None:
        outer = self.headers.get("Authorization")

        def one(part: batch.Part) -> Answer:
            path, query = batch.query_of(part.target)
            headers = part.headers
            if not headers.get("Authorization") and outer:
                headers["Authorization"] = outer
            path = path.removeprefix(f"/{host}")
            return self._google(host, part.verb, path, query, cast(Mapping[str, str], headers), part.body)

        try:
            content_type, body = batch.answer(batch.parse(self.headers.get("Content-Type", ""), raw), one)
        except ValueError as error:
            self._send(Answer(400, ApiError(400, str(error), "INVALID_ARGUMENT", "badRequest").body()))
            return
        self._write(200, body, content_type, {})

    def _control(self, path: str, query: dict[str, list[str]], raw: bytes) -> None:
        try:
            body = json.loads(raw) if raw.strip() else None
        except ValueError as error:
            self._send(Answer(400, {"error": f"not JSON: {error}"}))
            return
        status, result = self.front.control.handle(self.command, path, query, body)
        self._send(Answer(status, result))

    def _kubernetes(self, path: str, raw: bytes) -> None:
        route, _, key = path.strip("/").partition("/")
        if route not in ("tokenreview", "accessreview") or self.command != "POST":
            self._send(Answer(404, {"error": f"{self.command} {path}"}))
            return
        try:
            request = json.loads(raw)
        except ValueError as error:
            self._send(Answer(400, {"error": str(error)}))
            return
        world = self.front.emulator.world
        if route == "accessreview":
            self._send(Answer(200, accessreview.review(world, request)))
        else:
            self._send(Answer(200, tokenreview.review(world, urllib.parse.unquote(key), request)))

    # --- answers -----------------------------------------------------------------------------------------------

    def _send(self, answer: Answer) -> None:
        if answer.wire == "reset":
            self._reset()
            return
        data = json.dumps(answer.body, indent=2).encode() if answer.text is None else answer.text.encode()
        self._write(answer.status, data, answer.content_type, answer.headers, cut=answer.wire == "cut")

    def _reset(self) -> None:
        """End the connection without an answer, so that the client sees a reset."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # a file object of ours would keep it open after close()

    def _write(
        self, status: int, data: bytes, content_type: str, headers: Mapping[str, str], *, cut: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            if name != "Server":
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.wfile.flush()
        if cut:
            self.close_connection = True


def _inside(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in net for net in INSIDE)
