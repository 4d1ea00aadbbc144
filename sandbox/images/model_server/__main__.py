"""``vllm serve MODEL ...`` and ``vllm bench serve ...``: the stand-in's entry point (the image's ``vllm`` runs it)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any

from aiohttp import web

from sandbox.images.model_server import bench
from sandbox.images.model_server.api import Api, Served
from sandbox.images.model_server.arguments import VERSION, Arguments, parse
from sandbox.images.model_server.engine import Engine, Limits
from sandbox.images.model_server.group import Membership
from sandbox.images.model_server.kv_cache import BlockPool
from sandbox.images.model_server.metrics import Metrics
from sandbox.images.model_server.publisher import Publisher, Target
from sandbox.images.model_server.settings import Settings, read
from sandbox.images.model_server.startup import Ready, StartupError, prepare
from sandbox.images.model_server.transfer import Connector, Costs


def log(level: str, source: str, message: str, *, stream: str = "APIServer") -> None:
    """One line in vLLM's log format, on stderr as vLLM's logger writes."""
    stamp = time.strftime("%m-%d %H:%M:%S")
    print(f"({stream} pid=1) {level} {stamp} [{source}] {message}", file=sys.stderr, flush=True)


def blocks(arguments: Arguments, settings: Settings, ready: Ready) -> int:
    """Blocks of the KV cache: what memory allows, capped for the sandbox, never less than one longest request."""
    if arguments.block_override:
        return arguments.block_override
    by_memory = max(1, ready.memory.kv_tokens // arguments.block_size)
    if not settings.kv_blocks:
        return by_memory
    longest = -(-ready.max_model_len // arguments.block_size)
    return min(by_memory, max(settings.kv_blocks, longest))


def connector(arguments: Arguments, settings: Settings) -> Connector | None:
    """The side of KV transfers, where a KV connector is configured."""
    if not arguments.connector:
        return None
    costs = Costs(settings.transfer, settings.transfer_per_token)
    return Connector(uuid.uuid4().hex, (settings.side_host, settings.side_port), costs, settings.transfer_keep)


def application(
    arguments: Arguments, settings: Settings, ready: Ready, side: Connector | None, told: Publisher | None
) -> web.Application:
    """Engine and routes of one server."""
    number = blocks(arguments, settings, ready)
    metrics = Metrics(arguments.names[0], block_size=arguments.block_size, blocks=number)
    metrics.adapters(arguments.max_adapters, (), ())
    pool = BlockPool(
        number,
        arguments.block_size,
        prefix_caching=arguments.prefix_caching,
        # without PYTHONHASHSEED every process has hashes of its own, which nobody else can compute
        seed=settings.hash_seed or uuid.uuid4().hex,
        changed=told.changed if told is not None else None,
    )
    limits = Limits(arguments.max_num_seqs, arguments.max_adapters, arguments.chunk)
    engine = Engine(pool, metrics, settings, limits, side)
    loads = arguments.lora and settings.load_adapters
    served = Served(arguments, ready.family, ready.max_model_len, settings.pod or socket.gethostname(), loads)
    return Api(served, engine, metrics).application()


async def serve(arguments: Arguments, settings: Settings, ready: Ready) -> int:
    """Answer until SIGTERM or SIGINT, then drain for at most ``settings.drain`` seconds; the exit status.

    One of a group answers only while the group is complete; 1 where a member is lost.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number_, stopping.set)
    member = None
    if arguments.group is not None:
        member = Membership(arguments.group, lambda text: log("INFO", "core_client.py:517", text))
        if not await _first(stopping.wait(), member.form()):
            await member.close()
            return 0
    ends = [stopping.wait(), *([member.lost.wait()] if member else [])]
    if arguments.headless:
        log("INFO", "serve.py:110", "Running headless: requests come by the first data-parallel rank")
        await _first(*ends)
    else:
        await _answer(arguments, settings, ready, ends)
    if member is not None:
        await member.close()
        if member.lost.is_set() and not stopping.is_set():
            log("ERROR", "core.py:844", f"EngineCore encountered a fatal error: {member.why}")
            print("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.", file=sys.stderr)
            return 1
    return 0


async def _answer(arguments: Arguments, settings: Settings, ready: Ready, ends: list[Coroutine[Any, Any, Any]]) -> None:
    side = connector(arguments, settings)
    if side is not None:
        await side.start(arguments.host or "0.0.0.0")
    told = Publisher(Target(*arguments.events), arguments.block_size) if arguments.events else None
    if told is not None:
        told.start()
    runner = web.AppRunner(
        application(arguments, settings, ready, side, told),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=settings.drain,
    )
    await runner.setup()
    await web.TCPSite(runner, arguments.host or "0.0.0.0", arguments.port).start()
    log("INFO", "launcher.py:42", f"Started server process on http://0.0.0.0:{arguments.port}")
    print("INFO:     Application startup complete.", file=sys.stderr, flush=True)
    await _first(*ends)
    print("INFO:     Shutting down", file=sys.stderr, flush=True)
    await runner.cleanup()
    if side is not None:
        await side.stop()
    if told is not None:
        await told.stop()


async def _first(*works: Coroutine[Any, Any, Any]) -> int:
    """Wait for the first of several to be done; its position. The others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    first = next(position for position, task in enumerate(tasks) if task.done())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return first


def start(arguments: Arguments, settings: Settings) -> Ready:
    """The start-up of vLLM with its log lines and modelled waiting. Raises StartupError."""
    log("INFO", "api_server.py:1977", f"vLLM API server version {VERSION}")
    ready = prepare(arguments, settings)
    for note in ready.notes:
        log("WARNING", "model.py:1867", note)
    log("INFO", "model.py:1745", f"Using max model len {ready.max_model_len}")
    log("INFO", "gpu_model_runner.py:3259", f"Starting to load model {arguments.model}...", stream="EngineCore_DP0")
    time.sleep(ready.weights_seconds + ready.startup_seconds)
    if ready.memory.error:
        raise StartupError(ready.memory.error)
    memory = ready.memory
    engine = "EngineCore_DP0"
    log("INFO", "gpu_worker.py:359", f"Available KV cache memory: {memory.kv_gib:.2f} GiB", stream=engine)
    log("INFO", "kv_cache_utils.py:1229", f"GPU KV cache size: {memory.kv_tokens:,} tokens", stream=engine)
    concurrency = memory.kv_tokens / ready.max_model_len
    text = f"Maximum concurrency for {ready.max_model_len:,} tokens per request: {concurrency:.2f}x"
    log("INFO", "kv_cache_utils.py:1234", text, stream=engine)
    shown = blocks(arguments, settings, ready)
    log("INFO", "sandbox", f"The stand-in uses {shown} KV blocks of {arguments.block_size} tokens", stream=engine)
    return ready


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM, 1 where the server cannot start, 2 for a wrong command line."""
    given = list(sys.argv[1:] if words is None else words)
    if given[:1] in (["-v"], ["--version"]):
        print(VERSION)
        return 0
    if given[:2] == ["bench", "serve"]:
        return bench.main(given[2:])
    if given[:1] != ["serve"]:
        print("usage: vllm [-h] [-v] {chat,complete,serve,bench,collect-env,run-batch} ...", file=sys.stderr)
        if given:
            print(f"vllm: error: argument subparser: invalid choice: {given[0]!r}", file=sys.stderr)
        return 2
    arguments = parse(given[1:])
    # As process 1 of a container it would otherwise not hear SIGTERM while it starts.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        settings = read()
        ready = start(arguments, settings)
    except (StartupError, ValueError) as error:
        lines = str(error).splitlines()
        print("Traceback (most recent call last):\n  ...", file=sys.stderr)
        print("\n".join(lines), file=sys.stderr, flush=True)
        return 1
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(serve(arguments, settings, ready))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
