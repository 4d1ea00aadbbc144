"""The HTTP surface: OpenAI's routes as vLLM serves them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from sandbox.images.model_server import refusals
from sandbox.images.model_server.arguments import VERSION, Arguments
from sandbox.images.model_server.engine import Engine, Sequence_
from sandbox.images.model_server.metrics import CONTENT_TYPE, Metrics
from sandbox.images.model_server.requests import Parsed, parse

POD_HEADER = "x-llmd-sandbox-pod"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Served:
    """What one server serves. ``family`` is config.json's model_type."""

    arguments: Arguments
    family: str
    max_model_len: int
    pod: str
    load_adapters: bool = False  # whether adapters may come and go while it runs


class Api:
    """Routes over one engine."""

    def __init__(self, served: Served, engine: Engine, metrics: Metrics) -> None:
        self._served = served
        self._engine = engine
        self._metrics = metrics
        self._started = int(time.time())
        self._adapters = dict(served.arguments.adapters)

    def application(self) -> web.Application:
        """The aiohttp application, to be run with ``handler_cancellation`` so that a lost client frees its blocks."""
        application = web.Application(middlewares=[self._frame], client_max_size=64 * 2**20)
        application.router.add_get("/health", self._health)
        application.router.add_route("*", "/ping", self._health)
        application.router.add_get("/version", self._version)
        application.router.add_get("/v1/models", self._models)
        application.router.add_post("/v1/completions", self._completions)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_get("/metrics", self._exposition)
        if self._served.load_adapters:
            application.router.add_post("/v1/load_lora_adapter", self._load)
            application.router.add_post("/v1/unload_lora_adapter", self._unload)
        application.on_response_prepare.append(self._headers)
        return application

    async def _headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "uvicorn"
        if self._served.pod:
            response.headers[POD_HEADER] = self._served.pod

    @web.middleware
    async def _frame(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        key = self._served.arguments.api_key
        if key and request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        try:
            return await handler(request)
        except refusals.Refusal as refusal:
            return refusal.answer()
        except web.HTTPException as error:
            if error.status in (404, 405):  # FastAPI's own words
                return web.json_response({"detail": error.reason}, status=error.status, headers=_allow(error))
            raise

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(headers={"Content-Type": "application/json"})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def _exposition(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _models(self, request: web.Request) -> web.Response:
        arguments = self._served.arguments
        entries: list[dict[str, Any]] = [
            {
                "id": name,
                "object": "model",
                "created": self._started,
                "owned_by": "vllm",
                "root": arguments.model,
                "parent": None,
                "max_model_len": self._served.max_model_len,
                "permission": [],
            }
            for name in arguments.names
        ]
        entries += [
            {
                "id": name,
                "object": "model",
                "created": self._started,
                "owned_by": "vllm",
                "root": path,
                "parent": arguments.names[0],
                "max_model_len": None,
                "permission": [],
            }
            for name, path in self._adapters.items()
        ]
        return web.json_response({"object": "list", "data": entries})

    async def _load(self, request: web.Request) -> web.Response:
        name, path = await self._named(request, "lora_path")
        if name in self._adapters:
            raise refusals.Refusal(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        self._adapters[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name, _ = await self._named(request)
        if name not in self._adapters:
            raise refusals.Refusal(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        del self._adapters[name]
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _named(self, request: web.Request, *more: str) -> tuple[str, str]:
        body = await _json(request)
        values = [str(body.get(key) or "") if isinstance(body, dict) else "" for key in ("lora_name", *more)]
        if not all(values):
            wanted = " and ".join(f"'{key}'" for key in ("lora_name", *more))
            raise refusals.Refusal(400, f"{wanted} must be provided.", "InvalidUserInput")
        return values[0], values[-1]

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, chat=True)

    async def _generate(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        served = self._served
        parsed = parse(
            await _json(request),
            chat=chat,
            names=served.arguments.names,
            family=served.family,
            max_model_len=served.max_model_len,
            adapters=self._adapters,
        )
        base = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": parsed.model,
        }
        if parsed.stream:
            return await self._stream(request, parsed, base, chat=chat)
        return await self._whole(parsed, base, chat=chat)

    async def _whole(self, parsed: Parsed, base: dict[str, Any], *, chat: bool) -> web.Response:
        done = await asyncio.gather(*(self._finish(parsed, index) for index in range(len(parsed.jobs))))
        choices = []
        for index, sequence in enumerate(done):
            text = (parsed.prompts[index] if parsed.echo and not chat else "") + sequence.text
            said: dict[str, Any] = (
                {"message": {"role": "assistant", "content": text, "refusal": None, "tool_calls": []}}
                if chat
                else {"text": text}
            )
            choices.append(
                {"index": index, **said, "logprobs": None, "finish_reason": sequence.reason, "stop_reason": None}
            )
        extra = {"service_tier": None, "system_fingerprint": None}
        usage = self._usage(parsed, list(done))
        body = {**base, "choices": choices, **extra, "usage": usage, "kv_transfer_params": done[0].kept}
        return web.json_response(body)

    async def _finish(self, parsed: Parsed, index: int) -> Sequence_:
        async for _, sequence in self._engine.generate(parsed.jobs[index], each=False):
            last = sequence
        return last

    async def _stream(
        self, request: web.Request, parsed: Parsed, base: dict[str, Any], *, chat: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        base = {**base, "object": "chat.completion.chunk" if chat else "text_completion"}
        sequences: dict[int, Sequence_] = {}
        if chat:
            for index in range(len(parsed.jobs)):
                opening = {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                await _event(response, {**base, "choices": [opening]})
        async for index, text, sequence in self._merged(parsed):
            if not chat and parsed.echo and index not in sequences:
                text = parsed.prompts[index] + text
            sequences[index] = sequence
            said: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
            choice = {"index": index, **said, "logprobs": None, "finish_reason": sequence.reason, "stop_reason": None}
            await _event(response, {**base, "choices": [choice], **({"usage": None} if parsed.include_usage else {})})
        if parsed.include_usage:
            usage = self._usage(parsed, list(sequences.values()))
            await _event(response, {**base, "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _merged(self, parsed: Parsed) -> AsyncIterator[tuple[int, str, Sequence_]]:
        """The tokens of all choices as they come."""
        queue: asyncio.Queue[tuple[int, str, Sequence_] | None] = asyncio.Queue()

        async def pump(index: int) -> None:
            try:
                async for text, sequence in self._engine.generate(parsed.jobs[index], each=True):
                    queue.put_nowait((index, text, sequence))
            finally:
                queue.put_nowait(None)

        tasks = [asyncio.create_task(pump(index)) for index in range(len(parsed.jobs))]
        try:
            for _ in tasks:
                while (item := await queue.get()) is not None:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _usage(self, parsed: Parsed, sequences: list[Sequence_]) -> dict[str, Any]:
        per_prompt = len(sequences) // max(1, len({id(job.prompt) for job in parsed.jobs}))
        prompt = sum(len(job.prompt) for job in parsed.jobs[:: max(1, per_prompt)])
        completion = sum(sequence.tokens for sequence in sequences)
        cached = sequences[0].cached_tokens if sequences else 0
        details = {"cached_tokens": cached} if self._served.arguments.prompt_tokens_details else None
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
            "prompt_tokens_details": details,
        }


async def _json(request: web.Request) -> Any:
    raw = await request.read()  # aiohttp joins a chunked body; Envoy sends no Content-Length through ext_proc
    if not raw:
        raise refusals.missing()
    try:
        return json.loads(raw)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise refusals.not_json(reason) from None


async def _event(response: web.StreamResponse, payload: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n")


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
