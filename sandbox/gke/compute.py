"""What the controllers use of the emulated Google Cloud (sandbox/gcp), as types.

Collections carry the discovery document's resource names (``regionBackendServices``); a scope is ``global``,
``regions/R`` or ``zones/Z``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox import paths as sandbox_paths

log = logging.getLogger(__name__)

Json = dict[str, Any]
GroupHealth = Callable[[Json, str], list[Json]]


class ComputeStore(Protocol):
    """Resources of the compute API, by collection and scope."""

    def insert(self, collection: str, scope: str, body: Json, /) -> Json: ...

    def get(self, collection: str, scope: str, name: str, /) -> Json | None: ...

    def list(self, collection: str, scope: str | None = None, /) -> list[Json]: ...

    def patch(self, collection: str, scope: str, name: str, fields: Json, /) -> Json: ...

    def delete(self, collection: str, scope: str, name: str, /) -> Any: ...


class World(Protocol):
    """The emulated project. ``clusters`` holds container API dictionaries by ``<project>/<location>/<name>``."""

    group_health: GroupHealth

    @property
    def compute(self) -> ComputeStore: ...

    @property
    def clusters(self) -> Mapping[str, Json]: ...

    def service_enabled(self, service: str, /) -> bool: ...

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


def find(store: ComputeStore, collection: str, scope: str, name: str) -> Json | None:
    """One resource, or None. A store may say so by None, by KeyError or by its own not-found error."""
    try:
        return store.get(collection, scope, name)
    except Exception as error:
        if isinstance(error, LookupError) or "not found" in str(error).lower():
            return None
        raise


def proxy_only_subnet(store: ComputeStore, place: Place) -> Json | None:
    """The ACTIVE proxy-only subnet of the cluster's network and region, which every regional Envoy LB needs."""
    for subnet in store.list("subnetworks", f"regions/{place.region}"):
        if (
            subnet.get("purpose") in ("REGIONAL_MANAGED_PROXY", "INTERNAL_HTTPS_LOAD_BALANCER")
            and subnet.get("role") == "ACTIVE"
            and short(str(subnet.get("network", ""))) == place.network
        ):
            return subnet
    return None
