# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""inference-perf of the Kubernetes serving group. Needs a tokenizer, for it makes its prompts itself, in tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Record
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Spec
from ansible_collections.llmd.gke.plugins.module_utils.engines import order as orders
from ansible_collections.llmd.gke.plugins.module_utils.engines.causes import cause_of_text
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import FOLDER, OUT, Engine, Found, Order, Recipe

NAME = "inference-perf"
# pip takes it for 0.7 with any number of zeros, and for nothing else
VERSION = "0.7"
CONFIG = "config.yml"
REPORTS = "reports"


def recipe(order: Order) -> Recipe:
    """Its configuration and command. Raises ConfigurationError ENGINE_UNFIT."""
    orders.check(NAME, order)
    if not order.tokenizer:
        raise orders.unfit(NAME, "it needs a tokenizer", "Set benchmark_engine_tokenizer (a folder or a name).")
    if order.spec.kind == "dataset":
        raise orders.unfit(NAME, "its data sets are its own", "Use guidellm or the built-in engine for data sets.")
    server: dict[str, Any] = {
        "type": "vllm",
        "model_name": order.spec.model,
        "base_url": order.target.url,
        "ignore_eos": order.spec.ignore_eos,
    }
    key = orders.api_key(order.target)
    if key:
        server["api_key"] = key
    content = {
        "api": {"type": "chat" if order.spec.api == "chat" else "completion", "streaming": True},
        "data": _data(order.spec, order.load.requests),
        "load": _load(order.load),
        "server": server,
        "tokenizer": {"pretrained_model_name_or_path": order.tokenizer},
        "report": {"request_lifecycle": {"summary": True, "per_stage": True, "per_request": True}},
        "storage": {"local_storage": {"path": f"{OUT}/{REPORTS}"}},
    }
    return Recipe(
        (NAME, "-c", f"{FOLDER}/{CONFIG}"),
        {CONFIG: json.dumps(content, indent=1)},
        {
            "requests": f"{OUT}/{REPORTS}/per_request_lifecycle_metrics.json",
            "summary": f"{OUT}/{REPORTS}/stage_0_lifecycle_metrics.json",
        },
        secrets={"LLMD_API_KEY": key} if key else {},
    )


def _data(spec: Spec, count: int) -> dict[str, Any]:
    if spec.kind == "shared_prefix":
        prefix = {
            "num_groups": spec.prefix_groups,
            "num_prompts_per_group": max(1, math.ceil(count / spec.prefix_groups)),
            "system_prompt_len": spec.prefix_words,
            "question_len": round(spec.prompt.mean),
            "output_len": round(spec.output.mean),
        }
        return {"type": "shared_prefix", "shared_prefix": prefix}
    return {
        "type": "random",
        "input_distribution": _distribution(spec.prompt, count),
        "output_distribution": _distribution(spec.output, count),
    }


def _distribution(length: Length, count: int) -> dict[str, Any]:
    mean = round(length.mean)
    if length.kind == "fixed":
        return {"min": mean, "max": mean, "mean": mean, "std_dev": 0, "total_count": count}
    # lognormal: our mean is its median and our deviation the sigma of the logarithm
    spread = length.mean * length.deviation if length.kind == "lognormal" else length.deviation
    return {
        "type": length.kind,
        "min": length.low,
        "max": length.high,
        "mean": mean,
        "std_dev": spread,
        "total_count": count,
    }


def _load(load: Load) -> dict[str, Any]:
    common = {"num_workers": 1, "worker_max_concurrency": load.max_in_flight, "request_timeout": load.request_timeout}
    if load.mode == "open":
        stage = {"rate": load.level, "duration": max(1, math.ceil(load.requests / load.level))}
        return {"type": load.arrivals, "stages": [stage], **common}
    common["worker_max_concurrency"] = max(load.max_in_flight, int(load.level))
    return {
        "type": "concurrent",
        "stages": [{"num_requests": load.requests, "concurrency_level": int(load.level)}],
        **common,
    }


def read(texts: Mapping[str, str], order: Order) -> Found:
    """Its lifecycle report of each request as records. Raises InferenceError ENGINE_RESULT_INVALID."""
    entries = orders.parsed(texts, "requests", NAME)
    try:
        begin = min((float(entry["start_time"]) for entry in entries), default=0.0)
        records = [_record(number, entry, order, begin) for number, entry in enumerate(entries)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise orders.invalid(NAME, f"{type(error).__name__}: {error}") from error
    notes = ["inference-perf makes its own prompts: their length is in tokens of the tokenizer that it was given."]
    if order.load.mode == "open":
        notes.append("inference-perf ends an open loop on time, so the number of requests is about what was asked for.")
    own = own_figures(orders.parsed(texts, "summary", NAME)) if texts.get("summary") else {}
    return Found(records, own=own, notes=notes)


def _record(number: int, entry: Mapping[str, Any], order: Order, begin: float) -> Record:
    sent = float(entry["start_time"]) - begin
    record = Record(number, order.target.label, order.load.level, "measure", sent, sent=sent)
    record.end = float(entry["end_time"]) - begin
    answer = entry["info"].get("response_metrics") or {}
    record.prompt_tokens = int(entry["info"]["request_metrics"]["text"]["input_tokens"])
    times = [float(moment) - begin for moment in answer.get("output_token_times") or []]
    if entry.get("error"):
        record.cause, record.detail = cause_of_text(f"{entry['error']['error_type']}: {entry['error']['error_msg']}")
    elif not times:
        record.cause, record.detail = "no_tokens", "no time of a token"
    else:
        counted = (answer.get("server_usage") or {}).get("completion_tokens")
        record.status, record.first, record.last, record.pieces = 200, times[0], times[-1], len(times)
        record.output_tokens = int(counted if counted is not None else answer["output_tokens"])
        record.counted = counted is None
    return record


def own_figures(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Its own summary under our names."""
    good = summary.get("successes") or {}
    names = {"ttft": "time_to_first_token", "itl": "time_per_output_token", "e2e": "request_latency"}
    figures: dict[str, float | None] = {
        "output_tokens_per_second": (good.get("throughput") or {}).get("output_tokens_per_sec")
    }
    for ours, theirs in names.items():
        values = (good.get("latency") or {}).get(theirs) or {}
        for percent, key in ((50, "median"), (90, "p90"), (99, "p99")):
            figures[f"{ours}.p{percent}"] = values.get(key)
    return figures


ENGINE = Engine(NAME, NAME, f"{NAME}=={VERSION}", (3, 12), "", recipe, read)
