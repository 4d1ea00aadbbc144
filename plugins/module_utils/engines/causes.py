# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines tell failures in words of their own; this finds the cause behind them, where the words say it."""

from __future__ import annotations

import re

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.causes import TOO_LONG, cause_of_status

STATUS = re.compile(r"(?:status(?:[ _]code)?[ =:]*|HTTP[ /:=]*|error ')([1-5]\d\d)\b", re.IGNORECASE)
REASONS = {
    "too many requests": 429,
    "service unavailable": 503,
    "bad gateway": 502,
    "gateway time": 504,
    "internal server error": 500,
    "unauthorized": 401,
    "forbidden": 403,
    "not found": 404,
    "bad request": 400,
}
PHRASES = (
    ("refused", "refused"),
    ("name or service not known", "dns"),
    ("name resolution", "dns"),
    ("certificate", "tls"),
    ("ssl", "tls"),
    ("timeout", "timeout"),
    ("timed out", "timeout"),
    ("payload is not completed", "disconnected"),
    ("incomplete chunked read", "disconnected"),
    ("peer closed connection", "disconnected"),
    ("disconnected", "no_answer"),
    ("reset by peer", "disconnected"),
    ("never received a valid chunk", "no_tokens"),
    ("jsondecodeerror", "broken_stream"),
    ("expecting value", "broken_stream"),
)


def cause_of_text(text: str) -> tuple[str, str]:
    """Cause and detail (its last line that says something) of a failure in an engine's words."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    detail = (lines[-1] if lines else "the engine says nothing")[:300]
    low = text.lower()
    if any(phrase in low for phrase in TOO_LONG):
        return "prompt_too_long", detail
    number = STATUS.search(text)
    status = int(number[1]) if number else next((code for words, code in REASONS.items() if words in low), 0)
    if status >= 300:
        return cause_of_status(status, {}, b"")[0], detail
    return next((cause for phrase, cause in PHRASES if phrase in low), "unrecognised"), detail
