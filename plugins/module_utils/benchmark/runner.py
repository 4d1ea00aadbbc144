# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a load: warm-up, then until count, time or error budget is reached. It always ends, also when asked to."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Outgoing
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.schedule import arrivals
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Workload

DRAIN = 30.0
LONGEST_PAUSE = 5.0
PROGRESS_EVERY = 2.0


class Sender(Protocol):
    """What a run needs of a client."""

    async def send(self, request: Outgoing, record: Record) -> str: ...


@dataclass
class Context:
    """What all loads of one benchmark share."""

    run: str
    stop: asyncio.Event
    on_record: Callable[[Record], None] = lambda record: None
    progress: Callable[[str], Any] = lambda message: None
    sent: int = 0
    said: float = float("-inf")


class Gate:
    """Decides whether one more request may be sent, and remembers why not."""

    def __init__(self, load: Load, stop: asyncio.Event, start: float, now: Callable[[], float]) -> None:
        self.load = load
        self.reason = ""
        self.issued = 0
        self.finished = 0
        self.failed = 0
        self._stop = stop
        self._now = now
        self.deadline = start + load.duration

    def admit(self) -> bool:
        """True and counted, or False with ``reason`` set."""
        if not self.reason:
            self.reason = self._why_not()
        if self.reason:
            return False
        self.issued += 1
        return True

    def _why_not(self) -> str:
        if self._stop.is_set():
            return "interrupted"
        if self.issued >= self.load.requests:
            return "count"
        if self._now() >= self.deadline:
            return "time"
        spent = self.finished >= self.load.error_minimum and self.failed > self.load.error_budget * self.finished
        return "error_budget" if spent else ""

    def judge(self, record: Record) -> None:
        """Count a finished request."""
        self.finished += 1
        self.failed += not record.ok


class Run:
    """One load against one sender."""

    def __init__(self, load: Load, sender: Sender, workload: Workload, target: str, context: Context) -> None:
        self.load = load
        self.sender = sender
        self.workload = workload
        self.context = context
        self.result = LoadResult(load, target)
        # a comparison measures in blocks: which one, and what was done before it of how much
        self.block, self.before, self.of = -1, 0, load.requests
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0

    async def warm_up(self) -> None:
        """The requests that do not count: connections, caches, compiled kernels. Always closed loop."""
        if not self.load.warmup:
            return
        level = min(self.load.warmup, self.load.level if self.load.mode == "closed" else 4)
        load = replace(self.load, mode="closed", level=level, requests=self.load.warmup, error_budget=1.0)
        await self._closed(Gate(load, self.context.stop, self._loop.time(), self._loop.time), load, "warmup")

    async def measure(self) -> LoadResult:
        """The requests that count."""
        start = self._loop.time()
        gate = Gate(self.load, self.context.stop, start, self._loop.time)
        self.result.started = start
        if self.load.mode == "open":
            await self._open(gate, start)
        else:
            await self._closed(gate, self.load, "measure")
        self.result.stop_reason = gate.reason or "count"
        if self.context.stop.is_set():
            self.result.stop_reason = "interrupted"
        ends = [record.end for record in self.result.records]
        self.result.ended = max([*ends, start]) if ends else self._loop.time()
        return self.result

    async def _closed(self, gate: Gate, load: Load, phase: str) -> None:
        async def worker() -> None:
            while gate.admit():
                record = await self._one(gate, phase, self._loop.time())
                if not record.ok:
                    await self._pause(record, gate)

        await self._all([worker() for _unused in range(min(int(load.level), load.requests))], gate)

    async def _open(self, gate: Gate, start: float) -> None:
        slots = asyncio.Semaphore(self.load.max_in_flight)
        running: set[asyncio.Task[Any]] = set()

        async def one(intended: float) -> None:
            try:
                await self._one(gate, "measure", intended)
            finally:
                slots.release()

        async def dispatch() -> None:
            for offset in arrivals(self.load.level, kind=self.load.arrivals, seed=self.load.seed):
                if start + offset >= gate.deadline and not gate.reason:
                    gate.reason = "time" if gate.issued < self.load.requests else "count"
                if gate.reason or gate.issued >= self.load.requests:
                    break
                await asyncio.sleep(max(0.0, start + offset - self._loop.time()))
                await slots.acquire()
                if not gate.admit():
                    # it should have been sent by now and was not: leaving it out would be coordinated omission
                    self._count_unsent(gate, start + offset)
                    break
                task = self._loop.create_task(one(start + offset))
                running.add(task)
                task.add_done_callback(running.discard)
            if running:
                await asyncio.wait(running)

        try:
            await self._all([dispatch()], gate)
        finally:
            self.result.unfinished += len(running)
            for task in list(running):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _count_unsent(self, gate: Gate, intended: float) -> None:
        if gate.reason == "time":
            late = min(self._loop.time(), gate.deadline) - intended
            self.result.unsent += 1 + int(late * self.load.level)

    async def _all(self, work: list[Coroutine[Any, Any, None]], gate: Gate) -> None:
        """Run to the end; what is late after the drain, or when someone says stop, is cut off and counted."""
        tasks = {self._loop.create_task(one) for one in work}
        stopper = self._loop.create_task(_heard(self.context.stop))
        until = gate.deadline + min(DRAIN, self.load.request_timeout)
        pending = set(tasks)
        while pending and not stopper.done() and self._loop.time() < until:
            _unused, pending = await asyncio.wait(
                {*pending, stopper}, timeout=until - self._loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
            pending.discard(stopper)
        stopper.cancel()
        if pending and not gate.reason:
            gate.reason = "interrupted" if self.context.stop.is_set() else "time"
        for task in pending:
            task.cancel()
        outcome = await asyncio.gather(*tasks, return_exceptions=True)
        for error in outcome:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _one(self, gate: Gate, phase: str, intended: float) -> Record:
        context = self.context
        item = self.workload.take()
        record = Record(context.sent, self.result.target, self.load.level, phase, intended, turn=item.turn)
        record.block = self.block
        record.request_id = f"llmd-{context.run}-{context.sent}"
        context.sent += 1
        self._in_flight += 1
        self.result.peak_in_flight = max(self.result.peak_in_flight, self._in_flight)
        try:
            text = await self.sender.send(item.outgoing, record)
        except asyncio.CancelledError:
            self.result.unfinished += self.load.mode == "closed" and phase == "measure"
            raise
        finally:
            self._in_flight -= 1
        gate.judge(record)
        if record.ok:
            self.workload.answered(item, text)
        (self.result.records if phase == "measure" else self.result.warmup).append(record)
        context.on_record(record)
        self._say(gate, phase)
        return record

    async def _pause(self, record: Record, gate: Gate) -> None:
        """After a failure wait a little (what the server asks for, up to LONGEST_PAUSE), not beyond the deadline."""
        wanted = min(LONGEST_PAUSE, record.retry_after if record.retry_after is not None else 0.05)
        await asyncio.sleep(max(0.0, min(wanted, gate.deadline - self._loop.time())))

    def _say(self, gate: Gate, phase: str) -> None:
        now = self._loop.time()
        if now - self.context.said < PROGRESS_EVERY:
            return
        self.context.said = now
        unit = "requests/s" if self.load.mode == "open" else "at once"
        failed = f", {gate.failed} failed" if gate.failed else ""
        what = "warming up" if phase == "warmup" else f"{self.before + gate.finished}/{self.of} requests"
        left = max(0.0, gate.deadline - now)
        self.context.progress(
            f"benchmark {self.result.target}, {self.load.level:g} {unit}: {what}{failed}, at most {left:.0f} s more"
        )


async def _heard(event: asyncio.Event) -> None:
    await event.wait()


@asynccontextmanager
async def quiet_collector() -> AsyncIterator[None]:
    """Take what exists out of the garbage collector's sight, so that its pauses do not become latencies."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
