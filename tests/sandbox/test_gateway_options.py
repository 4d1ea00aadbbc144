"""One deployment with every option of the Gateway, on the newer generation of GKE's CRDs, and on to the next profile.

The internal class, a reserved address, a host name, TLS from a Secret, a time limit: verified from within the network;
then llm-d-0.4 is replaced by llm-d-0.6 under the same endpoint.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority, Pair

from .conftest import Run, Sandbox, ansible_environment, sandbox_name

pytestmark = pytest.mark.sandbox

NAME = "llm.example.com"
SPACE, GATEWAY, POOL = "llm-d", "infra-pattern1-inference-gateway", "gaie-pattern1"
SERVERS = "ms-pattern1-llm-d-modelservice-decode"
PATTERN1 = "playbooks/pattern1.yml"


class Deployment:
    """A sandbox, the variables of the deployment in it, and the certificates' authority."""

    def __init__(self, sandbox: Sandbox, authority: Authority, pair: Pair, ca_file: Path) -> None:
        self.sandbox = sandbox
        self.authority = authority
        self.variables: dict[str, Any] = {
            "llmd_profile": "llm-d-0.4",
            "llmd_gateway_class": "gke-l7-rilb",
            "llmd_address": "llm-d-inside",
            "llmd_hostnames": [NAME],
            "llmd_tls": {
                "secret": "pattern1-tls",
                "certificate": pair.certificate,
                "key": pair.key,
                "ca_file": str(ca_file),
            },
            "llmd_backend_timeout": 900,
        }

    def run(self, playbook: str, *words: str, **more: Any) -> Run:
        return self.sandbox.playbook(playbook, *words, **{**self.variables, **more})

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return dict(self.sandbox.exec_json("kubectl", "get", kind, name, "-n", SPACE, "-o", "json"))

    def address(self) -> str:
        return str(self.get("gateway", GATEWAY)["status"]["addresses"][0]["value"])

    def offer_volume(self) -> None:
        """A volume that the claim can bind to."""
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "10Gi"},
            "hostPath": {"path": str(self.sandbox.home / "models"), "type": "DirectoryOrCreate"},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        path = self.sandbox.home / "volume.json"
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "models"}, "spec": spec}
        path.write_text(json.dumps(volume))
        self.sandbox.exec("kubectl", "apply", "-f", str(path))

    def curl(self, *words: str) -> str:
        return self.sandbox.exec("curl", "-s", "--max-time", "10", *words, check=False)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if os.geteuid() != 0:
        pytest.skip("the sandbox needs root: it makes network namespaces")
    if shutil.which("ansible-playbook") is None:
        pytest.skip("ansible-playbook is not on PATH: run `make test`")
    home = tmp_path_factory.mktemp("home")
    extra = {"LLMD_SANDBOX_NAME": sandbox_name("opts"), "LLMD_SANDBOX_GATEWAY_CRDS": "newer"}
    sandbox = Sandbox(ansible_environment(home, extra), home)
    authority = Authority()
    (home / "ca.pem").write_text(authority.pem)
    one = Deployment(sandbox, authority, authority.sign(NAME), home / "ca.pem")
    sandbox.cli("down")
    sandbox.cli("up", "--speed", "0", "--port", "0", timeout=2400)
    try:
        run = one.run(PATTERN1)
        assert run.rc == 0, run.output[-6000:]
        yield one
    finally:
        sandbox.cli("down")


def test_the_endpoint_is_internal_secure_and_at_its_own_address(deployed: Deployment) -> None:
    address = deployed.address()
    assert ipaddress.ip_address(address) in ipaddress.ip_network("10.128.0.0/20")
    verdict = deployed.sandbox.artifact("verify.json")
    assert (verdict["passed"], verdict["endpoint"], verdict["host"]) == (True, f"https://{address}", NAME)
    listeners = {entry["name"]: entry for entry in deployed.get("gateway", GATEWAY)["spec"]["listeners"]}
    assert listeners["https"]["hostname"] == NAME
    assert {entry["allowedRoutes"]["namespaces"]["from"] for entry in listeners.values()} == {"Same"}
    policy = deployed.get("gcpbackendpolicy", POOL)
    assert policy["spec"]["default"]["timeoutSec"] == 900
    check = deployed.get("healthcheckpolicy", POOL)["spec"]["default"]["config"]["httpHealthCheck"]
    assert check["portSpecification"] == "USE_FIXED_PORT"  # without it these CRDs refuse the chart's policy
    found = json.dumps(deployed.sandbox.snapshot())
    assert "targetHttpsProxies" in found
    assert "PRIVATE KEY" not in found


def test_port_80_leads_over_and_strangers_get_nothing(deployed: Deployment) -> None:
    address = deployed.address()
    moved = deployed.curl(
        "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "-H", f"Host: {NAME}", f"http://{address}/v1/models"
    )
    assert moved.split() == ["301", f"https://{NAME}/v1/models"]
    asked = ("--resolve", f"{NAME}:443:{address}", "--cacert", str(deployed.sandbox.home / "ca.pem"))
    assert "gemma-2b-it" in deployed.curl(*asked, f"https://{NAME}/v1/models")
    assert deployed.curl(*asked[:2], f"https://{NAME}/v1/models") == ""  # not an authority of this machine
    other = ("-k", "--resolve", f"else.example.com:443:{address}", "https://else.example.com/v1/models")
    assert deployed.curl(*other) == "fault filter abort"


def test_a_route_of_another_namespace_cannot_take_the_name(deployed: Deployment) -> None:
    rule = {"backendRefs": [{"name": "thief", "port": 80}]}
    parent = {"name": GATEWAY, "namespace": SPACE}
    spec = {"parentRefs": [parent], "hostnames": [NAME], "rules": [rule]}
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
    route |= {"metadata": {"name": "thief", "namespace": "default"}, "spec": spec}
    path = deployed.sandbox.home / "thief.json"
    path.write_text(json.dumps(route))
    deployed.sandbox.exec("kubectl", "apply", "-f", str(path))
    refused = 'jsonpath={.status.parents[0].conditions[?(@.type=="Accepted")].reason}=NotAllowedByListeners'
    deployed.sandbox.exec("kubectl", "wait", "httproute/thief", "-n", "default", f"--for={refused}", "--timeout=60s")
    run = deployed.run("playbooks/diagnose.yml")
    assert run.rc == 0, run.output[-3000:]
    deployed.sandbox.exec("kubectl", "delete", "-f", str(path))


def test_a_certificate_that_does_not_fit_is_named_and_the_old_one_serves_on(deployed: Deployment) -> None:
    other = deployed.authority.sign(NAME)
    broken = {**deployed.variables["llmd_tls"], "key": other.key}
    run = deployed.run(PATTERN1, llmd_tls=broken)
    assert run.rc != 0
    assert "GATEWAY_CERTIFICATE_UNSUITABLE" in run.output
    assert other.key.splitlines()[1] not in run.output
    asked = ("--resolve", f"{NAME}:443:{deployed.address()}", "--cacert", str(deployed.sandbox.home / "ca.pem"))
    assert "gemma-2b-it" in deployed.curl(*asked, f"https://{NAME}/v1/models")
    # a renewed pair instead; the next test's run takes it over
    deployed.variables["llmd_tls"] |= {"certificate": other.certificate, "key": other.key}


def test_the_next_profile_replaces_the_model_servers_and_says_so_first(deployed: Deployment) -> None:
    address = deployed.address()
    predicted = deployed.run(PATTERN1, "--check", "--diff", llmd_profile="llm-d-0.6")
    assert predicted.rc == 0, predicted.output[-4000:]
    assert "Release ms-pattern1 is replaced, not upgraded" in predicted.output
    assert "llm-d.ai/inferenceServing" in deployed.get("deployment", SERVERS)["spec"]["selector"]["matchLabels"]

    # on that occasion the model moves to a volume, which the sandbox offers by hand: it has no provisioner
    deployed.offer_volume()
    deployed.variables |= {
        "llmd_profile": "llm-d-0.6",
        "llmd_helmfile_cache": "pvc+hf",
        "llmd_helmfile_cache_claim": "models",
        "llmd_helmfile_cache_create": True,
    }
    run = deployed.run(PATTERN1)
    assert run.rc == 0, run.output[-6000:]
    assert run.output.index("is replaced, not upgraded") < run.output.index("TASK [llmd.gke.gateway_route")
    assert "llm-d.ai/inference-serving" in deployed.get("deployment", SERVERS)["spec"]["selector"]["matchLabels"]
    assert deployed.get("inferencepool", POOL)["spec"]["endpointPickerRef"]["failureMode"] == "FailOpen"
    assert deployed.get("gcpbackendpolicy", POOL)["spec"]["default"]["timeoutSec"] == 900
    assert deployed.get("pvc", "models")["status"]["phase"] == "Bound"
    volumes = deployed.get("deployment", SERVERS)["spec"]["template"]["spec"]["volumes"]
    assert "models" in [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes]
    assert deployed.address() == address
    assert deployed.sandbox.artifact("verify.json")["passed"]

    again = deployed.run(PATTERN1)
    assert (again.rc, again.count("changed")) == (0, 0), again.output[-4000:]


def test_nothing_is_left(deployed: Deployment) -> None:
    run = deployed.run("playbooks/teardown.yml", llmd_confirm="pattern1")
    assert run.rc == 0, run.output[-4000:]
    left = deployed.sandbox.snapshot()
    text = json.dumps(left)
    assert "llm-d-inside" not in text.replace('"target', "")
    assert "targetHttpsProxies/gkegw1" not in text
