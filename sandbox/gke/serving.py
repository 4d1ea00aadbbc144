"""The data path of one cluster: endpoints into NEGs and health checks, and what is healthy into Envoy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sandbox.gke import loadbalancer, parts, pools
from sandbox.gke.compute import World
from sandbox.gke.conditions import condition, merge
from sandbox.gke.envoy import EnvoyFleet
from sandbox.gke.health import Prober, Target
from sandbox.gke.kubeapi import PASSING, ApiError, Cache, Client, Object
from sandbox.gke.model import Backend, Configuration, Extension, Picker
from sandbox.gke.parts import Planner
from sandbox.gke.snapshot import SERVICE_NEG, Snapshot
from sandbox.gke.xds import Callout, Frontend, Origin, Site

_NEG_LABEL = "networking.gke.io/managed-by"
_NEG_MANAGER = "neg-controller"


class Serving:
    """Keeps NEGs, health checks and Envoy current for one cluster (``owner``: its key)."""

    def __init__(
        self, owner: str, world: World, prober: Prober, envoy: EnvoyFleet, client: Client, cache: Cache
    ) -> None:
        self._owner = owner
        self._world = world
        self._prober = prober
        self._envoy = envoy
        self._client = client
        self._cache = cache

    def stop(self) -> None:
        """Serve nothing any more."""
        self._prober.set_targets(self._owner, {})
        self._envoy.remove_site(self._owner)

    def update(
        self,
        snapshot: Snapshot,
        planner: Planner,
        zones: Sequence[str],
        live: Mapping[str, Configuration],
        kept: Iterable[Configuration],
        addresses: Mapping[str, str],
    ) -> None:
        """Bring all three in line with what serves (``live``) and what exists or is being made (``kept``)."""
        backends: dict[tuple[str, str, int], Backend] = {}
        targets: dict[str, Target] = {}
        for config in kept:
            for backend in [*config.backends(), *parts.callout_backends(config)]:
                backends[backend.key] = backend
                endpoints = tuple(pools.endpoints_of(snapshot, *backend.key))
                target = Target(backend.health, endpoints, planner.neg_name(backend), tuple(zones))
                targets[planner.backend_name(config, backend)] = target
        for target in targets.values():
            loadbalancer.sync_endpoints(self._world.compute, target.group, zones, target.endpoints)
        self._prober.set_targets(self._owner, targets)
        self._service_negs(snapshot, planner, zones, backends.values())
        self._envoy.set_site(self._site(snapshot, planner, live, addresses))

    def _site(
        self,
        snapshot: Snapshot,
        planner: Planner,
        live: Mapping[str, Configuration],
        addresses: Mapping[str, str],
    ) -> Site:
        frontends = []
        origins: dict[tuple[str, str, int], Origin] = {}
        callouts: dict[Extension, Callout] = {}
        for name, address in sorted(addresses.items()):
            gateway = snapshot.find("Gateway", *name.split("/", 1)) or {}
            config = live.get(name)
            listeners = config.listeners if config else ()
            # before it is programmed an HTTP port answers 404; an HTTPS port has nothing to answer with
            specs = gateway.get("spec", {}).get("listeners") or []
            ports = {int(item["port"]) for item in specs if item.get("protocol") == "HTTP"}
            ports |= {item.port for item in listeners}
            for port in sorted(ports):
                mine = tuple(item for item in listeners if item.port == port)
                frontends.append(Frontend(address, port, mine, config.extension if config else None))
            if config is not None:
                if config.extension is not None:
                    callouts[config.extension] = self._callout(snapshot, config.extension)
                for backend in config.backends():
                    service = planner.backend_name(config, backend)
                    origins[backend.key] = self._origin(snapshot, service, backend)
        ordered = tuple(origins[key] for key in sorted(origins))
        return Site(self._owner, tuple(frontends), ordered, tuple(callouts.values()))

    def _callout(self, snapshot: Snapshot, extension: Extension) -> Callout:
        """A routing extension with the ready pods behind its Service."""
        service = Picker(extension.namespace, extension.service, extension.port)
        return Callout(extension, tuple(pools.picker_addresses(snapshot, service)))

    def _origin(self, snapshot: Snapshot, service: str, backend: Backend) -> Origin:
        healthy = self._prober.healthy(service)
        endpoints = [(item.ip, item.port) for item in pools.endpoints_of(snapshot, *backend.key)]
        pickers = pools.picker_addresses(snapshot, backend.picker) if backend.picker else []
        return Origin(backend, tuple(item for item in endpoints if item in healthy), tuple(pickers))

    # --- ServiceNetworkEndpointGroup objects -------------------------------------------------------------------

    def _service_negs(
        self, snapshot: Snapshot, planner: Planner, zones: Sequence[str], backends: Iterable[Backend]
    ) -> None:
        wanted = {}
        for backend in backends:
            if snapshot.find("Service", backend.namespace, backend.service) is not None:
                wanted[backend.namespace, planner.neg_name(backend)] = backend
        mine = [
            item
            for item in snapshot.all("ServiceNetworkEndpointGroup")
            if (item["metadata"].get("labels") or {}).get(_NEG_LABEL) == _NEG_MANAGER
        ]
        present = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in mine}
        for namespace, name in present.keys() - wanted.keys():
            self._client.delete(SERVICE_NEG, name, namespace)
        for key in sorted(wanted):
            self._service_neg(snapshot, planner, zones, wanted[key], present.get(key))

    def _service_neg(
        self, snapshot: Snapshot, planner: Planner, zones: Sequence[str], backend: Backend, found: Object | None
    ) -> None:
        name = planner.neg_name(backend)
        try:
            if found is None:
                service = snapshot.find("Service", backend.namespace, backend.service) or {}
                found = self._client.create(SERVICE_NEG, service_neg(name, backend, service))
                self._cache.observe(SERVICE_NEG.kind, found)
            status = self._neg_status(name, zones, found)
            if status != (found.get("status") or {}):
                done = self._client.patch(SERVICE_NEG, name, backend.namespace, {"status": status}, "status")
                self._cache.observe(SERVICE_NEG.kind, done)
        except ApiError as error:
            if error.code not in PASSING:
                raise

    def _neg_status(self, name: str, zones: Sequence[str], found: Object) -> Object:
        groups = []
        for zone in zones:
            group = self._world.compute.get("networkEndpointGroups", f"zones/{zone}", name)
            if group is not None:
                groups.append(
                    {
                        "id": str(group.get("id", "")),
                        "networkEndpointType": "GCE_VM_IP_PORT",
                        "selfLink": str(group.get("selfLink", "")),
                        "state": "ACTIVE",
                    }
                )
        old = (found.get("status") or {}).get("conditions") or []
        seen = int(found["metadata"].get("generation", 1))
        wanted = [
            condition("Initialized", True, "NegInitializationSuccessful", "", seen),
            condition("Synced", True, "NegSyncSuccessful", "", seen),
        ]
        return {"conditions": merge(old, wanted), "networkEndpointGroups": groups}


def service_neg(name: str, backend: Backend, service: Object) -> Object:
    """The object that lists the NEGs of one Service port."""
    labels = {
        _NEG_LABEL: _NEG_MANAGER,
        "networking.gke.io/service-name": backend.service,
        "networking.gke.io/service-port": str(backend.port),
    }
    owner = {"apiVersion": "v1", "kind": "Service", "name": backend.service, "uid": service["metadata"]["uid"]}
    return {
        "apiVersion": SERVICE_NEG.api_version,
        "kind": SERVICE_NEG.kind,
        "metadata": {
            "name": name,
            "namespace": backend.namespace,
            "labels": labels,
            "ownerReferences": [{**owner, "controller": False, "blockOwnerDeletion": True}],
        },
        "spec": {},
    }
