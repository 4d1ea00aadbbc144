"""Several pods that are one model server: they serve once all are there, and stop when one is lost.

The first one listens on the data-parallel RPC port; the others come to it and stay connected. Both sides say something
every second, since a lost machine says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from sandbox.images.model_server.arguments import Group

_BEAT = 1.0  # seconds between two signs of life
_SILENCE = 15.0  # seconds without one after which a member counts as lost
_READY, _ALIVE = b"ready\n", b".\n"


@dataclass
class Membership:
    """One pod's part in its group. ``lost`` is set, with the reason in ``why``, once the group is broken."""

    group: Group
    say: Callable[[str], None]
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""
    _ranks: set[int] = field(default_factory=set)
    _complete: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def leads(self) -> bool:
        return self.group.rank == 0

    async def form(self) -> None:
        """Until the group is complete."""
        if self.leads:
            await self._listen()
        else:
            self._start(self._follow())
        await self._complete.wait()

    async def close(self) -> None:
        """Leave the group: the others notice at once."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _break(self, why: str) -> None:
        if not self.lost.is_set():
            self.why = why
            self.lost.set()

    # --- the first one -----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._ranks.update(range(self.group.local))
        self._server = await asyncio.start_server(self._member, "0.0.0.0", self.group.port)
        self.say(f"Waiting for {self.group.size - self.group.local} remote data-parallel ranks at :{self.group.port}")

    async def _member(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ranks: set[int] = set()
        try:
            words = (await asyncio.wait_for(reader.readline(), _SILENCE)).split()
            if len(words) != 3 or words[0] != b"join":
                return
            first, local = int(words[1]), int(words[2])
            ranks = set(range(first, first + local))
            if ranks & self._ranks or max(ranks) >= self.group.size:
                self.say(f"Refused ranks {min(ranks)} to {max(ranks)}: taken, or beyond {self.group.size}")
                ranks = set()
                return
            self._ranks |= ranks
            self.say(f"Ranks {first} to {first + local - 1} joined: {len(self._ranks)} of {self.group.size}")
            if len(self._ranks) == self.group.size:
                self._complete.set()
            await self._complete.wait()
            writer.write(_READY)
            await self._beat(reader, writer)
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            self._ranks -= ranks
            if self._complete.is_set() and ranks:
                self._break(f"data-parallel ranks {min(ranks)} to {max(ranks)} are gone")
            with contextlib.suppress(OSError):
                writer.close()

    # --- the others --------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Come to the first one, however long it takes to be there, and stay."""
        group = self.group
        while True:
            try:
                reader, writer = await asyncio.open_connection(group.address, group.port)
                writer.write(f"join {group.rank} {group.local}\n".encode())
                if await reader.readline() == _READY:
                    self._complete.set()
                    await self._beat(reader, writer)
            except (TimeoutError, OSError):
                pass
            if self._complete.is_set():
                self._break(f"the first data-parallel rank at {group.address} is gone")
                return
            await asyncio.sleep(0.5)

    async def _beat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say that we live, and hear that the other does. Returns, or raises, once that is over."""

        async def speak() -> None:
            while True:
                writer.write(_ALIVE)
                await writer.drain()
                await asyncio.sleep(_BEAT)

        speaking = asyncio.create_task(speak())
        try:
            while await asyncio.wait_for(reader.readline(), _SILENCE):
                pass
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
