"""What the picker knows of the cluster: the pool, its ready pods, the objectives' priorities."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.images.endpoint_picker.plugins.base import Endpoint


@dataclass(frozen=True)
class Pool:
    """The InferencePool: which pods (label selector) and which of their ports."""

    selector: Mapping[str, str]
    ports: tuple[int, ...]


def read_pool(item: Mapping[str, Any]) -> Pool:
    """An InferencePool object as the API server gives it (v1; v1alpha2's flat selector too)."""
    spec = item.get("spec") or {}
    selector = spec.get("selector") or {}
    labels = selector.get("matchLabels", selector if "matchLabels" not in selector else {})
    ports = [int(port["number"]) for port in spec.get("targetPorts") or []]
    if not ports and "targetPortNumber" in spec:
        ports = [int(spec["targetPortNumber"])]
    return Pool(dict(labels), tuple(ports))


def ready(pod: Mapping[str, Any]) -> bool:
    """Is the pod Ready, with an address, and not on its way out?"""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or not status.get("podIP"):
        return False
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions") or [])


@dataclass
class Datastore:
    """Kept current by the watches; read by everything else (one event loop)."""

    pool: Pool | None = None
    objectives: dict[str, int] = field(default_factory=dict)
    _pods: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _endpoints: dict[str, Endpoint] = field(default_factory=dict)
    _order: list[Endpoint] = field(default_factory=list)

    def endpoints(self) -> list[Endpoint]:
        """Every port of every ready pod of the pool."""
        return self._order

    def set_pool(self, pool: Pool | None) -> None:
        if pool != self.pool:
            self.pool = pool
            self._rebuild()

    def set_pods(self, pods: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace all pods (by name)."""
        self._pods = dict(pods)
        self._rebuild()

    def set_pod(self, name: str, pod: Mapping[str, Any] | None) -> None:
        """One pod changed, or is gone (None)."""
        if pod is None:
            self._pods.pop(name, None)
        else:
            self._pods[name] = pod
        self._rebuild()

    def anyone(self) -> Endpoint | None:
        """A random endpoint: where requests without a body go."""
        return random.choice(self._order) if self._order else None

    def _rebuild(self) -> None:
        fresh: dict[str, Endpoint] = {}
        for name, pod in self._pods.items():
            if self.pool is None or not ready(pod):
                continue
            labels = pod["metadata"].get("labels") or {}
            if any(labels.get(key) != value for key, value in self.pool.selector.items()):
                continue
            for rank, port in enumerate(self.pool.ports):
                namespace = pod["metadata"].get("namespace", "")
                made = Endpoint(namespace, name, pod["status"]["podIP"], port, rank, labels)
                known = self._endpoints.get(made.identity)
                same = known is not None and known.destination == made.destination
                fresh[made.identity] = known if same and known is not None else made
        self._endpoints = fresh
        self._order = list(fresh.values())
