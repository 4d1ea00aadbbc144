# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes out of evidence what nobody else may see. Pure; applied to everything that leaves a diagnosis."""

from __future__ import annotations

import re
from typing import Any

REMOVED = "<removed>"
_SECRET_KEY = re.compile(
    r"token$|password|passwd|secret$|api_?key|private_?key|authorization|credential|clientkey", re.IGNORECASE
)
# annotations and fields that are long or repeat what stands elsewhere
_DROPPED = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration", "masterAuth"})
_PATTERNS = (
    re.compile(r"\bhf_[A-Za-z0-9]{7,}\b"),
    re.compile(r"\bya29\.[\w.-]+"),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(?<=token=)[^\s&\"']{6,}"),
)


def redact_text(text: str) -> str:
    """A text without tokens and keys."""
    for pattern in _PATTERNS:
        text = pattern.sub(REMOVED, text)
    return text


def redact(value: Any) -> Any:
    """JSON-like data without secrets: by the shape of values, and by the names of keys and of environment variables."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        named = str(value.get("name") or "")
        if "value" in value and named and _SECRET_KEY.search(named):  # an environment variable of a container
            value = {**value, "value": REMOVED}
        return {
            str(key): REMOVED if isinstance(item, str) and item and _SECRET_KEY.search(str(key)) else redact(item)
            for key, item in value.items()
            if key not in _DROPPED
        }
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    return value
