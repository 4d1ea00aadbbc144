"""Prefix-cache scorer: remembers which prompt blocks were sent where and prefers the endpoint that saw most of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

from sandbox.images.endpoint_picker.plugins.base import Endpoint, Plugin, Request, SchedulingResult, register

TYPE = "prefix-cache-scorer"
PREFILL = "prefill"  # the profile whose pick computes the prompt


def block_hashes(model: str, prompt: str, *, block: int, most: int) -> list[int]:
    """Chained hashes of the prompt's whole blocks of ``block`` bytes, at most ``most``; the model is hashed in.

    A prompt shorter than one block has none: it never counts as cached.
    """
    data = prompt.encode("utf-8", "surrogatepass")[: block * most]
    previous = xxhash.xxh64_intdigest(model.encode())
    hashes = []
    for start in range(0, len(data) - block + 1, block):
        previous = xxhash.xxh64_intdigest(data[start : start + block] + previous.to_bytes(8, "little"))
        hashes.append(previous)
    return hashes


class PrefixIndex:
    """Block hash to the servers that have it, with one least-recently-used list of bounded size a server."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._servers: dict[str, OrderedDict[int, None]] = {}
        self._holders: dict[int, set[str]] = {}

    def add(self, hashes: Sequence[int], server: str) -> None:
        """Note that ``server`` now holds these blocks."""
        held = self._servers.setdefault(server, OrderedDict())
        for value in hashes:
            held[value] = None
            held.move_to_end(value)
            self._holders.setdefault(value, set()).add(server)
        while len(held) > self._capacity:
            self._drop(held.popitem(last=False)[0], server)

    def longest(self, hashes: Sequence[int]) -> dict[str, int]:
        """By server: how many leading blocks it holds."""
        matched: dict[str, int] = {}
        for position, value in enumerate(hashes):
            holders = self._holders.get(value)
            if not holders:
                break
            for server in holders:
                if matched.get(server, 0) == position:
                    matched[server] = position + 1
        return matched

    def keep(self, servers: set[str]) -> None:
        """Forget servers that are gone."""
        for server in [known for known in self._servers if known not in servers]:
            for value in self._servers.pop(server):
                self._drop(value, server)

    def __len__(self) -> int:
        return sum(len(held) for held in self._servers.values())

    def _drop(self, value: int, server: str) -> None:
        holders = self._holders.get(value)
        if holders is not None:
            holders.discard(server)
            if not holders:
                del self._holders[value]


@dataclass
class Match:
    """What scoring found out about one request, kept for the decision that follows."""

    hashes: list[int]
    servers: dict[str, int]


class PrefixCacheScorer(Plugin):
    """Score: matched leading blocks / blocks of the prompt. ``block`` in bytes (64 is about one vLLM block of 16)."""

    def __init__(self, name: str, *, block: int = 64, most: int = 256, capacity: int = 31250) -> None:
        super().__init__(TYPE, name)
        self.block = block
        self.most = most
        self.index = PrefixIndex(capacity)
        self.matched: list[tuple[int, int]] = []  # (matched, total) bytes, drained by the metrics

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        hashes = block_hashes(request.model, request.prompt, block=self.block, most=self.most)
        match = Match(hashes, self.index.longest(hashes))
        request.state[self.name] = match
        if not hashes:
            return {endpoint.identity: 0.0 for endpoint in endpoints}
        return {endpoint.identity: match.servers.get(endpoint.identity, 0) / len(hashes) for endpoint in endpoints}

    def pre_request(self, request: Request, result: SchedulingResult) -> dict[str, str] | None:
        match = request.state.get(self.name)
        if isinstance(match, Match):
            server = result.target.identity
            self.index.add(match.hashes, server)
            prefill = result.profiles.get(PREFILL)
            if prefill is not None:  # it will hold the prompt, too
                self.index.add(match.hashes, prefill.targets[0].identity)
            self.matched.append((match.servers.get(server, 0) * self.block, len(match.hashes) * self.block))
        return None


@register(TYPE)
def _prefix(name: str, parameters: Mapping[str, Any]) -> Plugin:
    def positive(*keys: str, default: int) -> int:
        values = [int(parameters[key]) for key in keys if key in parameters]
        return values[0] if values and values[0] > 0 else default

    return PrefixCacheScorer(
        name,
        block=positive("blockSize", "hashBlockSize", default=64),
        most=positive("maxPrefixBlocksToMatch", default=256),
        capacity=positive("lruCapacityPerServer", default=31250),
    )
