"""The HTTP answer parser: any border between two reads, and answers that are none."""

from __future__ import annotations

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.http1 import AnswerParser, ProtocolError

CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A:  b \r\n\r\n"
    b"5;ext=1\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\n"
)
BODY = b"helloabcdefghijklmnopqrstuvwxyz"


def test_chunked_at_every_border() -> None:
    for border in range(len(CHUNKED) + 1):
        parser = AnswerParser()
        body = b"".join(parser.feed(CHUNKED[:border]))
        if border < len(CHUNKED):
            assert not parser.complete
            body += b"".join(parser.feed(CHUNKED[border:]))
        assert body == BODY, border
        assert parser.complete
        assert parser.keep_alive
        assert parser.headers["x-a"] == "b"


def test_chunked_byte_by_byte() -> None:
    parser = AnswerParser()
    assert b"".join(piece for byte in CHUNKED for piece in parser.feed(bytes([byte]))) == BODY


def test_content_length() -> None:
    parser = AnswerParser()
    assert parser.feed(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwa") == [b"wa"]
    assert not parser.complete
    assert parser.feed(b"it") == [b"it"]
    assert parser.complete
    assert parser.status == 503
    assert not parser.keep_alive


def test_a_body_without_length_ends_with_the_connection() -> None:
    parser = AnswerParser()
    assert parser.feed(b"HTTP/1.0 200 OK\r\n\r\nabc") == [b"abc"]
    assert not parser.complete
    assert parser.connection_closed()
    assert not parser.keep_alive


def test_a_close_before_the_end_is_no_end() -> None:
    parser = AnswerParser()
    parser.feed(CHUNKED[:-3])
    assert not parser.connection_closed()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
        b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        AnswerParser().feed(data)
