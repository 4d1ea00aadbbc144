"""Scorer by what the servers' KV caches hold: fed by their KV events instead of by what was sent where."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.images.endpoint_picker.logs import Logger
from sandbox.images.endpoint_picker.plugins.base import Endpoint, Plugin, Request, register
from sandbox.images.endpoint_picker.plugins.prefix import Match
from sandbox.images.kv_events import events, pack, zmtp
from sandbox.images.model_server.kv_cache import block_hashes
from sandbox.images.model_server.refusals import Refusal
from sandbox.images.model_server.requests import chat_prompt
from sandbox.images.model_server.tokenizer import tokenize

TYPE = "precise-prefix-cache-scorer"
_LOG = Logger("kvevents")


class PrecisePrefixCacheScorer(Plugin):
    """Score: leading blocks of the prompt that a server holds, as a share of the most that any holds.

    ``block`` and ``seed`` must be the servers' (``--block-size``, PYTHONHASHSEED), else no hash is ever found.
    """

    def __init__(self, name: str, *, block: int, seed: str, port: int, topic: str) -> None:
        super().__init__(TYPE, name)
        self._block = block
        self._seed = seed
        self._topic = topic
        self.port = port
        self.held: dict[tuple[str, str], set[int]] = {}  # (pod's address, model) -> blocks

    def take(self, pod: str, model: str, changes: Sequence[events.Change]) -> None:
        """Note what a server said."""
        blocks = self.held.setdefault((pod, model), set())
        for change in changes:
            if change.kind == events.STORED:
                blocks.update(change.blocks)
            elif change.kind == events.REMOVED:
                blocks.difference_update(change.blocks)
            else:
                blocks.clear()

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        hashes = [events.number(each) for each in block_hashes(self._tokens(request), self._block, self._seed)]
        servers = {each.identity: self._matched(each.address, request.model, hashes) for each in endpoints}
        request.state[self.name] = Match(hashes, servers)
        most = max(servers.values(), default=0)
        return {identity: matched / most if most else 0.0 for identity, matched in servers.items()}

    def _matched(self, address: str, model: str, hashes: Sequence[int]) -> int:
        blocks = self.held.get((address, model), set())
        count = 0
        for value in hashes:
            if value not in blocks:
                break
            count += 1
        return count

    def _tokens(self, request: Request) -> list[str]:
        """The prompt's tokens as the model server makes them."""
        if "messages" not in request.body:
            return tokenize(request.prompt)
        try:
            family = "gemma" if "/gemma" in request.model else ""
            return chat_prompt(dict(request.body), family)[0]
        except Refusal:
            return []

    async def listen(self, bind: str) -> asyncio.Server:
        """The SUB socket that the servers' PUB sockets come to."""

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            said: set[tuple[str, str]] = set()
            try:
                await zmtp.handshake(reader, writer, "SUB", "PUB")
                writer.write(zmtp.subscribe(self._topic.encode()))
                await writer.drain()
                while True:
                    pod, model, changes = events.read(await zmtp.read_message(reader))
                    said.add((pod, model))
                    self.take(pod, model, changes)
            except (OSError, asyncio.IncompleteReadError):
                pass
            except (zmtp.ProtocolError, pack.Malformed) as error:
                _LOG.error("Failed to process KV events", error)
            finally:
                for key in said:  # a server that went away begins with an empty cache when it comes again
                    self.held.pop(key, None)
                writer.close()

        return await asyncio.start_server(hear, bind, self.port)


@register(TYPE)
def _precise(name: str, parameters: Mapping[str, Any]) -> Plugin:
    indexer = parameters.get("indexerConfig") or {}
    tokens = parameters.get("tokenProcessorConfig") or indexer.get("tokenProcessorConfig") or {}
    heard = parameters.get("kvEventsConfig") or {}
    if heard.get("discoverPods"):
        raise ValueError("sandbox stand-in: kvEventsConfig.discoverPods is not modelled; servers come to zmqEndpoint")
    endpoint = str(heard.get("zmqEndpoint") or "tcp://*:5557")
    port = endpoint.rpartition(":")[2]
    if not port.isdigit():
        raise ValueError(f"invalid zmqEndpoint {endpoint!r}")
    return PrecisePrefixCacheScorer(
        name,
        block=int(tokens.get("blockSize") or 16),
        seed=str(tokens.get("hashSeed") or ""),
        port=int(port),
        topic=str(heard.get("topicFilter") or "kv@"),
    )
