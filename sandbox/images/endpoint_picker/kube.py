"""A very small client of the in-cluster API: list and watch with the pod's ServiceAccount."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.images.endpoint_picker.logs import Logger

ENV_SERVER = "LLMD_SANDBOX_API_SERVER"  # tests: a server without TLS and tokens
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOG = Logger("controller-runtime.cache.UnhandledError")

Items = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Resource:
    """What is watched: ``path`` below the server, ``kind`` for the log, optionally one object's ``name``."""

    path: str
    kind: str
    name: str | None = None

    @property
    def query(self) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self.name}"} if self.name else {}


class Cluster:
    """The API server as seen from a pod."""

    def __init__(self, account: Path = _ACCOUNT) -> None:
        override = os.environ.get(ENV_SERVER)
        self._account = account
        self._tls: ssl.SSLContext | None = None
        if override:
            self.server = override.rstrip("/")
        else:
            host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
            if not host:
                raise OSError("unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST must be defined")
            port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            self.server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
            self._tls = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def _headers(self) -> dict[str, str]:
        # Read every time: the kubelet renews the token.
        token = self._account / "token"
        if self._tls is None or not token.exists():
            return {}
        return {"Authorization": f"Bearer {token.read_text(encoding='ascii').strip()}"}

    async def follow(
        self,
        session: aiohttp.ClientSession,
        resource: Resource,
        replace: Callable[[Items], None],
        change: Callable[[str, Mapping[str, Any] | None], None],
        synced: asyncio.Event,
    ) -> None:
        """List, then watch, for ever: ``replace`` gets the whole list, ``change`` one object (None: deleted).

        Failures are logged as client-go's reflector logs them and tried again with growing pauses up to 5 s.
        """
        pause = 0.2
        while True:
            try:
                version = await self._list(session, resource, replace)
                synced.set()
                pause = 0.2
                await self._watch(session, resource, version, change)
            except (TimeoutError, aiohttp.ClientError, OSError, ApiError) as error:
                reason = f"failed to list {resource.kind}: {error}"
                _LOG.error("Failed to watch", reason, reflector="sandbox", type=resource.kind)
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)

    async def _list(
        self, session: aiohttp.ClientSession, resource: Resource, replace: Callable[[Items], None]
    ) -> str:
        url = self.server + resource.path
        async with session.get(url, params=resource.query, headers=self._headers(), ssl=self._tls or True) as answer:
            if answer.status != 200:
                raise ApiError(await _message(answer))
            body = await answer.json(content_type=None)
        items = body.get("items") or []
        replace({item["metadata"]["name"]: item for item in items})
        return str(body["metadata"]["resourceVersion"])

    async def _watch(
        self,
        session: aiohttp.ClientSession,
        resource: Resource,
        version: str,
        change: Callable[[str, Mapping[str, Any] | None], None],
    ) -> None:
        query = {**resource.query, "watch": "true", "resourceVersion": version, "timeoutSeconds": "300"}
        url = self.server + resource.path
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        request = session.get(
            url, params=query, headers=self._headers(), ssl=self._tls or True, timeout=timeout, read_bufsize=2**20
        )
        async with request as answer:
            if answer.status != 200:
                raise ApiError(await _message(answer))
            async for line in _lines(answer):
                event = json.loads(line)
                item = event["object"]
                if event["type"] == "ERROR":
                    return  # too old a version: list again
                if event["type"] in ("ADDED", "MODIFIED"):
                    change(item["metadata"]["name"], item)
                elif event["type"] == "DELETED":
                    change(item["metadata"]["name"], None)


class ApiError(Exception):
    """The API server refused; the text is its own message."""


async def _message(answer: aiohttp.ClientResponse) -> str:
    try:
        return str((await answer.json(content_type=None))["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server responded with status {answer.status}"


async def _lines(answer: aiohttp.ClientResponse) -> Any:
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
