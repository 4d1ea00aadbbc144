# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole benchmark: calibrate, load, compare, judge, write down. What was measured is kept however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark import (
    baseline,
    calibration,
    compare,
    history,
    metrics,
    slo,
)
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Client
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.runner import Context, Run, quiet_collector
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.schedule import block_size
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Spec, Workload
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError

SCHEMA = "llmd.gke/benchmark/1"
FLUSH_EVERY = 1.0
WRAPPED = "The data set was used more than once: repeated prompts may come from the prefix cache."
TIME_POINTS = ("intended", "sent", "first", "last", "end")


@dataclass
class Plan:
    """What to do, checked. ``loads`` is one load a level; ``against`` makes it a comparison at each level."""

    target: Target
    spec: Spec
    loads: Sequence[Load]
    against: Target | None = None
    groups: int = 5
    slo: Mapping[str, float] = field(default_factory=dict)
    expectations: Sequence[Mapping[str, Any]] = ()
    gate: str = "supported"
    calibrate: bool = True
    calibration_seconds: float = calibration.SECONDS
    tolerance: float = calibration.TOLERANCE
    directory: str = ""
    history: str = ""
    baseline: baseline.Stored | None = None
    against_spec: Spec | None = None

    def check(self) -> None:
        """Refuse what cannot be run as meant. Raises ConfigurationError."""
        if not self.loads:
            raise ConfigurationError("There is no load.", code="LOAD_INVALID", remedy="Give concurrency or rate.")
        for load in self.loads:
            load.check()
            if self.against and load.mode != "closed":
                raise ConfigurationError(
                    "Two targets are compared in a closed loop only.",
                    code="LOAD_INVALID",
                    remedy="Give concurrency instead of rate, or no second target.",
                )
        if self.against and not 1 <= self.groups <= 100:
            raise ConfigurationError("groups lies between 1 and 100.", code="LOAD_INVALID", remedy="5 does well.")
        slo.check(self.expectations)

    def describe(self) -> dict[str, Any]:
        """What would be sent, at most: for check mode and the report."""
        sides = 2 if self.against else 1
        requests = 0
        for load in self.loads:
            measured = load.requests
            if self.against:
                measured = block_size(load.requests, self.groups, int(load.level)) * 2 * self.groups
            requests += sides * (measured + load.warmup)
        longest = sum(sides * (load.duration * 2 + min(30.0, load.request_timeout)) for load in self.loads)
        return {
            "targets": [target.url for target in (self.target, self.against) if target],
            "levels": [f"{load.level:g} {'requests/s' if load.mode == 'open' else 'at once'}" for load in self.loads],
            "requests_at_most": requests,
            "output_tokens_at_most_about": round(requests * self.spec.output.mean),
            "seconds_at_most": round(longest + (self.calibration_seconds * 6 if self.calibrate else 0)),
        }


@dataclass
class Outcome:
    """The report and the records behind it (for the plots)."""

    report: dict[str, Any]
    results: list[LoadResult] = field(default_factory=list)


class RequestLog:
    """One JSON line a request, written while it runs: a killed job leaves what was measured."""

    def __init__(self, stream: IO[str] | None, now: Callable[[], float]) -> None:
        self._stream = stream
        self._now = now
        self._start = self._flushed = now()

    def write(self, record: Record) -> None:
        """Time points are told from the beginning of the run."""
        if self._stream is None:
            return
        content = record.as_dict()
        for name in TIME_POINTS:
            if content[name] is not None:
                content[name] = round(content[name] - self._start, 6)
        try:
            self._stream.write(json.dumps(content) + "\n")
            if self._now() - self._flushed > FLUSH_EVERY:
                self._flushed = self._now()
                self._stream.flush()
        except OSError:
            self._stream = None  # a full disk ends the log, not the measurement


def run(plan: Plan, *, progress: Callable[[str], Any], keep: Callable[[Outcome], Any]) -> Outcome:
    """Do what the plan says. ``keep`` is called with what there is after every level and at the end.

    Raises ConfigurationError before anything is sent; failures of the endpoint are counted in the report.
    """
    plan.check()
    outcome = Outcome(head(plan))
    report = outcome.report
    if plan.calibrate:
        top = max(int(load.level) if load.mode == "closed" else min(64, load.max_in_flight) for load in plan.loads)
        report["calibration"] = calibration.calibrate(top, seconds=plan.calibration_seconds, progress=progress)
    report["calibration_text"] = calibration.describe(report["calibration"])
    with contextlib.ExitStack() as stack:
        stream: IO[str] | None = None
        if plan.directory:
            with writing(plan.directory):
                os.makedirs(plan.directory, exist_ok=True)
                stream = stack.enter_context(open(Path(plan.directory) / "requests.jsonl", "w", encoding="utf-8"))
        asyncio.run(_measure(plan, outcome, stream, progress, keep))
    judge(plan, outcome)
    keep(outcome)
    return outcome


@contextlib.contextmanager
def writing(where: str) -> Iterator[None]:
    """What cannot be written is told under one code."""
    try:
        yield
    except OSError as error:
        raise LlmdError(
            f"The benchmark's results could not be written to {where}.",
            code="ARTIFACT_NOT_WRITTEN",
            where=where,
            why=str(error),
            remedy="Give a folder that can be written (artifacts_dir, history).",
        ) from error


def head(plan: Plan) -> dict[str, Any]:
    """The report before anything was measured."""
    spec = plan.spec
    return {
        "schema": SCHEMA,
        "run": secrets.token_hex(4),
        "started": now_text(),
        "target": {"label": plan.target.label, "url": plan.target.url},
        "against": against_of(plan),
        "model": spec.model,
        "api": spec.api,
        "workload": workload_of(spec),
        "plan": plan.describe(),
        "client": {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()},
        "calibration": None,
        "results": [],
        "comparisons": [],
        "stop_reason": "",
        "definitions": metrics.DEFINITIONS,
        "notes": [],
    }


def against_of(plan: Plan) -> dict[str, Any] | None:
    """The second target as the report tells it; its model where that is another one."""
    if plan.against is None:
        return None
    content = {"label": plan.against.label, "url": plan.against.url}
    other = plan.against_spec
    return {**content, "model": other.model} if other is not None and other.model != plan.spec.model else content


def workload_of(spec: Spec) -> dict[str, Any]:
    """The workload as the report tells it."""
    content: dict[str, Any] = {"kind": spec.kind, "seed": spec.seed, "unique_prompts": spec.unique}
    for name in ("prompt", "output"):
        length = getattr(spec, name)
        content[name] = {"kind": length.kind, "mean": length.mean, "unit": "words" if name == "prompt" else "tokens"}
        if length.kind != "fixed":
            content[name].update(min=length.low, max=length.high, deviation=length.deviation)
    if spec.kind == "shared_prefix":
        content.update(prefix_words=spec.prefix_words, prefix_groups=spec.prefix_groups)
    elif spec.kind == "multi_turn":
        content["turns"] = spec.turns
    elif spec.kind == "dataset":
        content["entries"] = len(spec.dataset)
    return content


def now_text() -> str:
    """The time as history and report write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _measure(
    plan: Plan,
    outcome: Outcome,
    stream: IO[str] | None,
    progress: Callable[[str], Any],
    keep: Callable[[Outcome], Any],
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(RuntimeError, ValueError):  # not the main thread: then nobody sends it a signal either
            loop.add_signal_handler(number, stop.set)
    log = RequestLog(stream, loop.time)
    context = Context(outcome.report["run"], stop, log.write, progress)
    salt = outcome.report["run"]  # each run asks something new: the last run's prefix cache must not help this one
    sides = 2 if plan.against else 1
    first = Workload(plan.spec, f"{salt}/a", (0, sides))
    second = Workload(plan.against_spec or plan.spec, f"{salt}/b", (1, sides))
    for load in plan.loads:
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(plan.target, load))
            await stack.enter_async_context(quiet_collector())
            if plan.against is None:
                task = Run(load, client, first, plan.target.label, context)
                await task.warm_up()
                results = {"a": await task.measure()}
            else:
                other = await stack.enter_async_context(Client(plan.against, load))
                pair = (
                    compare.Side(plan.target.label, client, first),
                    compare.Side(plan.against.label, other, second),
                )
                results = await compare.run_interleaved(*pair, load, plan.groups, context)
        take(plan, outcome, results)
        if first.wraps or second.wraps:
            outcome.report["notes"] = [WRAPPED]
        keep(outcome)
        if outcome.report["stop_reason"] in ("interrupted", "error_budget"):
            break


def take(plan: Plan, outcome: Outcome, results: Mapping[str, LoadResult]) -> None:
    """Figures of a level into the report, and of its two targets against each other."""
    report = outcome.report
    for result in results.values():
        outcome.results.append(result)
        summary = metrics.summarise(result, plan.slo)
        summary["notes"] += calibration.withhold(summary, report["calibration"], plan.tolerance)
        report["results"].append(summary)
        if report["stop_reason"] not in ("interrupted", "error_budget"):
            report["stop_reason"] = result.stop_reason
    if len(results) == 2:
        for name in compare.METRICS:
            error = calibration.own_error(report["calibration"], name)
            found = compare.difference(results, name, groups=plan.groups, own_error=error, seed=plan.spec.seed)
            report["comparisons"].append({"level": results["a"].load.level, **found})


def judge(plan: Plan, outcome: Outcome) -> None:
    """Hold the figures against expectations and against the last run like this one."""
    report = outcome.report
    report["ended"] = now_text()
    own = [summary for summary in report["results"] if summary["target"] == plan.target.label]
    report["gate"] = slo.gate(own, plan.expectations, plan.gate)
    report["since_last"] = []
    report["baseline"] = None
    if plan.baseline is not None:
        report["baseline"] = baseline.against(plan.baseline, report, outcome.results, plan.spec.seed)
    if not plan.history:
        return
    earlier = history.read(plan.history)
    lines = []
    for summary, result in zip(report["results"], outcome.results, strict=True):
        key = history.fingerprint(
            {
                "target": summary["target"],
                "model": plan.spec.model,
                "api": plan.spec.api,
                "workload": report["workload"],
                "mode": result.load.mode,
                "level": result.load.level,
            }
        )
        line = history.line_of(summary, when=report["ended"], run=report["run"], key=key)
        change = history.against_last(line, earlier)
        if change:
            report["since_last"].append({"target": summary["target"], **change})
        if result.stop_reason != "interrupted":
            lines.append(line)
    with writing(plan.history):
        history.append(plan.history, lines)
