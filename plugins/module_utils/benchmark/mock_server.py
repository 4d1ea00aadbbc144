# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of known latency, in a process of its own on 127.0.0.1: what the benchmark's client is measured against.

It answers POST /v1/completions and /v1/chat/completions as a stream, keeps the truth of every request (GET /truth), and
plants a fault where the path asks for one: /fault/NAME/v1/completions, or /fault/NAME@N/... for every N-th request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import random
import signal
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from multiprocessing.connection import Connection as Pipe
from typing import Any, cast

ADDRESS = "127.0.0.1"
FAULTS = (
    "500", "503", "429", "400-long", "404", "401", "redirect", "disconnect", "disconnect-early", "close-after",
    "truncate",
    "broken-json", "broken-chunk", "not-http", "error-body", "error-event", "empty-choices", "no-usage", "not-streamed",
    "slow-first", "stall", "slow-header", "drip", "comments", "503-date", "no-content-type",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Latencies in seconds; jitter is the sigma of a lognormal factor; slow: seconds of the slow-* and stall faults."""

    ttft: float = 0.1
    itl: float = 0.01
    jitter: float = 0.0
    seed: int = 1
    slow: float = 5.0
    certificate: str = ""
    key: str = ""
    address: str = ADDRESS


class Exchange(asyncio.Protocol):
    """One connection of the mock server."""

    def __init__(self, settings: Settings, truth: list[dict[str, Any]], source: random.Random) -> None:
        self.settings = settings
        self.truth = truth
        self.source = source
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._served = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's call."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's call."""
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """asyncio's call."""
        now = self._loop.time()
        self._buffer += data
        if self._buffer.startswith(b"\x16"):  # a TLS greeting to a plain port: as most servers, refuse in plain text
            self.document(400, {"error": {"message": "plain HTTP here"}}, "Connection: close\r\n")
            self.transport.close()
            return
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.strip().lower(): value.strip() for name, _unused, value in (line.partition(":") for line in lines)
        }
        length = int(fields.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self._request(now, first.split(" ")[1], fields, rest[:length])

    def _request(self, now: float, path: str, fields: dict[str, str], body: bytes) -> None:
        if path == "/truth":
            self.document(200, self.truth)
            return
        fault = ""
        if path.startswith("/fault/"):
            _unused, _unused, name, path = path.split("/", 3)
            name, _unused, every = name.partition("@")
            fault = name if not every or len(self.truth) % int(every) == int(every) - 1 else ""
        asked = json.loads(body or b"{}")
        entry: dict[str, Any] = {"id": fields.get("x-request-id", ""), "received": now, "fault": fault}
        entry["streamed"] = bool(asked.get("stream"))
        self.truth.append(entry)
        if self._served and fault == "close-after":
            self.transport.close()  # what a server does to a connection that was idle for too long
            return
        self._served += 1
        if not plant_refusal(self, fault, str(asked.get("model"))):
            Stream(self, asked, entry, fault, chat="chat" in path).start(now)

    def document(self, status: int, content: Any, extra: str = "", body: bytes | None = None) -> None:
        """A whole answer at once."""
        data = json.dumps(content).encode() if body is None else body
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
        self.transport.write(head.encode() + data)

    def later(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time point; one thing at a time."""
        self._timer = self._loop.call_at(when, action)


def plant_refusal(exchange: Exchange, fault: str, model: str) -> bool:
    """Faults that need no stream; True where one was planted."""
    error = {"error": {"message": f"planted {fault}", "type": "planted"}}
    long = f"This model's maximum context length is 2048 tokens. However, you requested 5000 tokens for {model}."
    answers: dict[str, tuple[int, Any, str]] = {
        "500": (500, error, ""),
        "503": (503, error, "Retry-After: 0\r\n"),
        "503-date": (
            503,
            error,
            f"Date: {formatdate(0, usegmt=True)}\r\nRetry-After: {formatdate(2, usegmt=True)}\r\n",
        ),
        "429": (429, error, "Retry-After: 0\r\n"),
        "400-long": (400, {"error": {"message": long, "type": "BadRequestError"}}, ""),
        "404": (404, error, ""),
        "401": (401, error, ""),
        "redirect": (302, {}, "Location: http://127.0.0.1:9/elsewhere\r\n"),
        "error-body": (200, error, ""),
        "not-streamed": (200, {"choices": [{"index": 0, "text": "all at once"}]}, ""),
    }
    if fault in answers:
        status, content, extra = answers[fault]
        exchange.document(status, content, extra)
    elif fault == "disconnect-early":
        exchange.transport.abort()
    elif fault == "not-http":
        exchange.transport.write(b"SSH-2.0-planted\r\n\r\n")
    elif fault == "slow-header":
        exchange.transport.write(b"HTTP/1.1 200")  # and nothing more: slow loris
    elif fault == "drip":
        drip(exchange, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 60_000)
    else:
        return False
    return True


def drip(exchange: Exchange, data: bytes, every: float = 0.02) -> None:
    """One byte at a time, so that the connection is never silent: slow loris turned round."""
    exchange.transport.write(data[:1])
    if data[1:] and not exchange.transport.is_closing():
        exchange.later(exchange._loop.time() + every, lambda: drip(exchange, data[1:], every))


class Stream:
    """One streamed answer: tokens at their times, the truth noted as they are written."""

    def __init__(
        self, exchange: Exchange, asked: dict[str, Any], entry: dict[str, Any], fault: str, *, chat: bool
    ) -> None:
        self.exchange = exchange
        self.entry = entry
        self.fault = fault
        self.count = int(asked.get("max_completion_tokens") or asked.get("max_tokens") or 16)
        self.usage = bool((asked.get("stream_options") or {}).get("include_usage")) and fault != "no-usage"
        self.prompt = len(str(asked.get("prompt") or asked.get("messages") or "").split())
        base = {"id": entry["id"], "object": "text_completion", "model": asked.get("model"), "created": 0}
        token: dict[str, Any] = {"index": 0, "finish_reason": None, "text": "word "}
        if chat:
            base["object"] = "chat.completion.chunk"
            token = {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": "word "}}
        self.base = base
        choices = [] if fault == "empty-choices" else [token]
        self.piece = event({**base, "choices": choices})
        self.last_piece = event({**base, "choices": [{**token, "finish_reason": "length"}] if choices else []})
        self.sent = 0
        self.due = 0.0

    def start(self, now: float) -> None:
        """Set the first token's time."""
        settings = self.exchange.settings
        self.due = now + self._jittered(settings.ttft) + (settings.slow if self.fault == "slow-first" else 0.0)
        self.exchange.later(self.due, self.token)

    def token(self) -> None:
        """Write a token, set the time of the next; the truth is the moment of writing."""
        exchange = self.exchange
        now = exchange._loop.time()
        data = b""
        if self.sent == 0:
            kind = "" if self.fault == "no-content-type" else "Content-Type: text/event-stream\r\n"
            data = f"HTTP/1.1 200 OK\r\n{kind}Transfer-Encoding: chunked\r\n\r\n".encode()
            self.entry["first"] = now
        self.sent += 1
        if self.sent > 1 and self.sent * 2 > self.count and self._break_here():
            return
        final = self.sent >= self.count and self.fault != "truncate"
        exchange.transport.write(data + (self.last_piece if final else self.piece))
        self.entry["last"], self.entry["tokens"] = now, self.sent
        if self.sent >= self.count:
            self._end()
            return
        self.due += self._jittered(exchange.settings.itl)
        exchange.later(self.due, self.token)

    def _break_here(self) -> bool:
        """Plant a fault in the middle of the stream; True where the stream ends with it."""
        transport = self.exchange.transport
        if self.fault == "disconnect":
            transport.close()
        elif self.fault == "broken-json":
            transport.write(chunk(b'data: {"choices": [{"text": "unfin\n\n'))
            transport.write(b"0\r\n\r\n")
        elif self.fault == "broken-chunk":
            transport.write(b"zz\r\nnot a chunk\r\n")
        elif self.fault == "error-event":
            transport.write(event({"error": {"message": "planted: the engine died", "code": 500}}) + b"0\r\n\r\n")
        elif self.fault == "comments":
            self._keep_alive()
        elif self.fault != "stall":
            return False
        return True

    def _keep_alive(self) -> None:
        """Bytes, but no token: what proxies send to keep a connection open."""
        exchange = self.exchange
        if not exchange.transport.is_closing():
            exchange.transport.write(chunk(b": keep-alive\n\n"))
            exchange.later(exchange._loop.time() + 0.05, self._keep_alive)

    def _end(self) -> None:
        tail = b""
        if self.usage:
            usage = {"prompt_tokens": self.prompt, "completion_tokens": self.count}
            tail = event({**self.base, "choices": [], "usage": usage})
        if self.fault != "truncate":
            tail += chunk(b"data: [DONE]\n\n")
        self.exchange.transport.write(tail + b"0\r\n\r\n")

    def _jittered(self, seconds: float) -> float:
        jitter = self.exchange.settings.jitter
        return seconds * self.exchange.source.lognormvariate(0.0, jitter) if jitter else seconds


def chunk(data: bytes) -> bytes:
    """As an HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(content: Any) -> bytes:
    """As a server-sent event in a chunk of its own."""
    return chunk(b"data: " + json.dumps(content).encode() + b"\n\n")


def _serve(pipe: Pipe, other_end: Pipe, settings: Settings) -> None:
    """The child's life: listen, say the port, end when the parent's end of the pipe is gone."""
    other_end.close()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        truth: list[dict[str, Any]] = []
        source = random.Random(settings.seed)
        tls = None
        if settings.certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(settings.certificate, settings.key)
        server = await loop.create_server(
            lambda: Exchange(settings, truth, source), settings.address, 0, ssl=tls, backlog=1024
        )
        gone = asyncio.Event()
        loop.add_reader(pipe.fileno(), gone.set)
        pipe.send(server.sockets[0].getsockname()[1])
        await gone.wait()

    asyncio.run(main())


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[int]:
    """A mock server in a child process; its port. It ends with the block, or with this process, however that ends."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, ours, settings), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(10):
            raise OSError("the mock server did not start")
        yield int(ours.recv())
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join(5)
