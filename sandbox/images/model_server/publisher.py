"""Tells a picker, by ``--kv-events-config``, which blocks the KV cache holds: a PUB socket that goes to its address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.images.kv_events import events, zmtp

_PAUSE = 0.5  # seconds between two attempts to reach the picker
_WAITING = 10_000  # changes that are kept while nobody takes them


@dataclass(frozen=True)
class Target:
    """Where events go: ``tcp://host:port``, and under which topic."""

    endpoint: str
    topic: str


class Publisher:
    """One connection, made again and again. As a PUB socket it forgets what nobody subscribed to."""

    def __init__(self, target: Target, block_size: int) -> None:
        self._target = target
        self._block_size = block_size
        self._queue: asyncio.Queue[events.Change] = asyncio.Queue(_WAITING)
        self._sequence = 0
        self._task: asyncio.Task[None] | None = None

    def changed(self, kind: str, blocks: Sequence[bytes]) -> None:
        """Blocks came or went; never waits."""
        change = events.Change(kind, tuple(events.number(block) for block in blocks))
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(change)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        host, _, port = self._target.endpoint.removeprefix("tcp://").rpartition(":")
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, zmtp.ProtocolError):
                reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                try:
                    await zmtp.handshake(reader, writer, "PUB", "SUB")
                    await self._publish(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(_PAUSE)

    async def _publish(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the connection breaks. Nothing is sent before the other side subscribed to the topic."""
        wanted = b""
        while not (wanted[:1] == b"\x01" and self._target.topic.encode().startswith(wanted[1:])):
            wanted = (await zmtp.read_message(reader))[0]
        gone = asyncio.create_task(reader.read())  # ends with the connection
        try:
            while not gone.done():
                first = asyncio.create_task(self._queue.get())
                await asyncio.wait({first, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not first.done():
                    first.cancel()
                    return
                changes = [first.result()]
                while not self._queue.empty() and len(changes) < 100:
                    changes.append(self._queue.get_nowait())
                self._sequence += 1
                parts = events.parts(self._target.topic, self._sequence, changes, self._block_size)
                writer.write(zmtp.message(parts))
                await writer.drain()
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
