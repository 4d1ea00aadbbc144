"""Follows the three kinds of objects the picker lives by, and gives up where they cannot be read at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from sandbox.images.endpoint_picker import generation
from sandbox.images.endpoint_picker.datastore import Datastore, read_pool
from sandbox.images.endpoint_picker.kube import Cluster, Items, Resource
from sandbox.images.endpoint_picker.logs import Logger

EXTENDED = "inference.networking.x-k8s.io/v1alpha2"
_SETUP = Logger("setup")


class NotSynced(Exception):
    """The first lists did not come in time (missing rights, missing CRDs); already logged."""


class Watcher:
    """Keeps a datastore current. ``readiness`` is told whether the pool is known."""

    def __init__(
        self,
        store: Datastore,
        *,
        group: str,
        namespace: str,
        pool: str,
        readiness: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._store = store
        self._pool = pool
        self._readiness = readiness
        self._pool_changed = asyncio.Event()
        version = "v1" if group == "inference.networking.k8s.io" else "v1alpha2"
        self.resources: tuple[Resource, ...] = (
            Resource(
                f"/apis/{group}/{version}/namespaces/{namespace}/inferencepools", f"*{version}.InferencePool", pool
            ),
            Resource(f"/api/v1/namespaces/{namespace}/pods", "*v1.Pod"),
            Resource(f"/apis/{EXTENDED}/namespaces/{namespace}/inferenceobjectives", "*v1alpha2.InferenceObjective"),
        )
        if generation.later():  # read, since nothing starts without the kind; rewriting itself is left out
            path = f"/apis/{EXTENDED}/namespaces/{namespace}/inferencemodelrewrites"
            self.resources += (Resource(path, "*v1alpha2.InferenceModelRewrite"),)

    async def run(self, cluster: Cluster, session: aiohttp.ClientSession, patience: float) -> None:
        """Until cancelled. Raises NotSynced (in an ExceptionGroup) after ``patience`` seconds without first lists."""
        synced = [asyncio.Event() for _ in self.resources]
        handlers = (
            (self._pools, self._pool_event),
            (self._store.set_pods, self._store.set_pod),
            (self._objectives, self._objective),
            (_ignore, _ignore),
        )[: len(self.resources)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            for resource, (replace, change), event in zip(self.resources, handlers, synced, strict=True):
                tasks.create_task(cluster.follow(session, resource, replace, change, event))
            try:
                await asyncio.wait_for(asyncio.gather(*(event.wait() for event in synced)), patience)
            except TimeoutError:
                kind = next(kept.kind for kept, event in zip(self.resources, synced, strict=True) if not event.is_set())
                _SETUP.error(
                    "Error starting controller manager",
                    f"failed to wait for caches to sync kind source: {kind}: "
                    f"timed out waiting for cache to be synced for Kind {kind}",
                )
                raise NotSynced from None

    async def _report(self) -> None:
        while True:
            await self._pool_changed.wait()
            self._pool_changed.clear()
            await self._readiness(self._store.pool is not None)

    def _pools(self, items: Items) -> None:
        self._store.set_pool(read_pool(items[self._pool]) if self._pool in items else None)
        self._pool_changed.set()

    def _pool_event(self, name: str, item: Mapping[str, Any] | None) -> None:
        self._pools({} if item is None else {name: item})

    def _objectives(self, items: Items) -> None:
        self._store.objectives.clear()
        for name, item in items.items():
            self._objective(name, item)

    def _objective(self, name: str, item: Mapping[str, Any] | None) -> None:
        self._store.objectives.pop(name, None)
        if item is not None:
            self._store.objectives[name] = int(item["spec"].get("priority") or 0)


def _ignore(*_: object) -> None:
    """Objects whose contents nothing here uses."""
