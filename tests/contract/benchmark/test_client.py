"""The client against a server that tells the truth, and against every planted fault."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import calibration, mock_server
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Client
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.runner import Context, Run
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Spec, Workload

TOKENS = 10
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
QUICK: dict[str, Any] = {
    "request_timeout": 3.0,
    "first_token_timeout": 0.4,
    "stall_timeout": 0.3,
    "warmup": 0,
    "error_budget": 1.0,
}


def measure(address: str, api: str = "completions", run: str = "x", **fields: Any) -> tuple[LoadResult, int]:
    """A small load; the result and the number of connections that were opened."""
    options = fields.pop("target", {})
    load = Load(**{"level": 4, "requests": 12, **QUICK, **fields})

    async def work() -> tuple[LoadResult, int]:
        target = Target.parse(address, "t", **options)
        spec = Spec("m", api=api, prompt=Length(6), output=Length(TOKENS))
        async with Client(target, load) as client:
            task = Run(load, client, Workload(spec), "t", Context(run, asyncio.Event()))
            return await task.measure(), client.opened

    return asyncio.run(work())


def truth(address: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{address}/truth", timeout=10) as answer:
        return list(json.load(answer))


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_what_is_measured_is_what_happened(url: str, api: str) -> None:
    result, opened = measure(url, api, f"true-{api}", requests=40, level=8)
    assert all(record.ok for record in result.records), result.records
    entries = {entry["id"]: entry for entry in truth(url)}
    found = calibration.compare_with_truth(result.records, entries, TOKENS)
    assert found["requests"] == 40
    assert found["counts_exact"]
    # Both processes read the same clock, so on the busiest machine the client's stamps enclose the server's. How near
    # they are depends on the machine (`make bench` prints it); the luckiest of forty requests tells a wrong definition.
    pairs = [(record, entries[record.request_id]) for record in result.records]
    for record, entry in pairs:
        assert record.first is not None
        assert record.last is not None
        assert record.sent <= entry["received"] <= entry["first"] <= record.first
        assert entry["last"] <= record.last <= record.end
    assert min((record.ttft or 9.0) - (entry["first"] - entry["received"]) for record, entry in pairs) < 0.01
    assert min(abs((r.itl or 9.0) - (e["last"] - e["first"]) / (TOKENS - 1)) for r, e in pairs) < 0.001
    assert opened <= 8  # connections are used again
    assert all(record.prompt_tokens for record in result.records)


def test_it_always_streams(url: str) -> None:
    measure(url, run="stream", requests=3)
    assert all(entry["streamed"] for entry in truth(url))


FAULTS = {
    "500": "server_error",
    "503": "unavailable",
    "429": "rate_limited",
    "400-long": "prompt_too_long",
    "404": "not_found",
    "401": "unauthorised",
    "redirect": "redirect",
    "disconnect": "disconnected",
    "disconnect-early": "no_answer",
    "truncate": "truncated",
    "broken-json": "broken_stream",
    "broken-chunk": "protocol",
    "not-http": "protocol",
    "error-body": "error_body",
    "error-event": "error_event",
    "empty-choices": "first_token_timeout",
    "not-streamed": "not_streamed",
    "slow-first": "first_token_timeout",
    "slow-header": "first_token_timeout",
    "drip": "first_token_timeout",
    "comments": "stalled",
    "503-date": "unavailable",
    "stall": "stalled",
}


@pytest.mark.parametrize(("fault", "cause"), FAULTS.items())
def test_every_planted_fault_is_counted_by_its_cause(url: str, fault: str, cause: str) -> None:
    late = cause.endswith("timeout") or cause == "stalled"
    quick: dict[str, Any] = {"first_token_timeout": 0.3, "stall_timeout": 0.2} if late else {}
    if fault == "empty-choices":
        cause = "no_tokens"
    result, _ = measure(f"{url}/fault/{fault}", requests=4, level=2, **quick)
    assert {record.cause for record in result.records} == {cause}
    assert all(record.detail for record in result.records)


@pytest.mark.parametrize("fault", ["no-usage", "no-content-type", "close-after"])
def test_what_is_odd_but_no_failure(url: str, fault: str) -> None:
    result, _ = measure(f"{url}/fault/{fault}", requests=6, level=1)
    assert all(record.ok for record in result.records), result.records
    assert all(record.output_tokens == TOKENS for record in result.records)
    assert all(record.counted for record in result.records) == (fault == "no-usage")
    if fault == "close-after":
        assert [record.reconnected for record in result.records] == [False, True, True, True, True, True]


def test_one_in_three_fails_and_the_rest_does_not_suffer(url: str) -> None:
    result, _ = measure(f"{url}/fault/503@3", requests=15, level=1)
    failed = [record for record in result.records if not record.ok]
    assert len(failed) == 5
    assert {record.cause for record in failed} == {"unavailable"}
    assert failed[0].retry_after == 0.0


def test_a_date_in_retry_after_counts_from_the_answers_own_clock(url: str) -> None:
    result, _ = measure(f"{url}/fault/503-date", requests=1)
    assert result.records[0].retry_after == 2.0


def test_every_fault_of_the_mock_is_planted_here() -> None:
    assert set(mock_server.FAULTS) == {*FAULTS, "no-usage", "no-content-type", "close-after"}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback interface")
def test_ipv6() -> None:
    with mock_server.running(mock_server.Settings(ttft=0.01, itl=0.001, address="::1")) as port:
        result, opened = measure(f"http://[::1]:{port}", requests=6, level=2)
    assert all(record.ok for record in result.records), result.records
    assert opened == 2


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_nothing_listens() -> None:
    result, _ = measure(f"http://127.0.0.1:{free_port()}", requests=2)
    assert {record.cause for record in result.records} == {"refused"}


def test_a_name_that_does_not_exist() -> None:
    result, _ = measure("http://no-such-name.invalid", requests=1)
    assert result.records[0].cause == "dns"


def test_plain_http_where_tls_is_expected(url: str) -> None:
    result, _ = measure(url.replace("http:", "https:"), requests=1)
    assert result.records[0].cause == "tls"


def certificate_of(folder: Path, name: str) -> tuple[str, str]:
    """Key and certificate files for a subject name."""
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=mock", "-addext", f"subjectAltName={name}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


@needs_openssl
def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    key, certificate = certificate_of(tmp_path, "DNS:elsewhere.example")
    with mock_server.running(mock_server.Settings(ttft=0.02, certificate=certificate, key=key)) as port:
        result, _ = measure(f"https://127.0.0.1:{port}", requests=1, target={"ca_file": certificate})
    assert result.records[0].cause == "tls"
    assert "mismatch" in result.records[0].detail


@needs_openssl
def test_tls(tmp_path: Path) -> None:
    key, certificate = certificate_of(tmp_path, "IP:127.0.0.1")
    settings = mock_server.Settings(ttft=0.02, itl=0.002, certificate=certificate, key=key)
    with mock_server.running(settings) as port:
        address = f"https://127.0.0.1:{port}"
        trusted, opened = measure(address, requests=6, level=2, target={"ca_file": certificate})
        assert all(record.ok for record in trusted.records), trusted.records
        assert opened == 2
        assert measure(address, requests=1)[0].records[0].cause == "tls"
        assert measure(address, requests=1, target={"verify": False})[0].records[0].ok


def test_a_stop_in_the_middle_leaves_no_connection_behind(url: str) -> None:
    async def work() -> tuple[LoadResult, list[Record]]:
        stop = asyncio.Event()
        load = Load(**{"level": 4, "requests": 1000, **QUICK, "first_token_timeout": 20.0, "request_timeout": 20.0})
        seen: list[Record] = []
        async with Client(Target.parse(f"{url}/fault/slow-first@5", "t"), load) as client:
            asyncio.get_running_loop().call_later(0.5, stop.set)
            workload = Workload(Spec("m", output=Length(TOKENS)))
            result = await Run(load, client, workload, "t", Context("stop", stop, seen.append)).measure()
        assert len(asyncio.all_tasks()) == 1
        return result, seen

    result, seen = asyncio.run(work())
    assert result.stop_reason == "interrupted"
    assert len(result.records) == len(seen) >= 4
    assert result.unfinished >= 1
