"""Observations of a healthy deployment, for rules to be shown one fault at a time."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

HEALTHY = "networking.gke.io/GatewayHealthy"
CONTROLLER = "networking.gke.io/gateway"


def conditions(**states: str) -> list[dict[str, Any]]:
    return [{"type": name, "status": status, "reason": "R", "message": "m"} for name, status in states.items()]


def ready_pod(name: str, labels: dict[str, str], port: int, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "llm-d", "uid": f"uid-{name}", "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": port}], **spec}]},
        "status": {"podIP": f"10.0.0.{len(name)}", "conditions": conditions(Ready="True", PodScheduled="True")},
    }


def _cluster() -> dict[str, Any]:
    parent = {"controllerName": CONTROLLER, "parentRef": {"name": "gw"}}
    parent["conditions"] = conditions(Accepted="True", ResolvedRefs="True", Reconciled="True")
    meta = {"namespace": "llm-d", "uid": "u"}
    ref = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "gaie-pattern1"}
    return {
        "namespace": {"metadata": {"name": "llm-d"}},
        "nodes": [{"metadata": {"name": "n1"}, "status": {"conditions": conditions(Ready="True")}}],
        "pods": [
            ready_pod("picker", {"inferencepool": "gaie-pattern1-epp"}, 9002),
            ready_pod("server", {"serve": "true"}, 8000, resources={"limits": {"nvidia.com/gpu": "1"}}),
        ],
        "events": [],
        "workloads": [
            {"kind": "Deployment", "metadata": {"name": "gaie-pattern1-epp"}, "spec": {"replicas": 1}},
            {"kind": "Deployment", "metadata": {"name": "ms"}, "spec": {"replicas": 1, **template({"serve": "true"})}},
        ],
        "services": [{"metadata": {"name": "gaie-pattern1-epp"}}],
        "secret_keys": ["HF_TOKEN"],
        "secret_exists": True,
        "releases": [
            {"name": name, "status": "deployed", "revision": 1, "description": ""}
            for name in ("infra-pattern1", "gaie-pattern1", "ms-pattern1")
        ],
        "crds": {"x": {"status": {"conditions": conditions(Established="True")}}},
        "gateway": {
            "metadata": {**meta, "name": "gw"},
            "spec": {"gatewayClassName": "gke-l7-rilb"},
            "status": {
                "addresses": [{"value": "203.0.113.9"}],
                "conditions": conditions(Accepted="True", Programmed="True", **{HEALTHY: "True"}),
            },
        },
        "gateway_class": {
            "spec": {"controllerName": CONTROLLER},
            "status": {"conditions": conditions(Accepted="True")},
        },
        "routes": [
            {
                "metadata": {**meta, "name": "route"},
                "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [ref]}]},
                "status": {"parents": [parent]},
            }
        ],
        "pools": [
            {
                "metadata": {**meta, "name": "gaie-pattern1"},
                "spec": {
                    "selector": {"matchLabels": {"serve": "true"}},
                    "targetPorts": [{"number": 8000}],
                    "endpointPickerRef": {"name": "gaie-pattern1-epp"},
                },
            }
        ],
        "health_policies": [{"metadata": {"name": "h"}, "spec": {"targetRef": {"name": "gaie-pattern1"}}}],
        "backend_policies": [{"metadata": {"name": "b"}, "spec": {"targetRef": {"name": "gaie-pattern1"}}}],
        "scorers": {"picker": {"queue-scorer": 2.0}},
    }


def template(labels: dict[str, str]) -> dict[str, Any]:
    return {"template": {"metadata": {"labels": labels}}}


@pytest.fixture
def healthy() -> Callable[[], Any]:
    """A fresh observation of a healthy deployment."""
    from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import BackendHealth, Endpoint
    from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis import observe, shapes

    def make() -> Any:
        scope = shapes.Scope(
            project="p",
            region="us-central1",
            location="us-central1-a",
            cluster="c",
            gateway="gw",
            route="route",
            pool="gaie-pattern1",
            model="m",
            response_header="x-went-into-resp-headers",
            request_counter="inference_objective_request_total",
            secret="hf",
            releases=("infra-pattern1", "gaie-pattern1", "ms-pattern1"),
            scorers={"queue-scorer": 2.0},
            minimum_version="1.32.3",
        )
        google = shapes.Google(
            services={"networkservices.googleapis.com": "ENABLED", "compute.googleapis.com": "ENABLED"},
            subnets=[
                {
                    "name": "proxy",
                    "region": "regions/us-central1",
                    "purpose": "REGIONAL_MANAGED_PROXY",
                    "role": "ACTIVE",
                }
            ],
            cluster={
                "name": "c",
                "status": "RUNNING",
                "network": "default",
                "currentMasterVersion": "1.33.5-gke.2019000",
                "networkConfig": {"gatewayApiConfig": {"channel": "CHANNEL_STANDARD"}},
            },
            missing_permissions=[],
            pool_errors=[],
            backends=[BackendHealth("b", (Endpoint("10.0.0.6", 8000, "HEALTHY"),), 1)],
        )
        header = {"x-went-into-resp-headers": "true"}
        answers = {
            observe.MODELS: Answer(200, header, json.dumps({"data": [{"id": "m"}]}).encode()),
            observe.COMPLETION: Answer(200, header, b"{}"),
        }
        return shapes.Observation(scope, google, shapes.Cluster(**_cluster()), answers)

    return make


@pytest.fixture
def healthy_two(healthy: Callable[[], Any]) -> Callable[[], Any]:
    """The same with a second model beside it, and the router in front that tells the two apart."""
    from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis import observe, shapes

    def make() -> Any:
        seen = healthy()
        servers = (shapes.Server("m", "gaie-pattern1", "ms-pattern1"), shapes.Server("n", "gaie-n", "ms-n"))
        names = ("infra-pattern1", "bbr-pattern1", "gaie-pattern1", "ms-pattern1", "gaie-n", "ms-n")
        seen.scope = replace(seen.scope, servers=servers, body_router="bbr", releases=names)
        cluster = seen.cluster
        cluster.releases += [
            {"name": name, "status": "deployed", "revision": 1, "description": ""}
            for name in ("bbr-pattern1", "gaie-n", "ms-n")
        ]
        cluster.pods += [
            ready_pod("picker-n", {"inferencepool": "gaie-n-epp"}, 9002),
            ready_pod("server-n", {"serve": "n"}, 8000, resources={"limits": {"nvidia.com/gpu": "1"}}),
            ready_pod("router", {"app": "bbr"}, 9004),
        ]
        cluster.workloads += [
            {"kind": "Deployment", "metadata": {"name": "gaie-n-epp"}, "spec": {"replicas": 1}},
            {"kind": "Deployment", "metadata": {"name": "ms-n"}, "spec": {"replicas": 3, **template({"serve": "n"})}},
        ]
        cluster.services.append({"metadata": {"name": "gaie-n-epp"}})
        pool = copy.deepcopy(cluster.pools[0])
        pool["metadata"]["name"] = "gaie-n"
        pool["spec"].update(selector={"matchLabels": {"serve": "n"}}, endpointPickerRef={"name": "gaie-n-epp"})
        cluster.pools.append(pool)
        cluster.scorers["picker-n"] = {"queue-scorer": 2.0}
        attached = {"ancestorRef": {"name": "gw"}, "conditions": conditions(Attached="True")}
        cluster.routing_extension = {"metadata": {"name": "bbr"}, "status": {"ancestors": [attached]}}
        header = {"x-went-into-resp-headers": "true"}
        seen.answers[observe.MODELS] = Answer(200, header, json.dumps({"data": [{"id": "m"}, {"id": "n"}]}).encode())
        seen.answers[f"{observe.COMPLETION} n"] = Answer(200, header, b"{}")
        return seen

    return make
