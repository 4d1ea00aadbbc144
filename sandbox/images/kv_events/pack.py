"""MessagePack for what the events are made of: nil, booleans, integers, floats, text, bytes and arrays."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any


class Malformed(Exception):
    """Bytes that are no MessagePack of these kinds."""


def pack(value: Any) -> bytes:
    """Encode. TypeError for a kind that is not supported."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return _head(len(data), 0xA0, 32, (b"\xd9", b"\xda", b"\xdb")) + data
    if isinstance(value, bytes):
        return _head(len(value), 0, 0, (b"\xc4", b"\xc5", b"\xc6")) + value
    if isinstance(value, Sequence):
        head = bytes([0x90 + len(value)]) if len(value) < 16 else b"\xdd" + struct.pack(">I", len(value))
        return head + b"".join(map(pack, value))
    raise TypeError(f"{type(value).__name__} cannot be packed")


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b", value)
    return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)


def _head(length: int, small: int, most: int, codes: tuple[bytes, bytes, bytes]) -> bytes:
    if length < most:
        return bytes([small + length])
    for code, form, limit in zip(codes, (">B", ">H", ">I"), (2**8, 2**16, 2**32), strict=True):
        if length < limit:
            return code + struct.pack(form, length)
    raise TypeError("too long to be packed")


def unpack(data: bytes) -> Any:
    """Decode one value. Raises Malformed."""
    try:
        value, end = _read(data, 0)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise Malformed("the message ends too early") from None
    if end != len(data):
        raise Malformed(f"{len(data) - end} bytes follow the value")
    return value


_FIXED = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_SIZED = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I"}


def _read(data: bytes, at: int) -> tuple[Any, int]:
    code = data[at]
    at += 1
    if code < 0x80 or code >= 0xE0:
        return (code if code < 0x80 else code - 256), at
    if code in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[code], at
    if code in _FIXED:
        size = struct.calcsize(_FIXED[code])
        return struct.unpack_from(_FIXED[code], data, at)[0], at + size
    if 0xA0 <= code < 0xC0:
        return _text(data, at, code - 0xA0)
    if 0x90 <= code < 0xA0:
        return _array(data, at, code - 0x90)
    if code not in _SIZED:
        raise Malformed(f"kind {code:#x} is not supported")
    form = _SIZED[code]
    length = struct.unpack_from(form, data, at)[0]
    at += struct.calcsize(form)
    if code >= 0xDC:
        return _array(data, at, length)
    if code >= 0xD9:
        return _text(data, at, length)
    if at + length > len(data):
        raise Malformed("the message ends too early")
    return data[at : at + length], at + length


def _text(data: bytes, at: int, length: int) -> tuple[str, int]:
    if at + length > len(data):
        raise Malformed("the message ends too early")
    return data[at : at + length].decode(), at + length


def _array(data: bytes, at: int, length: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(length):
        value, at = _read(data, at)
        found.append(value)
    return found, at
