"""Which blocks came into a KV cache and left it: vLLM's event batches, one ZeroMQ message each.

A message has three parts: the topic (``kv@POD@MODEL``), a number that counts up, and the batch in MessagePack.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.images.kv_events import pack

STORED, REMOVED, CLEARED = "BlockStored", "BlockRemoved", "AllBlocksCleared"


@dataclass(frozen=True)
class Change:
    """Blocks (by hash) that were stored or removed; ``kind`` CLEARED: all of them were removed."""

    kind: str
    blocks: tuple[int, ...] = ()


def number(identity: bytes) -> int:
    """A block's identity as events carry it: 64 bits."""
    return int.from_bytes(identity[:8], "big")


def parts(topic: str, sequence: int, changes: Sequence[Change], block_size: int) -> list[bytes]:
    """A batch as the parts of a message."""
    listed: list[list[Any]] = []
    for change in changes:
        if change.kind == STORED:
            listed.append([STORED, list(change.blocks), None, [], block_size, None, "GPU"])
        elif change.kind == REMOVED:
            listed.append([REMOVED, list(change.blocks), "GPU"])
        else:
            listed.append([CLEARED])
    return [topic.encode(), struct.pack(">q", sequence), pack.pack([time.time(), listed, 0])]


def read(message: Sequence[bytes]) -> tuple[str, str, list[Change]]:
    """(pod, model, changes) of a message. Raises Malformed."""
    if len(message) != 3:
        raise pack.Malformed(f"a message of {len(message)} parts")
    kind, _, rest = message[0].decode("utf-8", "replace").partition("@")
    pod, _, model = rest.partition("@")
    batch = pack.unpack(message[2])
    if kind != "kv" or not pod or not isinstance(batch, list) or len(batch) < 2 or not isinstance(batch[1], list):
        raise pack.Malformed("no batch of KV events")
    return pod, model, [_change(event) for event in batch[1]]


def _change(event: Any) -> Change:
    if not isinstance(event, list) or not event or event[0] not in (STORED, REMOVED, CLEARED):
        raise pack.Malformed("no KV event")
    blocks = event[1] if len(event) > 1 else []
    if not isinstance(blocks, list) or not all(isinstance(block, int) for block in blocks):
        raise pack.Malformed("no list of block hashes")
    return Change(event[0], tuple(blocks))
