"""ZeroMQ's wire protocol (ZMTP 3.0, mechanism NULL) as far as PUB and SUB sockets need it, on asyncio streams."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

_GREETING = b"\xff" + b"\x00" * 8 + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\x00") + b"\x00" + b"\x00" * 31
_MORE, _LONG, _COMMAND = 1, 2, 4
_MOST = 64 * 2**20


class ProtocolError(Exception):
    """The other side does not speak this protocol, or is no socket of the kind that is expected."""


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame: flags, size, body."""
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | _LONG]) + struct.pack(">Q", len(body)) + body


def message(parts: Sequence[bytes]) -> bytes:
    """A message of several parts."""
    return b"".join(frame(part, 0 if last else _MORE) for part, last in _marked(parts))


def _marked(parts: Sequence[bytes]) -> list[tuple[bytes, bool]]:
    return [(part, position == len(parts) - 1) for position, part in enumerate(parts)]


def ready(kind: str) -> bytes:
    """The command that ends the handshake; ``kind``: PUB or SUB."""
    name, value = b"Socket-Type", kind.encode()
    return frame(b"\x05READY" + bytes([len(name)]) + name + struct.pack(">I", len(value)) + value, _COMMAND)


def subscribe(topic: bytes) -> bytes:
    """A SUB socket's wish for all messages whose first part begins with ``topic``."""
    return frame(b"\x01" + topic)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Flags and body of the next frame. Raises IncompleteReadError at the end, ProtocolError."""
    (flags,) = await reader.readexactly(1)
    size = struct.unpack(">Q", await reader.readexactly(8))[0] if flags & _LONG else (await reader.readexactly(1))[0]
    if size > _MOST:
        raise ProtocolError(f"a frame of {size} bytes")
    return flags, await reader.readexactly(size)


async def read_message(reader: asyncio.StreamReader) -> list[bytes]:
    """The parts of the next message; commands in between are passed over."""
    parts: list[bytes] = []
    while True:
        flags, body = await read_frame(reader)
        if flags & _COMMAND:
            continue
        parts.append(body)
        if not flags & _MORE:
            return parts


async def handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str, other: str) -> None:
    """Greet, and be greeted by a socket of kind ``other``. Raises ProtocolError."""
    writer.write(_GREETING)
    await writer.drain()
    theirs = await reader.readexactly(64)
    if theirs[0] != 0xFF or theirs[9] != 0x7F or theirs[10] < 3:
        raise ProtocolError("no ZMTP 3 greeting")
    if theirs[12:32].rstrip(b"\x00") != b"NULL":
        raise ProtocolError("another security mechanism than NULL")
    writer.write(ready(kind))
    await writer.drain()
    flags, body = await read_frame(reader)
    if not flags & _COMMAND or not body.startswith(b"\x05READY"):
        raise ProtocolError("no READY command")
    if b"Socket-Type" + struct.pack(">I", len(other)) + other.encode() not in body:
        raise ProtocolError(f"not a {other} socket")
