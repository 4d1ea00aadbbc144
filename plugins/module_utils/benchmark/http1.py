# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading HTTP/1.1 answers piece by piece: status line, header, and a chunked, counted or open-ended body."""

from __future__ import annotations

HEADER_LIMIT = 64 * 1024
HEX = b"0123456789abcdefABCDEF"


class ProtocolError(Exception):
    """The peer does not speak HTTP/1.1."""


class AnswerParser:
    """One answer. Feed bytes; read ``status``, ``headers`` (lower-case names), ``complete``, ``keep_alive``."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.keep_alive = True
        self.in_body = False
        self._buffer = b""
        self._remaining = 0
        self._chunked = False
        self._until_close = False
        self._state = "head"

    def feed(self, data: bytes) -> list[bytes]:
        """Body pieces that ``data`` brings. Raises ProtocolError."""
        if self.complete:
            raise ProtocolError("bytes after the end of the answer")
        if not self.in_body:
            data = self._head(self._buffer + data)
            if not self.in_body or self.complete:
                return []
        if self._chunked:
            return self._chunks(self._buffer + data if self._buffer else data)
        return self._plain(data)

    @property
    def between_chunks(self) -> bool:
        """Whether a chunk's size comes next, with nothing of it here yet."""
        return self._state == "size" and not self._buffer

    def connection_closed(self) -> bool:
        """Tell that the peer closed; True where that is the proper end of the answer."""
        if self.in_body and self._until_close:
            self.complete = True
        return self.complete

    def _head(self, data: bytes) -> bytes:
        """Take the header off; interim answers (1xx) are passed over."""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > HEADER_LIMIT:
                    raise ProtocolError("the header does not end")
                if len(data) >= 5 and not data.startswith(b"HTTP/"):
                    raise ProtocolError(f"not HTTP: {data[:40]!r}")
                self._buffer = data
                return b""
            self._parse_head(data[:end])
            data = data[end + 4 :]
            if self.status >= 200:
                break
        self._buffer = b""
        self.in_body = True
        self._body_shape()
        return data

    def _parse_head(self, head: bytes) -> None:
        first, *fields = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise ProtocolError(f"not an HTTP/1.1 status line: {first[:60]!r}")
        self.status = int(parts[1])
        self.headers = {}
        for field in fields:
            name, colon, value = field.partition(":")
            if not colon:
                raise ProtocolError(f"not a header field: {field[:60]!r}")
            self.headers[name.strip().lower()] = value.strip()
        tokens = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in tokens and (parts[0] != "HTTP/1.0" or "keep-alive" in tokens)

    def _body_shape(self) -> None:
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self.complete = True
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._chunked = True
            self._state = "size"
        elif length is not None:
            if not length.isdigit():
                raise ProtocolError(f"Content-Length {length[:40]!r}")
            self._remaining = int(length)
            self.complete = self._remaining == 0
        else:
            self._until_close = True
            self.keep_alive = False

    def _plain(self, data: bytes) -> list[bytes]:
        if self._until_close:
            return [data] if data else []
        if len(data) > self._remaining:
            raise ProtocolError("more bytes than Content-Length says")
        self._remaining -= len(data)
        self.complete = self._remaining == 0
        return [data] if data else []

    def _chunks(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and not self.complete:
            if self._state == "data":
                piece = data[position : position + self._remaining]
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if not self._remaining:
                    self._state = "data-end"
                continue
            end = data.find(b"\n", position)
            if end < 0:
                break
            self._chunk_line(data[position:end].rstrip(b"\r"))
            position = end + 1
        self._buffer = b"" if self.complete else data[position:]
        if self.complete and position < len(data):
            raise ProtocolError("bytes after the end of the answer")
        if len(self._buffer) > HEADER_LIMIT:
            raise ProtocolError("a chunk header does not end")
        return pieces

    def _chunk_line(self, line: bytes) -> None:
        """A line outside of chunk data: a size, the end of a chunk, or a trailer."""
        if self._state == "data-end":
            if line:
                raise ProtocolError("a chunk is longer than its size")
            self._state = "size"
        elif self._state == "size":
            size = line.split(b";")[0].strip()
            if not size or len(size) > 15 or size.strip(HEX):
                raise ProtocolError(f"not a chunk size: {line[:40]!r}")
            self._remaining = int(size, 16)
            self._state = "data" if self._remaining else "trailer"
        elif not line:
            self.complete = True
