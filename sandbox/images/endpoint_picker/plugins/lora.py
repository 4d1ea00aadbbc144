"""Scorer by LoRA adapters: a server that runs the adapter, else one that has a place for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.images.endpoint_picker.plugins.base import Endpoint, Plugin, Request, register

RUNNING, ROOM, WAITING = 1.0, 0.8, 0.6


class LoraAffinityScorer(Plugin):
    """1 where the adapter (the request's model) runs, 0.8 where one more may, 0.6 where it waits, else 0."""

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        return {each.identity: self._score(request.model, each) for each in endpoints}

    def _score(self, model: str, endpoint: Endpoint) -> float:
        load = endpoint.load
        if model in load.running_adapters:
            return RUNNING
        if len(load.running_adapters) + len(load.waiting_adapters) < load.max_adapters:
            return ROOM
        return WAITING if model in load.waiting_adapters else 0.0


@register("lora-affinity-scorer")
def _lora(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return LoraAffinityScorer("lora-affinity-scorer", name)
