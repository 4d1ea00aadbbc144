"""The reverse proxy before a decode server: prompts go to a prefill server first where the picker named one.

nixlv2: the prefill server gets the request with one token to generate and ``do_remote_decode``; its answer says where
the KV blocks lie, and with that the request goes to the decode server in the same pod.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from sandbox.images.endpoint_picker.logs import Logger

PREFILLER = "x-prefiller-host-port"
REQUEST_ID = "x-request-id"
_LIMITS = ("max_tokens", "max_completion_tokens")
# Of one connection, not of the message: a proxy makes its own.
_OWN = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_NOTHING_YET = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
_LOG = Logger("proxy")


@dataclass(frozen=True)
class Settings:
    """``decoder``: base URL of the local vLLM. ``fallback``: decode alone where a prefill server fails."""

    decoder: str
    prefiller_scheme: str = "http"
    fallback: bool = False
    sampling: bool = False


class Proxy:
    """One pod's sidecar."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 * 2**20)
        application.cleanup_ctx.append(self._sessions)
        for path in ("/v1/chat/completions", "/v1/completions"):
            application.router.add_post(path, self._generate)
        application.router.add_route("*", "/{path:.*}", self._pass)
        return application

    async def _sessions(self, application: web.Application) -> Any:
        connector = aiohttp.TCPConnector(limit=0, ssl=False)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        yield
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        return await self._decode(request, await request.read(), {})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        prefiller = self._prefiller(request)
        if not prefiller:
            return await self._decode(request, raw, {})
        try:
            body = json.loads(raw)
            if not isinstance(body, dict):
                raise ValueError("the body is not an object")
        except ValueError as error:
            return _refusal(400, "BadRequestError", str(error))
        identity = {REQUEST_ID: str(uuid.uuid4())}
        status, answer = await self._prefill(request, prefiller, body, identity)
        if 200 <= status < 300:
            kept = answer.get("kv_transfer_params")
            return await self._decode(request, _encoded({**body, "kv_transfer_params": kept}), identity)
        _LOG.error("request failed", f"prefill answered {status}", code=status, url=prefiller)
        if self._settings.fallback and not 400 <= status <= 451:
            _LOG.info("falling back to decode", url=prefiller)
            return await self._decode(request, raw, identity)
        return web.Response(status=status)

    def _prefiller(self, request: web.Request) -> str:
        """Where to prefill: the first of the named ones, or one by the request's number where it is to be sampled."""
        found = [part.strip() for value in request.headers.getall(PREFILLER, []) for part in value.split(",")]
        named = [part for part in found if part]
        if not named:
            return ""
        return named[uuid.uuid4().int % len(named)] if self._settings.sampling else named[0]

    async def _prefill(
        self, request: web.Request, prefiller: str, body: Mapping[str, Any], identity: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer of the prefill server; 502 where it cannot be reached or does not speak JSON."""
        asked = {key: value for key, value in body.items() if key != "stream_options"}
        asked |= {"stream": False, "kv_transfer_params": _NOTHING_YET, **dict.fromkeys(_LIMITS, 1)}
        url = f"{self._settings.prefiller_scheme}://{prefiller}{request.rel_url}"
        headers = {**_headers(request), **identity}
        assert self._session is not None
        try:
            async with self._session.post(url, data=_encoded(asked), headers=headers) as answer:
                text = await answer.read()
                if not 200 <= answer.status < 300:
                    return answer.status, {}
                found = json.loads(text)
                return answer.status, found if isinstance(found, dict) else {}
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            _LOG.error("http: proxy error", error, url=url)
            return 502, {}

    async def _decode(self, request: web.Request, raw: bytes, identity: Mapping[str, str]) -> web.StreamResponse:
        """Hand a request to the local vLLM, and its answer back as it comes."""
        url = f"{self._settings.decoder}{request.rel_url}"
        headers = {**_headers(request), **identity}
        assert self._session is not None
        try:
            asked = self._session.request(request.method, url, data=raw or None, headers=headers, allow_redirects=False)
            async with asked as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN}
                response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except aiohttp.ClientConnectorError as error:
            _LOG.error("waiting for vLLM to be ready", error, decoderURL=self._settings.decoder)
            return web.Response(status=502)
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
            _LOG.error("http: proxy error", error, decoderURL=self._settings.decoder)
            return _refusal(502, "BadGateway", str(error))


def _headers(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower() not in (*_OWN, PREFILLER)}


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _refusal(status: int, kind: str, message: str) -> web.Response:
    body = {"object": "error", "message": message, "type": kind, "param": "", "code": status}
    return web.json_response(body, status=status)
