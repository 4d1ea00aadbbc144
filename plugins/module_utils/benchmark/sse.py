# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-sent events, as the HTML standard defines the stream: CR, LF or CRLF, comments, data over several lines."""

from __future__ import annotations

EVENT_LIMIT = 4 * 1024 * 1024


class EventTooLong(Exception):
    """An event grew beyond EVENT_LIMIT without an end."""


class EventParser:
    """Bytes in, data fields of complete events out; a border between two reads may lie anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that ``chunk`` completes. Raises EventTooLong."""
        text = self._rest + chunk if self._rest else chunk
        if not self._started:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._rest = text
                return []
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        lines, self._rest = _lines(text)
        events = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0
        if len(self._rest) + self._size > EVENT_LIMIT:
            raise EventTooLong(f"an event of more than {EVENT_LIMIT} bytes")
        return events

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended."""
        return bool(self._rest or self._data)

    def finish(self) -> bytes:
        """What is left of an event that never ended (empty: none): a stream cut off in the middle of one."""
        return b"\n".join([*self._data, self._rest]) if self._data or self._rest.strip() else b""

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            value = line[5:]
            self._data.append(value[1:] if value.startswith(b" ") else value)
            self._size += len(value) + 1
        elif line == b"data":
            self._data.append(b"")
        # event, id, retry and comments carry nothing that we measure


def _lines(text: bytes) -> tuple[list[bytes], bytes]:
    """Complete lines and the rest. A CR at the very end may be half of a CRLF, so it waits."""
    if b"\r" not in text:
        lines = text.split(b"\n")
        return lines[:-1], lines[-1]
    held = b""
    if text.endswith(b"\r"):
        text, held = text[:-1], b"\r"
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return lines[:-1], lines[-1] + held
