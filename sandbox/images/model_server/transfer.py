"""KV transfer between model servers, as vLLM's NixlConnector words it in ``kv_transfer_params``.

A prefill server keeps the blocks of a prompt that was asked with ``do_remote_decode`` until the decode server has
fetched them over the side channel, or a time has passed. The blocks themselves are a pretence: what goes over the
network is the question whether they are still there; how long they take is modelled.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

_PATIENCE = 2.0  # seconds for the side channel's answer


@dataclass(frozen=True)
class Source:
    """Where a prompt's KV blocks lie."""

    engine: str
    blocks: tuple[int, ...]
    host: str
    port: int


@dataclass(frozen=True)
class Transfer:
    """What a request wants of its KV blocks: ``keep`` them for a decode server, or take them from a ``source``."""

    keep: bool = False
    source: Source | None = None


def read(params: Any) -> Transfer | None:
    """``kv_transfer_params`` of a request; None where they ask for nothing."""
    if not isinstance(params, Mapping):
        return None
    if params.get("do_remote_decode"):
        return Transfer(keep=True)
    if not params.get("do_remote_prefill"):
        return None
    try:
        blocks = tuple(int(number) for number in params["remote_block_ids"])
        port = int(params["remote_port"])
        return Transfer(source=Source(str(params["remote_engine_id"]), blocks, str(params["remote_host"]), port))
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Costs:
    """Seconds of one transfer: to begin with, and for each token."""

    base: float
    per_token: float


class Connector:
    """One server's side of the transfers. ``address``: what it tells the others about itself (host, port)."""

    def __init__(self, engine: str, address: tuple[str, int], costs: Costs, keep_seconds: float) -> None:
        self._engine = engine
        self._address = address
        self._costs = costs
        self._keep_seconds = keep_seconds
        self._numbers = itertools.count(1)
        self._held: dict[int, tuple[Callable[[], None], asyncio.TimerHandle]] = {}
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def held(self) -> int:
        """Prompts that wait to be fetched."""
        return len(self._held)

    def hold(self, blocks: int, release: Callable[[], None]) -> dict[str, Any]:
        """Keep a prompt's blocks; the parameters that lead a decode server to them. ``release`` frees them, once."""
        ids = [next(self._numbers) for _ in range(max(1, blocks))]
        timer = asyncio.get_running_loop().call_later(self._keep_seconds, self._drop, ids[0])
        self._held[ids[0]] = release, timer
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": ids,
            "remote_engine_id": self._engine,
            "remote_host": self._address[0],
            "remote_port": self._address[1],
        }

    def _drop(self, number: int) -> bool:
        found = self._held.pop(number, None)
        if found is None:
            return False
        release, timer = found
        timer.cancel()
        release()
        return True

    async def fetch(self, source: Source, tokens: int) -> float | None:
        """Take a prompt's blocks over; the seconds it shall take, or None where they are not to be had."""
        if self._session is None or not source.blocks:
            return None
        url = f"http://{source.host}:{source.port}/kv/{source.engine}/{source.blocks[0]}"
        try:
            async with self._session.delete(url, timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as answer:
                if answer.status != 200:
                    return None
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return None
        return self._costs.base + self._costs.per_token * tokens

    async def start(self, host: str) -> None:
        """Answer others on the side channel."""

        async def take(request: web.Request) -> web.Response:
            known = request.match_info["engine"] == self._engine and self._drop(int(request.match_info["block"]))
            return web.Response(status=200 if known else 404)

        application = web.Application()
        application.router.add_delete(r"/kv/{engine}/{block:\d+}", take)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, self._address[1]).start()
        self._session = aiohttp.ClientSession()

    async def stop(self) -> None:
        """End the side channel and free what nobody fetched."""
        for number in list(self._held):
            self._drop(number)
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()
