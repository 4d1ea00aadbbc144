# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenAI answer while it arrives: from bytes with time stamps to the figures of one request."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.causes import (
    cause_of_status,
    error_text,
    retry_after,
)
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.http1 import AnswerParser, ProtocolError
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.sse import EventParser, EventTooLong

BODY_LIMIT = 64 * 1024
LEARN_AT_MOST = 8  # a server whose chunks never look alike is parsed as ever, without another try each time
SERVED_BY = "x-gateway-destination-endpoint-served"


def plain(text: bytes) -> bool:
    """Whether a JSON string that holds it is the text itself between two quotes."""
    return bool(text) and text.isascii() and b'"' not in text and b"\\" not in text and min(text) >= 0x20


class Answer:
    """Takes the bytes of one answer into its record. ``finished`` is True when nothing more is awaited."""

    def __init__(self, record: Record, keep_text: bool = False) -> None:
        self.record = record
        self.http = AnswerParser()
        self.finished = False
        self.touched = False
        self.text: list[str] = []
        self._keep_text = keep_text
        self._events = EventParser()
        self._body = b""
        self._streaming: bool | None = None
        self._done = False
        self._shape: tuple[bytes, bytes] | None = None
        self._token = ""
        self._learned = 0

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self.http.complete and self.http.keep_alive

    def take(self, now: float, data: bytes) -> None:
        """Bytes that arrived at ``now``."""
        if self.finished or (self._shape and self._same_shape(now, data, *self._shape)):
            return
        self.touched = True
        alone = self.http.between_chunks and not self._events.pending
        before = self.record.pieces
        try:
            pieces = self.http.feed(data)
            if self.http.status and not self.record.status:
                self._header()
            for piece in pieces:
                self._piece(now, piece)
                if self.finished:
                    return
        except (ProtocolError, EventTooLong) as error:
            self.fail(now, "protocol" if isinstance(error, ProtocolError) else "broken_stream", str(error))
            return
        if self.http.complete:
            self._end(now)
        elif (
            alone
            and self._learned < LEARN_AT_MOST
            and self.record.pieces == before + 1
            and self.http.between_chunks
            and not self._events.pending
        ):
            self._learn(data)

    def _learn(self, data: bytes) -> None:
        """Keep what surrounds the text of a chunk that was one token and nothing else: the next one will look alike."""
        text = self._token.encode()
        quoted = b'"' + text + b'"'
        start = data.find(b"\r\n") + 2
        if not plain(text) or data.count(quoted) != 1 or data.count(b"\r\n") != 2 or self.record.finish:
            return
        self._learned += 1
        place = data.find(quoted) + 1
        self._shape = (data[start:place], data[place + len(text) :])

    def _same_shape(self, now: float, data: bytes, before: bytes, after: bytes) -> bool:
        """Take a chunk that differs from an earlier one in its plain text only, without parsing it: at thousands of
        tokens a second parsing is what the client's own error is made of. False: it has to be parsed."""
        start = data.find(b"\r\n", 0, 10) + 2
        if not data.startswith(before, start) or not data.endswith(after):
            return False
        size, text = data[: start - 2], data[start + len(before) : len(data) - len(after)]
        # the right size makes it one chunk; plain text ends where the closing quote is
        if not size.isalnum() or int(size, 16) != len(data) - start - 2 or not plain(text):
            return False
        if not self.http.between_chunks or self._events.pending:
            return False
        record = self.record
        record.last = now
        record.pieces += 1
        if self._keep_text:
            self.text.append(text.decode("utf-8", "replace"))
        return True

    def closed(self, now: float, detail: str) -> None:
        """The peer closed the connection."""
        if self.finished:
            return
        if self.http.connection_closed():
            self._end(now)
        else:
            self.fail(now, "disconnected" if self.record.status else "no_answer", detail)

    def fail(self, now: float, cause: str, detail: str) -> None:
        """End as a failure; the first cause stays."""
        if not self.finished:
            self.record.cause, self.record.detail, self.record.end = cause, detail[:300], now
            self.finished = True

    def _header(self) -> None:
        self.record.status = self.http.status
        self.record.served_by = self.http.headers.get(SERVED_BY, "")
        self.record.retry_after = retry_after(self.http.headers)
        if self.http.status != 200:
            self._streaming = False
        elif "event-stream" in self.http.headers.get("content-type", ""):
            self._streaming = True

    def _piece(self, now: float, piece: bytes) -> None:
        if self._streaming is None:
            # no content type that says so: a document begins with a bracket, a stream with a field name
            self._streaming = piece.lstrip()[:1] not in (b"{", b"[", b"<")
        if not self._streaming:
            self._body = (self._body + piece)[:BODY_LIMIT]
            return
        for event in self._events.feed(piece):
            self._event(now, event)
            if self.finished:
                return

    def _event(self, now: float, event: bytes) -> None:
        if event == b"[DONE]":
            self._done = True
            return
        try:
            document = json.loads(event)
        except ValueError:
            self.fail(now, "broken_stream", f"not JSON: {event[:120]!r}")
            return
        if not isinstance(document, dict):
            self.fail(now, "broken_stream", f"not an object: {event[:120]!r}")
            return
        choices = document.get("choices")
        usage = document.get("usage")
        if isinstance(usage, dict):
            self._usage(usage)
        if isinstance(choices, list) and choices:
            self._choice(now, choices[0])
        elif not choices and (text := error_text(document)):
            self.fail(now, "error_event", text)

    def _choice(self, now: float, choice: Any) -> None:
        if not isinstance(choice, dict):
            self.fail(now, "broken_stream", f"a choice that is no object: {str(choice)[:120]}")
            return
        text = choice.get("text")
        if text is None:
            delta = choice.get("delta")
            if isinstance(delta, dict):
                text = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
        if text:
            record = self.record
            if record.first is None:
                record.first = now
            record.last = now
            record.pieces += 1
            self._token = str(text)
            if self._keep_text:
                self.text.append(self._token)
        if choice.get("finish_reason"):
            self.record.finish = str(choice["finish_reason"])

    def _usage(self, usage: dict[str, Any]) -> None:
        prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(prompt, int):
            self.record.prompt_tokens = prompt
        if isinstance(output, int):
            self.record.output_tokens = output

    def _end(self, now: float) -> None:
        """The HTTP answer is complete: was it what was asked for?"""
        record = self.record
        if record.status != 200:
            cause, detail = cause_of_status(record.status, self.http.headers, self._body)
            self.fail(now, cause, detail)
        elif not self._streaming:
            self._whole_body(now)
        elif rest := self._events.finish():
            self.fail(now, "truncated", f"the last event never ended: {rest[:80]!r}")
        elif not self._done and not record.finish:
            self.fail(now, "truncated", "neither a finish reason nor [DONE]")
        elif not record.pieces:
            self.fail(now, "no_tokens", f"finish reason {record.finish or 'none'}")
        if not record.output_tokens and record.pieces:
            record.output_tokens, record.counted = record.pieces, True
        if not self.finished:
            record.end = now
            self.finished = True

    def _whole_body(self, now: float) -> None:
        try:
            document = json.loads(self._body)
        except ValueError:
            self.fail(now, "broken_stream", f"neither a stream nor JSON: {self._body[:120]!r}")
            return
        if text := error_text(document):
            self.fail(now, "error_body", text)
        else:
            self.fail(now, "not_streamed", "a whole document came; the time to first token cannot be known")
