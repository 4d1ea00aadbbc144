"""What a pattern installs, on a real API server by the real helm: names, selectors, arguments, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import Api
from .test_profiles_on_api import NAMESPACE, Run, deploy, install_crds  # noqa: F401

PHI_POOL = "gaie-pattern1-phi-3-mini-4k-instruct"
SERVERS = "ms-pattern1-llm-d-modelservice"


def container(api: Api, name: str) -> dict[str, Any]:
    spec = api.json("get", "deployment", name, "-n", NAMESPACE)["spec"]["template"]["spec"]
    found: dict[str, Any] = spec["containers"][0]
    return found


def names(result: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["action"] for entry in result["releases"]}


def test_several_models_come_and_go_beside_the_first(api: Api, deploy: Run) -> None:  # noqa: F811
    install_crds(api, "older")
    deploy("llm-d-0.4")
    two = deploy("llm-d-0.4", llmd_pattern="pattern2")
    actions = names(two)
    assert {actions[name] for name in ("infra-pattern1", "gaie-pattern1", "ms-pattern1")} == {"none"}
    assert {name for name, action in actions.items() if action == "install"} == {
        "bbr-pattern1",
        PHI_POOL,
        "ms-pattern1-phi-3-mini-4k-instruct",
    }
    assert two["surplus"] == []
    pods = [
        api.json("get", "deployment", f"{name}-llm-d-modelservice-decode", "-n", NAMESPACE)["spec"]["template"]
        for name in ("ms-pattern1", "ms-pattern1-phi-3-mini-4k-instruct")
    ]
    for pool, mine in (("gaie-pattern1", 0), (PHI_POOL, 1)):
        selector = api.json("get", "inferencepool", pool, "-n", NAMESPACE)["spec"]["selector"]["matchLabels"]
        chosen = [selector.items() <= pod["metadata"]["labels"].items() for pod in pods]
        assert chosen == [number == mine for number in (0, 1)]
    note = api.json("get", "namespace", NAMESPACE)["metadata"]["annotations"]
    assert note["llmd.gke/pattern"] == "pattern2"
    # The router is bound to the Gateway by the role that binds the route, when it runs.
    assert api.json("get", "gcproutingextensions", "-n", NAMESPACE)["items"] == []

    back = deploy("llm-d-0.4")
    assert back["surplus"] == ["bbr-pattern1", PHI_POOL, "ms-pattern1-phi-3-mini-4k-instruct"]
    assert set(names(back).values()) == {"none"}


@pytest.mark.parametrize(
    ("profile", "word"), [("llm-d-0.4", "threshold: 0"), ("llm-d-0.6", "always-disagg-pd-decider")]
)
def test_prefill_is_a_workload_of_its_own(api: Api, deploy: Run, profile: str, word: str) -> None:  # noqa: F811
    install_crds(api, "older")
    variables = {"llmd_pattern": "pattern5", "llmd_disaggregation": {"prefill": 2}}
    deploy(profile, **variables)
    assert api.json("get", "deployment", f"{SERVERS}-prefill", "-n", NAMESPACE)["spec"]["replicas"] == 2
    decode = api.json("get", "deployment", f"{SERVERS}-decode", "-n", NAMESPACE)["spec"]["template"]["spec"]
    sidecar, server = decode["initContainers"][0], decode["containers"][0]
    assert "--vllm-port=8200" in sidecar["args"]
    assert sidecar["restartPolicy"] == "Always"
    assert server["ports"][0]["containerPort"] == 8200
    assert container(api, f"{SERVERS}-prefill")["ports"][0]["containerPort"] == 8000
    for one in (server, container(api, f"{SERVERS}-prefill")):
        assert "--kv-transfer-config" in one["args"]
        address = next(item for item in one["env"] if item["name"] == "VLLM_NIXL_SIDE_CHANNEL_HOST")
        assert address["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    picker = api.json("get", "configmap", "gaie-pattern1-epp", "-n", NAMESPACE)["data"]
    assert word in picker["pd-config.yaml"]
    assert "/config/pd-config.yaml" in container(api, "gaie-pattern1-epp")["args"]
    assert not deploy(profile, **variables)["changed"]
    told = deploy(profile, **{**variables, "llmd_disaggregation": {"prefill": 2, "threshold": 500}})
    assert names(told)["gaie-pattern1"] == "upgrade"
    assert ": 500" in api.json("get", "configmap", "gaie-pattern1-epp", "-n", NAMESPACE)["data"]["pd-config.yaml"]


def test_another_deployment_in_the_namespace_is_nobodys_surplus(api: Api, deploy: Run, tmp_path: Path) -> None:  # noqa: F811
    install_crds(api, "older")
    deploy("llm-d-0.4", llmd_release="pattern1-other")
    assert deploy("llm-d-0.4")["surplus"] == []
