"""Small clusters as the controllers see them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = str(Path(__file__).resolve().parents[3])
if REPOSITORY not in sys.path:  # pytest may have been started elsewhere
    sys.path.insert(0, REPOSITORY)

from sandbox.gke.snapshot import Snapshot  # noqa: E402

Object = dict[str, Any]
Make = Callable[..., Object]
Snap = Callable[..., Snapshot]


def _make(kind: str, name: str, namespace: str = "llm-d", **body: Any) -> Object:
    """An object as the API server gives it; ``labels`` and ``annotations`` go into its metadata."""
    meta: Object = {"name": name, "uid": f"uid-{kind}-{name}", "generation": 1, "resourceVersion": "1"}
    meta["creationTimestamp"] = body.pop("created", "2026-01-01T00:00:00Z")
    if namespace:
        meta["namespace"] = namespace
    for field in ("labels", "annotations"):
        if field in body:
            meta[field] = body.pop(field)
    return {"kind": kind, "metadata": meta, **body}


@pytest.fixture
def make() -> Make:
    return _make


@pytest.fixture
def snap() -> Snap:
    def build(*objects: Object) -> Snapshot:
        found: dict[str, dict[tuple[str, str], Object]] = {}
        for item in objects:
            key = item["metadata"].get("namespace", ""), item["metadata"]["name"]
            found.setdefault(item["kind"], {})[key] = item
        return Snapshot(found)

    return build


@pytest.fixture
def gateway() -> Object:
    listener = {"name": "default", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
    spec = {"gatewayClassName": "gke-l7-regional-external-managed", "listeners": [listener]}
    return _make("Gateway", "infra-pattern1-inference-gateway", spec=spec)


@pytest.fixture
def route() -> Object:
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [
            {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "gaie-pattern1", "weight": 1}
        ],
    }
    ref = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "infra-pattern1-inference-gateway"}
    return _make("HTTPRoute", "llm-d-pattern1", spec={"parentRefs": [ref], "rules": [rule]})


@pytest.fixture
def pool() -> Object:
    spec = {
        "selector": {"matchLabels": {"llm-d.ai/inferenceServing": "true"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {
            "group": "",
            "kind": "Service",
            "name": "gaie-pattern1-epp",
            "port": {"number": 9002},
            "failureMode": "FailClose",
        },
    }
    return _make("InferencePool", "gaie-pattern1", spec=spec)


@pytest.fixture
def picker_service() -> Object:
    ports = [{"name": "grpc-ext-proc", "port": 9002}, {"name": "http-metrics", "port": 9090}]
    return _make("Service", "gaie-pattern1-epp", spec={"ports": ports})


@pytest.fixture
def model_pod() -> Object:
    return _make("Pod", "model-0", labels={"llm-d.ai/inferenceServing": "true"}, status={"phase": "Running"})
