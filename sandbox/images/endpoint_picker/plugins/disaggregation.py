"""Prefill/decode disaggregation: decode first, then, where the prompt is worth it, a prefill server for the sidecar."""

from __future__ import annotations

from collections import Counter
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
from sandbox.images.endpoint_picker.plugins.prefix import TYPE as PREFIX
from sandbox.images.endpoint_picker.plugins.prefix import Match

HEADER = "x-prefiller-host-port"
CHARACTERS_PER_TOKEN = 4
DECODE_ONLY, PREFILL_DECODE = "decode-only", "prefill-decode"


def cached_share(request: Request, scorer: str, endpoint: Endpoint) -> float:
    """The share of a prompt that an endpoint holds already, as the prefix scorer of that name found it."""
    match = request.state.get(scorer)
    if not isinstance(match, Match) or not match.hashes:
        return 0.0
    return match.servers.get(endpoint.identity, 0) / len(match.hashes)


class PrefixBasedDecider(Plugin):
    """Disaggregates prompts of which at least so many tokens are not cached; 0: all of them."""

    def __init__(self, name: str, tokens: int) -> None:
        super().__init__("prefix-based-pd-decider", name)
        self._tokens = tokens

    def worth_it(self, request: Request, endpoint: Endpoint, scorer: str) -> bool:
        if self._tokens <= 0:
            return True
        length = len(request.prompt.encode()) / CHARACTERS_PER_TOKEN
        return length * (1 - cached_share(request, scorer, endpoint)) >= self._tokens


class AlwaysDecider(Plugin):
    """Disaggregates every prompt."""

    def worth_it(self, request: Request, endpoint: Endpoint, scorer: str) -> bool:
        return True


class PdProfileHandler(Plugin):
    """Runs the decode profile, then the prefill profile for prompts that are worth it.

    ``threshold`` (v0.4): characters of the prompt that must not be cached on the chosen decode server; 0: always.
    ``decider`` (later): name of the plugin that says so instead. No prefill server: decode alone.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 0,
        decode: str = "decode",
        prefill: str = "prefill",
        prefix: str = PREFIX,
        decider: str = "",
    ) -> None:
        super().__init__("pd-profile-handler", name)
        self._threshold = threshold
        self._decode = decode
        self._prefill = prefill
        self._prefix = prefix
        self._decider_name = decider
        self._decider: PrefixBasedDecider | AlwaysDecider | None = None
        self.decisions: Counter[str] = Counter()

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Find the decider. Raises ValueError where there is none of that name."""
        if not self._decider_name:
            return
        found = plugins.get(self._decider_name)
        if not isinstance(found, (PrefixBasedDecider, AlwaysDecider)):
            raise ValueError(f"invalid decider plugin type: {self._decider_name}")
        self._decider = found

    def profiles(self, request: Request, known: Sequence[str], done: Mapping[str, ProfileResult | None]) -> list[str]:
        if self._decode not in done:
            return [self._decode]
        chosen = done[self._decode]
        if chosen is None or self._prefill in done or self._prefill not in known:
            return []
        return [self._prefill] if self._worth_it(request, chosen.targets[0]) else []

    def _worth_it(self, request: Request, endpoint: Endpoint) -> bool:
        if self._decider is not None:
            return self._decider.worth_it(request, endpoint, self._prefix)
        if self._threshold <= 0:
            return True
        missing = len(request.prompt.encode()) * (1 - cached_share(request, self._prefix, endpoint))
        return missing >= self._threshold

    def result(self, request: Request, done: Mapping[str, ProfileResult | None]) -> SchedulingResult:
        found = {name: each for name, each in done.items() if each is not None}
        if self._decode not in found:
            raise ValueError("failed to find available decode workers")
        self.decisions[PREFILL_DECODE if self._prefill in found else DECODE_ONLY] += 1
        return SchedulingResult(found, self._decode)


class PrefillHeaderHandler(Plugin):
    """Tells the decode server's sidecar where to prefill. What a client put there is taken away."""

    def __init__(self, name: str, profile: str = "prefill") -> None:
        super().__init__("prefill-header-handler", name)
        self._profile = profile

    def pre_request(self, request: Request, result: SchedulingResult) -> dict[str, str] | None:
        found = result.profiles.get(self._profile)
        if found is not None:
            return {HEADER: found.targets[0].destination}
        return {HEADER: ""} if HEADER in request.headers else None


@register("pd-profile-handler")
def _handler(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return PdProfileHandler(
        name,
        threshold=int(parameters.get("threshold") or 0),
        decode=str(parameters.get("decodeProfile") or "decode"),
        prefill=str(parameters.get("prefillProfile") or "prefill"),
        prefix=str(parameters.get("prefixPluginName") or parameters.get("prefixPluginType") or PREFIX),
        decider=str(parameters.get("deciderPluginName") or ""),
    )


@register("prefill-header-handler")
def _header(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return PrefillHeaderHandler(name, str(parameters.get("prefillProfile") or "prefill"))


@register("prefix-based-pd-decider")
def _decider(name: str, parameters: Mapping[str, Any]) -> Plugin:
    tokens = int(parameters.get("nonCachedTokens") or 0)
    if tokens < 0:
        raise ValueError("nonCachedTokens parameter of prefix disaggregation decider cannot be negative")
    return PrefixBasedDecider(name, tokens)


@register("always-disagg-pd-decider")
def _always(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return AlwaysDecider("always-disagg-pd-decider", name)
