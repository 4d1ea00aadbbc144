"""Network policies, Pod Security and the load balancer's protection on a real API server, which judges the pods.

Nothing here enforces a NetworkPolicy: the policies that the API server took are read back and asked about every
connection that the deployment needs, and about some that must be refused.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Api
from .test_profiles_on_api import NAMESPACE, POOL, SERVERS, install_crds

PLAY = Path(__file__).with_name("harden.yml")
LOAD_BALANCER, PROBE = "192.168.8.7", "35.191.10.1"
HARD = {"llmd_network_policies": True, "llmd_pod_security": "baseline"}
Run = Callable[..., dict[str, Any]]
Pod = tuple[str, dict[str, str]]  # namespace, labels


@pytest.fixture
def harden(api: Api, charts: Path, tmp_path: Path) -> Run:
    def run(*, profile: str = "llm-d-0.4", fails: str = "", **more: Any) -> dict[str, Any]:
        variables = {
            "ansible_python_interpreter": sys.executable, "llmd_project": "p", "llmd_deployment": "pattern1",
            "llmd_profile": profile, "llmd_hf_token": "hf_x", "llmd_chart_source": str(charts),
            "llmd_kubeconfig": str(api.kubeconfig), "llmd_artifacts_dir": str(tmp_path / "artifacts"),
            "result_file": str(tmp_path / "result.json"), **more,
        }  # fmt: skip
        command = ["ansible-playbook", "-i", "localhost,", str(PLAY), "-e", json.dumps(variables)]
        done = subprocess.run(command, env=api.environment, capture_output=True, text=True, check=False, timeout=300)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == bool(fails), output[-6000:]
        assert fails in output
        result: dict[str, Any] = {} if fails else json.loads((tmp_path / "result.json").read_text())
        return result

    return run


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """As Kubernetes reads a label selector; operators that no policy of ours uses are an error."""
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions") or []:
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def from_peer(peer: dict[str, Any], source: str | Pod) -> bool:
    if isinstance(source, str):
        block = peer.get("ipBlock")
        return block is not None and ipaddress.ip_address(source) in ipaddress.ip_network(block["cidr"])
    namespace, labels = source
    if "namespaceSelector" in peer:
        home = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
    else:
        home = namespace == NAMESPACE
    return home and "ipBlock" not in peer and selects(peer.get("podSelector") or {}, labels)


def lets_in(policies: list[dict[str, Any]], pod: dict[str, str], source: str | Pod, port: int) -> bool:
    """Whether a connection to a pod of the namespace is let in: by any rule of any policy that selects the pod."""
    mine = [one["spec"] for one in policies if selects(one["spec"]["podSelector"], pod)]
    if not mine:
        return True
    return any(
        any(from_peer(peer, source) for peer in rule.get("from") or [])
        and (not rule.get("ports") or port in [entry["port"] for entry in rule["ports"]])
        for spec in mine
        for rule in spec.get("ingress") or []
    )


def pods(api: Api, name: str) -> dict[str, str]:
    found: dict[str, str] = api.json("get", "deployment", name, "-n", NAMESPACE)["spec"]["template"]["metadata"][
        "labels"
    ]
    return found


def policies(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.json("get", "networkpolicies", "-n", NAMESPACE)["items"]
    return found


def test_pattern1_hardened_and_back(api: Api, harden: Run) -> None:
    install_crds(api, "older")
    assert harden(**HARD)["changed"]
    found = policies(api)
    assert {one["metadata"]["name"] for one in found} == {"llm-d-pattern1-model-servers", "llm-d-pattern1-pickers"}
    server, picker = pods(api, SERVERS), pods(api, f"{POOL}-epp")
    collector, agent = ("gmp-system", {"app": "collector"}), ("kube-system", {"k8s-app": "konnectivity-agent"})
    stranger: Pod = (NAMESPACE, {"app": "curl"})
    needed: list[tuple[dict[str, str], str | Pod, int]] = [
        (server, LOAD_BALANCER, 8000), (server, PROBE, 8000), (server, (NAMESPACE, picker), 8000),
        (server, collector, 8000), (server, agent, 8000),
        (picker, LOAD_BALANCER, 9002), (picker, PROBE, 9003), (picker, collector, 9090), (picker, agent, 9090),
    ]  # fmt: skip
    refused: list[tuple[dict[str, str], str | Pod, int]] = [
        (server, stranger, 8000), (server, ("default", {"app": "curl"}), 8000), (server, "10.128.0.9", 8000),
        (server, LOAD_BALANCER, 8200), (server, (NAMESPACE, server), 8000), (server, "192.168.0.7", 8000),
        (picker, stranger, 9002), (picker, LOAD_BALANCER, 9090), (picker, (NAMESPACE, server), 9002),
    ]  # fmt: skip
    assert [one for one in needed if not lets_in(found, *one)] == []
    assert [one for one in refused if lets_in(found, *one)] == []

    # The API server's own judgement: what the level enforces, and what it says about our pods by the next one.
    labels = api.json("get", "namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    assert labels["pod-security.kubernetes.io/warn"] == "restricted"
    template = api.json("get", "deployment", SERVERS, "-n", NAMESPACE)["spec"]["template"]
    assert template["spec"]["containers"][0]["securityContext"]["runAsUser"] == 2000
    for level, name, template_ in (
        ("restricted", "server", template),
        ("baseline", "picker", api.json("get", "deployment", f"{POOL}-epp", "-n", NAMESPACE)["spec"]["template"]),
    ):
        api.kubectl("create", "namespace", name)
        api.kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
        template_["spec"].pop("serviceAccountName", None)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "one", "namespace": name},
            "spec": template_["spec"],
        }
        api.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    on_the_host = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad", "namespace": NAMESPACE},
        "spec": {"hostNetwork": True, "containers": [{"name": "x", "image": "x"}]},
    }  # fmt: skip
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        api.kubectl("apply", "-f", "-", stdin=json.dumps(on_the_host))

    # The protection goes into the chart's own policy, stays through a second run, and goes where it is named and empty.
    asked = {"security_policy": "callers", "iap": {"client_id": "c.apps", "secret": "iap-client"}}
    tls = {"llmd_tls": {"secret": "mine"}}
    harden(fails="PROTECTION_INVALID", **HARD, llmd_protection=asked)  # without TLS
    harden(**HARD, **tls, llmd_protection=asked)
    default = api.json("get", "gcpbackendpolicy", POOL, "-n", NAMESPACE)["spec"]["default"]
    assert default["securityPolicy"] == "callers"
    assert default["iap"] == {"enabled": True, "clientID": "c.apps", "oauth2ClientSecret": {"name": "iap-client"}}
    assert default["timeoutSec"] == 300
    again = harden(**HARD, **tls, llmd_protection=asked)
    assert (again["changed"], again["policy_changed"]) == (False, False)
    harden(**tls, llmd_protection={"iap": {}, "security_policy": ""})
    left = api.json("get", "gcpbackendpolicy", POOL, "-n", NAMESPACE)["spec"]["default"]
    assert "iap" not in left
    assert not left.get("securityPolicy")
    # ... and without the options everything else is as before.
    assert policies(api) == []
    labels = api.json("get", "namespace", NAMESPACE)["metadata"]["labels"]
    assert not [name for name in labels if name.startswith("pod-security")]
    template = api.json("get", "deployment", SERVERS, "-n", NAMESPACE)["spec"]["template"]
    assert not template["spec"]["containers"][0].get("securityContext")


def test_prefill_decode_and_several_models(api: Api, harden: Run) -> None:
    install_crds(api, "older")
    harden(**HARD, llmd_pattern="pattern5")
    found = policies(api)
    decode, prefill = pods(api, SERVERS), pods(api, SERVERS.replace("decode", "prefill"))
    assert lets_in(found, decode, LOAD_BALANCER, 8000)
    assert lets_in(found, prefill, (NAMESPACE, decode), 5600)  # where a KV cache is fetched from
    assert not lets_in(found, prefill, (NAMESPACE, {"app": "curl"}), 5600)
    harden(**HARD, llmd_pattern="pattern2")
    found = policies(api)
    router = pods(api, "body-based-router")
    assert lets_in(found, router, LOAD_BALANCER, 9004)
    assert not lets_in(found, router, (NAMESPACE, {"app": "curl"}), 9004)
    second = pods(api, f"{POOL}-phi-3-mini-4k-instruct-epp")
    assert lets_in(found, second, LOAD_BALANCER, 9002)
    assert not lets_in(found, second, (NAMESPACE, {"app": "curl"}), 9002)
