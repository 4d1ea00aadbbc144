"""The stand-in charts make what the real charts made of the same values."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import paths
from sandbox.charts.package import assemble, generations, package

REPOSITORY = Path(__file__).resolve().parents[3]
CHARTS = REPOSITORY / "sandbox" / "charts"
POOL_VERSION = "app.kubernetes.io/version"
CASES = (
    ("infra-pattern1", "llm-d-infra", "v1.3.6", "llm-d-0.4/infra"),
    ("gaie-pattern1", "inferencepool", "v1.2.0", "llm-d-0.4/gaie"),
    ("ms-pattern1", "llm-d-modelservice", "v0.3.17", "llm-d-0.4/ms"),
    ("infra-pattern1", "llm-d-infra", "v1.4.0", "llm-d-0.6/infra"),
    ("gaie-pattern1", "inferencepool", "v1.4.0", "llm-d-0.6/gaie"),
    ("ms-pattern1", "llm-d-modelservice", "v0.4.9", "llm-d-0.6/ms"),
    ("ms-pd", "llm-d-modelservice", "v0.3.17", "variants/pd"),
    ("ms-moe", "llm-d-modelservice", "v0.3.17", "variants/multinode"),
    ("bbr", "body-based-routing", "v1.2.0", "variants/bbr"),
)


@pytest.fixture(scope="module")
def helm() -> str:
    built = paths.current().bin / "helm"
    found = str(built) if built.exists() else shutil.which("helm")
    if not found:
        pytest.skip("no helm")
    return found


def run(helm: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)


def objects(text: str, *, pool: bool) -> dict[tuple[str, str], Any]:
    found = {}
    for document in yaml.safe_load_all(text):
        if document:
            labels = document["metadata"].get("labels") or {}
            if pool:  # the reference was rendered from the chart's source folder, whose version is 0.0.0
                labels.pop(POOL_VERSION, None)
            found[document["kind"], document["metadata"]["name"]] = document
    return found


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Every generation of every chart, put together: (name, version) -> folder."""
    folder = tmp_path_factory.mktemp("charts")
    made = [
        assemble(place, folder) for first in CHARTS.glob("*/Chart.yaml") for place in generations(first.parent.name)
    ]
    return {(path.name, yaml.safe_load((path / "Chart.yaml").read_text())["version"]): path for path in made}


@pytest.mark.parametrize(("release", "chart", "version", "case"), CASES, ids=[case[3] for case in CASES])
def test_same_objects(
    helm: str, charts: dict[tuple[str, str], Path], reference: Path, release: str, chart: str, version: str, case: str
) -> None:
    values = reference / f"{case}.values.yaml"
    folder = str(charts[chart, version])
    made = run(helm, "template", release, folder, "--namespace", "llm-d", "--values", str(values))
    assert made.returncode == 0, made.stderr
    pool = chart == "inferencepool"
    expected = objects((reference / f"{case}.rendered.yaml").read_text(encoding="utf-8"), pool=pool)
    assert objects(made.stdout, pool=pool) == expected


@pytest.mark.parametrize(
    ("chart", "setting", "words"),
    [
        ("llm-d-infra", "gatewayClass=x", "gatewayClass"),
        ("llm-d-infra", "gateway.className=x", "className"),
        ("llm-d-modelservice", "modelService.model=x", "modelService"),
        ("llm-d-modelservice", "modelArtifacts.labels.extra=x", "extra"),
        ("llm-d-modelservice", "modelArtifacts.model=x", "model"),
        ("inferencepool", "inferencePool.modelServers=null", "matchLabels is required"),
    ],
)
def test_refused_values(helm: str, chart: str, setting: str, words: str) -> None:
    gateway = ["--set", "gateway.gatewayClassName=gke-l7-rilb"] if chart == "llm-d-infra" else []
    made = run(helm, "template", "x", str(CHARTS / chart), *gateway, "--set", setting)
    assert made.returncode != 0
    assert words in made.stderr


def test_pool_chart_ignores_unknown_keys(helm: str) -> None:
    """Upstream's pool chart has no schema: a misspelt key changes nothing and nobody says so."""
    labels = "inferencePool.modelServers.matchLabels.app=x"
    misspelt = "inferenceExtension.monitoring.gke.enable=true"
    made = run(helm, "template", "x", str(CHARTS / "inferencepool"), "--set", labels, "--set", misspelt)
    assert made.returncode == 0
    assert "PodMonitoring" not in made.stdout


def test_container_lists_replace_each_other(helm: str, tmp_path: Path) -> None:
    """A values file that names only a container's args loses its image: the runbook's own mistake."""
    file = tmp_path / "values.yaml"
    file.write_text("decode: {containers: [{name: vllm, args: [--dtype, half]}]}", encoding="utf-8")
    made = run(helm, "template", "x", str(CHARTS / "llm-d-modelservice"), "--values", str(file))
    assert "image of container is required" in made.stderr
    file.write_text("decode: {containers: [{name: vllm, image: x}]}", encoding="utf-8")
    made = run(helm, "template", "x", str(CHARTS / "llm-d-modelservice"), "--values", str(file))
    assert "When .container.modelCommand not set or `custom`, a `command` is required." in made.stderr


def test_model_on_a_volume(helm: str, tmp_path: Path) -> None:
    arguments = ["--set", "modelArtifacts.uri=pvc://models/gemma/2b", "--set", "prefill.create=false"]
    file = tmp_path / "values.yaml"
    container = "{image: x, modelCommand: vllmServe, mountModelVolume: true}"
    file.write_text(f"decode: {{containers: [{container}]}}", encoding="utf-8")
    made = run(helm, "template", "x", str(CHARTS / "llm-d-modelservice"), "--values", str(file), *arguments)
    decode = next(d for d in yaml.safe_load_all(made.stdout) if d and d["kind"] == "Deployment")
    pod = decode["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"][0] == "/model-cache/gemma/2b"
    claim = {"claimName": "models", "readOnly": True}
    assert {"name": "model-storage", "persistentVolumeClaim": claim} in pod["volumes"]


def test_packages_carry_upstream_names(helm: str, tmp_path: Path) -> None:
    names = {path.name for path in package(tmp_path, Path(helm))}
    assert names == {
        *("llm-d-infra-v1.3.6.tgz", "inferencepool-v1.2.0.tgz", "llm-d-modelservice-v0.3.17.tgz"),
        *("llm-d-infra-v1.4.0.tgz", "inferencepool-v1.4.0.tgz", "llm-d-modelservice-v0.4.9.tgz"),
        *("body-based-routing-v1.2.0.tgz", "body-based-routing-v1.4.0.tgz", "lws-0.7.0.tgz"),
    }
    assert {path.name for path in tmp_path.iterdir()} == names
