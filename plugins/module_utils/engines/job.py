# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark by somebody else's engine, in our report: the same definitions, intervals, gate, history and page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.job import (
    Outcome,
    Plan,
    RequestLog,
    head,
    judge,
    take,
    writing,
)
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import LoadResult
from ansible_collections.llmd.gke.plugins.module_utils.engines import guidellm, inference_perf, vllm_bench
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import Engine, Found, Order

ENGINES: dict[str, Engine] = {one.NAME: one.ENGINE for one in (guidellm, inference_perf, vllm_bench)}
RATES = ("output_tokens_per_second", "requests_per_second")
UNKNOWN = "The error of this engine on this machine is not known; the built-in engine measures its own first."


def run(
    plan: Plan,
    engine: Engine,
    runner: Callable[[Order], Mapping[str, str]],
    *,
    tokenizer: str = "",
    version: str = "",
    where: str = "",
    keep: Callable[[Outcome], Any],
) -> Outcome:
    """Each load of the plan by the engine. ``runner`` runs an order and returns the engine's outputs by label.

    ``keep`` is called with what there is after every load. Raises what ``runner`` and the engine's reader raise; what
    was measured before is kept.
    """
    plan.check()
    outcome = Outcome(head(plan))
    report = outcome.report
    report["engine"] = {"name": engine.name, "version": version, "where": where}
    report["calibration_text"] = UNKNOWN
    orders = [Order(plan.target, plan.spec, load, report["run"], tokenizer) for load in plan.loads]
    for order in orders:
        engine.recipe(order)  # what it cannot do is refused before anything is sent
    for order in orders:
        found = engine.read(runner(order), order)
        report["engine"]["version"] = report["engine"]["version"] or found.version
        take(plan, outcome, {"a": as_result(order, found)})
        finish(report["results"][-1], found)
        log_requests(plan.directory, outcome)
        keep(outcome)
    judge(plan, outcome)
    keep(outcome)
    return outcome


def as_result(order: Order, found: Found) -> LoadResult:
    """The engine's records as the result of a load of ours."""
    result = LoadResult(order.load, order.target.label, found.records)
    if found.timed and found.records:
        result.started = min(record.sent for record in found.records)
        result.ended = max(record.end for record in found.records)
    else:
        result.ended = found.window
    return result


def finish(summary: dict[str, Any], found: Found) -> None:
    """What the engine says itself, and what it leaves open."""
    summary["own"] = found.own
    summary["notes"] += found.notes
    if summary["mode"] == "open":
        summary["notes"].append("The engine does not say when it meant to send: waiting is not counted.")
    if not found.timed:
        for name in RATES:
            summary[name] = {"value": summary[name]["value"]}


def log_requests(directory: str, outcome: Outcome) -> None:
    """One JSON line a request, as the built-in engine writes them."""
    if not directory:
        return
    with writing(directory):
        os.makedirs(directory, exist_ok=True)
        with open(Path(directory) / "requests.jsonl", "w", encoding="utf-8") as stream:
            log = RequestLog(stream, lambda: 0.0)
            for result in outcome.results:
                for record in result.records:
                    log.write(record)
