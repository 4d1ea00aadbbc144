"""What the controllers write into the compute API against the API's own discovery document."""

from __future__ import annotations

import pytest

from sandbox.gcp import schema
from sandbox.gcp.discovery import Router
from sandbox.gcp.world import World
from sandbox.gke import loadbalancer
from sandbox.gke import parts as parts_of
from sandbox.gke.compute import Place
from sandbox.gke.model import CLASSES, Backend, Configuration, GatewayClass, HealthCheck, Listener, Match, Picker, Rule
from sandbox.gke.names import Namer
from sandbox.gke.parts import Planner

SCHEMAS = {
    "addresses": "Address",
    "backendServices": "BackendService",
    "firewalls": "Firewall",
    "forwardingRules": "ForwardingRule",
    "healthChecks": "HealthCheck",
    "networkEndpointGroups": "NetworkEndpointGroup",
    "targetHttpProxies": "TargetHttpProxy",
    "urlMaps": "UrlMap",
}
CHECKS = [HealthCheck(kind, port=port) for kind in ("HTTP", "HTTPS", "HTTP2", "GRPC", "TCP") for port in (None, 80)]


@pytest.mark.parametrize("klass", CLASSES.values(), ids=lambda klass: str(klass.name))
def test_every_part_fits_its_schema(klass: GatewayClass) -> None:
    document = Router().document("compute.v1")
    picker = Picker("llm-d", "epp", 9002)
    backends = [
        Backend("InferencePool", "llm-d", f"p{number}", f"p{number}-ips", 54321, 300, True, check, picker)
        for number, check in enumerate(CHECKS)
    ]
    tests = (("Exact", "a", "b"), ("RegularExpression", "c", ".*"))
    matches = (Match("Exact", "/x", "GET", tests, tests), Match("RegularExpression", "/y.*"), Match())
    hosts = ("a.example.com",)
    rules = (
        Rule("llm-d/a", "t", 0, (), matches, tuple((backend, 1) for backend in backends)),
        Rule("llm-d/b", "t", 0, hosts, matches, ((backends[0], 1),)),
        Rule("llm-d/c", "t", 0, (), matches, ()),
    )
    config = Configuration("llm-d", "gw", klass, (Listener("default", 80, "", rules), Listener("two", 81)))
    place = Place("llmd-sandbox", "us-central1-a", "c1", "default", "default")
    world = World(enabled=["compute.googleapis.com"])
    parts = Planner(place, Namer("uid")).parts(config, ("us-central1-a",), address="203.0.113.1")
    loadbalancer.ensure(world.compute, parts)
    assert {part.family for part in parts} == set(SCHEMAS)
    for part in parts:
        made = world.compute.get(parts_of.collection(part.family, part.scope), part.scope, part.name)
        assert schema.check_resource(document, SCHEMAS[part.family], made) == [], part
