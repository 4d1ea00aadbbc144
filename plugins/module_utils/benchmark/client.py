# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streaming HTTP/1.1 client for measuring: connections are reused, bytes are stamped as they arrive, parsed after."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.answers import Answer
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.causes import cause_of_connect
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Record, Target

CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True)
class Outgoing:
    """A request on its way: path ("/v1/completions"), JSON body, whether the generated text is wanted back."""

    path: str
    body: bytes
    keep_text: bool = False


class Inbox:
    """Bytes of all connections in order of arrival.

    Reading and parsing are apart: when many sockets are ready at once, all of them are stamped first (microseconds
    each) and parsed after, so that parsing the answer of one request does not delay the time stamp of the next.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[Connection, float, bytes]] = []

    def put(self, connection: Connection, data: bytes) -> None:
        """Stamp and keep; parse when this round of reading is over."""
        if not self._waiting:
            self._loop.call_soon(self._drain)
        self._waiting.append((connection, self._loop.time(), data))

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection, now, data in waiting:
            connection.parse(now, data)

    def flush(self) -> None:
        """Parse what waits, now: a connection is about to end."""
        self._drain()


class Connection(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(
        self, inbox: Inbox, loop: asyncio.AbstractEventLoop, on_idle_loss: Callable[[Connection], None]
    ) -> None:
        self._inbox = inbox
        self._loop = loop
        self._on_idle_loss = on_idle_loss
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None
        self.used = 0
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's call."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio's call."""
        self._inbox.put(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's call."""
        self._inbox.flush()
        self.open = False
        if self._answer is None:
            self._on_idle_loss(self)
            return
        self._answer.closed(self._loop.time(), f"{type(exc).__name__}: {exc}" if exc else "closed by the peer")
        self._settle()

    def parse(self, now: float, data: bytes) -> None:
        """Bytes of the inbox that belong here."""
        if self._answer is None:
            self.close()  # nobody asked: this connection cannot be trusted any more
            return
        self._answer.take(now, data)
        if self._answer.finished:
            self._settle()

    def send(self, data: bytes, answer: Answer) -> asyncio.Future[None]:
        """Start a request; the future ends when the answer is finished, well or not."""
        if self._transport is None:
            raise RuntimeError("send() before the connection was made")
        self.used += 1
        self._answer = answer
        self._done = self._loop.create_future()
        answer.record.sent = self._loop.time()
        self._transport.write(data)
        return self._done

    def abandon(self) -> None:
        """Stop waiting for the answer; the connection ends, for its rest would disturb the next request."""
        self._answer = None
        self._done = None
        self.close()

    def close(self) -> None:
        """End the connection at once."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def _settle(self) -> None:
        answer, done = self._answer, self._done
        self._answer = self._done = None
        if answer is not None and not answer.reusable:
            self.close()
        if done is not None and not done.done():
            done.set_result(None)


class Client:
    """All connections to one target. Use as an async context manager inside the loop that measures."""

    def __init__(self, target: Target, load: Load) -> None:
        self.target = target
        self.load = load
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(self._loop)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._tls: ssl.SSLContext | None = target.tls()
        fields = {
            "Host": target.authority,
            "User-Agent": "llmd-gke-benchmark",
            "Accept": "text/event-stream",
            "Content-Type": "application/json",
            **dict(target.headers),
        }
        lines = [f"{name}: {value}" for name, value in fields.items() if "\r" not in value and "\n" not in value]
        self._fields = "\r\n".join(lines)
        self.opened = 0

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_unused: object) -> None:
        for connection in list(self._all):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def send(self, request: Outgoing, record: Record) -> str:
        """Send and wait for the end; ``record`` holds what was measured, the generated text is the return value.

        Never raises for what the network or the server does: that is in ``record.cause``.
        """
        data = self._encode(request, record)
        answer = Answer(record, request.keep_text)
        for attempt in (1, 2):
            connection = await self._connection(record)
            if connection is None:
                return ""
            reused = connection.used > 0
            await self._exchange(connection, data, answer)
            if attempt == 1 and reused and record.cause == "no_answer" and not answer.touched:
                # the server had closed an idle connection: as every HTTP client does, once more on a new one
                record.cause = record.detail = ""
                record.reconnected = True
                self._drop_idle()
                answer = Answer(record, request.keep_text)
                continue
            break
        return "".join(answer.text)

    async def _exchange(self, connection: Connection, data: bytes, answer: Answer) -> None:
        done = connection.send(data, answer)
        watch = Watch(self._loop, self.load, answer, done)
        try:
            await done
        except asyncio.CancelledError:
            connection.abandon()
            raise
        finally:
            watch.stop()
        if answer.record.cause in ("timeout", "first_token_timeout", "stalled"):
            connection.abandon()
        if connection.open and answer.reusable:
            self._idle.append(connection)
        else:
            self._all.discard(connection)

    async def _connection(self, record: Record) -> Connection | None:
        """An open connection: an idle one, else a new one; None with the cause in the record."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        started = self._loop.time()
        try:
            async with asyncio.timeout(min(CONNECT_TIMEOUT, self.load.request_timeout)):
                _unused, connection = await self._loop.create_connection(
                    lambda: Connection(self._inbox, self._loop, self._forget),
                    self.target.host,
                    self.target.port,
                    ssl=self._tls,
                    server_hostname=self._server_name(),
                )
        except (OSError, ValueError) as error:
            record.cause, record.detail = cause_of_connect(error)
            record.sent, record.end = started, self._loop.time()
            return None
        record.connect = self._loop.time() - started
        self.opened += 1
        self._all.add(connection)
        return connection

    def _server_name(self) -> str | None:
        if self._tls is None:
            return None
        return self.target.host_header.partition(":")[0] or self.target.host

    def _encode(self, request: Outgoing, record: Record) -> bytes:
        head = (
            f"POST {self.target.prefix}{request.path} HTTP/1.1\r\n{self._fields}\r\n"
            f"X-Request-Id: {record.request_id}\r\nContent-Length: {len(request.body)}\r\n\r\n"
        )
        return head.encode("latin-1") + request.body

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class Watch:
    """The three deadlines of a request with one timer that moves on when it finds nothing late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, load: Load, answer: Answer, done: asyncio.Future[None]) -> None:
        self._loop = loop
        self._load = load
        self._answer = answer
        self._done = done
        self._timer = loop.call_at(self._next()[0], self._look)

    def stop(self) -> None:
        """No more deadlines."""
        self._timer.cancel()

    def _next(self) -> tuple[float, str]:
        record, load = self._answer.record, self._load
        whole = record.sent + load.request_timeout
        if record.first is None or record.last is None:
            waiting = (record.sent + load.first_token_timeout, "first_token_timeout")
        else:
            waiting = (record.last + load.stall_timeout, "stalled")
        return min((whole, "timeout"), waiting)

    def _look(self) -> None:
        when, cause = self._next()
        now = self._loop.time()
        if now < when:
            self._timer = self._loop.call_at(when, self._look)
            return
        self._answer.fail(now, cause, f"{now - self._answer.record.sent:.1f} s after sending")
        if not self._done.done():
            self._done.set_result(None)
