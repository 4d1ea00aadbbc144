"""Pickers and the profile handler of a single profile."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.images.endpoint_picker.plugins.base import (
    Endpoint,
    Plugin,
    ProfileResult,
    Request,
    SchedulingResult,
    register,
)


class MaxScorePicker(Plugin):
    """The best scored endpoints; equals are drawn by lot."""

    def __init__(self, name: str, most: int = 1, lot: random.Random | None = None) -> None:
        super().__init__("max-score-picker", name)
        self._most = most
        self._lot = lot or random.Random()

    def pick(self, scored: Sequence[tuple[Endpoint, float]]) -> list[Endpoint]:
        shuffled = list(scored)
        self._lot.shuffle(shuffled)
        shuffled.sort(key=lambda pair: -pair[1])
        return [endpoint for endpoint, _ in shuffled[: self._most]]


class RandomPicker(MaxScorePicker):
    """Any endpoint, whatever its score."""

    def __init__(self, name: str, most: int = 1, lot: random.Random | None = None) -> None:
        super().__init__(name, most, lot)
        self.type = "random-picker"

    def pick(self, scored: Sequence[tuple[Endpoint, float]]) -> list[Endpoint]:
        return super().pick([(endpoint, 0.0) for endpoint, _ in scored])


class SingleProfileHandler(Plugin):
    """Runs the one profile there is, once."""

    def profiles(self, request: Request, known: Sequence[str], done: Mapping[str, ProfileResult | None]) -> list[str]:
        return [] if len(done) == len(known) else list(known)

    def result(self, request: Request, done: Mapping[str, ProfileResult | None]) -> SchedulingResult:
        name, found = next(iter(done.items()))
        if found is None:
            raise ValueError("no endpoints available for the given request")
        return SchedulingResult({name: found}, name)


@register("max-score-picker")
def _max_score(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return MaxScorePicker(name, max(1, int(parameters.get("maxNumOfEndpoints", 1))))


@register("random-picker")
def _random(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return RandomPicker(name, max(1, int(parameters.get("maxNumOfEndpoints", 1))))


@register("single-profile-handler")
def _single(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return SingleProfileHandler("single-profile-handler", name)
