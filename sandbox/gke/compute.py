"""What the controllers use of the emulated Google Cloud (sandbox/gcp), as types.

Collections carry the discovery document's resource names (``regionBackendServices``); a scope is ``global``,
``regions/R`` or ``zones/Z``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox import paths as sandbox_paths

Json = dict[str, Any]
Resources = list[Json]  # ``list`` is a method of the store
GroupHealth = Callable[[Json, str], list[Json]]


class ComputeStore(Protocol):
    """Resources of the compute API, by collection and scope."""

    def insert(self, collection: str, scope: str, body: Json, /) -> Json: ...

    def get(self, collection: str, scope: str, name: str, /) -> Json | None: ...

    def list(self, collection: str, scope: str | None = None, /) -> Resources: ...

    def patch(self, collection: str, scope: str, name: str, fields: Json, /) -> Json: ...

    def delete(self, collection: str, scope: str, name: str, /) -> Any: ...

    def endpoints(self, scope: str, name: str, /) -> Resources: ...

    def set_endpoints(self, scope: str, name: str, endpoints: Resources, /) -> None: ...


class World(Protocol):
    """The emulated project. ``clusters`` holds container API dictionaries by ``<project>/<location>/<name>``."""

    group_health: GroupHealth

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    @property
    def compute(self) -> ComputeStore: ...

    @property
    def clusters(self) -> Mapping[str, Json]: ...

    def service_enabled(self, service: str, /) -> bool: ...

    def active_proxy_subnet(self, region: str, network: str = "default", /) -> Json | None: ...

    def on_change(self, callback: Callable[[], None], /) -> Any: ...


@dataclass(frozen=True)
class Place:
    """Where a cluster and its load balancers live. ``network`` and ``subnetwork`` are short names."""

    project: str
    location: str
    cluster: str
    network: str
    subnetwork: str

    @property
    def region(self) -> str:
        return self.location if self.location.count("-") == 1 else self.location.rpartition("-")[0]

    @property
    def zones(self) -> tuple[str, ...]:
        """The zone of a zonal cluster; a regional one's three (as Google spreads nodes by default)."""
        if self.location.count("-") == 1:
            return tuple(f"{self.location}-{letter}" for letter in "abc")
        return (self.location,)

    @property
    def number(self) -> str:
        return sandbox_paths.PROJECT_NUMBER

    @property
    def cluster_path(self) -> str:
        return f"/projects/{self.project}/locations/{self.location}/clusters/{self.cluster}"

    def url(self, collection: str, scope: str, name: str) -> str:
        """Full URL of a compute resource. ``regionUrlMaps`` and ``globalAddresses`` lose their prefix in URLs."""
        return f"https://www.googleapis.com/compute/v1/projects/{self.project}/{scope}/{url_plural(collection)}/{name}"


def url_plural(collection: str) -> str:
    """The word of a collection in URLs: ``regionUrlMaps`` -> ``urlMaps``."""
    for prefix in ("region", "global"):
        rest = collection.removeprefix(prefix)
        if rest != collection and rest[:1].isupper():
            return rest[0].lower() + rest[1:]
    return collection


def place_of(key: str, cluster: Mapping[str, Any]) -> Place:
    """Read a cluster's place from its key and container API dictionary."""
    project, location, name = key.split("/", 2)
    config = cluster.get("networkConfig") or {}
    network = cluster.get("network") or config.get("network") or "default"
    subnetwork = cluster.get("subnetwork") or config.get("subnetwork") or "default"
    return Place(project, location, name, short(str(network)), short(str(subnetwork)))


def short(url: str) -> str:
    """Last segment of a resource URL or path."""
    return url.rstrip("/").rpartition("/")[2]
