# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How wrong this client is, here and now: measured against a server of known latency before every benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark import mock_server, statistics
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Client
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.runner import Context, Run, quiet_collector
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Spec, Workload
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError

TOKENS = 20
SECONDS = 4.0
LEAST = 8
TOLERANCE = 0.05
# What vouches for which percentile of a measurement: a tail is only as good as the client's own tail.
VOUCHES = {"p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "mean": "p50"}


def calibrate(
    concurrency: int,
    *,
    settings: mock_server.Settings | None = None,
    seconds: float = SECONDS,
    tokens: int = TOKENS,
    requests: int = 0,
    progress: Callable[[str], Any] = lambda message: None,
) -> dict[str, Any]:
    """Measure the mock with ``concurrency`` streams (at least LEAST) and compare with its own truth.

    Returns {concurrency, requests, configured, errors: {ttft: {p50, p90, p99}, itl: ...} each {measured, true, error
    (seconds), relative, paired (that share of single errors lies below)}, output_tokens_per_second, counts_exact,
    cpu_seconds}. What the mock loses between socket and stamp counts as error of ours: it is an upper bound.
    """
    settings = settings or mock_server.Settings(jitter=0.1)
    level = max(LEAST, concurrency)
    count = requests or max(level * 4, int(level * seconds / (settings.ttft + tokens * settings.itl)))
    progress(f"benchmark: calibrating this client against a mock server ({level} at once, {count} requests)")
    with _trouble_told(), mock_server.running(settings) as port:
        target = Target.parse(f"http://{mock_server.ADDRESS}:{port}", "calibration")
        cpu = time.process_time()
        # no warm-up that counts less: but the connections are opened before
        load = Load(level=level, requests=count, duration=seconds * 5, warmup=level, request_timeout=60)
        result = asyncio.run(_measure(target, load, tokens))
        cpu = time.process_time() - cpu
        with contextlib.closing(http.client.HTTPConnection(mock_server.ADDRESS, port, timeout=10)) as connection:
            connection.request("GET", "/truth")
            truth = {entry["id"]: entry for entry in json.load(connection.getresponse())}
    outcome = compare_with_truth(result.records, truth, tokens)
    outcome.update(concurrency=level, cpu_seconds=round(cpu, 3))
    outcome["configured"] = {"ttft": settings.ttft, "itl": settings.itl, "jitter": settings.jitter, "tokens": tokens}
    return outcome


@contextlib.contextmanager
def _trouble_told() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise LlmdError(
            "This client could not be calibrated.",
            code="CALIBRATION_FAILED",
            where=mock_server.ADDRESS,
            why=f"{type(error).__name__}: {error}",
            remedy="Look for a firewall on loopback; calibrate: false measures without knowing the error.",
        ) from error


async def _measure(target: Target, load: Load, tokens: int) -> LoadResult:
    context = Context(secrets.token_hex(4), asyncio.Event())
    workload = Workload(Spec("mock", prompt=Length(8), output=Length(tokens)))
    async with Client(target, load) as client, quiet_collector():
        run = Run(load, client, workload, target.label, context)
        await run.warm_up()
        return await run.measure()


def compare_with_truth(
    records: Sequence[Record], truth: Mapping[str, Mapping[str, Any]], tokens: int
) -> dict[str, Any]:
    """Client's figures against the server's own time stamps, percentile by percentile and request by request."""
    pairs = [(record, truth[record.request_id]) for record in records if record.ok and record.request_id in truth]
    if not pairs:
        return {"requests": 0, "errors": {}, "counts_exact": False, "output_tokens_per_second": None}
    columns: dict[str, tuple[list[float], list[float]]] = {
        "ttft": (
            [record.first - record.sent for record, _unused in pairs if record.first is not None],
            [entry["first"] - entry["received"] for _unused, entry in pairs],
        ),
        "itl": (
            [record.itl or 0.0 for record, _unused in pairs],
            [(entry["last"] - entry["first"]) / max(1, entry["tokens"] - 1) for _unused, entry in pairs],
        ),
    }
    errors = {name: _errors(measured, true) for name, (measured, true) in columns.items()}
    ours = _rate([(record.sent, record.last or 0.0, record.output_tokens) for record, _unused in pairs])
    theirs = _rate([(entry["received"], entry["last"], entry["tokens"]) for _unused, entry in pairs])
    return {
        "requests": len(pairs),
        "errors": errors,
        "counts_exact": len(pairs) == len(records) and all(record.output_tokens == tokens for record, _unused in pairs),
        "output_tokens_per_second": {"measured": ours, "true": theirs, "relative": ours / theirs - 1},
    }


def _errors(measured: Sequence[float], true: Sequence[float]) -> dict[str, Any]:
    """Errors of percentiles, and the 99th percentile of the errors of single requests."""
    ours, theirs = sorted(measured), sorted(true)
    single = sorted(abs(one - other) for one, other in zip(measured, true, strict=True))
    content: dict[str, Any] = {}
    for percent in (50, 90, 95, 99):
        one, other = (statistics.percentile(values, percent / 100) for values in (ours, theirs))
        content[f"p{percent}"] = {
            "measured": one,
            "true": other,
            "error": one - other,
            "relative": one / other - 1 if other else None,
            "paired": statistics.percentile(single, percent / 100),
        }
    return content


def _rate(parts: Sequence[tuple[float, float, int]]) -> float:
    window = max(part[1] for part in parts) - min(part[0] for part in parts)
    return sum(part[2] for part in parts) / window if window > 0 else 0.0


def own_error(calibration: Mapping[str, Any] | None, metric: str, percentile: str = "p50") -> float:
    """Seconds by which this client may be wrong in a percentile of a metric; 0 where it was not calibrated."""
    if not calibration:
        return 0.0
    name = metric.removesuffix("_intended")
    errors = calibration["errors"].get("ttft" if name == "e2e" else name)
    if not errors:
        return 0.0
    found = errors[VOUCHES[percentile]]
    return max(abs(float(found["error"])), float(found["paired"]))


def withhold(summary: dict[str, Any], calibration: Mapping[str, Any] | None, tolerance: float = TOLERANCE) -> list[str]:
    """Replace percentiles that this client cannot measure by the reason; returns the reasons.

    A percentile is withheld where the client's own error is above ``tolerance`` of what was measured.
    """
    reasons = []
    for name, figures in summary["latency"].items():
        for percentile in VOUCHES:
            figure = figures.get(percentile)
            if not figure or figure["value"] is None:
                continue
            error = own_error(calibration, name, percentile)
            if error > tolerance * figure["value"]:
                reason = (
                    f"{name} {percentile}: this client's own error here is {error * 1000:.2f} ms, more than "
                    f"{tolerance:.0%} of the measured {figure['value'] * 1000:.2f} ms"
                )
                figures[percentile] = {"value": None, "refused": reason}
                reasons.append(reason)
    return reasons


def describe(calibration: Mapping[str, Any] | None) -> str:
    """One sentence for the report."""
    if not calibration:
        return "This client was not calibrated in this run: its own error is unknown."
    if not calibration["errors"]:
        return "The calibration got no answer from its own mock server: this client's error is unknown."
    ttft, itl = calibration["errors"]["ttft"], calibration["errors"]["itl"]
    rate = calibration["output_tokens_per_second"]["relative"]
    return (
        f"Against a server of known latency ({calibration['concurrency']} at once, {calibration['requests']} requests) "
        f"this client was wrong by {ttft['p50']['error'] * 1000:+.2f} ms ({ttft['p50']['relative']:+.2%}) in TTFT p50, "
        f"{ttft['p99']['error'] * 1000:+.2f} ms ({ttft['p99']['relative']:+.2%}) in TTFT p99, "
        f"{itl['p50']['relative']:+.2%} in ITL p50 and {rate:+.2%} in tokens/s."
    )
