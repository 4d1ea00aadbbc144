"""Writes the status of Gateways, HTTPRoutes, InferencePools and policies where it differs, with the events to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from sandbox.gke import extensions, gateway, policies, pools, routes
from sandbox.gke.conditions import status_of
from sandbox.gke.events import Recorder
from sandbox.gke.extensions import Verdict
from sandbox.gke.gateway import Progress
from sandbox.gke.kubeapi import PASSING, ApiError, Cache, Client, Object, Resource, key_of
from sandbox.gke.model import CONTROLLER, Configuration
from sandbox.gke.routes import Binding
from sandbox.gke.snapshot import (
    BACKEND_POLICY,
    GATEWAY,
    HEALTH_POLICY,
    HTTP_ROUTE,
    POOL,
    ROUTING_EXTENSION,
    Snapshot,
    qualified,
)

log = logging.getLogger(__name__)

Reported = tuple[Binding, bool, str]  # binding, whether it serves, why its Gateway fails


class StatusWriter:
    """Status writer of one cluster."""

    def __init__(self, client: Client, cache: Cache, events: Recorder) -> None:
        self._client = client
        self._cache = cache
        self._events = events

    def _put(self, resource: Resource, item: Object, change: Object) -> bool:
        """Merge ``change`` into an object's status. False where it could not be done: the object is gone, most often.

        A status that is refused must not keep the load balancer from being served, so it is only logged.
        """
        namespace, name = key_of(item)
        try:
            found = self._client.patch(resource, name, namespace, {"status": change}, "status")
        except ApiError as error:
            if error.code not in PASSING:
                log.error("status of %s %s/%s: %s", resource.kind, namespace, name, error)
            return False
        self._cache.observe(resource.kind, found)
        return True

    def gateway(self, item: Object, progress: Progress, bindings: Iterable[Binding], address: str) -> None:
        """Write a Gateway's status."""
        wanted = gateway.status(item, progress, bindings, address)
        have = item.get("status") or {}
        if {key: have.get(key) or [] for key in wanted} != wanted:
            self._put(GATEWAY, item, wanted)

    def write(self, snapshot: Snapshot, reported: Iterable[Reported]) -> None:
        """Write the status of everything that is not a Gateway."""
        by_route: dict[tuple[str, str], list[Reported]] = {}
        for entry in reported:
            by_route.setdefault(key_of(entry[0].route), []).append(entry)
        for item in snapshot.all("HTTPRoute"):
            if not item["metadata"].get("deletionTimestamp"):
                self._route(item, by_route.get(key_of(item), []))
        self._pools(snapshot, [entry[0] for entries in by_route.values() for entry in entries])
        for kind, resource in (("HealthCheckPolicy", HEALTH_POLICY), ("GCPBackendPolicy", BACKEND_POLICY)):
            for item in snapshot.all(kind):
                if not item["metadata"].get("deletionTimestamp"):
                    self._policy(snapshot, resource, item)

    def _route(self, item: Object, reported: list[Reported]) -> None:
        mine = [(binding.ref, routes.parent_conditions(binding, live, failing)) for binding, live, failing in reported]
        wanted = routes.parents_status(item, mine)
        have = (item.get("status") or {}).get("parents") or []
        if wanted == have:
            return
        if self._put(HTTP_ROUTE, item, {"parents": wanted}):
            for binding, _live, _failing in reported:
                self._route_events(item, binding, have, wanted)

    def _route_events(self, item: Object, binding: Binding, have: list[Object], wanted: list[Object]) -> None:
        old = _conditions_for(have, binding)
        new = _conditions_for(wanted, binding)
        name, ref = qualified(item), routes.describe_ref(binding.ref)
        if not old:
            self._events.record(item, "ADD", name)
        if binding.accepted is not None and status_of(old, "Accepted") != "False":
            fault = binding.accepted
            text = f'{fault.reason}: Bind of HTTPRoute "{name}" to {ref} failed: {fault.message}'
            self._events.record(item, "SYNC", text, warning=True)
        if binding.resolved is not None and status_of(old, "ResolvedRefs") != "False":
            fault = binding.resolved
            text = f'{fault.reason}: Object reference of HTTPRoute "{name}" bound to {ref} failed to be resolved: '
            self._events.record(item, "SYNC", text + fault.message, warning=True)
        if status_of(new, "Reconciled") == "True" != status_of(old, "Reconciled"):
            self._events.record(item, "SYNC", f'Bind of HTTPRoute "{name}" to {ref} was a success')
            self._events.record(item, "SYNC", f'Reconciliation of HTTPRoute "{name}" to {ref} was a success')

    def _pools(self, snapshot: Snapshot, bindings: Iterable[Binding]) -> None:
        used: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for binding in bindings:
            parent = binding.ref.get("namespace") or binding.route["metadata"]["namespace"], binding.ref["name"]
            for rule in binding.rules:
                for backend, _weight in rule.backends:
                    if backend.kind == "InferencePool":
                        used.setdefault((backend.namespace, backend.name), set()).add(parent)
        for pool in snapshot.all("InferencePool"):
            if pool["metadata"].get("deletionTimestamp"):
                continue
            picker = pools.picker_of(pool)
            found = picker is not None and snapshot.find("Service", picker.namespace, picker.service) is not None
            wanted = pools.pool_parents(pool, used.get(key_of(pool), set()), found)
            have = (pool.get("status") or {}).get("parents") or []
            if wanted != have and (wanted or any(item.get("controllerName") == CONTROLLER for item in have)):
                self._put(POOL, pool, {"parents": wanted})

    def _policy(self, snapshot: Snapshot, resource: Resource, item: Object) -> None:
        verdict = policies.attached(snapshot, item)
        wanted = policies.conditions_of(item, verdict)
        if wanted == (item.get("status") or {}).get("conditions"):
            return
        if self._put(resource, item, {"conditions": wanted}):
            done, reason, message = verdict
            what = f'Application of {resource.kind} "{qualified(item)}"'
            if done:
                self._events.record(item, "SYNC", f"{what} was a success")
            elif reason != "TargetNotFound":  # charts make the policy before its target
                self._events.record(item, "SYNC", f"{what} failed: {reason}: {message}", warning=True)

    def extensions(self, snapshot: Snapshot, verdicts: Iterable[Verdict], live: Mapping[str, Configuration]) -> None:
        """Write the status of the GCPRoutingExtensions. ``live``: what each Gateway (namespace/name) serves."""
        serving: dict[tuple[str, str], str] = {}
        for config in live.values():
            if config.extension is not None:
                serving[config.namespace, config.name] = config.extension.name
        by_item: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in verdicts:
            by_item.setdefault(key_of(verdict.item), []).append(verdict)
        for item in snapshot.all(extensions.KIND):
            if not item["metadata"].get("deletionTimestamp"):
                mine = [*by_item.get(key_of(item), []), *extensions.lost(snapshot, item)]
                self._extension(item, mine, extensions.ancestors(item, mine, serving))

    def _extension(self, item: Object, verdicts: Iterable[Verdict], wanted: list[Object]) -> None:
        have = (item.get("status") or {}).get("ancestors") or []
        if wanted == have or not self._put(ROUTING_EXTENSION, item, {"ancestors": wanted}):
            return
        what = f'Application of {ROUTING_EXTENSION.kind} "{qualified(item)}"'
        for verdict in verdicts:
            if not verdict.reason:
                self._events.record(item, "SYNC", f"{what} was a success")
            elif verdict.reason != "TargetNotFound":  # charts make it before, or without, its Gateway
                self._events.record(item, "SYNC", f"{what} failed: {verdict.reason}: {verdict.message}", warning=True)


def _conditions_for(parents: list[Object], binding: Binding) -> list[Object]:
    for item in parents:
        if item.get("parentRef") == binding.ref and item.get("controllerName") == CONTROLLER:
            return list(item.get("conditions") or [])
    return []
