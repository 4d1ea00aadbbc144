from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, KubernetesError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.kube.live import essence
from ansible_collections.llmd.gke.plugins.module_utils.kube.objects import (
    Outcome,
    ensure_absent,
    ensure_present,
    with_secrets,
)
from ansible_collections.llmd.gke.plugins.modules import kube_objects

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-d", "labels": {"a": "b"}}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf", "namespace": "llm-d"}}
ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "r", "namespace": "llm-d"},
    "spec": {"hostnames": ["x"]},
}
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/llm-d/httproutes/r"
SECRETS = "/api/v1/namespaces/llm-d/secrets/hf"


def present(client: Any, *manifests: Any, **how: Any) -> Outcome:
    outcome = Outcome()
    ensure_present(client, manifests, outcome, **how)
    return outcome


def actions(outcome: Outcome) -> list[str]:
    return [entry["action"] for entry in outcome.objects]


def test_a_second_time_changes_nothing(api: Any, client: Any) -> None:
    assert actions(present(client, NAMESPACE, SECRET, ROUTE)) == ["created", "created", "created"]
    again = present(client, NAMESPACE, SECRET, ROUTE)
    assert (actions(again), again.changed, again.diff) == (["none"] * 3, False, [])


def test_what_others_have_set_stays_and_is_no_change(api: Any, client: Any) -> None:
    present(client, ROUTE)
    api.objects[ROUTES]["spec"]["theirs"] = 1
    api.objects[ROUTES]["status"] = {"parents": []}
    api.objects[ROUTES]["metadata"] |= {"resourceVersion": "9", "managedFields": [{}], "generation": 3}
    assert present(client, ROUTE).changed is False
    api.objects[ROUTES]["spec"]["hostnames"] = ["somebody's"]
    outcome = present(client, ROUTE)
    assert actions(outcome) == ["changed"]
    assert outcome.diff[0]["before"]["spec"] == {"hostnames": ["somebody's"], "theirs": 1}
    assert outcome.diff[0]["after"]["spec"] == {"hostnames": ["x"], "theirs": 1}
    assert set(outcome.diff[0]["before"]["metadata"]) == {"name", "namespace"}


def test_check_mode_writes_nothing(api: Any, client: Any) -> None:
    outcome = present(client, NAMESPACE, SECRET, check_mode=True)
    assert (actions(outcome), api.objects) == (["created", "created"], {})
    present(client, ROUTE)
    gone = Outcome()
    ensure_absent(client, [ROUTE], gone, check_mode=True)
    assert (actions(gone), ROUTES in api.objects) == (["removed"], True)


def test_a_namespace_that_is_not_there_yet_does_not_stop_a_prediction(api: Any, client: Any, fakes: Any) -> None:
    real = api.request

    def refuse(method: str, path: str, body: Any = None, **params: Any) -> Any:
        if method == "patch":
            raise fakes.Refusal(404, 'namespaces "llm-d" not found')
        return real(method, path, body, **params)

    api.request = refuse
    assert actions(present(client, SECRET, check_mode=True)) == ["created"]
    with pytest.raises(KubernetesError, match="404"):
        present(client, SECRET)


def test_a_kind_is_asked_for_once_it_is_not_known(api: Any, client: Any) -> None:
    policy = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "n"}}
    assert actions(present(client, policy, check_mode=True)) == ["created"]
    with pytest.raises(ConfigurationError) as caught:
        present(client, policy)
    assert caught.value.code == "CRD_MISSING"
    listed = [{"name": "things/status", "kind": "Thing"}, {"name": "things", "kind": "Thing", "namespaced": True}]
    api.texts["/apis/example.org/v1"] = json.dumps({"resources": listed})
    present(client, policy)
    assert "/apis/example.org/v1/namespaces/n/things/t" in api.objects


def test_an_old_namespace_is_waited_for(api: Any, client: Any, clock: Any) -> None:
    old = {"metadata": {"name": "llm-d"}, "status": {"phase": "Terminating"}}
    api.put("/api/v1/namespaces/llm-d", old)
    clock.at(20, lambda: api.objects.pop("/api/v1/namespaces/llm-d"))
    outcome = present(client, NAMESPACE, timeout=60, clock=clock)
    assert actions(outcome) == ["created"]
    assert clock.now() >= 1020
    old["status"]["conditions"] = [
        {"type": "NamespaceContentRemaining", "status": "True", "message": "gateways.x has 1 resource instances"},
        {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "no"},
    ]
    api.put("/api/v1/namespaces/llm-d", old)
    with pytest.raises(WaitTimeout) as caught:
        present(client, NAMESPACE, timeout=60, clock=clock)
    assert caught.value.code == "NAMESPACE_TERMINATING"
    assert caught.value.why == "gateways.x has 1 resource instances"


def test_what_goes_is_waited_for(api: Any, client: Any, clock: Any) -> None:
    present(client, ROUTE)
    real, stays = api.request, True

    def slow(method: str, path: str, body: Any = None, **params: Any) -> Any:
        if method == "delete" and stays:
            api.objects[ROUTES]["metadata"]["finalizers"] = ["x/y"]
            return real("get", path)
        return real(method, path, body, **params)

    api.request = slow
    with pytest.raises(WaitTimeout) as caught:
        ensure_absent(client, [ROUTE], Outcome(), timeout=30, clock=clock)
    assert (caught.value.code, caught.value.why) == ("OBJECT_NOT_GONE", "HTTPRoute llm-d/r: finalizers x/y")
    stays = False
    outcome = Outcome()
    ensure_absent(client, [ROUTE, SECRET], outcome, timeout=30, clock=clock)
    assert [entry["object"] for entry in outcome.objects] == ["HTTPRoute llm-d/r"]


def test_secrets_are_put_in_and_never_shown(api: Any, client: Any) -> None:
    whole = with_secrets([NAMESPACE, SECRET], {"hf/HF_TOKEN": "hf_canary"})
    assert whole[1]["data"] == {"HF_TOKEN": "aGZfY2FuYXJ5"}
    assert "data" not in SECRET
    outcome = present(client, *whole)
    assert api.objects[SECRETS]["data"] == {"HF_TOKEN": "aGZfY2FuYXJ5"}
    assert "aGZfY2FuYXJ5" not in str(outcome)
    with pytest.raises(ConfigurationError, match="other/HF_TOKEN"):
        with_secrets([SECRET], {"other/HF_TOKEN": "x"})


@pytest.mark.parametrize(
    "broken", [{}, {"apiVersion": "v1", "kind": "Secret"}, {"kind": "Secret", "metadata": {"name": "x"}}]
)
def test_what_is_no_manifest_is_named(client: Any, broken: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        present(client, broken)
    assert caught.value.code == "MANIFEST_INVALID"


def test_the_module(api: Any, client: Any, fakes: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_objects, "client_from_params", lambda params: client)
    parameters = {"present": [NAMESPACE, SECRET], "secret_values": {"hf/HF_TOKEN": "hf_canary"}, "absent": [ROUTE]}
    assert fakes.run_module("kube_objects", capfd, parameters, check_mode=True)["changed"] is True
    assert api.objects == {}
    result = fakes.run_module("kube_objects", capfd, parameters)
    assert [entry["action"] for entry in result["objects"]] == ["created", "created"]
    assert "canary" not in str(result)
    assert fakes.run_module("kube_objects", capfd, parameters)["changed"] is False


def test_essence_leaves_the_manifest_alone() -> None:
    live = {
        "metadata": {"name": "x", "uid": "1", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}
    }
    assert essence(live) == {"metadata": {"name": "x"}}
    assert "uid" in live["metadata"]
