"""Prometheus metrics under vLLM's names. The endpoint picker reads three of them twenty times a second."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
_FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class Metrics:
    """One model's metrics in a registry of their own. ``exposition()`` is rendered only after a change."""

    def __init__(self, model: str, *, block_size: int, blocks: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # vLLM's exposition has no _created series
        self.registry = CollectorRegistry()
        self._model = model
        self._text = b""
        self._changed = True
        self.running = self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self.waiting = self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self.kv_usage = self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        self.prompt_tokens = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self.generation_tokens = self._counter("generation_tokens", "Number of generation tokens processed.")
        self.prefix_queries = self._counter("prefix_cache_queries", "Prefix cache queries, in number of tokens.")
        self.prefix_hits = self._counter("prefix_cache_hits", "Prefix cache hits, in number of tokens.")
        self.preemptions = self._counter("num_preemptions", "Cumulative number of preemptions from the engine.")
        self._success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            ["finish_reason", "model_name"],
            registry=self.registry,
        )
        self.end_to_end = self._histogram("e2e_request_latency_seconds", "End to end request latency.", _LATENCY)
        self.queue_time = self._histogram("request_queue_time_seconds", "Time spent waiting.", _LATENCY)
        self.inference_time = self._histogram("request_inference_time_seconds", "Time spent running.", _LATENCY)
        self.prefill_time = self._histogram("request_prefill_time_seconds", "Time spent in prefill.", _LATENCY)
        self.decode_time = self._histogram("request_decode_time_seconds", "Time spent in decode.", _LATENCY)
        self.first_token = self._histogram("time_to_first_token_seconds", "Time to first token.", _FIRST_TOKEN)
        self.inter_token = self._histogram("inter_token_latency_seconds", "Inter-token latency.", _PER_TOKEN)
        self.per_output_token = self._histogram("time_per_output_token_seconds", "As inter-token latency.", _PER_TOKEN)
        self.prompt_length = self._histogram("request_prompt_tokens", "Prefill tokens of a request.", _TOKENS)
        self.generation_length = self._histogram("request_generation_tokens", "Tokens generated.", _TOKENS)
        self.generation_most = self._histogram("max_num_generation_tokens", "Most tokens of a request.", _TOKENS)
        self.max_tokens = self._histogram("request_params_max_tokens", "The max_tokens parameter.", _TOKENS)
        self.transfer_time = self._histogram("nixl_xfer_time_seconds", "Transfer duration for NIXL KV.", _LATENCY)
        self.transfers_failed = self._counter("nixl_num_failed_transfers", "Number of failed NIXL KV transfers.")
        self._adapters = Gauge(
            "vllm:lora_requests_info",
            "Running stats on lora requests.",
            ["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
            registry=self.registry,
        )
        self.adapters(1, (), ())
        self._constant(block_size, blocks)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, ["model_name"], registry=self.registry).labels(self._model)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, ["model_name"], registry=self.registry).labels(self._model)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        whole = Histogram(f"vllm:{name}", text, ["model_name"], registry=self.registry, buckets=tuple(buckets))
        return whole.labels(self._model)

    def _constant(self, block_size: int, blocks: int) -> None:
        cache = Gauge(
            "vllm:cache_config_info",
            "Information of the LLMEngine CacheConfig",
            ["block_size", "num_gpu_blocks"],
            registry=self.registry,
        )
        cache.labels(str(block_size), str(blocks)).set(1)

    def adapters(self, most: int, running: Iterable[str], waiting: Iterable[str]) -> None:
        """Which adapters have requests running and waiting; the value is the time of the change."""
        self._adapters.clear()
        self._adapters.labels(str(most), ",".join(sorted(running)), ",".join(sorted(waiting))).set(time.time())

    def finished(self, reason: str) -> None:
        """Count one finished sequence: ``stop``, ``length`` or ``abort``."""
        self._success.labels(reason, self._model).inc()

    def changed(self) -> None:
        """Say that a value moved; the next ``exposition()`` renders anew."""
        self._changed = True

    def exposition(self) -> bytes:
        """The text of ``/metrics``."""
        if self._changed:
            self._changed = False
            self._text = generate_latest(self.registry)
        return self._text
