"""Reads each endpoint's /metrics: every 50 ms while requests come, four times less often when none did for a while."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

import aiohttp

from sandbox.images.endpoint_picker.datastore import Datastore
from sandbox.images.endpoint_picker.plugins.base import Endpoint

IDLE_AFTER = 3.0  # seconds without a request
IDLE_FACTOR = 4


@dataclass(frozen=True)
class Names:
    """Which metrics are read, and how."""

    waiting: str
    kv_usage: str
    running: str = "vllm:num_requests_running"
    adapters: str = "vllm:lora_requests_info"
    path: str = "/metrics"
    scheme: str = "http"
    port: int = 0


def value(text: bytes, name: str) -> float | None:
    """The first sample of a metric in an exposition, or None."""
    for opening in (f"\n{name}{{".encode(), f"\n{name} ".encode()):
        start = text.find(opening)
        if start >= 0:
            end = text.find(b"\n", start + 1)
            try:
                return float(text[start + 1 : end if end > 0 else None].rsplit(b" ", 1)[1])
            except (IndexError, ValueError):
                return None
    return None


def adapters(text: bytes, name: str) -> tuple[frozenset[str], frozenset[str], int]:
    """(running, waiting, most at a time) of the newest sample of the adapters' metric; its value is a time."""
    samples = re.findall(rb"^" + re.escape(name.encode()) + rb"\{(.*)\} (\S+)$", text, re.MULTILINE)
    labels = max(samples, key=lambda sample: float(sample[1]))[0].decode() if samples else ""
    found = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))

    def listed(key: str) -> frozenset[str]:
        return frozenset(word.strip() for word in found.get(key, "").split(",") if word.strip())

    most = found.get("max_lora", "")
    return listed("running_lora_adapters"), listed("waiting_lora_adapters"), int(most) if most.isdigit() else 0


class Scraper:
    """Keeps ``Endpoint.load`` of every endpoint of a datastore fresh."""

    def __init__(self, datastore: Datastore, names: Names, interval: float) -> None:
        self._datastore = datastore
        self._names = names
        self._interval = interval
        self._last_request = time.monotonic()
        self._busy = asyncio.Event()

    @property
    def interval(self) -> float:
        """Seconds between two looks right now."""
        idle = time.monotonic() - self._last_request > IDLE_AFTER
        return self._interval * (IDLE_FACTOR if idle else 1)

    def request_seen(self) -> None:
        """A request came: look often again."""
        self._last_request = time.monotonic()
        self._busy.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Until cancelled."""
        looking: dict[Endpoint, asyncio.Task[None]] = {}
        try:
            while True:
                for endpoint in self._datastore.endpoints():
                    task = looking.get(endpoint)
                    if task is None or task.done():
                        looking[endpoint] = asyncio.create_task(self._look(session, endpoint))
                current = set(self._datastore.endpoints())
                for gone in [endpoint for endpoint in looking if endpoint not in current]:
                    looking.pop(gone).cancel()
                self._busy.clear()
                try:
                    await asyncio.wait_for(self._busy.wait(), self.interval)
                    await asyncio.sleep(self._interval)
                except TimeoutError:
                    pass
        finally:
            for task in looking.values():
                task.cancel()

    async def _look(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> None:
        names = self._names
        host = endpoint.destination.rsplit(":", 1)[0]
        url = f"{names.scheme}://{host}:{names.port or endpoint.port}{names.path}"
        try:
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=5), ssl=False) as answer:
                text = b"\n" + await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError):
            return  # the old figures stay and grow stale
        load = endpoint.load
        load.waiting = int(value(text, names.waiting) or 0)
        load.running = int(value(text, names.running) or 0)
        load.kv_usage = value(text, names.kv_usage) or 0.0
        load.running_adapters, load.waiting_adapters, load.max_adapters = adapters(text, names.adapters)
        load.updated = time.monotonic()
