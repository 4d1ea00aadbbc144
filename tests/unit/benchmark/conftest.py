"""Time that jumps instead of passing, and endpoints that answer in it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # pytest-ansible makes the collection importable only after the first conftest files are read
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record


class JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore]
    """Where the loop would sleep, its clock moves on."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits for everything: the loop would sleep for ever")
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        selector = JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


@pytest.fixture
def in_virtual_time() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    def run(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(work)

    return run


class Endpoint:
    """Answers after fixed times; fails where ``fails(number)`` says so."""

    def __init__(
        self,
        ttft: float = 0.2,
        itl: float = 0.01,
        tokens: int = 11,
        fails: Callable[[int], str] = lambda number: "",
        slots: int = 1000,
    ) -> None:
        self.ttft, self.itl, self.tokens, self.fails = ttft, itl, tokens, fails
        self.slots = asyncio.Semaphore(slots)
        self.sent: list[float] = []
        self.bodies: list[bytes] = []
        self.in_flight = self.peak = 0

    async def send(self, request: Any, record: Record) -> str:
        loop = asyncio.get_running_loop()
        number = len(self.sent)
        record.sent = loop.time()
        self.sent.append(record.sent)
        self.bodies.append(request.body)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            async with self.slots:
                await asyncio.sleep(self.ttft)
                if cause := self.fails(number):
                    record.cause, record.end = cause, loop.time()
                    return ""
                record.first = loop.time()
                await asyncio.sleep(self.itl * (self.tokens - 1))
                record.last = record.end = loop.time()
                record.status, record.output_tokens, record.pieces = 200, self.tokens, self.tokens
                return "answer"
        finally:
            self.in_flight -= 1


@pytest.fixture
def endpoint() -> type[Endpoint]:
    return Endpoint


def make_record(**fields: Any) -> Record:
    """A complete answer of 11 tokens: 0.2 s to the first, 10 ms between, unless told otherwise."""
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record

    intended = float(fields.pop("intended", 0.0))
    content: dict[str, Any] = {
        "index": 0, "target": "t", "level": 1, "phase": "measure", "intended": intended, "sent": intended,
        "first": intended + 0.2, "last": intended + 0.3, "end": intended + 0.3, "status": 200,
        "output_tokens": 11, "pieces": 11, "prompt_tokens": 8,
    }  # fmt: skip
    return Record(**{**content, **fields})


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record
