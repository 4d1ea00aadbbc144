"""The pool chart's HealthCheckPolicy: asked about first, corrected in the copy of the chart, in either style."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.llmd.gke.plugins.module_utils.errors import KubernetesError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.health_check import correct, corrected_text, refused

WORDS = "spec: Invalid value: port and portName must be unset for portSpecification being USE_SERVING_PORT"
BLOCK = """kind: HealthCheckPolicy
spec:
  default:
    config:
      type: HTTP
      httpHealthCheck:
        requestPath: /health
        port:  8000
---
kind: GCPBackendPolicy
"""
FLOW = "kind: HealthCheckPolicy\nspec: {default: {config: {httpHealthCheck: {requestPath: /health, port: 8000}}}}\n"


def health_check(text: str) -> Any:
    return next(yaml.safe_load_all(text))["spec"]["default"]["config"]["httpHealthCheck"]


@pytest.mark.parametrize("text", [BLOCK, FLOW])
def test_the_field_is_added_once(text: str) -> None:
    new = corrected_text(text)
    assert health_check(new) == {"portSpecification": "USE_FIXED_PORT", "requestPath": "/health", "port": 8000}
    assert corrected_text(new) == new


def test_a_chart_that_has_it_is_left_alone() -> None:
    text = BLOCK.replace("        port:", "        portSpecification: USE_SERVING_PORT\n        # port:")
    assert corrected_text(text) == text


def chart(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (("pool/Chart.yaml", "name: pool\n"), ("pool/templates/gke.yaml", BLOCK)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_package_is_corrected_in_place_and_the_same_twice(tmp_path: Path) -> None:
    package = chart(tmp_path / "pool-v1.2.0.tgz")
    assert correct(package)
    first = package.read_bytes()
    with tarfile.open(package) as archive:
        assert archive.getnames() == ["pool/Chart.yaml", "pool/templates/gke.yaml"]
        source = archive.extractfile("pool/templates/gke.yaml")
        assert source is not None
        assert "portSpecification" in health_check(source.read().decode())
    assert not correct(package)
    assert package.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [package.name]


def test_the_server_is_asked_without_writing(api: Any, client: Any) -> None:
    assert not refused(client, "gaie-pattern1", "llm-d")
    api.refuse = lambda where, document: WORDS
    assert refused(client, "gaie-pattern1", "llm-d")
    api.refuse = lambda where, document: "some other rule"
    assert not refused(client, "gaie-pattern1", "llm-d")
    assert api.objects == {}


def test_a_corrected_policy_does_not_hide_the_refusal(api: Any, client: Any) -> None:
    """A dry run over the live object would inherit its portSpecification."""
    path = "/apis/networking.gke.io/v1/namespaces/llm-d/healthcheckpolicies/gaie-pattern1"
    check = {"requestPath": "/health", "port": 8000, "portSpecification": "USE_FIXED_PORT"}
    api.put(path, {"spec": {"default": {"config": {"httpHealthCheck": check}}}})
    api.refuse = lambda where, document: "" if where in api.objects else WORDS
    assert refused(client, "gaie-pattern1", "llm-d")


def test_no_answer_is_no_verdict(api: Any, client: Any) -> None:
    api.trouble = [OSError("connection refused")]
    with pytest.raises(KubernetesError):
        refused(client, "gaie-pattern1", "llm-d")
