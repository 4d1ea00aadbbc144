"""From bytes to the figures of a request, and to the cause of its failure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.answers import Answer
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.causes import CAUSES, cause_of_connect
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(content: Any) -> bytes:
    return chunk(b"data: " + (content if isinstance(content, bytes) else json.dumps(content).encode()) + b"\n\n")


def token(text: str = "word ", finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish}], "usage": None})


def usage(prompt: int, output: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}})


DONE = event(b"[DONE]")


def read(record: Callable[..., Record], *arrivals: tuple[float, bytes], closes: float | None = None) -> Record:
    found = record(sent=10.0, first=None, last=None, end=0.0, output_tokens=0, pieces=0, status=0, prompt_tokens=None)
    answer = Answer(found)
    for when, data in arrivals:
        answer.take(when, data)
    if closes is not None:
        answer.closed(closes, "closed by the peer")
    assert answer.finished
    return found


def test_the_definitions(record: Callable[..., Record]) -> None:
    found = read(
        record,
        (10.25, HEAD + token("")),  # an empty piece is no token
        (10.5, token("a")),
        (10.6, token("b")),
        (10.9, token("c") + token("", "stop")),
        (11.0, usage(7, 5) + DONE + END),
    )
    assert found.ok
    assert found.ttft == pytest.approx(0.5)
    assert found.e2e == pytest.approx(0.9)
    assert found.itl == pytest.approx(0.4 / 4)  # five tokens by usage, in three pieces
    assert (found.prompt_tokens, found.output_tokens, found.pieces, found.finish) == (7, 5, 3, "stop")


def test_chat_and_reasoning(record: Callable[..., Record]) -> None:
    role = event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    thought = event({"choices": [{"delta": {"reasoning_content": "hm"}}]})
    word = event({"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]})
    found = read(record, (10.1, HEAD + role), (10.2, thought), (10.3, word + usage(1, 2) + DONE + END))
    assert found.ok
    assert (found.first, found.last) == (10.2, 10.3)


def test_without_usage_the_pieces_are_counted(record: Callable[..., Record]) -> None:
    found = read(record, (10.5, HEAD + token()), (10.6, token(finish="length") + DONE + END))
    assert found.ok
    assert found.counted
    assert found.output_tokens == 2


def whole(status: int, body: bytes, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


LONG = json.dumps({"error": {"message": "This model's maximum context length is 2048 tokens."}}).encode()


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (whole(500, b"boom"), "server_error"),
        (whole(502, b""), "unavailable"),
        (whole(503, b"no healthy upstream"), "unavailable"),
        (whole(429, b"{}", b"Retry-After: 3\r\n"), "rate_limited"),
        (whole(401, b"{}"), "unauthorised"),
        (whole(404, b"{}"), "not_found"),
        (whole(400, b"{}"), "bad_request"),
        (whole(400, LONG), "prompt_too_long"),
        (whole(307, b"", b"Location: http://elsewhere/\r\n"), "redirect"),
        (whole(200, b'{"error": {"message": "out of memory"}}'), "error_body"),
        (whole(200, b'{"object": "error", "message": "old vllm"}'), "error_body"),
        (whole(200, b'{"choices": [{"text": "x"}]}'), "not_streamed"),
        (whole(200, b"<html>proxy</html>"), "broken_stream"),
        (HEAD + token() + event({"error": {"message": "died"}}) + END, "error_event"),
        (HEAD + token() + event(b"{unfinished") + END, "broken_stream"),
        (HEAD + event(b"[1]") + END, "broken_stream"),
        (HEAD + event({"choices": ["x"]}) + END, "broken_stream"),
        (HEAD + event({"choices": []}) + DONE + END, "no_tokens"),
        (HEAD + token() + END, "truncated"),
        (HEAD + token() + chunk(b"data: half") + END, "truncated"),
        (HEAD + token() + b"zz\r\n", "protocol"),
        (b"SSH-2.0-x\r\n\r\n", "protocol"),
    ],
)
def test_causes(record: Callable[..., Record], data: bytes, cause: str) -> None:
    found = read(record, (10.5, data))
    assert found.cause == cause
    assert cause in CAUSES
    assert found.end == 10.5


def test_connections_that_end(record: Callable[..., Record]) -> None:
    assert read(record, closes=10.1).cause == "no_answer"
    assert read(record, (10.5, HEAD + token()), closes=10.6).cause == "disconnected"
    until_close = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: "
    piece = json.dumps({"choices": [{"text": "x", "finish_reason": "stop"}]}).encode()
    assert read(record, (10.5, until_close + piece + b"\n\ndata: [DONE]\n\n"), closes=10.6).ok


def test_retry_after_is_kept(record: Callable[..., Record]) -> None:
    assert read(record, (10.5, whole(429, b"{}", b"Retry-After: 3\r\n"))).retry_after == 3.0
    assert read(record, (10.5, whole(429, b"{}", b"Retry-After: Fri\r\n"))).retry_after is None


def test_failures_to_connect_have_causes() -> None:
    import socket
    import ssl

    for error, cause in [
        (ConnectionRefusedError(), "refused"),
        (socket.gaierror(), "dns"),
        (ssl.SSLCertVerificationError(), "tls"),
        (TimeoutError(), "connect_timeout"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, refused"), "refused"),
        (OSError(113, "No route to host"), "unreachable"),
    ]:
        assert cause_of_connect(error)[0] == cause


ODD = ['say "x"', "a\\\\b", "new\\nline", "żółw", "word ", "a", "[DONE]", "0\\r\\n", "", "text", "choices"]


def stream(source: random.Random, *, changing: bool) -> tuple[list[bytes], str]:
    """A random answer as chunks, and its text."""
    chunks, text = [], ""
    for number in range(source.randint(2, 30)):
        word = source.choice(ODD) if source.random() < 0.3 else f"w{number}"
        text += word
        choice = {"index": 0, "text": word, "finish_reason": None}
        extra = {"created": number} if changing else {"usage": None}
        chunks.append(event({"id": "x", "choices": [choice], **extra}))
        if source.random() < 0.1:
            chunks.append(chunk(b": a comment\n\n"))
    return [*chunks, token("end", "length"), usage(3, len(chunks)), DONE + END], text + "end"


@pytest.mark.parametrize("seed", range(60))
def test_the_short_way_takes_the_same_as_the_long_one(
    record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    source = random.Random(seed)
    chunks, text = stream(source, changing=seed % 5 == 0)
    whole_answer = HEAD + b"".join(chunks)
    if seed % 3:  # as they come, sometimes two at once, sometimes cut anywhere
        arrivals, at = [HEAD], 0
        while at < len(chunks):
            take = 2 if source.random() < 0.2 else 1
            arrivals.append(b"".join(chunks[at : at + take]))
            at += take
        if seed % 3 == 2:
            cuts = sorted(source.sample(range(1, len(whole_answer)), 20))
            arrivals = [whole_answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole_answer)], strict=True)]
    else:
        arrivals = [whole_answer]
    found = []
    for short in (True, False):
        if not short:
            monkeypatch.setattr(Answer, "_same_shape", lambda self, now, data, *shape: False)
        mine = record(sent=0.0, first=None, last=None, end=0.0, output_tokens=0, pieces=0, status=0, prompt_tokens=None)
        answer = Answer(mine, keep_text=True)
        for when, data in enumerate(arrivals):
            answer.take(float(when), data)
        assert "".join(answer.text) == text
        found.append(mine)
    assert found[0] == found[1]


def test_most_chunks_go_the_short_way_and_a_wrong_size_does_not(
    record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    inner = Answer._event
    monkeypatch.setattr(Answer, "_event", lambda self, now, data: (parsed.append(data), inner(self, now, data))[1])
    answer = Answer(record(sent=0.0, first=None, last=None, pieces=0, output_tokens=0, status=0))
    for number, data in enumerate([HEAD, *(token(f"w{n}") for n in range(50))]):
        answer.take(float(number), data)
    assert (answer.record.pieces, answer.record.last, len(parsed)) == (50, 50.0, 1)
    size, _unused, rest = token("again").partition(b"\r\n")
    answer.take(60.0, b"%x\r\n%s" % (int(size, 16) - 9, rest))
    assert (answer.record.last, answer.record.cause) == (50.0, "protocol")
