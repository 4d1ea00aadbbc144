"""Scorers by load: shorter queue, emptier KV cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.images.endpoint_picker.plugins.base import Endpoint, Plugin, Request, register


class QueueScorer(Plugin):
    """1 for the shortest queue, 0 for the longest, linear between; 1 for all where all are equal."""

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        queues = {endpoint.identity: endpoint.load.waiting for endpoint in endpoints}
        shortest, longest = min(queues.values()), max(queues.values())
        if shortest == longest:
            return dict.fromkeys(queues, 1.0)
        return {identity: (longest - queue) / (longest - shortest) for identity, queue in queues.items()}


class KvCacheUtilizationScorer(Plugin):
    """The free share of the KV cache."""

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        return {endpoint.identity: 1.0 - endpoint.load.kv_usage for endpoint in endpoints}


@register("queue-scorer")
def _queue(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return QueueScorer("queue-scorer", name)


@register("kv-cache-utilization-scorer")
def _kv_cache(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return KvCacheUtilizationScorer("kv-cache-utilization-scorer", name)
