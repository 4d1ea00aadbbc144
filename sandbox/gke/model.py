"""The load balancer's configuration as the controllers think of it: frozen values, comparable and printable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

POOL_PORT = 54321  # port of the Service that stands for an InferencePool
CONTROLLER = "networking.gke.io/gateway"


@dataclass(frozen=True)
class GatewayClass:
    """One GatewayClass of GKE. ``internal``: an address of the VPC; ``inference``: takes InferencePools.

    The classes that take InferencePools are those that take GCPRoutingExtensions, too.
    """

    name: str
    scheme: str
    regional: bool = True
    internal: bool = False
    inference: bool = False
    description: str = ""


CLASSES = {
    item.name: item
    for item in (
        GatewayClass(
            "gke-l7-regional-external-managed",
            "EXTERNAL_MANAGED",
            inference=True,
            description="Regional external application load balancer, one cluster",
        ),
        GatewayClass(
            "gke-l7-rilb",
            "INTERNAL_MANAGED",
            internal=True,
            inference=True,
            description="Regional internal application load balancer, one cluster",
        ),
        GatewayClass(
            "gke-l7-global-external-managed",
            "EXTERNAL_MANAGED",
            regional=False,
            description="Global external application load balancer, one cluster",
        ),
        GatewayClass(
            "gke-l7-gxlb",
            "EXTERNAL",
            regional=False,
            description="Classic global external application load balancer, one cluster",
        ),
    )
}


@dataclass(frozen=True)
class HealthCheck:
    """How endpoints are probed. ``port`` None: the serving port. Seconds and counts as in the compute API."""

    kind: str = "HTTP"
    path: str = "/"
    port: int | None = None
    host: str = ""
    interval: int = 15
    timeout: int = 15
    healthy: int = 1
    unhealthy: int = 2


@dataclass(frozen=True)
class Picker:
    """Endpoint picker of a pool: its Service and what happens without it."""

    namespace: str
    service: str
    port: int
    fail_open: bool = False


@dataclass(frozen=True)
class Extension:
    """The callout of a GCPRoutingExtension: a Service that is asked before a route is chosen.

    ``body``: requestBodySendMode, or empty where only headers are sent. ``trailers``: whether trailers are sent too.
    """

    name: str
    namespace: str
    service: str
    port: int
    authority: str = ""
    body: str = ""
    trailers: bool = False
    fail_open: bool = False
    health: HealthCheck = field(default_factory=lambda: HealthCheck(kind="TCP"))


@dataclass(frozen=True)
class Backend:
    """What becomes one backend service: an InferencePool or a Service port.

    ``service`` is the Service whose endpoints serve: the pool's shadow Service, else the Service itself.
    """

    kind: str
    namespace: str
    name: str
    service: str
    port: int
    timeout: int = 30
    logging: bool = False
    health: HealthCheck = field(default_factory=HealthCheck)
    picker: Picker | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.namespace, self.service, self.port


@dataclass(frozen=True)
class Match:
    """One match of a rule. ``headers`` and ``query``: (type Exact|RegularExpression, name, value)."""

    path_kind: str = "PathPrefix"
    path: str = "/"
    method: str = ""
    headers: tuple[tuple[str, str, str], ...] = ()
    query: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule of one HTTPRoute. ``filters`` is canonical JSON, so that rules can be compared and hashed."""

    route: str
    created: str
    index: int
    hostnames: tuple[str, ...]
    matches: tuple[Match, ...]
    backends: tuple[tuple[Backend, int], ...]
    filters: str = "[]"


@dataclass(frozen=True)
class Certificate:
    """A certificate that a listener shows. ``made_here``: from a Secret, so that the controller makes its resource.

    Chain and key (PEM) stay out of what is printed and compared as text; the fingerprint stands for them.
    """

    name: str
    fingerprint: str
    made_here: bool = False
    chain: str = field(default="", repr=False)
    key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Listener:
    """One listener of a Gateway with the rules bound to it. ``hostname`` empty: any. ``https``: it terminates TLS."""

    name: str
    port: int
    hostname: str = ""
    rules: tuple[Rule, ...] = ()
    https: bool = False
    certificates: tuple[Certificate, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """All of one Gateway that its load balancer is made from."""

    namespace: str
    name: str
    klass: GatewayClass
    listeners: tuple[Listener, ...]
    named_address: str = ""
    extension: Extension | None = None

    def backends(self) -> list[Backend]:
        """Distinct backends, in a stable order."""
        found = {
            backend.key: backend
            for listener in self.listeners
            for rule in listener.rules
            for backend, _weight in rule.backends
        }
        return [found[key] for key in sorted(found)]

    def routes_pools(self) -> bool:
        return any(backend.kind == "InferencePool" for backend in self.backends())


@dataclass(frozen=True)
class Endpoint:
    """One address behind a Service. ``instance`` is the node's name."""

    ip: str
    port: int
    zone: str = ""
    instance: str = ""
    ready: bool = True


@dataclass(frozen=True)
class Problem:
    """Why a Gateway cannot be programmed. ``stage``: ``translate`` (objects) or ``gce`` (Google Cloud refused)."""

    stage: str
    message: str
    reason: str = "Invalid"


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
