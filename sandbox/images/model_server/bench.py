"""``vllm bench serve``: a small load generator with vLLM's command line and result file, for Jobs in this image.

Measures for real, by its own few lines: what it writes is what the requests took, only the program is not vLLM's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import aiohttp

from sandbox.images.model_server import tokenizer

METRICS = {"ttft": "ttfts", "tpot": "tpots", "itl": "gaps", "e2el": "e2els"}


class Parser(argparse.ArgumentParser):
    """vLLM's words for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"usage: vllm bench serve [options]\nvllm bench serve: error: {message}\n")


@dataclass
class Output:
    """One request, as vLLM keeps it."""

    prompt_len: int = 0
    ttft: float = 0.0
    itl: list[float] = field(default_factory=list)
    text: str = ""
    tokens: int = 0
    error: str = ""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Those of vLLM's options that a caller of ours gives."""
    parser = Parser(prog="vllm bench serve", add_help=False, allow_abbrev=False)
    parser.add_argument("--backend", default="openai", choices=["openai", "openai-chat", "vllm"])
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--endpoint", default="/v1/completions")
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokenizer")
    parser.add_argument("--dataset-name", default="random", choices=["custom"])
    parser.add_argument("--dataset-path", type=Path, required=True)
    parser.add_argument("--custom-output-len", type=int, default=256)
    parser.add_argument("--custom-skip-chat-template", action="store_true")
    parser.add_argument("--num-prompts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-concurrency", type=int)
    parser.add_argument("--request-rate", type=float, default=math.inf)
    parser.add_argument("--burstiness", type=float, default=1.0)
    parser.add_argument("--ignore-eos", action="store_true")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--extra-body", type=json.loads, default={})
    parser.add_argument("--save-result", action="store_true")
    parser.add_argument("--save-detailed", action="store_true")
    parser.add_argument("--result-dir", type=Path, default=Path())
    parser.add_argument("--result-filename", default="result.json")
    parser.add_argument("--percentile-metrics", default="ttft,tpot,itl")
    parser.add_argument("--metric-percentiles", default="99")
    parser.add_argument("--disable-tqdm", action="store_true")
    parser.add_argument("--ready-check-timeout-sec", type=float, default=600)
    return parser.parse_args(words)


def prompts_of(given: argparse.Namespace) -> list[str]:
    """The data set's prompts, again from the start where there are too few."""
    lines = [json.loads(line)["prompt"] for line in given.dataset_path.read_text().splitlines() if line.strip()]
    random.Random(given.seed).shuffle(lines)
    return [lines[number % len(lines)] for number in range(given.num_prompts)]


async def send(session: aiohttp.ClientSession, given: argparse.Namespace, prompt: str) -> Output:
    """One streamed request. Never raises: an error is a text, as vLLM keeps it."""
    output = Output(len(tokenizer.tokenize(prompt)))
    body: dict[str, Any] = {"model": given.model, "max_tokens": given.custom_output_len, "stream": True}
    body |= {"temperature": given.temperature, "stream_options": {"include_usage": True}, **given.extra_body}
    if given.ignore_eos:
        body["ignore_eos"] = True
    if given.backend == "openai-chat":
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt
    started = before = time.perf_counter()
    try:
        async with session.post(given.base_url + given.endpoint, json=body) as answer:
            if answer.status != 200:
                output.error = answer.reason or ""
                return output
            async for line in answer.content:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                event = json.loads(line[6:])
                now = time.perf_counter()
                if usage := event.get("usage"):
                    output.tokens = usage["completion_tokens"]
                for choice in event.get("choices") or []:
                    text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
                    if not output.ttft:
                        output.ttft = now - started
                    else:
                        output.itl.append(now - before)
                    before = now
                    output.text += text
        if not output.ttft:
            output.error = "Never received a valid chunk to calculate TTFT."
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        output.error = f"{type(error).__name__}: {error}"
    return output


async def load(given: argparse.Namespace) -> dict[str, Any]:
    """Ask all prompts and put the result together."""
    prompts = prompts_of(given)
    slots = asyncio.Semaphore(given.max_concurrency or len(prompts))
    source = random.Random(given.seed)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=6 * 3600)) as session:
        print("Starting initial single prompt test run...", flush=True)
        deadline = time.monotonic() + given.ready_check_timeout_sec
        while (tried := await send(session, given, prompts[0])).error and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
        if tried.error:
            raise ValueError(
                "Initial test run failed - Please make sure benchmark arguments are correctly specified. "
                f"Error: {tried.error}"
            )

        async def one(prompt: str) -> Output:
            async with slots:
                return await send(session, given, prompt)

        started = time.perf_counter()
        tasks = []
        for prompt in prompts:
            tasks.append(asyncio.create_task(one(prompt)))
            if given.request_rate < math.inf:
                await asyncio.sleep(source.gammavariate(given.burstiness, 1 / (given.request_rate * given.burstiness)))
        outputs = await asyncio.gather(*tasks)
        return result(given, outputs, time.perf_counter() - started)


def result(given: argparse.Namespace, outputs: Sequence[Output], duration: float) -> dict[str, Any]:
    """vLLM's result file."""
    good = [output for output in outputs if not output.error]
    values = {
        "ttfts": [output.ttft for output in good],
        "gaps": [gap for output in good for gap in output.itl],
        "e2els": [output.ttft + sum(output.itl) for output in good],
        "tpots": [sum(output.itl) / (output.tokens - 1) for output in good if output.tokens > 1],
    }
    content: dict[str, Any] = {
        "date": datetime.now().strftime("%Y%m%d-%H%M%S"), "backend": given.backend, "label": None,
        "model_id": given.model, "tokenizer_id": given.tokenizer or given.model, "num_prompts": given.num_prompts,
        "request_rate": "inf" if given.request_rate == math.inf else given.request_rate,
        "burstiness": given.burstiness, "max_concurrency": given.max_concurrency, "duration": duration,
        "completed": len(good), "total_input_tokens": sum(output.prompt_len for output in good),
        "total_output_tokens": sum(output.tokens for output in good), "request_throughput": len(good) / duration,
        "output_throughput": sum(output.tokens for output in good) / duration,
        "input_lens": [output.prompt_len for output in outputs], "output_lens": [output.tokens for output in outputs],
        "ttfts": [output.ttft for output in outputs], "itls": [output.itl for output in outputs],
        "generated_texts": [output.text for output in outputs], "errors": [output.error for output in outputs],
    }  # fmt: skip
    for name in given.percentile_metrics.split(","):
        ordered = sorted(values[METRICS[name]])
        for percent in given.metric_percentiles.split(","):
            place = min(len(ordered) - 1, int(len(ordered) * float(percent) / 100))
            content[f"p{percent}_{name}_ms"] = ordered[place] * 1000 if ordered else 0.0
    if not given.save_detailed:
        for key in ("input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors"):
            del content[key]
    return content


def main(words: Sequence[str]) -> int:
    """Exit status: 0, 1 where the first request fails, 2 for a wrong command line."""
    given = parse(words)
    try:
        content = asyncio.run(load(given))
    except ValueError as error:
        print(f"Traceback (most recent call last):\n  ...\nValueError: {error}", flush=True)
        return 1
    print(f"Successful requests: {content['completed']}", flush=True)
    if given.save_result:
        given.result_dir.mkdir(parents=True, exist_ok=True)
        (given.result_dir / given.result_filename).write_text(json.dumps(content))
    return 0
