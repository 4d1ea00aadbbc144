"""Prometheus metrics under the inference extension's names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric

from sandbox.images.endpoint_picker.plugins.base import Endpoint, Plugin

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAST = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_DURATION = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120, 180,
    240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip
_SIZES = tuple(2**power for power in range(6, 31, 2))
_TOKENS = tuple(2**power for power in range(0, 18))
_PER_TOKEN = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_RATIOS = tuple(step / 10 for step in range(11))
_BOTH = ("model_name", "target_model_name")


class Metrics:
    """All of the picker's metrics in one registry. Label sets appear with their first observation, as in Go."""

    def __init__(
        self,
        pool: str,
        endpoints: Callable[[], Sequence[Endpoint]],
        decisions: Mapping[str, int] | None = None,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._pool = pool
        self._endpoints = endpoints
        self.requests = self._counter("inference_objective_request", "Requests by model.", _BOTH)
        self.errors = self._counter(
            "inference_objective_request_error", "Failed requests by model and code.", (*_BOTH, "error_code")
        )
        objective = "inference_objective_"
        self.duration = self._histogram(objective + "request_duration_seconds", "Response latency.", _BOTH, _DURATION)
        self.request_sizes = self._histogram(objective + "request_sizes", "Request bytes.", _BOTH, _SIZES)
        self.response_sizes = self._histogram(objective + "response_sizes", "Response bytes.", _BOTH, _SIZES)
        self.input_tokens = self._histogram(objective + "input_tokens", "Prompt tokens.", _BOTH, _TOKENS)
        self.output_tokens = self._histogram(objective + "output_tokens", "Generated tokens.", _BOTH, _TOKENS)
        self.cached_tokens = self._histogram(objective + "prompt_cached_tokens", "Cached tokens.", _BOTH, _TOKENS)
        self.per_output_token = self._histogram(
            objective + "normalized_time_per_output_token_seconds", "Latency by output token.", _BOTH, _PER_TOKEN
        )
        self.running = self._gauge(objective + "running_requests", "Running requests.", ("model_name",))
        self._ready = self._gauge("inference_pool_ready_pods", "Ready pods.", ("name",))
        self._queue = self._gauge("inference_pool_average_queue_size", "Mean queue.", ("name",))
        self._kv = self._gauge("inference_pool_average_kv_cache_utilization", "Mean KV cache use.", ("name",))
        self._pod_queue = self._gauge("inference_pool_per_pod_queue_size", "Queue.", ("model_server_pod", "name"))
        extension = "inference_extension_"
        self.end_to_end = self._histogram(extension + "scheduler_e2e_duration_seconds", "Scheduling.", (), _FAST)
        self._plugins = self._histogram(
            extension + "plugin_duration_seconds",
            "Time by plugin.",
            ("extension_point", "plugin_name", "plugin_type"),
            _FAST,
        )
        self.prefix_size = self._gauge(extension + "prefix_indexer_size", "Size of the prefix index.", ())
        self._hit_bytes = self._histogram(extension + "prefix_indexer_hit_bytes", "Matched bytes.", (), (0, *_SIZES))
        self._hit_ratio = self._histogram(extension + "prefix_indexer_hit_ratio", "Matched share.", (), _RATIOS)
        self._gauge(extension + "info", "Build.", ("build_ref", "commit")).labels("", "").set(1)
        self._decisions = decisions
        if decisions is not None:
            self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """How often prompts went to a prefill server first, and how often not."""
        found = CounterMetricFamily(
            "llm_d_inference_scheduler_pd_decision", "P/D disaggregation decisions.", labels=["decision_type"]
        )
        for kind, count in sorted((self._decisions or {}).items()):
            found.add_metric([kind], count)
        yield found

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=tuple(buckets))

    @contextmanager
    def timed(self, point: str, plugin: Plugin | object) -> Iterator[None]:
        """Measure one plugin call at an extension point."""
        started = time.perf_counter()
        try:
            yield
        finally:
            kind, name = getattr(plugin, "type", "unknown"), getattr(plugin, "name", "unknown")
            self._plugins.labels(point, name, kind).observe(time.perf_counter() - started)

    def prefix_match(self, matched: int, total: int) -> None:
        """Record one look-up of the prefix index, in bytes; a prompt without whole blocks has no ratio."""
        self._hit_bytes.observe(matched)
        if total > 0:
            self._hit_ratio.observe(matched / total)

    def exposition(self) -> bytes:
        """The text of ``/metrics``; the pool's figures are taken now."""
        endpoints = self._endpoints()
        count = len(endpoints)
        self._ready.labels(self._pool).set(count)
        self._pod_queue.clear()
        for endpoint in endpoints:
            label = endpoint.identity.split("/", 1)[1]
            self._pod_queue.labels(label, self._pool).set(endpoint.load.waiting)
        queue = sum(endpoint.load.waiting for endpoint in endpoints)
        kv = sum(endpoint.load.kv_usage for endpoint in endpoints)
        self._queue.labels(self._pool).set(queue / count if count else 0)
        self._kv.labels(self._pool).set(kv / count if count else 0)
        return generate_latest(self.registry)
