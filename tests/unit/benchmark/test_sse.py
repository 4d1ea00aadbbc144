"""The event stream parser: any border between two reads, any line end."""

from __future__ import annotations

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import sse
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.sse import EventParser, EventTooLong

STREAM = (
    'data: {"a": "ü"}\n\n: comment\n\nevent: x\ndata:no space\n\n'
    "data: one\ndata:  two\nid: 7\n\ndata\n\ndata: [DONE]\n\n"
).encode()
EVENTS = ['{"a": "ü"}'.encode(), b"no space", b"one\n two", b"", b"[DONE]"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_every_single_border(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    for border in range(len(stream) + 1):
        parser = EventParser()
        events = parser.feed(stream[:border]) + parser.feed(stream[border:])
        if line_end == b"\r":
            events += parser.feed(b"\n")  # a lone CR at the end could be half of a CRLF
        assert events == EVENTS, border
        assert parser.finish() == b""


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_byte_by_byte(line_end: bytes) -> None:
    parser = EventParser()
    events = [event for byte in STREAM.replace(b"\n", line_end) for event in parser.feed(bytes([byte]))]
    assert events == EVENTS


def test_a_byte_order_mark_is_passed_over_even_in_pieces() -> None:
    parser = EventParser()
    assert [event for byte in b"\xef\xbb\xbfdata: x\n\n" for event in parser.feed(bytes([byte]))] == [b"x"]


def test_what_never_ended_is_told() -> None:
    parser = EventParser()
    assert parser.feed(b"data: whole\n\ndata: ha") == [b"whole"]
    assert parser.finish() == b"data: ha"


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_LIMIT", 100)
    with pytest.raises(EventTooLong):
        EventParser().feed(b"data: more\n" * 100)
    with pytest.raises(EventTooLong):
        EventParser().feed(b"data: " + b"x" * 200)
