"""KV events: MessagePack, ZeroMQ's frames and the batches, byte for byte where the specifications say it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sandbox.images.kv_events import events, pack, zmtp


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"\xc0"),
        (True, b"\xc3"),
        (7, b"\x07"),
        (-1, b"\xff"),
        (2**63 + 1, b"\xcf\x80\x00\x00\x00\x00\x00\x00\x01"),
        (-(2**40), b"\xd3\xff\xff\xff\x00\x00\x00\x00\x00"),
        (1.5, b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        ("GPU", b"\xa3GPU"),
        (b"ab", b"\xc4\x02ab"),
        ([1, [2]], b"\x92\x01\x91\x02"),
    ],
)
def test_message_pack(value: Any, data: bytes) -> None:
    assert pack.pack(value) == data
    assert pack.unpack(data) == value


@pytest.mark.parametrize(
    "value", ["x" * 31, "x" * 40, "x" * 300, "x" * 70_000, b"y" * 300, list(range(200)), [[]] * 20]
)
def test_message_pack_of_any_length(value: Any) -> None:
    assert pack.unpack(pack.pack(value)) == value


@pytest.mark.parametrize("data", [b"", b"\x92\x01", b"\xa3GP", b"\xc4\x05ab", b"\x81\x01\x01", b"\x01\x01"])
def test_malformed(data: bytes) -> None:
    with pytest.raises(pack.Malformed):
        pack.unpack(data)


def test_frames() -> None:
    assert zmtp.frame(b"ab") == b"\x00\x02ab"
    assert zmtp.frame(b"x" * 300)[:9] == b"\x02\x00\x00\x00\x00\x00\x00\x01\x2c"
    assert zmtp.message([b"a", b"b"]) == b"\x01\x01a\x00\x01b"
    assert zmtp.ready("SUB") == b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"


async def _talk(first: str, second: str) -> tuple[Any, Any]:
    """A handshake between two sockets over a real connection; what each side ended with."""
    heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await zmtp.handshake(reader, writer, second, "PUB")
            heard.set_result(await zmtp.read_message(reader))
        except (zmtp.ProtocolError, asyncio.IncompleteReadError) as error:
            heard.set_result(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            await zmtp.handshake(reader, writer, first, "SUB")
            parts = events.parts("kv@10.0.0.1@m", 3, [events.Change(events.STORED, (1, 2**64 - 1))], 64)
            writer.write(zmtp.message(parts))
            await writer.drain()
            mine: Any = None
        except (zmtp.ProtocolError, asyncio.IncompleteReadError) as error:
            mine = error
        answer = await heard
        writer.close()
    return mine, answer


def test_a_batch_over_the_wire() -> None:
    mine, message = asyncio.run(_talk("PUB", "SUB"))
    assert mine is None
    assert events.read(message) == ("10.0.0.1", "m", [events.Change("BlockStored", (1, 2**64 - 1))])


def test_another_kind_of_socket_is_refused() -> None:
    _mine, error = asyncio.run(_talk("REQ", "SUB"))
    assert isinstance(error, zmtp.ProtocolError)


@pytest.mark.parametrize(
    "message",
    [
        [b"kv@p@m", b"n"],
        [b"other@p@m", b"n", pack.pack([1.0, [], 0])],
        [b"kv@p@m", b"n", pack.pack([1.0])],
        [b"kv@p@m", b"n", pack.pack([1.0, [["Nothing"]], 0])],
        [b"kv@p@m", b"n", pack.pack([1.0, [["BlockStored", ["x"]]], 0])],
    ],
)
def test_no_batch(message: list[bytes]) -> None:
    with pytest.raises(pack.Malformed):
        events.read(message)
