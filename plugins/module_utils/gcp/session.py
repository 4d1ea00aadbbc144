# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One session with the Google APIs: where they are, patience with them, and a count of what was asked.

Retried, with exponential back-off and jitter, honouring Retry-After and RetryInfo: lost connections, 429, 403
rateLimitExceeded, 5xx, resources not ready yet, a busy cluster, another service activation under way, and - when told
that an API was enabled moments ago - SERVICE_DISABLED.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import errors as google_errors
from ansible_collections.llmd.gke.plugins.module_utils.gcp.credentials import AccessToken
from ansible_collections.llmd.gke.plugins.module_utils.gcp.transport import ConnectionTrouble, Reply, Transport
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, report_progress

Json = dict[str, Any]
Params = Mapping[str, "str | int | bool | list[str]"]

# Base address and, inside it, the path of the version that we speak.
VERSION_PATHS = {
    "compute": "compute/v1/",
    "container": "v1/",
    "serviceusage": "v1/",
    "cloudresourcemanager": "v1/",
    "iam": "v1/",
    "iamcredentials": "v1/",
    "cloudbilling": "v1/",
    "monitoring": "v1/",
}
# compute methods that are POSTs and yet change nothing: they take no requestId.
READING_POSTS = ("wait", "getHealth", "testIamPermissions", "listNetworkEndpoints", "listManagedInstances")
SHORTEST_REQUEST = 5.0  # seconds
TRUNCATED_PATIENCE = 15.0  # seconds for answers that are cut short
ENDPOINT_VARIABLE = "LLMD_GKE_API_ENDPOINT_"


def resolve_endpoints(overrides: Mapping[str, str] | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Base address of each API (without the version, with a trailing slash): option, then environment, then Google's.

    Raises ConfigurationError ENDPOINT_INVALID for an unknown API or something that is no http(s) address.
    """
    given = dict(overrides or {})
    unknown = sorted(set(given) - set(VERSION_PATHS))
    if unknown:
        raise ConfigurationError(
            f"api_endpoint_overrides names an unknown API: {', '.join(unknown)}",
            code="ENDPOINT_INVALID",
            remedy=f"Known are: {', '.join(sorted(VERSION_PATHS))}.",
        )
    result = {}
    for service in VERSION_PATHS:
        base = (
            given.get(service)
            or environ.get(ENDPOINT_VARIABLE + service.upper())
            or f"https://{service}.googleapis.com/"
        )
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigurationError(
                f"The address of the {service} API is not an http(s) address: {base!r}",
                code="ENDPOINT_INVALID",
                remedy=f"Correct api_endpoint_overrides.{service} or {ENDPOINT_VARIABLE}{service.upper()}.",
            )
        result[service] = base if base.endswith("/") else base + "/"
    return result


def segment(value: str) -> str:
    """One path segment of a URL, quoted; a user's value can never reach another path."""
    if not value or value in (".", ".."):
        raise ConfigurationError(f"{value!r} is not usable as a name", code="NAME_INVALID")
    return quote(value, safe=":-._~")


@dataclass(frozen=True)
class RetryPolicy:
    """Patience, all in seconds. Each bound is for one call; the session's deadline bounds everything."""

    transient: float = 120.0  # lost connections, 5xx, rate limits
    propagation: float = 0.0  # SERVICE_DISABLED right after enabling; 0: believe it at once
    first_wait: float = 1.0
    longest_wait: float = 20.0
    request_timeout: float = 60.0


TRANSIENT_CODES = frozenset({"RATE_LIMITED", "GOOGLE_UNAVAILABLE", "RESOURCE_NOT_READY", "CONNECTION_FAILED"})
BUSY_CODES = frozenset({"CLUSTER_BUSY", "ACTIVATION_BUSY"})


class GoogleSession:
    """Calls of the Google JSON APIs for one project.

    deadline: seconds from now until which anything is waited for, operations included (None: each wait has its own).
    cancel_late: GKE operations that we give up on are cancelled, where GKE can.
    ``calls`` counts requests by API method (``compute.subnetworks.insert``), retries included.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        project: str,
        endpoints: Mapping[str, str] | None = None,
        policy: RetryPolicy | None = None,
        deadline: float | None = None,
        cancel_late: bool = False,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.project = project
        self.calls: Counter[str] = Counter()
        self.clock: Clock = clock or SystemClock()
        self.policy = policy or RetryPolicy()
        self.cancel_late = cancel_late
        self._transport = transport
        self._endpoints = dict(endpoints) if endpoints is not None else resolve_endpoints(None, os.environ)
        self._jitter = jitter
        self._lock = threading.Lock()
        self._ends = None if deadline is None else self.clock.now() + deadline

    # --- time -----------------------------------------------------------------------------------------------------

    def remaining(self, default: float) -> float:
        """Seconds until the session's deadline, ``default`` where it has none."""
        return default if self._ends is None else max(0.0, self._ends - self.clock.now())

    def _request_timeout(self, asked: float | None) -> float:
        """Seconds for one exchange: what is asked, cut by the deadline, but never too short for an answer."""
        wanted = asked or self.policy.request_timeout
        return min(wanted, max(SHORTEST_REQUEST, self.remaining(wanted)))

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        verb: str,
        path: str,
        *,
        params: Params | None = None,
        body: Json | None = None,
        timeout: float | None = None,
    ) -> Json:
        """One API call with patience. ``method`` is Google's method name, its first part the API; ``path`` is relative
        to the API's version (``projects/p/regions/r/subnetworks``). Raises GoogleApiError.

        A compute write carries one requestId for all its tries: a retry after a lost answer does nothing twice.
        """
        if method.startswith("compute.") and verb != "GET" and not method.endswith(READING_POSTS):
            params = {"requestId": str(uuid.uuid4()), **(params or {})}
        url = self._url(method, path, params)
        text = None if body is None else json.dumps(body)
        started = self.clock.now()
        attempt = 0
        while True:
            outcome = self._attempt(method, verb, url, text, self._request_timeout(timeout))
            if isinstance(outcome, dict):
                return outcome
            error, asked_wait = outcome
            wait = self._wait_seconds(attempt, asked_wait)
            if self.clock.now() - started + wait > self._patience(error.code):
                if attempt:
                    error.what += f" (tried {attempt + 1} times in {self.clock.now() - started:.0f} s)"
                raise error
            attempt += 1
            report_progress(f"{method}: {error.code}, again in {wait:.0f} s (attempt {attempt})")
            self.clock.sleep(wait)

    def pages(
        self, method: str, path: str, *, params: Params | None = None, timeout: float | None = None
    ) -> Iterator[Json]:
        """All pages of a list call, one answer after the other."""
        token = ""
        while True:
            asked: dict[str, Any] = dict(params or {})
            if token:
                asked["pageToken"] = token
            page = self.call(method, "GET", path, params=asked, timeout=timeout)
            yield page
            following = str(page.get("nextPageToken") or "")
            if not following or following == token:
                return
            token = following

    def access_token(self, *, min_seconds: float = 0) -> AccessToken:
        """A bearer token of the session's identity. Raises GoogleApiError UNAUTHENTICATED or CONNECTION_FAILED."""
        started = self.clock.now()
        attempt = 0
        while True:
            try:
                return self._transport.access_token(min_seconds=min_seconds)
            except ConnectionTrouble as trouble:
                wait = self._wait_seconds(attempt, None)
                if self.clock.now() - started + wait > min(self.policy.transient, 30.0):
                    raise _no_connection("token", "Google's token server", trouble) from trouble
                attempt += 1
                self.clock.sleep(wait)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _url(self, method: str, path: str, params: Params | None) -> str:
        service = method.split(".", 1)[0]
        url = self._endpoints[service] + VERSION_PATHS[service] + path
        if not params:
            return url
        plain = {k: str(v).lower() if isinstance(v, bool) else v for k, v in params.items()}
        return url + "?" + urlencode(plain, doseq=True)

    def _attempt(
        self, method: str, verb: str, url: str, body: str | None, timeout: float
    ) -> Json | tuple[GoogleApiError, float | None]:
        """The answer, or the error together with the wait that the server asked for."""
        with self._lock:
            self.calls[method] += 1
        try:
            reply = self._transport.send(verb, url, body=body, timeout=timeout)
        except ConnectionTrouble as trouble:
            return _no_connection(method, url, trouble), None
        if 200 <= reply.status < 300:
            return _document(method, url, reply)
        if 300 <= reply.status < 400:
            raise GoogleApiError(
                f"{method} was redirected, which Google's APIs do not do",
                status=reply.status,
                code="MALFORMED_ANSWER",
                where=url,
                why=f"HTTP {reply.status} to {reply.headers.get('location', '?')}",
                remedy="A proxy or a wrong endpoint override answers in Google's place: "
                "check HTTPS_PROXY and api_endpoint_overrides.",
            )
        if reply.status < 500 and reply.status not in (401, 408, 429) and not _is_json(reply):
            return _not_google(method, url, reply, f"HTTP {reply.status}"), None
        refusal = google_errors.read_refusal(reply.status, reply.text)
        error = google_errors.http_error(
            refusal, what=f"{method} was refused", where=f"{verb} {url}", project=self.project
        )
        return error, _asked_wait(reply, refusal.retry_delay)

    def _patience(self, code: str) -> float:
        if code == "TRUNCATED_ANSWER":
            return min(TRUNCATED_PATIENCE, self.remaining(TRUNCATED_PATIENCE))
        if code in BUSY_CODES:
            return self.remaining(self.policy.transient)
        if code in TRANSIENT_CODES:
            return min(self.policy.transient, self.remaining(self.policy.transient))
        if code == "API_DISABLED":
            return min(self.policy.propagation, self.remaining(self.policy.propagation))
        return -1.0

    def _wait_seconds(self, attempt: int, asked: float | None) -> float:
        """Exponential with jitter (half to full), never shorter than the server asks."""
        grown = min(self.policy.longest_wait, self.policy.first_wait * 2.0 ** min(attempt, 16))
        own = grown * (0.5 + 0.5 * self._jitter())
        return own if asked is None else max(own, asked)


def _no_connection(method: str, where: str, trouble: ConnectionTrouble) -> GoogleApiError:
    return GoogleApiError(
        f"{method}: no answer from Google",
        code="CONNECTION_FAILED",
        where=where,
        why=str(trouble)[:1000],
        remedy="Check the network, HTTPS_PROXY/NO_PROXY, REQUESTS_CA_BUNDLE and api_endpoint_overrides; "
        "in the sandbox: ./sandbox/sandbox status.",
    )


def _is_json(reply: Reply) -> bool:
    """Whether an answer is meant as JSON: by its content type, by its first character where it names none."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.endswith("json") if kind else reply.text.lstrip()[:1] in ("{", "")


def _document(method: str, url: str, reply: Reply) -> Json | tuple[GoogleApiError, float | None]:
    """The JSON object of an answer. One that is cut short may be asked for again, anything else is not Google's."""
    if not reply.text.strip():  # "nothing" is 204 or {}; else the body was lost on the way
        return {} if reply.status == 204 else _cut_short(method, url, reply, "no body")
    if not _is_json(reply):
        raise _not_google(method, url, reply, "not JSON")
    try:
        document = json.loads(reply.text)
    except ValueError as trouble:
        return _cut_short(method, url, reply, str(trouble))
    if isinstance(document, dict):
        return document
    raise _not_google(method, url, reply, f"a JSON {type(document).__name__}")


def _cut_short(method: str, url: str, reply: Reply, why: str) -> tuple[GoogleApiError, None]:
    error = _not_google(method, url, reply, why)
    error.code = "TRUNCATED_ANSWER"
    return error, None


def _not_google(method: str, url: str, reply: Reply, why: str) -> GoogleApiError:
    return GoogleApiError(
        f"{method}: the answer is not the JSON object that Google sends",
        status=reply.status,
        code="MALFORMED_ANSWER",
        where=url,
        why=f"{why}; {reply.headers.get('content-type', 'no content type')}, {len(reply.text)} characters",
        remedy="A proxy or a wrong endpoint override may answer in Google's place: check HTTPS_PROXY and "
        "api_endpoint_overrides; the evidence shows the beginning of what came.",
        evidence=reply.text[: google_errors.EXCERPT],
    )


def _asked_wait(reply: Reply, retry_delay: float | None) -> float | None:
    """Seconds from Retry-After (number or date) or RetryInfo."""
    header = reply.headers.get("retry-after", "").strip()
    if header.isdigit():
        return float(header)
    if header:
        parsed = email.utils.parsedate_tz(header)
        if parsed is not None:
            return max(0.0, email.utils.mktime_tz(parsed) - time.time())
    return retry_delay
