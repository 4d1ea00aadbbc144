# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP client on the standard library: one request, one answer, with a deadline. No redirects, no retries."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

BODY_LIMIT = 4 * 1024 * 1024
# "Name: value", sent with every request to an endpoint: a key or token for whatever stands in front of it. From the
# environment, so that it is in no argument, no result and no log.
ENDPOINT_HEADER = "LLMD_GKE_ENDPOINT_HEADER"


def endpoint_header(environment: Mapping[str, str]) -> dict[str, str]:
    """The header that the endpoint wants besides. Raises ConfigurationError; the value is never in the message."""
    text = environment.get(ENDPOINT_HEADER, "")
    if not text:
        return {}
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not re.fullmatch(r"[A-Za-z0-9-]+", name) or not value.isprintable() or not value.isascii():
        raise ConfigurationError(
            f"{ENDPOINT_HEADER} in the environment is no header.",
            code="ENDPOINT_HEADER_INVALID",
            remedy="Give a name and a value, for example 'X-Api-Key: ...' or 'Proxy-Authorization: Bearer ...'.",
        )
    return {name: value}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; status 0 = none came, then ``error`` says why. ``headers`` have lower-case names."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    error: str = ""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def document(self) -> dict[str, Any]:
        """The body as a JSON object, {} if it is none."""
        try:
            parsed = json.loads(self.body)
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}


Send = Callable[..., Answer]


@dataclass(frozen=True)
class Endpoint:
    """Where to send requests: scheme, host, port, path prefix.

    host_header: for routes bound to a hostname; over TLS it is also the name that is asked for and that the certificate
    must be made out to, so that a name which DNS does not know yet can be tried at its address. ca_file: whom to trust
    (PEM), "" for the system's authorities. verify False: whoever answers. header: sent with every request.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""
    host_header: str = ""
    ca_file: str = ""
    verify: bool = True
    header: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, base_url: str, host_header: str = "", *, ca_file: str = "", verify: bool = True) -> Endpoint:
        """From "http://203.0.113.7", with or without port and path. Raises ConfigurationError."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"{base_url!r} is no address to send requests to.",
                code="BASE_URL_INVALID",
                remedy="Give http://ADDRESS or https://NAME.",
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        extra = endpoint_header(os.environ)
        made = cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"), host_header, ca_file, verify, extra)
        made.tls()  # a file that is no certificate is the caller's mistake, not the endpoint's
        return made

    def tls(self) -> ssl.SSLContext | None:
        """The TLS settings, None for plain HTTP. Raises ConfigurationError CA_FILE_INVALID."""
        if self.scheme != "https":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{self.ca_file} is no file of CA certificates.",
                code="CA_FILE_INVALID",
                why=str(error),
                remedy="Give a PEM file (llmd_tls.ca_file).",
            ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def send(
        self,
        method: str,
        path: str,
        document: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """One request; network trouble is an answer with status 0, never an exception. timeout in seconds."""
        started = time.monotonic()
        body = None if document is None else json.dumps(document).encode()
        sent = {"Accept": "application/json", "User-Agent": "llmd-gke", "Connection": "close"}
        sent |= {**self.header, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self.host_header:
            sent["Host"] = self.host_header
        connection = self._connect(timeout)
        try:
            connection.request(method, self.prefix + path, body=body, headers=sent)
            reply = connection.getresponse()
            data = reply.read(BODY_LIMIT)
            fields = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, fields, data, time.monotonic() - started)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, seconds=time.monotonic() - started, error=f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        context = self.tls()
        if context is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        name = self.host_header.partition(":")[0] or self.host
        return _Secure(self.host, self.port, name, context, timeout)


class _Secure(http.client.HTTPConnection):
    """HTTPS to an address under a name that need not resolve to it."""

    default_port = 443

    def __init__(self, host: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._name, self._context = name, context

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


# How a module that asks an endpoint is told where it is; documented by the fragment llmd.gke.endpoint.
ENDPOINT_ARGUMENTS: dict[str, Any] = {
    "base_url": {"type": "str", "required": True},
    "host_header": {"type": "str", "default": ""},
    "validate_endpoint_certs": {"type": "bool", "default": True},
    "ca_file": {"type": "path"},
}


def sender(params: Mapping[str, Any], host: str) -> Send:
    """Requests to a module's ``base_url`` under ``host``'s name, with its ``ca_file`` and ``validate_endpoint_certs``.

    Raises ConfigurationError where the address or the file is none.
    """
    endpoint = Endpoint.parse(
        params["base_url"], host, ca_file=params["ca_file"] or "", verify=params["validate_endpoint_certs"]
    )

    def send(method: str, path: str, document: dict[str, Any] | None = None, *, timeout: float = 60) -> Answer:
        return endpoint.send(method, path, document, timeout=timeout)

    return send
