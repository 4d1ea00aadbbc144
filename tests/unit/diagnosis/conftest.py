"""Observations of a healthy deployment, for rules to be shown one fault at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
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
            {"kind": "Deployment", "metadata": {"name": "ms"}, "spec": {"replicas": 1}},
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
        "scorers": {"queue-scorer": 2.0},
    }


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
