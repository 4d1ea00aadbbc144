"""Runs the profiles of a configuration over the ready endpoints."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sandbox.images.endpoint_picker.config import Configuration, Profile, Saturation
from sandbox.images.endpoint_picker.metrics import Metrics
from sandbox.images.endpoint_picker.plugins.base import Endpoint, ProfileResult, Request, SchedulingResult
from sandbox.images.endpoint_picker.plugins.prefix import PrefixCacheScorer


class SchedulingError(Exception):
    """No endpoint can take the request."""


def saturated(endpoints: Sequence[Endpoint], limits: Saturation, *, now: float, interval: float) -> bool:
    """Has no endpoint room? One has room whose metrics are fresh and whose queue and KV cache are below the limits.

    ``interval`` (seconds between scrapes right now) widens the freshness limit: an idle picker looks less often.
    """
    fresh = max(limits.staleness, 3 * interval)
    return not any(
        endpoint.load.updated
        and now - endpoint.load.updated <= fresh
        and endpoint.load.waiting <= limits.queue_depth
        and endpoint.load.kv_usage <= limits.kv_usage
        for endpoint in endpoints
    )


class Scheduler:
    """Schedules one request at a time; plugins keep their own memory."""

    def __init__(self, configuration: Configuration, metrics: Metrics) -> None:
        self._configuration = configuration
        self._metrics = metrics
        self._prefix = [plugin for plugin in configuration.plugins.values() if isinstance(plugin, PrefixCacheScorer)]

    def schedule(self, request: Request, endpoints: Sequence[Endpoint]) -> tuple[SchedulingResult, dict[str, str]]:
        """Pick; the result and headers that plugins want added to the request. Raises SchedulingError."""
        started = time.perf_counter()
        result = self._run(request, endpoints)
        self._metrics.end_to_end.observe(time.perf_counter() - started)
        headers: dict[str, str] = {}
        for plugin in self._configuration.pre_request():
            with self._metrics.timed("PreRequest", plugin):
                headers.update(plugin.pre_request(request, result) or {})
        for scorer in self._prefix:
            while scorer.matched:
                self._metrics.prefix_match(*scorer.matched.pop())
        return result, headers

    def forget(self, endpoints: Sequence[Endpoint]) -> None:
        """Drop what is remembered of endpoints that are not in the list, and refresh the index's size."""
        known = {endpoint.identity for endpoint in endpoints}
        for scorer in self._prefix:
            scorer.index.keep(known)
        self._metrics.prefix_size.set(sum(len(scorer.index) for scorer in self._prefix))

    def _run(self, request: Request, endpoints: Sequence[Endpoint]) -> SchedulingResult:
        handler, profiles = self._configuration.handler, self._configuration.profiles
        done: dict[str, ProfileResult | None] = {}
        while True:
            with self._metrics.timed("ProfilePicker", handler):
                names = handler.profiles(request, list(profiles), done)
            if not names:
                break
            for name in names:
                done[name] = self._profile(profiles[name], request, endpoints)
        with self._metrics.timed("ProcessProfilesResults", handler):
            try:
                return handler.result(request, done)
            except ValueError as error:
                raise SchedulingError(str(error)) from None

    def _profile(self, profile: Profile, request: Request, endpoints: Sequence[Endpoint]) -> ProfileResult | None:
        """What a profile picks; None where its filters leave nothing."""
        left = list(endpoints)
        for chosen in profile.filters:
            with self._metrics.timed("Filter", chosen):
                left = chosen.filter(request, left)
            if not left:
                break
        if not left:
            return None
        totals = {endpoint.identity: 0.0 for endpoint in left}
        for scorer, weight in profile.scorers:
            with self._metrics.timed("Scorer", scorer):
                scores = scorer.score(request, left)
            for identity, score in scores.items():
                totals[identity] += min(1.0, max(0.0, score)) * weight
        picker = profile.picker
        assert picker is not None
        with self._metrics.timed("Picker", picker):
            return ProfileResult(picker.pick([(endpoint, totals[endpoint.identity]) for endpoint in left]))
