# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""guidellm, with prompts from a file, so that it needs no tokenizer. Its report holds the times of each request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record
from ansible_collections.llmd.gke.plugins.module_utils.engines import order as orders
from ansible_collections.llmd.gke.plugins.module_utils.engines.causes import cause_of_text
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import FOLDER, OUT, Engine, Found, Order, Recipe

NAME = "guidellm"
VERSION = "0.8.1"
CONFIG, PROMPTS, RESULT, PAGE = "config.json", "prompts.jsonl", "guidellm.json", "guidellm.html"
# It reads ahead, and a data set that runs out ends the run early.
SPARE = 32
STATES = ("successful", "errored", "incomplete")


def recipe(order: Order) -> Recipe:
    """Its configuration and command. Raises ConfigurationError ENGINE_UNFIT."""
    orders.check(NAME, order)
    load = order.load
    key = orders.api_key(order.target)
    backend: dict[str, Any] = {
        "kind": "openai_http",
        "target": order.target.url,
        "model": order.spec.model,
        "request_format": "/v1/chat/completions" if order.spec.api == "chat" else "/v1/completions",
        "timeout": load.request_timeout,
        "verify": order.target.verify,
        # load goes only where it was told to, and as our own client sends it
        "follow_redirects": False,
        "http2": False,
        "validate_backend": False,
    }
    if key:
        backend["api_key"] = key
    profile: dict[str, Any] = {"kind": "concurrent", "streams": [int(load.level)]}
    if load.mode == "open":
        profile = {"kind": load.arrivals, "rate": [load.level], "max_concurrency": load.max_in_flight}
    content = {
        "spec": {
            "backend": backend,
            "profile": profile,
            "data": [{"kind": "json_file", "path": f"{FOLDER}/{PROMPTS}"}],
            "constraints": [
                {"kind": "max_requests", "count": load.requests},
                {"kind": "max_duration", "seconds": load.duration},
            ],
        }
    }
    lines = [json.dumps({"prompt": text, "output_tokens_count": output}) for text, output in order.prompts(SPARE)]
    return Recipe(
        (
            NAME,
            "run",
            "--config",
            f"{FOLDER}/{CONFIG}",
            "--disable-progress",
            "--output",
            f"kind=json,path={OUT}/{RESULT}",
            "--output",
            f"kind=html,path={OUT}/{PAGE}",
        ),
        {CONFIG: json.dumps(content, indent=1), PROMPTS: "\n".join(lines) + "\n"},
        {"result": f"{OUT}/{RESULT}"},
        environment={"HF_HUB_OFFLINE": "1"},
        secrets={"LLMD_API_KEY": key} if key else {},
    )


def read(texts: Mapping[str, str], order: Order) -> Found:
    """Its report as records. Raises InferenceError ENGINE_RESULT_INVALID."""
    document = orders.parsed(texts, "result", NAME)
    try:
        benchmark = document["benchmarks"][0]
        requests = benchmark["requests"]
        entries = [(state, entry) for state in STATES for entry in requests.get(state) or []]
        begin = min((_sent(entry) for _unused, entry in entries), default=0.0)
        records = [_record(number, *pair, order, begin) for number, pair in enumerate(entries)]
        own = own_figures(benchmark["metrics"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise orders.invalid(NAME, f"{type(error).__name__}: {error}") from error
    version = str((document.get("metadata") or {}).get("guidellm_version") or "")
    return Found(records, version, own=own)


def _sent(entry: Mapping[str, Any]) -> float:
    timings = entry["info"]["timings"]
    return float(timings.get("request_start") or timings.get("resolve_start") or timings.get("targeted_start") or 0.0)


def _record(number: int, state: str, entry: Mapping[str, Any], order: Order, begin: float) -> Record:
    timings = entry["info"]["timings"]
    sent = _sent(entry) - begin
    record = Record(number, order.target.label, order.load.level, "measure", sent, sent=sent)
    if order.load.mode == "open" and timings.get("targeted_start"):
        record.intended = min(sent, float(timings["targeted_start"]) - begin)
    record.end = float(timings.get("request_end") or timings.get("resolve_end") or sent + begin) - begin
    record.prompt_tokens = _tokens(entry.get("input_metrics"))
    first, last = timings.get("first_token_iteration"), timings.get("last_token_iteration")
    if state != "successful":
        words = str(entry["info"].get("error") or "")
        record.cause, record.detail = cause_of_text(words) if words else ("timeout", "it was cut off by the end")
    elif first is None or last is None:
        record.cause, record.detail = "no_tokens", "no time of a token"
    else:
        record.status, record.first, record.last = 200, float(first) - begin, float(last) - begin
        record.pieces = int(timings.get("token_iterations") or 0)
        counted = _tokens(entry.get("output_metrics"))
        record.output_tokens, record.counted = counted or record.pieces, not counted
    return record


def _tokens(metrics: Mapping[str, Any] | None) -> int | None:
    value = (metrics or {}).get("text_tokens")
    return None if value is None else int(value)


def own_figures(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Its own summary under our names; its inter-token latency, for its time per token counts the first one too."""
    names = {"ttft": ("time_to_first_token_ms", 1000), "itl": ("inter_token_latency_ms", 1000)}
    figures: dict[str, float | None] = {}
    for ours, (theirs, scale) in {**names, "e2e": ("request_latency", 1)}.items():
        percentiles = ((metrics.get(theirs) or {}).get("successful") or {}).get("percentiles") or {}
        for percent in (50, 90, 99):
            value = percentiles.get(f"p{percent}")
            figures[f"{ours}.p{percent}"] = None if value is None else float(value) / scale
    rate = ((metrics.get("output_tokens_per_second") or {}).get("successful") or {}).get("mean")
    figures["output_tokens_per_second"] = rate
    return figures


ENGINE = Engine(NAME, NAME, f"{NAME}=={VERSION}", (3, 10), "", recipe, read)
