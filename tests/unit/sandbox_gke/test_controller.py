"""The controller's whole loop against an API server of dictionaries and the emulated project."""

from __future__ import annotations

import copy
import datetime
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.gcp.world import World
from sandbox.gke import controller as module
from sandbox.gke.conditions import status_of
from sandbox.gke.controller import GatewayController
from sandbox.gke.health import Prober
from sandbox.gke.kubeapi import ApiError, Resource
from sandbox.gke.xds import Site
from sandbox.paths import Paths
from sandbox.timing import Timing

Object = dict[str, Any]
Make = Callable[..., Object]
KEY = "llmd-sandbox/us-central1-a/c1"


class FakeApi:
    """Client and cache in one. ``writes`` lists what was written."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[str, dict[tuple[str, str], Object]] = {}
        self.writes: list[str] = []
        self._version = itertools.count(100)
        for item in objects:
            self.put(item)

    def put(self, item: Object) -> Object:
        key = item["metadata"].get("namespace", ""), item["metadata"]["name"]
        item["metadata"]["resourceVersion"] = str(next(self._version))
        self.objects.setdefault(item["kind"], {})[key] = item
        return item

    def find(self, kind: str, name: str, namespace: str = "llm-d") -> Object:
        return self.objects[kind][namespace, name]

    # as Cache
    def synced(self) -> bool:
        return True

    def snapshot(self) -> dict[str, dict[tuple[str, str], Object]]:
        return copy.deepcopy(self.objects)

    def observe(self, kind: str, item: Object) -> None:
        pass

    # as Client
    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        return self.objects.get(resource.kind, {}).get((namespace or "", name))

    def create(self, resource: Resource, body: Object) -> Object:
        if self.get(resource, body["metadata"]["name"], body["metadata"].get("namespace")):
            raise ApiError(409, "AlreadyExists", "there")
        self.writes.append(f"create {resource.kind}")
        made = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(body)}
        made["metadata"].setdefault("uid", f"uid-{next(self._version)}")
        return self.put(made)

    def apply(self, resource: Resource, body: Object, *, manager: str = "") -> Object:
        self.writes.append(f"apply {resource.kind}")
        made = copy.deepcopy(body)
        made["metadata"].setdefault("uid", f"uid-{next(self._version)}")
        return self.put(made)

    def patch(
        self, resource: Resource, name: str, namespace: str | None, change: Object, subresource: str | None = None
    ) -> Object:
        found = self.get(resource, name, namespace)
        if found is None:
            raise ApiError(404, "NotFound", name)
        if resource.kind != "Event":
            self.writes.append(f"patch {resource.kind} {subresource or ''}".strip())
        _merge(found, copy.deepcopy(change))
        return copy.deepcopy(self.put(found))

    def delete(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        self.writes.append(f"delete {resource.kind}")
        self.objects[resource.kind].pop((namespace or "", name), None)


def _merge(into: Object, change: Object) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


class FakeEnvoy:
    def __init__(self) -> None:
        self.site: Site | None = None

    def set_site(self, site: Site) -> None:
        self.site = site

    def remove_site(self, owner: str) -> None:
        self.site = None


class HealthyProber(Prober):
    """Everything is healthy at once, and nothing is really probed."""

    def set_targets(self, owner: str, targets: Any) -> None:
        self.targets = dict(targets)

    def healthy(self, service: str) -> set[tuple[str, int]]:
        return {(item.ip, item.port) for item in self.targets[service].endpoints}


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *objects: Object) -> None:
        self.world = World(enabled=["compute.googleapis.com", "networkservices.googleapis.com"])
        self.world.clusters[KEY] = {"name": "c1", "network": "default", "subnetwork": "default", "status": "RUNNING"}
        self.api = FakeApi(*objects)
        self.timing = Timing(0)
        self.envoy = FakeEnvoy()
        self._paths = Paths("unit", tmp_path, tmp_path)
        monkeypatch.setattr(module, "Client", lambda admin: self.api)
        monkeypatch.setattr(module, "Cache", lambda client, resources, changed: self.api)
        self.empty = self.world.compute.everything()
        self.controller = self.fresh()

    def fresh(self) -> GatewayController:
        envoy: Any = self.envoy
        admin: Any = None
        prober = HealthyProber(self.timing)
        return GatewayController(self.world, admin, KEY, self.timing, self._paths, envoy, prober=prober)

    def sync(self, times: int = 3) -> None:
        for _ in range(times):
            self.controller.sync()

    def proxy_subnet(self) -> None:
        network = self.world.compute.link("networks", "global", "default")
        body = {"name": "proxy", "network": network, "ipCidrRange": "192.168.0.0/23", "role": "ACTIVE"}
        self.world.compute.insert("subnetworks", "regions/us-central1", {**body, "purpose": "REGIONAL_MANAGED_PROXY"})
        self.empty = self.world.compute.everything()

    def gateway(self, kind: str) -> str:
        conditions = self.api.find("Gateway", "infra-pattern1-inference-gateway").get("status", {}).get("conditions")
        return status_of(conditions, kind)

    def touch(self) -> None:
        notes = self.api.find("Gateway", "infra-pattern1-inference-gateway")["metadata"].setdefault("annotations", {})
        notes["force-reconcile"] = str(int(notes.get("force-reconcile", 0)) + 1)


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make: Make,
    gateway: Object,
    route: Object,
    pool: Object,
    picker_service: Object,
    model_pod: Object,
) -> Bench:
    system = make("Namespace", "kube-system", "")
    return Bench(monkeypatch, tmp_path, system, gateway, route, pool, picker_service, model_pod)


def slices(bench: Bench, make: Make) -> None:
    """What the endpoint controllers make of the pods."""
    pool_service = next(name for _ns, name in bench.api.objects["Service"] if "-ips-" in name)
    ready = {"ready": True}
    for service, ip, ports in (
        (pool_service, "10.4.0.2", [{"name": "inference", "port": 8000}]),
        ("gaie-pattern1-epp", "10.4.0.3", [{"name": "grpc-ext-proc", "port": 9002}]),
    ):
        labels = {"kubernetes.io/service-name": service}
        endpoints = [{"addresses": [ip], "nodeName": "n1", "conditions": ready}]
        bench.api.put(make("EndpointSlice", f"{service}-1", labels=labels, endpoints=endpoints, ports=ports))


def test_from_no_subnet_to_serving(bench: Bench, make: Make) -> None:
    bench.sync()
    assert bench.gateway("Programmed") == "False"
    assert not bench.world.compute.list("forwardingRules")
    assert bench.world.compute.list("targetHttpProxies")
    bench.proxy_subnet()
    bench.touch()
    bench.sync()
    assert bench.gateway("Programmed") == bench.gateway("networking.gke.io/GatewayHealthy") == "True"
    slices(bench, make)
    bench.sync()
    (parent,) = bench.api.find("HTTPRoute", "llm-d-pattern1")["status"]["parents"]
    assert {item["type"]: item["status"] for item in parent["conditions"]} == {
        "ResolvedRefs": "True",
        "Accepted": "True",
        "Reconciled": "True",
    }
    assert bench.envoy.site is not None
    (origin,) = bench.envoy.site.origins
    assert origin.endpoints == (("10.4.0.2", 8000),)
    assert origin.pickers == (("10.4.0.3", 9002),)
    assert bench.envoy.site.frontends[0].address == "203.0.113.1"
    groups = bench.world.compute.list("networkEndpointGroups")
    assert [item["size"] for item in groups] == [1, 1]
    assert len(bench.api.objects["ServiceNetworkEndpointGroup"]) == 2


def test_network_services_off(bench: Bench) -> None:
    bench.proxy_subnet()
    bench.world.disable("networkservices.googleapis.com")
    bench.sync()
    found = bench.api.find("Gateway", "infra-pattern1-inference-gateway")["status"]["conditions"]
    message = next(item["message"] for item in found if item["type"] == "Programmed")
    assert "NetworkServices API is not enabled" in message
    bench.world.enable(["networkservices.googleapis.com"])
    bench.touch()
    bench.sync()
    assert bench.gateway("Programmed") == "True"


def test_a_second_look_and_a_restart_write_nothing(bench: Bench, make: Make) -> None:
    bench.proxy_subnet()
    bench.sync()
    slices(bench, make)
    bench.sync()
    before, compute, site = bench.api.snapshot(), bench.world.compute.everything(), bench.envoy.site
    bench.api.writes.clear()
    bench.sync()
    bench.controller = bench.fresh()
    bench.sync()
    assert bench.api.writes == []
    assert bench.api.snapshot() == before
    assert bench.world.compute.everything() == compute
    assert bench.envoy.site == site


def test_force_reconcile_is_seen(bench: Bench) -> None:
    bench.proxy_subnet()
    bench.sync()
    item = bench.api.find("Gateway", "infra-pattern1-inference-gateway")
    item["metadata"]["annotations"]["networking.gke.io/last-reconcile-time"] = "long ago"
    bench.touch()
    bench.sync()
    assert item["metadata"]["annotations"]["networking.gke.io/last-reconcile-time"] != "long ago"


def test_a_deleted_gateway_takes_its_parts_along(bench: Bench) -> None:
    bench.proxy_subnet()
    bench.sync()
    item = bench.api.find("Gateway", "infra-pattern1-inference-gateway")
    bench.timing.speed = 1
    item["metadata"]["deletionTimestamp"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bench.sync()
    assert bench.envoy.site is not None
    assert bench.envoy.site.frontends == ()
    assert bench.world.compute.list("forwardingRules")
    assert item["metadata"]["finalizers"]
    bench.timing.speed = 0
    bench.sync()
    assert bench.world.compute.everything() == bench.empty
    assert not item["metadata"].get("finalizers")


def test_a_removed_route_takes_its_backends_along(bench: Bench) -> None:
    bench.proxy_subnet()
    bench.sync()
    assert len(bench.world.compute.list("backendServices")) == 3
    bench.api.objects["HTTPRoute"].clear()
    bench.sync()
    (left,) = bench.world.compute.list("backendServices")
    assert "gw-serve404" in left["name"]
    assert bench.world.compute.list("networkEndpointGroups") == []
    assert bench.api.objects["ServiceNetworkEndpointGroup"] == {}


def test_a_stopped_controller_leaves_orphans(bench: Bench) -> None:
    bench.proxy_subnet()
    bench.sync()
    before = bench.world.compute.everything()
    bench.controller._serving.stop()
    assert bench.envoy.site is None
    assert bench.world.compute.everything() == before


def test_foreign_classes_are_left_alone(bench: Bench, gateway: Object) -> None:
    gateway["spec"]["gatewayClassName"] = "nginx"
    bench.sync()
    assert "status" not in bench.api.find("Gateway", "infra-pattern1-inference-gateway")
    assert bench.world.compute.everything() == bench.empty


def test_it_takes_the_modelled_time(bench: Bench) -> None:
    bench.proxy_subnet()
    bench.timing.speed = 1
    bench.sync()
    assert bench.gateway("Programmed") == "Unknown"
    assert bench.gateway("Scheduled") == "False"
    assert bench.envoy.site is not None
    assert bench.envoy.site.frontends == ()
