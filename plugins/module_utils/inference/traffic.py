# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep asking an endpoint while it is changed: what was refused, what was accepted and lost, how long nothing answered.

Accepted is a request whose answer began with status 200. It is lost where the answer then ends early.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Outgoing
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record

Json = dict[str, Any]
SHOWN = 20


class Sender(Protocol):
    """The part of the benchmark's client that is used."""

    async def send(self, request: Outgoing, record: Record) -> str: ...


@dataclass(frozen=True)
class Plan:
    """How to ask: ``streams`` at a time, ``tokens`` each, ``pause`` seconds between them; ``limit`` seconds in all."""

    model: str
    streams: int = 2
    tokens: int = 200
    pause: float = 0.2
    limit: float = 3600.0


@dataclass
class Watch:
    """Every request, in the order of sending."""

    records: list[Record] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0


def body_of(plan: Plan, number: int) -> bytes:
    """A streaming completion of exactly so many tokens; every prompt is another, so that no cache answers it."""
    document = {
        "model": plan.model,
        "prompt": f"Question {number}: what does a gateway do while a server is replaced?",
        "max_tokens": plan.tokens,
        "min_tokens": plan.tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(document).encode()


async def keep_asking(
    sender: Sender,
    plan: Plan,
    stopped: Callable[[], bool],
    *,
    target: str = "",
    now: Callable[[], float] | None = None,
    tell: Callable[[Watch], None] = lambda watch: None,
) -> Watch:
    """Ask until ``stopped`` says so or the limit is over; what is under way then is finished. ``tell``: after each."""
    clock = now or asyncio.get_running_loop().time
    watch = Watch(started=clock())

    def over() -> bool:
        return stopped() or clock() - watch.started >= plan.limit

    async def ask() -> None:
        while not over():
            number = len(watch.records)
            record = Record(
                index=number,
                target=target,
                level=plan.streams,
                phase="measured",
                intended=clock(),
                request_id=f"watch-{number}",
            )
            watch.records.append(record)
            record.sent = clock()
            await sender.send(Outgoing("/v1/completions", body_of(plan, number)), record)
            tell(watch)
            # A refusal comes at once: asking on at that pace would be an attack, not a watch.
            await asyncio.sleep(plan.pause)

    await asyncio.gather(*(ask() for _unused in range(plan.streams)))
    watch.ended = clock()
    return watch


def accepted(record: Record) -> bool:
    return record.status == 200


def outages(records: Sequence[Record], ended: float) -> list[tuple[float, float, int]]:
    """(begin, end, requests refused) of each time in which requests were refused and none was accepted."""
    found: list[tuple[float, float, int]] = []
    begun: float | None = None
    refused = 0
    for record in sorted(records, key=lambda entry: entry.sent):
        if not accepted(record):
            begun = record.sent if begun is None else begun
            refused += 1
        elif begun is not None:
            found.append((begun, record.sent, refused))
            begun, refused = None, 0
    if begun is not None:
        found.append((begun, ended, refused))
    return found


def summary(watch: Watch, wall: Callable[[], float] = time.time) -> Json:
    """The figures. ``downtime_seconds`` is all outages together."""
    records = watch.records
    lost = [record for record in records if accepted(record) and record.cause]
    refused = [record for record in records if not accepted(record)]
    breaks = outages(records, watch.ended)
    return {
        "seconds": round(watch.ended - watch.started, 2),
        "sent": len(records),
        "answered": sum(record.ok for record in records),
        "refused": len(refused),
        "lost": len(lost),
        "causes": dict(Counter(record.cause or f"HTTP {record.status}" for record in (*refused, *lost))),
        "downtime_seconds": round(sum(end - begin for begin, end, _unused in breaks), 2),
        "outages": [
            {"at": round(begin - watch.started, 2), "seconds": round(end - begin, 2), "refused": count}
            for begin, end, count in breaks[:SHOWN]
        ],
        "lost_requests": [
            {
                "at": round(record.sent - watch.started, 2),
                "cause": record.cause,
                "detail": record.detail,
                "tokens": record.pieces,
            }
            for record in lost[:SHOWN]
        ],
        "longest_answer_seconds": round(max((record.e2e or 0.0 for record in records), default=0.0), 2),
        "finished_at": round(wall(), 1),
    }
