# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a request failed: one word for each cause, and the rules that find it."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

CAUSES: dict[str, str] = {
    "dns": "the name of the endpoint does not resolve",
    "refused": "nothing listens on the port",
    "unreachable": "no route, or the network reset the connection while connecting",
    "connect_timeout": "no connection in time",
    "tls": "TLS handshake or certificate",
    "no_answer": "the connection ended before the answer began",
    "disconnected": "the connection ended in the middle of the answer",
    "truncated": "the answer ended properly, but without a finish reason or [DONE]",
    "first_token_timeout": "no token in time",
    "stalled": "tokens stopped coming",
    "timeout": "the whole answer took too long",
    "protocol": "the answer is not valid HTTP/1.1",
    "broken_stream": "the stream holds something that is not an OpenAI event",
    "not_streamed": "HTTP 200, but the whole answer at once in spite of stream: true",
    "error_body": "HTTP 200 with an error as the body",
    "error_event": "an error inside the stream, after HTTP 200",
    "no_tokens": "a complete answer without any generated text",
    "redirect": "HTTP 3xx; not followed, load goes only where it was told to",
    "prompt_too_long": "prompt and answer do not fit into the model's context",
    "unauthorised": "HTTP 401 or 403",
    "not_found": "HTTP 404: wrong path or unknown model",
    "bad_request": "another HTTP 4xx",
    "rate_limited": "HTTP 429",
    "unavailable": "HTTP 502, 503 or 504",
    "server_error": "another HTTP 5xx",
    "unrecognised": "an error that another engine tells in words of its own",
    "client": "an error of the benchmark itself",
}
TOO_LONG = ("maximum context length", "context length", "max_model_len", "too long", "longer than the maximum")


def cause_of_connect(error: BaseException) -> tuple[str, str]:
    """Cause and detail of a failure to connect."""
    detail = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, TimeoutError):
        return "connect_timeout", detail
    if isinstance(error, ssl.SSLError):
        return "tls", detail
    if isinstance(error, socket.gaierror):
        return "dns", detail
    if isinstance(error, ConnectionRefusedError):
        return "refused", detail
    # several addresses tried in vain come as one OSError of many
    if isinstance(error, OSError) and "refused" in str(error).lower():
        return "refused", detail
    return ("unreachable" if isinstance(error, OSError) else "client"), detail


def error_text(document: Any) -> str:
    """The message of an OpenAI-shaped error document, empty if it is none."""
    if not isinstance(document, Mapping):
        return ""
    error = document.get("error")
    if isinstance(error, Mapping):
        return str(error.get("message") or error.get("type") or json.dumps(error))[:300]
    if error:
        return str(error)[:300]
    if document.get("object") == "error":
        return str(document.get("message") or "error")[:300]
    return ""


def cause_of_status(status: int, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Cause and detail of an answer other than HTTP 200."""
    try:
        text = error_text(json.loads(body))
    except ValueError:
        text = ""
    detail = f"HTTP {status}: {text or body[:200].decode('utf-8', 'replace')}".strip()
    if 300 <= status < 400:
        return "redirect", f"HTTP {status} to {headers.get('location', 'nowhere')}"
    if status in (400, 413, 422) and any(phrase in detail.lower() for phrase in TOO_LONG):
        return "prompt_too_long", detail
    exact = {401: "unauthorised", 403: "unauthorised", 404: "not_found", 429: "rate_limited"}
    if status in exact:
        return exact[status], detail
    if status in (502, 503, 504):
        return "unavailable", detail
    return ("server_error" if status >= 500 else "bad_request"), detail


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After field; a date counts from the answer's own Date. None where nothing of use is there."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, wait.total_seconds())
    except (TypeError, ValueError):
        return None
