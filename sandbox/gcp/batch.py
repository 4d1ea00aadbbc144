"""Google's batch requests: several HTTP requests in one multipart body, answered the same way."""

from __future__ import annotations

import email
import email.message
import email.parser
import http
import json
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.gcp.emulator import Answer


@dataclass(frozen=True)
class Part:
    """One request of a batch."""

    identifier: str
    verb: str
    target: str
    headers: email.message.Message
    body: bytes


def parse(content_type: str, raw: bytes) -> list[Part]:
    """The requests of a multipart/mixed body. ValueError where it is none."""
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
    payload = message.get_payload()
    if not isinstance(payload, list):
        raise ValueError("Failed to parse batch request, error: 0 items")
    parts = []
    for item in payload:
        if not isinstance(item, email.message.Message):
            continue
        inner = item.get_payload(decode=True)
        text = inner if isinstance(inner, bytes) else str(item.get_payload()).encode()
        head, _, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
        line, _, headers = head.partition(b"\n")
        verb, target, *_ = line.decode().split(" ")
        parsed = email.parser.HeaderParser().parsestr(headers.decode())
        parts.append(Part(item.get("Content-ID", "<x>"), verb, target, parsed, body.strip()))
    return parts


def answer(parts: list[Part], serve: Callable[[Part], Answer]) -> tuple[str, bytes]:
    """Content type and body of the answer to a batch."""
    boundary = "batch_" + uuid.uuid4().hex
    pieces = []
    for part in parts:
        result = serve(part)
        body = json.dumps(result.body)
        phrase = http.HTTPStatus(result.status).phrase
        pieces.append(
            f"--{boundary}\r\nContent-Type: application/http\r\n"
            f"Content-ID: <response-{part.identifier.lstrip('<')}\r\n\r\n"
            f"HTTP/1.1 {result.status} {phrase}\r\nContent-Type: application/json; charset=UTF-8\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}\r\n"
        )
    return f"multipart/mixed; boundary={boundary}", ("".join(pieces) + f"--{boundary}--\r\n").encode()


def query_of(target: str) -> tuple[str, dict[str, list[str]]]:
    """Path and query of a request target."""
    parts = urllib.parse.urlsplit(target)
    return parts.path, urllib.parse.parse_qs(parts.query, keep_blank_values=True)
