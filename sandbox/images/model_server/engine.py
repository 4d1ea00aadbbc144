"""The pretended engine: real waiting by ``max_num_seqs`` and KV-cache room, modelled time for the computing itself.

Sequences are admitted in order of arrival (first come, first served; one that does not fit blocks those behind it, as
in vLLM). Time to first token grows with the prompt tokens that were *not* in the prefix cache.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from sandbox.images.model_server.kv_cache import BlockPool, Lease
from sandbox.images.model_server.metrics import Metrics
from sandbox.images.model_server.settings import Settings
from sandbox.images.model_server.tokenizer import fingerprint, natural_length, words


@dataclass(frozen=True)
class Job:
    """One sequence to generate. ``seed`` varies the text between the n answers to one prompt."""

    prompt: Sequence[str]
    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: Sequence[str] = ()
    seed: int = 0


@dataclass
class Sequence_:
    """A job on its way through the engine; ``text`` and ``tokens`` grow, ``reason`` is set at the end."""

    job: Job
    length: int
    arrived: float
    admitted: asyncio.Future[Lease]
    lease: Lease | None = None
    tokens: int = 0
    text: str = ""
    cached_tokens: int = 0
    reason: str | None = None
    times: list[float] = field(default_factory=list)


class Engine:
    """Owned by one event loop."""

    def __init__(self, pool: BlockPool, metrics: Metrics, settings: Settings, max_num_seqs: int) -> None:
        self._pool = pool
        self._metrics = metrics
        self._settings = settings
        self._limit = max_num_seqs
        self._waiting: deque[Sequence_] = deque()
        self._running = 0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def generate(self, job: Job, *, each: bool) -> AsyncIterator[tuple[str, Sequence_]]:
        """Yield ``(new text, sequence)``: every token where ``each``, else once at the end.

        The last item has ``sequence.reason`` set. Leaving the iterator early frees everything the sequence held.
        """
        length = planned_length(job, self._settings.output_tokens)
        sequence = Sequence_(job, length, time.monotonic(), asyncio.get_running_loop().create_future())
        self._waiting.append(sequence)
        self._admit()
        try:
            sequence.lease = await sequence.admitted
            started = time.monotonic()
            async for piece in self._run(sequence, started, each=each):
                yield piece, sequence
            self._observe(sequence, started)
        finally:
            self._leave(sequence)

    async def _run(self, sequence: Sequence_, started: float, *, each: bool) -> AsyncIterator[str]:
        job, settings = sequence.job, self._settings
        assert sequence.lease is not None
        sequence.cached_tokens = sequence.lease.cached_tokens
        self._metrics.prefix_queries.inc(len(job.prompt))
        self._metrics.prefix_hits.inc(sequence.cached_tokens)
        computed = len(job.prompt) - sequence.cached_tokens
        due = started + settings.ttft + settings.prefill_per_token * computed
        await _until(due)
        self._metrics.prompt_tokens.inc(len(job.prompt))
        step = 1 if each else self._pool.size
        unsent = ""
        for text, last in _answer(job, sequence.length):
            if sequence.tokens:
                due += settings.inter_token
                if last or sequence.tokens % step == 0:
                    await _until(due)
            self._take(sequence, text)
            sequence.times.append(due)
            unsent += text
            if last:
                break
            if each:
                yield unsent
                unsent = ""
        sequence.reason = "length" if sequence.tokens >= job.max_tokens else "stop"
        yield unsent

    def _take(self, sequence: Sequence_, text: str) -> None:
        assert sequence.lease is not None
        sequence.tokens += 1
        sequence.text += text
        self._metrics.generation_tokens.inc()
        if (len(sequence.job.prompt) + sequence.tokens - 1) % self._pool.size == 0:
            self._pool.grow(sequence.lease)
            self._gauges()

    def _admit(self) -> None:
        while self._waiting and self._running < self._limit:
            first = self._waiting[0]
            if first.admitted.cancelled():
                self._waiting.popleft()
                continue
            lease = self._pool.lease(first.job.prompt, first.length)
            if lease is None:
                break
            self._waiting.popleft()
            self._running += 1
            first.lease = lease
            first.admitted.set_result(lease)
        self._gauges()

    def _leave(self, sequence: Sequence_) -> None:
        if sequence.lease is not None:
            self._pool.release(sequence.lease)
            self._running -= 1
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        self._metrics.finished(sequence.reason or "abort")
        self._admit()

    def _gauges(self) -> None:
        self._metrics.running.set(self._running)
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.kv_usage.set(self._pool.usage)
        self._metrics.changed()

    def _observe(self, sequence: Sequence_, started: float) -> None:
        metrics, ended = self._metrics, time.monotonic()
        first, last = sequence.times[0], sequence.times[-1]
        metrics.end_to_end.observe(ended - sequence.arrived)
        metrics.queue_time.observe(started - sequence.arrived)
        metrics.inference_time.observe(ended - started)
        metrics.prefill_time.observe(max(0.0, first - started))
        metrics.decode_time.observe(max(0.0, last - first))
        metrics.first_token.observe(max(0.0, first - sequence.arrived))
        for _ in range(sequence.tokens - 1):
            metrics.inter_token.observe(self._settings.inter_token)
            metrics.per_output_token.observe(self._settings.inter_token)
        metrics.prompt_length.observe(len(sequence.job.prompt))
        metrics.generation_length.observe(sequence.tokens)
        metrics.generation_most.observe(sequence.tokens)
        metrics.max_tokens.observe(sequence.job.max_tokens)
        metrics.changed()


def planned_length(job: Job, fixed: int) -> int:
    """Tokens the answer will have unless a stop string ends it earlier; ``fixed`` 0: it follows from the prompt."""
    length = job.max_tokens
    if not job.ignore_eos:
        length = min(length, fixed or natural_length(fingerprint("".join(job.prompt), job.seed)))
    return max(1, length, min(job.min_tokens, job.max_tokens))


def _answer(job: Job, length: int) -> Iterator[tuple[str, bool]]:
    """``(token, is it the last)``: pretend words that follow from the prompt, ended by length or a stop string."""
    seed = fingerprint("".join(job.prompt), job.seed)
    said = ""
    for count, token in enumerate(words(seed), start=1):
        said += token
        place = _stop_place(said, len(token), job.stop) if count >= job.min_tokens else None
        if place is not None:
            yield token[: max(0, len(token) - (len(said) - place))], True
            return
        yield token, count >= length
        if count >= length:
            return


def _stop_place(said: str, fresh: int, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins that the last ``fresh`` characters completed; None without one."""
    places = [said.find(stop, max(0, len(said) - fresh - len(stop) + 1)) for stop in stops if stop]
    found = [place for place in places if place >= 0]
    return min(found) if found else None


async def _until(due: float) -> None:
    delay = due - time.monotonic()
    await asyncio.sleep(max(0.0, delay))
