"""The pretended engine: real waiting by ``max_num_seqs`` and KV-cache room, modelled time for the computing itself.

Sequences are admitted in order of arrival (first come, first served; one that does not fit blocks those behind it, as
in vLLM). Time to first token grows with the prompt tokens that were *not* in the prefix cache, and with those of other
prompts that are computed before; running answers wait for pieces of prompts (compute.py). A prompt whose KV blocks come
from a prefill server is not computed at all.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sandbox.images.model_server.compute import Accelerator
from sandbox.images.model_server.kv_cache import BlockPool, Lease
from sandbox.images.model_server.metrics import Metrics
from sandbox.images.model_server.settings import Settings
from sandbox.images.model_server.tokenizer import fingerprint, natural_length, words
from sandbox.images.model_server.transfer import Connector, Transfer


@dataclass(frozen=True)
class Job:
    """One sequence to generate. ``seed`` varies the text between the n answers to one prompt.

    ``adapter``: the LoRA adapter, empty for the model itself. ``transfer``: what is to be done with its KV blocks.
    """

    prompt: Sequence[str]
    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: Sequence[str] = ()
    seed: int = 0
    adapter: str = ""
    transfer: Transfer | None = None


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
    kept: dict[str, Any] | None = None  # kv_transfer_params: where its blocks wait for a decode server


@dataclass(frozen=True)
class Limits:
    """Most sequences and different adapters at a time, and prompt tokens in one step."""

    sequences: int
    adapters: int = 1
    chunk: int = 2048


class Engine:
    """Owned by one event loop. ``connector`` None: KV blocks are neither given nor taken."""

    def __init__(
        self,
        pool: BlockPool,
        metrics: Metrics,
        settings: Settings,
        limits: Limits,
        connector: Connector | None = None,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._settings = settings
        self._limits = limits
        self._connector = connector
        self._accelerator = Accelerator(settings.prefill_per_token, limits.chunk)
        self._waiting: deque[Sequence_] = deque()
        self._running = 0
        self._adapters: Counter[str] = Counter()
        self._shown_adapters = False

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
        due = await self._prompt(sequence)
        await _until(due)
        self._metrics.prompt_tokens.inc(len(job.prompt))
        step = 1 if each else self._pool.size
        unsent = ""
        for text, last in _answer(job, sequence.length):
            if sequence.tokens:
                due = self._accelerator.next_token(due, settings.inter_token)
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
        if job.transfer is not None and job.transfer.keep and self._connector is not None:
            lease = sequence.lease
            blocks = self._pool.blocks_for(len(job.prompt))
            sequence.kept = self._connector.hold(blocks, lambda: self._give_back(lease))
        yield unsent

    async def _prompt(self, sequence: Sequence_) -> float:
        """When the first token is due: after a transfer of the prompt's KV blocks, or after their computing.

        Blocks that cannot be had any more are computed here, as vLLM does unless it is told to fail.
        """
        job, settings = sequence.job, self._settings
        missing = len(job.prompt) - sequence.cached_tokens
        if self._connector is not None and job.transfer is not None and job.transfer.source is not None:
            seconds = await self._connector.fetch(job.transfer.source, missing)
            if seconds is not None:
                self._metrics.transfer_time.observe(seconds)
                return time.monotonic() + settings.ttft + seconds
            self._metrics.transfers_failed.inc()
        return self._accelerator.prefill(missing, time.monotonic()) + settings.ttft

    def _give_back(self, lease: Lease) -> None:
        self._pool.release(lease)
        self._admit()

    def _take(self, sequence: Sequence_, text: str) -> None:
        assert sequence.lease is not None
        sequence.tokens += 1
        sequence.text += text
        self._metrics.generation_tokens.inc()
        if (len(sequence.job.prompt) + sequence.tokens - 1) % self._pool.size == 0:
            self._pool.grow(sequence.lease)
            self._gauges()

    def _admit(self) -> None:
        """Oldest first. One whose adapter has no place lets others by; one without room for its blocks does not."""
        for first in list(self._waiting):
            if self._running >= self._limits.sequences:
                break
            if first.admitted.cancelled():
                self._waiting.remove(first)
                continue
            adapter = first.job.adapter
            if adapter and adapter not in self._adapters and len(self._adapters) >= self._limits.adapters:
                continue
            lease = self._pool.lease(first.job.prompt, first.length, adapter)
            if lease is None:
                break
            self._waiting.remove(first)
            self._running += 1
            if adapter:
                self._adapters[adapter] += 1
            first.lease = lease
            first.admitted.set_result(lease)
        self._gauges()

    def _leave(self, sequence: Sequence_) -> None:
        if sequence.lease is not None:
            if sequence.kept is None:
                self._pool.release(sequence.lease)
            self._running -= 1
            self._adapters[sequence.job.adapter] -= 1
            self._adapters = +self._adapters
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        self._metrics.finished(sequence.reason or "abort")
        self._admit()

    def _gauges(self) -> None:
        self._metrics.running.set(self._running)
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.kv_usage.set(self._pool.usage)
        if self._adapters or self._shown_adapters:
            waiting = {each.job.adapter for each in self._waiting if each.job.adapter}
            self._shown_adapters = bool(self._adapters or waiting)
            self._metrics.adapters(self._limits.adapters, self._adapters, waiting)
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
        for before, after in pairwise(sequence.times):
            metrics.inter_token.observe(after - before)
            metrics.per_output_token.observe(after - before)
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
