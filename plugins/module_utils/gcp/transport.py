# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP exchange with Google, through google-auth and requests. No retries here: those are the session's business.

Proxy and CA bundle come from the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE), as requests reads them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.llmd.gke.plugins.module_utils.gcp import credentials as auth

CONNECT_SECONDS = 15.0
# What google-auth lets through when a token server answers with something that is no token.
NO_TOKEN = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Reply:
    """What came back: status, headers (lower-case names), text."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class ConnectionTrouble(Exception):
    """No answer came: refused, reset, timed out, cut short. ``sent`` False where the request surely did not arrive."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class Transport(Protocol):
    """What a session needs; tests put a fake here."""

    def send(self, verb: str, url: str, *, body: str | None, timeout: float) -> Reply: ...

    def access_token(self, *, min_seconds: float = 0) -> auth.AccessToken: ...


class RequestsTransport:
    """google-auth's AuthorizedSession: adds the token, renews it once on 401."""

    def __init__(self, settings: auth.AuthSettings) -> None:
        self._settings = settings
        self._credentials = auth.load(settings)
        from google.auth.transport.requests import AuthorizedSession

        self._http: Any = AuthorizedSession(self._credentials)
        self._http.headers["User-Agent"] = "llmd.gke"

    def send(self, verb: str, url: str, *, body: str | None, timeout: float) -> Reply:
        """Send one request. ``timeout`` in seconds, for each read. Raises ConnectionTrouble, GoogleApiError (token)."""
        import google.auth.exceptions
        import requests

        try:
            response = self._http.request(
                verb,
                url,
                data=body.encode() if body is not None else None,
                headers={"Content-Type": "application/json"} if body is not None else {},
                timeout=(CONNECT_SECONDS, timeout),
                max_allowed_time=CONNECT_SECONDS + timeout,
                allow_redirects=False,
            )
            return Reply(response.status_code, response.text, {k.lower(): v for k, v in response.headers.items()})
        except google.auth.exceptions.GoogleAuthError as error:
            raise self._token_trouble(error) from error
        except requests.exceptions.ConnectTimeout as error:
            raise ConnectionTrouble(str(error), sent=False) from error
        except (requests.exceptions.RequestException, OSError) as error:
            raise ConnectionTrouble(f"{type(error).__name__}: {error}") from error
        except NO_TOKEN as error:
            raise self._token_trouble(error) from error

    def access_token(self, *, min_seconds: float = 0) -> auth.AccessToken:
        """A token that is valid for ``min_seconds`` more where it can be renewed."""
        import google.auth.exceptions
        from google.auth.transport.requests import Request

        credentials = self._credentials
        now = datetime.datetime.now(datetime.UTC)
        left = auth.seconds_left(credentials.expiry, now)
        stale = not credentials.valid or (left is not None and left < min_seconds)
        if stale and self._settings.auth_kind != "accesstoken":
            try:
                credentials.refresh(Request())
            except (google.auth.exceptions.GoogleAuthError, *NO_TOKEN) as error:
                raise self._token_trouble(error) from error
        return auth.AccessToken(str(credentials.token), auth.rfc3339(credentials.expiry))

    def _token_trouble(self, error: Exception) -> Exception:
        """A network problem may be retried, a refusal may not."""
        import google.auth.exceptions

        lost = isinstance(error, google.auth.exceptions.TransportError)
        if lost or getattr(error, "retryable", False):
            return ConnectionTrouble(f"while getting a token: {error}", sent=False)
        return auth.refused(error, self._settings)
