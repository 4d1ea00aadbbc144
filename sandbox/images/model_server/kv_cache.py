"""The KV cache as a pool of blocks with prefix caching: what makes ``vllm:kv_cache_usage_perc`` rise and fall.

A block holds ``size`` tokens. A full prompt block has an identity, the hash of its tokens and of all before them; when
no request uses it any more it stays as an *idle* block that a later request with the same prefix finds again, until
its place is needed (least recently used first). Generated tokens fill private blocks.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sandbox.images.kv_events.events import REMOVED, STORED


def block_hashes(tokens: Sequence[str], size: int, extra: str = "") -> list[bytes]:
    """Identity of every *full* block of ``tokens``.

    ``extra``: the hash seed, and the adapter, whose blocks are not the base model's.
    """
    hashes: list[bytes] = []
    previous = extra.encode()
    for start in range(0, len(tokens) - size + 1, size):
        digest = hashlib.blake2b(previous, digest_size=16)
        digest.update("\x00".join(tokens[start : start + size]).encode("utf-8", "surrogatepass"))
        previous = digest.digest()
        hashes.append(previous)
    return hashes


@dataclass
class Lease:
    """What one sequence holds: shared prompt blocks by identity, private ones by number, and a promise of more."""

    shared: list[bytes] = field(default_factory=list)
    private: int = 0
    promised: int = 0
    cached_tokens: int = 0


class BlockPool:
    """Blocks of one GPU. Not thread-safe: one event loop owns it.

    ``changed`` is told which prompt blocks came (at the begin of their computing, a little early) and which left.
    """

    def __init__(
        self,
        total: int,
        size: int,
        *,
        prefix_caching: bool = True,
        seed: str = "",
        changed: Callable[[str, Sequence[bytes]], None] | None = None,
    ) -> None:
        if total < 1:
            raise ValueError("a KV cache needs at least one block")
        self.total = total
        self.size = size
        self._prefix_caching = prefix_caching
        self._seed = seed
        self._changed = changed or (lambda kind, blocks: None)
        self._used: dict[bytes, int] = {}
        self._idle: OrderedDict[bytes, None] = OrderedDict()
        self._private = 0
        self._promised = 0

    @property
    def used(self) -> int:
        """Blocks that running sequences hold (idle ones count as free, as in vLLM)."""
        return len(self._used) + self._private

    @property
    def usage(self) -> float:
        """Used share, 0 to 1."""
        return self.used / self.total

    @property
    def idle(self) -> int:
        return len(self._idle)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.size)

    def lease(self, prompt: Sequence[str], most_new_tokens: int, extra: str = "") -> Lease | None:
        """Take blocks for a prompt and promise room for its answer; None where there is not enough room now."""
        hashes = block_hashes(prompt, self.size, self._seed + extra) if self._prefix_caching else []
        needed_private = self.blocks_for(len(prompt)) - len(hashes)
        promised = self.blocks_for(len(prompt) + most_new_tokens) - self.blocks_for(len(prompt))
        new_shared = sum(1 for identity in hashes if identity not in self._used)
        if self.used + self._promised + new_shared + needed_private + promised > self.total:
            return None
        hits = 0
        for identity in hashes:
            if identity not in self._used and identity not in self._idle:
                break
            hits += 1
        fresh = [identity for identity in hashes if identity not in self._used and identity not in self._idle]
        for identity in hashes:
            self._idle.pop(identity, None)
            self._used[identity] = self._used.get(identity, 0) + 1
        if fresh:
            self._changed(STORED, fresh)
        self._private += needed_private
        self._promised += promised
        self._evict()
        # The last token is always computed anew: its result is the first token of the answer.
        cached = min(hits * self.size, max(0, len(prompt) - 1))
        return Lease(list(hashes), needed_private, promised, cached)

    def grow(self, lease: Lease) -> None:
        """Turn one promised block into a used one (a generated token did not fit the last block)."""
        if lease.promised:
            lease.promised -= 1
            self._promised -= 1
            lease.private += 1
            self._private += 1
            self._evict()

    def release(self, lease: Lease) -> None:
        """Give everything back; prompt blocks stay findable as idle ones."""
        for identity in reversed(lease.shared):  # the start of a prefix is worth most: let it be evicted last
            self._used[identity] -= 1
            if not self._used[identity]:
                del self._used[identity]
                self._idle[identity] = None
        self._private -= lease.private
        self._promised -= lease.promised
        lease.shared, lease.private, lease.promised = [], 0, 0
        self._evict()

    def _evict(self) -> None:
        gone = []
        while self._idle and self.used + len(self._idle) > self.total:
            gone.append(self._idle.popitem(last=False)[0])
        if gone:
            self._changed(REMOVED, gone)
