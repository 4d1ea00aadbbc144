"""``vllm serve`` as a command line: the options a chart or a person passes, refused as vLLM's argparse refuses them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

VERSION = "0.11.2"
_USAGE = "vllm serve [model_tag] [options]"
_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")

# Accepted and without effect here: option, number of values ("0", "1" or "*").
_IGNORED: tuple[tuple[str, str], ...] = (
    ("--disable-uvicorn-access-log", "0"),
    ("--disable-log-requests", "0"),
    ("--no-enable-log-requests", "0"),
    ("--enable-log-requests", "0"),
    ("--disable-log-stats", "0"),
    ("--enforce-eager", "0"),
    ("--trust-remote-code", "0"),
    ("--enable-auto-tool-choice", "0"),
    ("--enable-chunked-prefill", "0"),
    ("--no-enable-chunked-prefill", "0"),
    ("--enable-prefix-caching", "0"),
    ("--enable-expert-parallel", "0"),
    ("--async-scheduling", "0"),
    ("--uvicorn-log-level", "1"),
    ("--seed", "1"),
    ("--revision", "1"),
    ("--tokenizer", "1"),
    ("--download-dir", "1"),
    ("--load-format", "1"),
    ("--quantization", "1"),
    ("--kv-cache-dtype", "1"),
    ("--swap-space", "1"),
    ("--attention-backend", "1"),
    ("--kv-transfer-config", "1"),
    ("--kv-events-config", "1"),
    ("--compilation-config", "1"),
    ("--tool-call-parser", "1"),
    ("--reasoning-parser", "1"),
    ("--chat-template", "1"),
    ("--generation-config", "1"),
    ("--distributed-executor-backend", "1"),
    ("--prefix-caching-hash-algo", "1"),
    ("--data-parallel-hybrid-lb", "0"),
    ("--data-parallel-backend", "1"),
    ("--all2all-backend", "1"),
    ("--enable-eplb", "0"),
    ("--max-cpu-loras", "1"),
    ("--max-lora-rank", "1"),
    ("--api-server-count", "1"),
    ("--allowed-origins", "1"),
    ("--root-path", "1"),
    ("--timeout-keep-alive", "1"),
    ("--allowed-local-media-path", "1"),
)


@dataclass(frozen=True)
class Group:
    """Data parallelism over several pods: ``size`` ranks in all, ``local`` of them here, from ``rank`` on."""

    size: int
    local: int
    rank: int
    address: str
    port: int


@dataclass(frozen=True)
class Arguments:
    """What the command line says. ``max_model_len`` None: the model's own; ``block_override`` None: by memory.

    ``chunk``: prompt tokens in one step. ``connector``: the KV connector. ``adapters``: (name, path) of each.
    ``events``: (endpoint, topic) of the KV events.
    """

    model: str
    host: str | None
    port: int
    names: tuple[str, ...]
    max_model_len: int | None
    memory_utilization: float
    dtype: str
    max_num_seqs: int
    block_size: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    block_override: int | None
    prefix_caching: bool
    prompt_tokens_details: bool
    api_key: str | None
    chunk: int = 2048
    connector: str = ""
    adapters: tuple[tuple[str, str], ...] = ()
    max_adapters: int = 1
    lora: bool = False
    group: Group | None = None
    headless: bool = False
    events: tuple[str, str] | None = None


class _Parser(argparse.ArgumentParser):
    """argparse with vLLM's habits: underscores mean hyphens, and an unknown option is the main program's error."""

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        given, unknown = self.parse_known_args(words)
        if unknown:
            usage = "usage: vllm [-h] [-v] {chat,complete,serve,bench,collect-env,run-batch} ..."
            self.exit(2, f"{usage}\nvllm: error: unrecognized arguments: {' '.join(unknown)}\n")
        return given


def _whole(text: str) -> int:
    """A length as vLLM takes it: 2048, 2k (thousands) or 2K (of 1024)."""
    factors = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
    try:
        if text and text[-1] in factors:
            return int(float(text[:-1]) * factors[text[-1]])
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}") from None


def _build() -> _Parser:
    parser = _Parser(prog="vllm serve", usage=_USAGE, allow_abbrev=False)
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--model")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", nargs="+", default=[])
    parser.add_argument("--max-model-len", type=_whole)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--dtype", choices=_DTYPES, default="auto")
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--block-size", type=int, choices=(1, 8, 16, 32, 64, 128, 256), default=16)
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    parser.add_argument("--data-parallel-size", "-dp", type=int, default=1)
    parser.add_argument("--data-parallel-size-local", "-dpl", type=int)
    parser.add_argument("--data-parallel-address", "-dpa", default="127.0.0.1")
    parser.add_argument("--data-parallel-rpc-port", "-dpp", type=int, default=29550)
    parser.add_argument("--data-parallel-start-rank", "-dpr", type=int, default=0)
    parser.add_argument("--headless", action="store_true")
    parser.add_argument("--max-num-batched-tokens", type=_whole, default=2048)
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--lora-modules", nargs="+", default=[], type=_adapter)
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--num-gpu-blocks-override", type=int)
    parser.add_argument("--no-enable-prefix-caching", action="store_true")
    parser.add_argument("--enable-prompt-tokens-details", action="store_true")
    parser.add_argument("--api-key")
    for option, values in _IGNORED:
        if values == "0":
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option)
    return parser


def parse(arguments: Sequence[str]) -> Arguments:
    """The arguments after ``vllm serve``.

    Exits 2 with argparse's words on stderr where they are wrong, as the real program does.
    """
    parser = _build()
    fixed = [_hyphenated(argument) for argument in arguments]
    given = parser.parse(fixed)
    for option in ("kv_transfer_config", "kv_events_config", "compilation_config"):
        _check_json(parser, option, getattr(given, option))
    if not 0 < given.gpu_memory_utilization <= 1:
        parser.error(f"argument --gpu-memory-utilization: must be in (0, 1], got {given.gpu_memory_utilization}")
    if given.max_num_seqs < 1:
        parser.error(f"argument --max-num-seqs: must be at least 1, got {given.max_num_seqs}")
    if given.max_loras < 1:
        parser.error(f"argument --max-loras: max_loras ({given.max_loras}) must be at least 1.")
    model = given.model_tag or given.model or "Qwen/Qwen3-0.6B"
    transfer = json.loads(given.kv_transfer_config or "{}")
    return Arguments(
        model=model,
        host=given.host,
        port=given.port,
        names=tuple(given.served_model_name) or (model,),
        max_model_len=given.max_model_len,
        memory_utilization=given.gpu_memory_utilization,
        dtype=given.dtype,
        max_num_seqs=given.max_num_seqs,
        block_size=given.block_size,
        tensor_parallel=given.tensor_parallel_size,
        pipeline_parallel=given.pipeline_parallel_size,
        data_parallel=given.data_parallel_size,
        block_override=given.num_gpu_blocks_override,
        prefix_caching=not given.no_enable_prefix_caching,
        prompt_tokens_details=given.enable_prompt_tokens_details,
        api_key=given.api_key,
        chunk=given.max_num_batched_tokens,
        connector=str(transfer.get("kv_connector") or ""),
        adapters=tuple(given.lora_modules),
        max_adapters=given.max_loras,
        lora=given.enable_lora,
        group=_group(given),
        headless=given.headless,
        events=_events(parser, json.loads(given.kv_events_config or "{}")),
    )


def _group(given: argparse.Namespace) -> Group | None:
    """The group of pods that this one belongs to; None where all ranks are here."""
    local = given.data_parallel_size_local or given.data_parallel_size
    if local >= given.data_parallel_size:
        return None
    address, port = given.data_parallel_address, given.data_parallel_rpc_port
    return Group(given.data_parallel_size, local, given.data_parallel_start_rank, address, port)


def _events(parser: argparse.ArgumentParser, config: dict[str, Any]) -> tuple[str, str] | None:
    if not config.get("enable_kv_cache_events") or config.get("publisher", "zmq") != "zmq":
        return None
    endpoint = str(config.get("endpoint") or "tcp://*:5557")
    if "*" in endpoint or not re.fullmatch(r"tcp://[^/]+:[0-9]+", endpoint):
        parser.error(f"sandbox stand-in: --kv-events-config endpoint {endpoint}: only one to connect to is modelled")
    return endpoint, str(config.get("topic") or "")


def _adapter(text: str) -> tuple[str, str]:
    """``name=path``, or JSON with name and path."""
    if text.startswith("{"):
        try:
            found = json.loads(text)
            return str(found["name"]), str(found["path"])
        except (ValueError, KeyError):
            raise argparse.ArgumentTypeError(f"Invalid JSON format for --lora-modules: {text}") from None
    name, equals, path = text.partition("=")
    if not (name and equals and path) or "," in text:
        raise argparse.ArgumentTypeError(f"Invalid fields for LoRA module: {text}; name=path is expected")
    return name, path


def _hyphenated(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _check_json(parser: argparse.ArgumentParser, option: str, text: str | None) -> None:
    if text is None or not text.lstrip().startswith("{"):
        return
    try:
        json.loads(text)
    except ValueError:
        parser.error(f"argument --{option.replace('_', '-')}: Value {text} cannot be converted to <function loads>.")
