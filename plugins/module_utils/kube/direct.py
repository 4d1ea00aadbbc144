# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short way to an API server: a kubeconfig with a token, as llmd.gke.gke_credentials writes it, and urllib3 alone.

Importing the full Kubernetes client takes 0.6 s of CPU, more than most of our modules need for all their requests.
Every other kind of access (exec plugins, client certificates, contexts, options and K8S_AUTH_* variables) is left to
kubernetes.core's client, which also explains what is wrong with a kubeconfig.
"""

from __future__ import annotations

import json
import os
import ssl
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

CLUSTER_KEYS = {"server", "certificate-authority-data"}


class Refused(Exception):
    """An answer of 300 or more, with what kubernetes' own ApiException carries."""

    def __init__(self, status: int, reason: str, body: bytes) -> None:
        super().__init__(f"{status} {reason}")
        self.status, self.reason, self.body = status, reason, body


def is_transport_error(error: Exception) -> bool:
    """Whether an exception came from the connection (urllib3's and the system's), not from a fault of ours."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] == "urllib3"


@dataclass(frozen=True)
class Access:
    """Where the API server is and what it wants to see. ca: PEM, empty for a certificate that everybody knows."""

    server: str
    token: str
    ca: str = ""


def access_of(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Access | None:
    """The access that kubernetes.core's options describe, None where it takes more than this module knows."""
    environ = os.environ if environ is None else environ
    if set(options) != {"kubeconfig"} or any(name.startswith("K8S_AUTH_") for name in environ):
        return None
    document = options["kubeconfig"]
    if isinstance(document, str):
        document = _read(document)
    if not isinstance(document, dict):
        return None
    context = _named(document, "contexts", "context", document.get("current-context"))
    cluster = _named(document, "clusters", "cluster", context.get("cluster"))
    user = _named(document, "users", "user", context.get("user"))
    server, token = cluster.get("server"), user.get("token")
    if not server or not token or set(cluster) - CLUSTER_KEYS or set(user) != {"token"}:
        return None
    try:
        ca = b64decode(cluster.get("certificate-authority-data") or "", validate=True).decode("ascii")
    except ValueError:
        return None
    return Access(str(server).rstrip("/"), str(token), ca)


def _read(path: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _named(document: dict[str, Any], kind: str, content: str, name: Any) -> dict[str, Any]:
    entries = document.get(kind)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and name and entry.get("name") == name and isinstance(entry.get(content), dict):
            found: dict[str, Any] = entry[content]
            return found
    return {}


def _proxy(server: str) -> str:
    """The proxy that the environment names for this server (HTTPS_PROXY, NO_PROXY), "" for none."""
    proxy = getproxies().get(urlsplit(server).scheme, "")
    if not proxy:
        return ""
    # It knows networks (10.0.0.0/8) in NO_PROXY, as Google's client does; loaded only where there is a proxy.
    from requests.utils import should_bypass_proxies

    return "" if should_bypass_proxies(server, no_proxy=None) else str(proxy)


class DirectTransport:
    """One raw request at a time, on connections that stay open; safe to use from several threads."""

    def __init__(self, access: Access) -> None:
        import urllib3

        context = ssl.create_default_context(cadata=access.ca or None)
        # Python 3.13 insists on extensions that the certificates of many clusters do not have.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # A connection that broke is made anew; what the server answers is the caller's to judge.
        again = urllib3.Retry(3, status=0, redirect=0, raise_on_redirect=False, raise_on_status=False)
        again.respect_retry_after_header = False
        options: dict[str, Any] = {"ssl_context": context, "maxsize": 10, "retries": again}
        proxy = _proxy(access.server)
        if proxy:
            parts = urlsplit(proxy)
            known = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
            headers = urllib3.make_headers(proxy_basic_auth=known)
            self._pool: Any = urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
        else:
            self._pool = urllib3.PoolManager(**options)
        self._timeout = urllib3.Timeout
        self._access = access

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The response, its ``data`` read. Raises Refused, and what urllib3 raises where no answer came."""
        limit = params.get("_request_timeout")
        pair = limit if isinstance(limit, tuple) else (limit, limit)
        response = self._pool.request(
            method.upper(),
            self._access.server + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._access.token}",
                "Accept": "application/json",
                "Content-Type": params.get("content_type") or "application/json",
                "User-Agent": "llmd.gke",
                **(params.get("header_params") or {}),
            },
            timeout=self._timeout(connect=pair[0], read=pair[1]),
            redirect=False,
        )
        if response.status >= 300:
            raise Refused(response.status, str(response.reason or ""), response.data)
        return response
