# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vllm bench serve``, as it lies in the model server's own image: nothing more has to be pulled.

It says how long each token took but not, before its later versions, when a request was sent. A failure is an empty time
to first token with an error text. Its tokens are the server's usage where that comes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Record
from ansible_collections.llmd.gke.plugins.module_utils.engines import order as orders
from ansible_collections.llmd.gke.plugins.module_utils.engines.causes import cause_of_text
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import FOLDER, OUT, Engine, Found, Order, Recipe

NAME = "vllm"
OUTPUT = "vllm.json"
PROMPTS = "prompts.jsonl"
# the endpoint was found ready before; a request that fails for this long is the answer
READY = "10"
# what it leaves that is large and of no use here
TEXTS = ("generated_texts", "generated_tool_calls")


def recipe(order: Order) -> Recipe:
    """The command in the model image. Raises ConfigurationError ENGINE_UNFIT."""
    orders.check(NAME, order)
    spec, load = order.spec, order.load
    chat = spec.api == "chat"
    command = [
        "vllm", "bench", "serve",
        "--backend", "openai-chat" if chat else "openai",
        "--endpoint", f"{order.target.prefix}/v1/chat/completions" if chat else f"{order.target.prefix}/v1/completions",
        "--base-url", order.target.url.removesuffix(order.target.prefix) if order.target.prefix else order.target.url,
        "--model", spec.model,
        "--dataset-name", "custom", "--dataset-path", f"{FOLDER}/{PROMPTS}",
        "--custom-output-len", str(round(spec.output.mean)), "--custom-skip-chat-template",
        "--num-prompts", str(load.requests), "--seed", str(spec.seed),
        "--save-result", "--save-detailed", "--result-dir", OUT, "--result-filename", OUTPUT,
        "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,95,99",
        "--disable-tqdm", "--ready-check-timeout-sec", READY,
    ]  # fmt: skip
    if order.tokenizer:
        command += ["--tokenizer", order.tokenizer]
    if load.mode == "open":
        command += ["--request-rate", f"{load.level:g}", "--max-concurrency", str(load.max_in_flight)]
        # equal gaps are a gamma distribution of a large shape to it
        command += [] if load.arrivals == "poisson" else ["--burstiness", "1000"]
    else:
        command += ["--max-concurrency", f"{load.level:g}"]
    if spec.ignore_eos:
        command.append("--ignore-eos")
    if spec.temperature:
        command += ["--temperature", f"{spec.temperature:g}"]
    if spec.extra:
        command += ["--extra-body", json.dumps(dict(spec.extra))]
    lines = [json.dumps({"prompt": text, "output_tokens": output}) for text, output in order.prompts()]
    key = orders.api_key(order.target)
    return Recipe(
        tuple(command),
        {PROMPTS: "\n".join(lines) + "\n"},
        {"result": f"{OUT}/{OUTPUT}"},
        secrets={"OPENAI_API_KEY": key} if key else {},
        drop=TEXTS,
    )


def read(texts: Mapping[str, str], order: Order) -> Found:
    """Its detailed result as records. Raises InferenceError ENGINE_RESULT_INVALID."""
    document = orders.parsed(texts, "result", NAME)
    try:
        starts = document.get("start_times")
        begin = min(starts) if starts else 0.0
        records = [
            _record(number, document, order, (starts[number] - begin) if starts else 0.0)
            for number in range(len(document["ttfts"]))
        ]
        window = float(document["duration"])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise orders.invalid(NAME, f"{type(error).__name__}: {error}; saved with --save-detailed?") from error
    notes = []
    if order.spec.output.kind != "fixed":
        notes.append("vllm asks for one answer length: the mean of the wanted ones.")
    if not starts:
        notes.append("vllm does not say when requests were sent: no intervals of rates, no figures over time.")
    return Found(records, "", bool(starts), window, own_figures(document), notes)


def _record(number: int, document: Mapping[str, Any], order: Order, start: float) -> Record:
    first, gaps = float(document["ttfts"][number] or 0.0), document["itls"][number] or []
    error = str((document.get("errors") or {number: ""})[number] or "")
    record = Record(number, order.target.label, order.load.level, "measure", start, sent=start, status=200)
    record.prompt_tokens = int(document["input_lens"][number])
    if error or first <= 0:
        record.cause, record.detail = cause_of_text(error or "Never received a valid chunk")
        record.end, record.status = start, 0
        return record
    record.first = start + first
    record.last = record.end = record.first + sum(gaps)
    record.output_tokens, record.pieces = int(document["output_lens"][number]), len(gaps) + 1
    return record


def own_figures(document: Mapping[str, Any]) -> dict[str, float | None]:
    """Its own summary under our names. Its mean over gaps is called itl, ours over requests is its tpot."""
    figures: dict[str, float | None] = {"output_tokens_per_second": document.get("output_throughput")}
    for ours, theirs in (("ttft", "ttft"), ("itl", "tpot"), ("e2e", "e2el")):
        for percent in (50, 90, 99):
            value = document.get(f"p{percent}_{theirs}_ms")
            figures[f"{ours}.p{percent}"] = None if value is None else float(value) / 1000
    return figures


ENGINE = Engine(NAME, "vllm", "", (3, 9), "", recipe, read)
