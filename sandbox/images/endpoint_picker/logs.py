"""Log lines as zap's JSON encoder writes them: one object a line on stderr."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


class Logger:
    """A named logger. ``verbosity`` is process-wide: a line of level n is written where ``--v`` is at least n."""

    verbosity = 1

    def __init__(self, name: str = "") -> None:
        self._name = name

    def info(self, message: str, *, level: int = 0, **fields: Any) -> None:
        """An informational line; ``fields`` follow the message with underscores written as hyphens."""
        if level <= Logger.verbosity:
            self._write("info", message, fields)

    def error(self, message: str, error: object, **fields: Any) -> None:
        """An error line with the cause under ``error``, as logr has it."""
        self._write("error", message, {**fields, "error": str(error)})

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        frame = sys._getframe(2)
        path = Path(frame.f_code.co_filename)
        line: dict[str, Any] = {"level": level, "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        if self._name:
            line["logger"] = self._name
        line["caller"] = f"{path.parent.name}/{path.name}:{frame.f_lineno}"
        line["msg"] = message
        line.update({key.replace("_", "-"): value for key, value in fields.items()})
        print(json.dumps(line, separators=(",", ":"), default=str), file=sys.stderr, flush=True)
