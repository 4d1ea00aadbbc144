"""One JSON line a request, without secrets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.gcp.emulator import Answer

Json = dict[str, Any]

_SECRET_QUERY = ("access_token", "key", "oauth_token")
_SECRET_FIELDS = {"assertion", "privateKey", "private_key", "privateKeyData", "accessToken", "access_token", "token",
                  "password", "refresh_token", "subjectToken", "subject_token", "clientKey"}  # fmt: skip
_LIMIT = 20_000  # characters of a body that are kept


class RequestLog:
    """Appends to a JSONL file; with ``path`` None it keeps nothing. Thread-safe."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        host: str,
        verb: str,
        path: str,
        query: Mapping[str, list[str]],
        headers: Mapping[str, str],
        raw: bytes,
        answer: Answer,
        seconds: float,
    ) -> None:
        """Log one request. The answer's body is kept only for errors."""
        if self._path is None:
            return
        line: Json = {
            "time": round(time.time(), 3),
            "method": answer.method,
            "http": verb,
            "host": host,
            "path": path,
            "query": {name: ["<hidden>"] if name in _SECRET_QUERY else list(values) for name, values in query.items()},
            "agent": headers.get("User-Agent", ""),
            "status": answer.status,
            "ms": round(seconds * 1000, 1),
        }
        if raw and not answer.method.startswith("oauth"):
            line["body"] = _clean(raw)
        if answer.status >= 400:
            line["answer"] = hide(answer.body)
        text = json.dumps(line) + "\n"
        with self._lock, self._path.open("a", encoding="utf-8") as output:
            output.write(text)


def _clean(raw: bytes) -> Any:
    try:
        return hide(json.loads(raw[:_LIMIT]))
    except ValueError:
        return f"<{len(raw)} bytes>"


def hide(value: Any) -> Any:
    """``value`` with every secret field's content replaced."""
    if isinstance(value, dict):
        return {key: "<hidden>" if key in _SECRET_FIELDS else hide(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hide(item) for item in value]
    return value
