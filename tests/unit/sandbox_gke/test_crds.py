"""The CRDs by themselves; a real API server takes them in the tests that have one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sandbox.gke import addons

CONDITIONAL = {"gateways", "httproutes", "gatewayclasses", "inferencepools"}


def everything() -> list[dict[str, Any]]:
    found = [item for generation in addons.GENERATIONS for item in addons.manifests(generation)]
    charts = addons.FOLDER.parent / "charts"
    for path in sorted([*(addons.FOLDER / "upstream").glob("*.yaml"), *charts.glob("*/crds/*.yaml")]):
        found += list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    return found


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "type" in schema and isinstance(schema["type"], str):
            yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


@pytest.mark.parametrize("crd", everything(), ids=lambda crd: str(crd["metadata"]["name"]))
def test_well_formed(crd: dict[str, Any]) -> None:
    spec = crd["spec"]
    assert crd["apiVersion"] == "apiextensions.k8s.io/v1"
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert sum(version["storage"] for version in spec["versions"]) == 1
    if spec["group"].endswith(".k8s.io") and not spec["group"].endswith(".x-k8s.io"):
        assert "api-approved.kubernetes.io" in crd["metadata"]["annotations"]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        assert schema["type"] == "object"
        for node in nodes(schema):
            if node["type"] == "array" and isinstance(node.get("items"), dict):
                assert node["items"]


def test_managed_set() -> None:
    names = {item["metadata"]["name"] for item in addons.manifests()}
    assert names == {
        "gatewayclasses.gateway.networking.k8s.io",
        "gateways.gateway.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
        "referencegrants.gateway.networking.k8s.io",
        "inferencepools.inference.networking.k8s.io",
        "healthcheckpolicies.networking.gke.io",
        "gcpbackendpolicies.networking.gke.io",
        "gcpgatewaypolicies.networking.gke.io",
        "gcproutingextensions.networking.gke.io",
        "gcptrafficextensions.networking.gke.io",
        "servicenetworkendpointgroups.networking.gke.io",
        "podmonitorings.monitoring.googleapis.com",
        "clusterpodmonitorings.monitoring.googleapis.com",
        "rules.monitoring.googleapis.com",
    }


def test_bundle_annotations() -> None:
    found = {item["metadata"]["name"]: item["metadata"].get("annotations") or {} for item in addons.manifests()}
    gateway = found["gateways.gateway.networking.k8s.io"]
    assert gateway["gateway.networking.k8s.io/bundle-version"] == "v1.4.0"
    assert gateway["gateway.networking.k8s.io/channel"] == "standard"
    assert "inference.networking.k8s.io/bundle-version" in found["inferencepools.inference.networking.k8s.io"]


def test_generations_differ_in_their_rules_only_for_health_checks() -> None:
    def rules(generation: str) -> str:
        (item,) = (each for each in addons.manifests(generation) if "healthcheck" in each["metadata"]["name"])
        return str(item)

    message = "port and portName must be unset for portSpecification being USE_SERVING_PORT"
    assert message not in rules("older")
    assert message in rules("newer")
    with pytest.raises(ValueError, match="older, newer"):
        addons.manifests("oldest")


def test_pool_defaults() -> None:
    (item,) = (each for each in addons.manifests() if each["spec"]["names"]["kind"] == "InferencePool")
    spec = item["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    ref = spec["properties"]["endpointPickerRef"]["properties"]
    assert (ref["failureMode"]["default"], ref["kind"]["default"], ref["group"]["default"]) == (
        "FailClose",
        "Service",
        "",
    )
