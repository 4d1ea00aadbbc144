"""Watching an endpoint while it is changed: refused, lost, outages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record
from ansible_collections.llmd.gke.plugins.module_utils.inference import traffic
from ansible_collections.llmd.gke.plugins.module_utils.inference.traffic import Plan, Watch


def record(sent: float, status: int = 200, cause: str = "", **more: Any) -> Record:
    return Record(0, "endpoint", 1, "measured", sent, sent=sent, status=status, cause=cause, **more)


def test_an_outage_lasts_from_the_first_refusal_to_the_next_accepted_request() -> None:
    records = [record(1), record(2, 503, "unavailable"), record(3, 0, "refused"), record(5.5), record(6)]
    assert traffic.outages(records, 10) == [(2, 5.5, 2)]
    assert traffic.outages([record(1), record(4, 503, "unavailable")], 10) == [(4, 10, 1)]
    assert traffic.outages([record(1)], 10) == []


def test_lost_is_what_was_accepted_and_cut_off() -> None:
    watch = Watch(
        [
            record(1),
            record(2, 200, "disconnected", pieces=7, detail="closed"),
            record(3, 503, "unavailable"),
            record(4),
        ],
        started=0,
        ended=5,
    )
    found = traffic.summary(watch, wall=lambda: 0)
    assert (found["sent"], found["answered"], found["refused"], found["lost"]) == (4, 2, 1, 1)
    assert found["causes"] == {"disconnected": 1, "unavailable": 1}
    assert found["lost_requests"] == [{"at": 2, "cause": "disconnected", "detail": "closed", "tokens": 7}]
    assert found["downtime_seconds"] == 1


def test_it_asks_until_it_is_stopped_and_finishes_what_it_began() -> None:
    told: list[int] = []

    class Endpoint:
        under_way = 0
        most = 0

        async def send(self, request: Any, answer: Record) -> str:
            document = json.loads(request.body)
            assert document["stream"]
            assert document["min_tokens"] == document["max_tokens"] == 5
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1
            answer.status, answer.end = 200, 1
            return ""

    endpoint = Endpoint()
    plan = Plan("m", streams=3, tokens=5, pause=0)
    watch = asyncio.run(
        traffic.keep_asking(
            endpoint, plan, lambda: len(told) >= 6, now=lambda: 0.0, tell=lambda seen: told.append(len(seen.records))
        )
    )
    assert endpoint.most == 3
    assert endpoint.under_way == 0
    assert len(watch.records) >= 6
    assert all(found.ok and found.end for found in watch.records)


def test_the_limit_ends_it_too() -> None:
    times = iter(float(number) for number in range(1000))

    class Endpoint:
        async def send(self, request: Any, answer: Record) -> str:
            answer.status = 200
            return ""

    plan = Plan("m", streams=1, pause=0, limit=20)
    watch = asyncio.run(traffic.keep_asking(Endpoint(), plan, lambda: False, now=lambda: next(times)))
    assert watch.records
    assert watch.ended - watch.started >= 20
