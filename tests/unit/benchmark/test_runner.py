"""Every load ends by itself: on count, on time, on the error budget, on a word. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.runner import Context, Run
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Spec, Workload
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

In = Callable[[Any], Any]


async def run(load: Load, sender: Any, **context: Any) -> LoadResult:
    shared = Context("r", context.pop("stop", None) or asyncio.Event(), **context)
    task = Run(load, sender, Workload(Spec("m", output=Length(11))), "t", shared)
    await task.warm_up()
    return await task.measure()


def test_closed_loop_ends_on_count(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        server = endpoint()
        result = await run(Load(level=4, requests=10, warmup=3), server)
        assert (result.stop_reason, len(result.records), len(result.warmup)) == ("count", 10, 3)
        assert server.peak == 4
        assert result.peak_in_flight == 4
        assert {record.phase for record in result.warmup} == {"warmup"}
        # 10 requests by 4 workers of 0.3 s each: three rounds
        assert result.window == pytest.approx(0.9)
        assert all(record.ttft == pytest.approx(0.2) for record in result.records)
        assert all(record.itl == pytest.approx(0.01) for record in result.records)
        assert len({record.request_id for record in result.records + result.warmup}) == 13

    in_virtual_time(work())


def test_closed_loop_ends_on_time_and_waits_for_what_is_under_way(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        result = await run(Load(level=2, requests=1000, duration=1.0, warmup=0), endpoint())
        assert result.stop_reason == "time"
        assert len(result.records) == 8  # four rounds begin before 1.0 s: 0, 0.3, 0.6, 0.9
        assert result.window == pytest.approx(1.2)
        assert result.unfinished == 0

    in_virtual_time(work())


def test_what_never_ends_is_cut_off_and_counted(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        load = Load(level=3, requests=10, duration=5, warmup=0, request_timeout=20)
        result = await run(load, endpoint(ttft=10_000))
        assert (result.stop_reason, result.unfinished, result.records) == ("time", 3, [])
        assert loop.time() - start == pytest.approx(25)

    in_virtual_time(work())


def test_the_error_budget_ends_a_load(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        server = endpoint(fails=lambda number: "unavailable" if number % 2 else "")
        result = await run(Load(level=1, requests=1000, error_budget=0.2, error_minimum=20, warmup=0), server)
        assert result.stop_reason == "error_budget"
        assert len(result.records) == 20

    in_virtual_time(work())


def test_failures_are_no_busy_loop(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        server = endpoint(ttft=0.0, fails=lambda number: "refused")
        result = await run(Load(level=1, requests=10, error_budget=1.0, warmup=0), server)
        gaps = [later - earlier for earlier, later in zip(server.sent, server.sent[1:], strict=False)]
        assert min(gaps) >= 0.049
        assert sum(not record.ok for record in result.records) == 10

    in_virtual_time(work())


def test_retry_after_is_respected_within_reason(in_virtual_time: In, endpoint: Any) -> None:
    class Asks(endpoint):  # type: ignore[misc]
        async def send(self, request: Any, record: Record) -> str:
            record.retry_after = 2.0 if not self.sent else 9999.0
            return str(await super().send(request, record))

    async def work() -> None:
        server = Asks(ttft=0.0, fails=lambda number: "rate_limited")
        await run(Load(level=1, requests=3, error_budget=1.0, warmup=0), server)
        assert server.sent[1] - server.sent[0] == pytest.approx(2.0)
        assert server.sent[2] - server.sent[1] == pytest.approx(5.0)

    in_virtual_time(work())


def test_a_word_stops_at_once_and_keeps_what_was_measured(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        seen: list[Record] = []
        loop.call_later(1.0, stop.set)
        start = loop.time()
        result = await run(Load(level=2, requests=1000, warmup=0), endpoint(), stop=stop, on_record=seen.append)
        assert result.stop_reason == "interrupted"
        assert loop.time() - start == pytest.approx(1.0)
        assert len(result.records) == len(seen) == 6
        assert result.unfinished == 2

    in_virtual_time(work())


@pytest.mark.parametrize("mode", ["closed", "open"])
def test_no_requests_at_all_is_a_result_too(in_virtual_time: In, endpoint: Any, mode: str) -> None:
    result = in_virtual_time(run_later(Load(mode=mode, level=2, requests=0, warmup=0), endpoint()))
    assert (result.records, result.window, result.stop_reason) == ([], 0.0, "count")


async def run_later(load: Load, sender: Any) -> LoadResult:
    return await run(load, sender)


def test_open_loop_sends_at_the_rate(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        server = endpoint()
        result = await run(Load(mode="open", level=10, requests=1000, duration=60, warmup=0), server)
        assert result.stop_reason == "time"
        assert len(result.records) == pytest.approx(600, abs=75)  # Poisson: three deviations
        assert all(record.sent == pytest.approx(record.intended) for record in result.records)

    in_virtual_time(work())


def test_open_loop_does_not_omit_what_a_slow_endpoint_delays(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        # one at a time of 1 s each, asked twice a second: the queue grows by half a second with every request
        server = endpoint(ttft=1.0, itl=0.0, slots=1)
        load = Load(mode="open", level=2, arrivals="constant", requests=20, duration=60, warmup=0, max_in_flight=4)
        result = await run(load, server)
        assert len(result.records) == 20
        last = max(result.records, key=lambda record: record.intended)
        assert last.ttft_intended == pytest.approx(20 - 9.5, abs=0.01)
        assert last.ttft is not None
        assert last.ttft < 4.1  # what a client sees that only counts from sending
        assert server.peak == 4

    in_virtual_time(work())


def test_open_loop_counts_what_it_could_not_send(in_virtual_time: In, endpoint: Any) -> None:
    async def work() -> None:
        load = Load(mode="open", level=2, arrivals="constant", requests=100, duration=10, warmup=0, max_in_flight=2)
        result = await run(load, endpoint(ttft=5.0, itl=0.0))
        assert result.stop_reason == "time"
        assert len(result.records) + result.unsent + result.unfinished == pytest.approx(20, abs=1)

    in_virtual_time(work())


def test_a_defect_of_our_own_is_not_swallowed(in_virtual_time: In, endpoint: Any) -> None:
    class Broken(endpoint):  # type: ignore[misc]
        async def send(self, request: Any, record: Record) -> str:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_virtual_time(run_later(Load(level=1, requests=1, warmup=0), Broken()))


def test_progress_is_told_now_and_then(in_virtual_time: In, endpoint: Any) -> None:
    said: list[str] = []

    async def work() -> None:
        await run(Load(level=1, requests=100, warmup=0), endpoint(), progress=said.append)

    in_virtual_time(work())
    assert 10 <= len(said) <= 16
    assert "benchmark t, 1 at once: 1/100 requests, at most 120 s more" in said[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"duration": 0},
        {"duration": 1e9},
        {"requests": -1},
        {"requests": 10**9},
        {"level": 0},
        {"level": 10_000},
        {"mode": "open", "level": 0},
        {"error_budget": 2},
        {"max_in_flight": 0},
        {"request_timeout": float("inf")},
        {"duration": float("nan")},
    ],
)
def test_what_is_not_bounded_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Load(**fields).check()
    assert caught.value.code == "LOAD_INVALID"
