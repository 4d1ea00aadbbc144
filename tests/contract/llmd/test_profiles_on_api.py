"""The role's releases on a real API server by the real helm: both profiles, the switch, drift, the policy trap."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.gke.addons import manifests

from .conftest import ROOT, Api

PLAY = Path(__file__).with_name("deploy.yml")
NAMESPACE = "llm-d"
POOL = "gaie-pattern1"
SERVERS = "ms-pattern1-llm-d-modelservice-decode"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def deploy(api: Api, charts: Path, tmp_path: Path) -> Run:
    """Run the role; its result, with ``output``. ``fails``: the play is expected to fail (result {})."""

    def run(profile: str, *words: str, fails: bool = False, **more: Any) -> dict[str, Any]:
        variables = {
            "ansible_python_interpreter": sys.executable, "llmd_project": "p",
            "llmd_deployment": "pattern1", "llmd_profile": profile, "llmd_hf_token": "hf_x",
            "llmd_chart_source": str(charts), "llmd_kubeconfig": str(api.kubeconfig),
            "llmd_artifacts_dir": str(tmp_path / "artifacts"), "result_file": str(tmp_path / "result.json"), **more,
        }  # fmt: skip
        command = ["ansible-playbook", "-i", "localhost,", str(PLAY), "-e", json.dumps(variables), *words]
        done = subprocess.run(command, env=api.environment, capture_output=True, text=True, check=False, timeout=180)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-6000:]
        result = {} if fails else json.loads((tmp_path / "result.json").read_text())
        return {**result, "output": output}

    return run


def install_crds(api: Api, generation: str) -> None:
    files = sorted((ROOT / "sandbox/crds/upstream").glob("*inferenceobjectives.yaml"))
    files += sorted((ROOT / "sandbox/crds/upstream").glob("*inferencemodelrewrites.yaml"))
    documents = manifests(generation) + [doc for f in files for doc in yaml.safe_load_all(f.read_text()) if doc]
    api.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(documents))
    api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def actions(result: dict[str, Any]) -> dict[str, str]:
    return {entry["name"].split("-")[0]: entry["action"] for entry in result["releases"]}


def test_from_one_profile_to_the_next(api: Api, deploy: Run) -> None:
    install_crds(api, "older")
    assert set(actions(deploy("llm-d-0.4")).values()) == {"install"}
    assert not deploy("llm-d-0.4")["changed"]

    predicted = deploy("llm-d-0.6", "--check", "--diff")
    assert actions(predicted) == {"infra": "upgrade", "gaie": "upgrade", "ms": "replace"}
    assert "Release ms-pattern1 is replaced, not upgraded" in predicted["output"]
    before = api.json("get", "deployment", SERVERS, "-n", NAMESPACE)
    assert "llm-d.ai/inferenceServing" in before["spec"]["selector"]["matchLabels"]

    assert actions(deploy("llm-d-0.6")) == {"infra": "upgrade", "gaie": "upgrade", "ms": "replace"}
    after = api.json("get", "deployment", SERVERS, "-n", NAMESPACE)
    pool = api.json("get", "inferencepool", POOL, "-n", NAMESPACE)
    labels = after["spec"]["template"]["metadata"]["labels"]
    assert pool["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert pool["spec"]["endpointPickerRef"]["failureMode"] == "FailOpen"
    picker = api.json("get", "deployment", f"{POOL}-epp", "-n", NAMESPACE)["spec"]["template"]["spec"]["containers"][0]
    assert picker["resources"]["requests"]["cpu"] == "250m"
    assert "--metrics-endpoint-auth=false" in picker["args"]
    gateway = api.json("get", "gateway", "infra-pattern1-inference-gateway", "-n", NAMESPACE)
    assert gateway["spec"]["gatewayClassName"] == "gke-l7-regional-external-managed"
    assert not deploy("llm-d-0.6")["changed"]


@pytest.mark.parametrize("profile", ["llm-d-0.4", "llm-d-0.6"])
def test_a_cluster_that_refuses_the_charts_policy_gets_a_corrected_one(api: Api, deploy: Run, profile: str) -> None:
    install_crds(api, "newer")
    first = {entry["name"]: entry for entry in deploy(profile)["releases"]}
    assert "portSpecification" in first[POOL]["adapted"]
    policy = api.json("get", "healthcheckpolicy", POOL, "-n", NAMESPACE)
    check = policy["spec"]["default"]["config"]["httpHealthCheck"]
    assert check == {"requestPath": "/health", "port": 8000, "portSpecification": "USE_FIXED_PORT"}
    assert not deploy(profile)["changed"]
    assert not deploy(profile, "--check")["changed"]


def test_what_was_changed_by_hand_is_put_back(api: Api, deploy: Run) -> None:
    install_crds(api, "older")
    deploy("llm-d-0.4")
    api.kubectl("scale", "deployment", SERVERS, "-n", NAMESPACE, "--replicas=0")
    args = '[{"op": "replace", "path": "/spec/template/spec/containers/0/args/5", "value": "float32"}]'
    api.kubectl("patch", "deployment", SERVERS, "-n", NAMESPACE, "--type=json", "-p", args)
    timeout = '{"spec": {"default": {"timeoutSec": 30}}}'
    api.kubectl("patch", "gcpbackendpolicy", POOL, "-n", NAMESPACE, "--type=merge", "-p", timeout)

    predicted = {entry["name"]: entry for entry in deploy("llm-d-0.4", "--check")["releases"]}
    assert predicted["ms-pattern1"]["action"] == "repair"
    assert "spec.replicas" in predicted["ms-pattern1"]["reasons"][0]
    assert "containers[0].args" in predicted["ms-pattern1"]["reasons"][0]
    assert "spec.default.timeoutSec" in predicted[POOL]["reasons"][0]
    assert deploy("llm-d-0.4")["changed"]
    live = api.json("get", "deployment", SERVERS, "-n", NAMESPACE)["spec"]
    assert live["replicas"] == 1
    assert "float32" not in live["template"]["spec"]["containers"][0]["args"]
    policy = api.json("get", "gcpbackendpolicy", POOL, "-n", NAMESPACE)
    assert policy["spec"]["default"]["timeoutSec"] == 300
    assert not deploy("llm-d-0.4")["changed"]


def test_options_reach_the_objects(api: Api, deploy: Run) -> None:
    install_crds(api, "older")
    secret = ("create", "secret", "generic", "theirs", "-n", "default", "--from-literal=token=hf_theirs")
    api.kubectl(*secret)
    deploy(
        "llm-d-0.4",
        llmd_model="Some-Org/Odd_Model.v2-",
        llmd_hf_token="",
        llmd_helmfile_hf_secret_from={"name": "theirs", "namespace": "default", "key": "token"},
        llmd_helmfile_cache="pvc+hf",
        llmd_helmfile_cache_claim="models",
        llmd_helmfile_cache_create=True,
        llmd_helmfile_values_ms={"decode": {"replicas": 3}},
    )
    made = api.json("get", "secret", "huggingface-token", "-n", NAMESPACE)
    assert made["data"] == {"HF_TOKEN": "aGZfdGhlaXJz"}
    live = api.json("get", "deployment", SERVERS, "-n", NAMESPACE)["spec"]
    assert live["replicas"] == 3
    assert live["selector"]["matchLabels"]["llm-d.ai/model"] == "odd_model.v2"
    volumes = {volume["name"]: volume for volume in live["template"]["spec"]["volumes"]}
    assert volumes["model-storage"]["persistentVolumeClaim"]["claimName"] == "models"
    claim = api.json("get", "pvc", "models", "-n", NAMESPACE)
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"


def test_bad_input_is_named(api: Api, deploy: Run, tmp_path: Path) -> None:
    install_crds(api, "older")
    for code, variables in {
        "MODELS_INVALID": {"llmd_model": "a/b; $(c)"},
        "HELMFILE_VARIABLES_INVALID": {"llmd_helmfile_cache": "pvc"},
        "HF_SECRET_SOURCE_MISSING": {"llmd_helmfile_hf_secret_from": {"name": "nobody"}},
        "HELM_SCHEMA_REFUSED": {"llmd_helmfile_values_ms": {"modelArtifacts": {"modle": "x"}}},
        "HELM_CHART_NOT_FOUND": {"llmd_chart_source": "/nonexistent"},
        # nobody listens there: the repository that does not answer must not be taken for the cluster
        "HELM_CHART_NOT_FOUND: Chart": {
            "llmd_chart_source": "http://127.0.0.1:9",
            "llmd_artifacts_dir": str(tmp_path / "elsewhere"),
        },
    }.items():
        assert code in deploy("llm-d-0.4", fails=True, **variables)["output"]
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "infra-pattern1-inference-gateway", "namespace": NAMESPACE},
        "spec": {"gatewayClassName": "x", "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}]},
    }
    api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(gateway))
    assert "HELM_FOREIGN_OBJECT" in deploy("llm-d-0.4", fails=True)["output"]
    assert api.json("get", "gateway", gateway["metadata"]["name"], "-n", NAMESPACE)["spec"]["gatewayClassName"] == "x"


def test_a_namespace_that_does_not_go_is_named(api: Api, deploy: Run) -> None:
    install_crds(api, "older")
    api.kubectl("create", "namespace", NAMESPACE)
    api.kubectl("delete", "namespace", NAMESPACE, "--wait=false")  # nobody here finishes it
    assert "NAMESPACE_TERMINATING" in deploy("llm-d-0.4", fails=True, llmd_helmfile_namespace_timeout=3)["output"]
