"""What a scheduling plugin is, and what it sees. A new plugin: one class here beside, one line in the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass
class Load:
    """The newest metrics of one endpoint. ``updated`` is a monotonic time, 0 before the first answer."""

    waiting: int = 0
    running: int = 0
    kv_usage: float = 0.0
    updated: float = 0.0
    running_adapters: frozenset[str] = frozenset()
    waiting_adapters: frozenset[str] = frozenset()
    max_adapters: int = 0


@dataclass(eq=False)
class Endpoint:
    """One port of one ready pod; ``name`` is the pod's, ``rank`` the position of the port in the pool's list."""

    namespace: str
    name: str
    address: str
    port: int
    rank: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    load: Load = field(default_factory=Load)

    @property
    def identity(self) -> str:
        return f"{self.namespace}/{self.name}-rank-{self.rank}"

    @property
    def destination(self) -> str:
        """``address:port`` as the gateway wants it (IPv6 in brackets)."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass
class Request:
    """One inference request. ``prompt`` is the text prefixes are compared by; ``state`` is the plugins' own memory."""

    identity: str
    model: str
    prompt: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class ProfileResult:
    """What one profile picked, best first."""

    targets: list[Endpoint]


@dataclass
class SchedulingResult:
    """Results by profile; the primary one decides where the gateway sends the request."""

    profiles: dict[str, ProfileResult]
    primary: str

    @property
    def target(self) -> Endpoint:
        return self.profiles[self.primary].targets[0]


@dataclass
class Plugin:
    """Base of all plugins: a type and the name it has in the configuration."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}/{self.type}"


@runtime_checkable
class Filter(Protocol):
    """Removes endpoints that must not serve the request."""

    def filter(self, request: Request, endpoints: Sequence[Endpoint]) -> list[Endpoint]: ...


@runtime_checkable
class Scorer(Protocol):
    """Gives every endpoint a score from 0 to 1, by ``Endpoint.identity``."""

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> dict[str, float]: ...


@runtime_checkable
class Picker(Protocol):
    """Chooses from scored endpoints."""

    def pick(self, scored: Sequence[tuple[Endpoint, float]]) -> list[Endpoint]: ...


@runtime_checkable
class ProfileHandler(Protocol):
    """Says which profiles run next (none: done) and which one's pick is the destination.

    ``done``: None for a profile that found no endpoint. ``result`` raises ValueError where nothing can be made of it.
    """

    def profiles(
        self, request: Request, known: Sequence[str], done: Mapping[str, ProfileResult | None]
    ) -> list[str]: ...

    def result(self, request: Request, done: Mapping[str, ProfileResult | None]) -> SchedulingResult: ...


@runtime_checkable
class PreRequest(Protocol):
    """Is told the decision before the request leaves; may add request headers (name to value)."""

    def pre_request(self, request: Request, result: SchedulingResult) -> dict[str, str] | None: ...


Factory = Callable[[str, Mapping[str, Any]], Plugin]
REGISTRY: dict[str, Factory] = {}


def register(kind: str) -> Callable[[Factory], Factory]:
    """Decorator: make ``factory(name, parameters)`` the maker of plugins of type ``kind``."""

    def remember(factory: Factory) -> Factory:
        REGISTRY[kind] = factory
        return factory

    return remember
