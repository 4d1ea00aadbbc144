from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem, KubeClient, label_selector
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import (
    CLUSTER_ROLE,
    GATEWAY,
    POD,
    ROLE_BINDING,
    SECRET,
    known_kind,
)


def test_paths() -> None:
    assert GATEWAY.path("g", "llm-d") == "/apis/gateway.networking.k8s.io/v1/namespaces/llm-d/gateways/g"
    assert POD.path("p", "n", "log", {"tailLines": "5"}) == "/api/v1/namespaces/n/pods/p/log?tailLines=5"
    assert POD.path("p:9090", "n", "proxy") == "/api/v1/namespaces/n/pods/p:9090/proxy"
    assert CLUSTER_ROLE.path("x", "ignored") == "/apis/rbac.authorization.k8s.io/v1/clusterroles/x"
    assert ROLE_BINDING.path("gmp-system:collector:x", "n").endswith("/rolebindings/gmp-system:collector:x")
    assert known_kind("apps/v1", "Deployment") is not None
    assert known_kind("example.org/v1", "Thing") is None


def test_what_is_not_there_is_none(api: Any, client: Any) -> None:
    assert client.get(POD, "p", "n") is None
    assert client.objects(POD, "n") == []
    assert client.delete(POD, "p", "n") is False
    assert client.logs("p", "n") == ""


@pytest.mark.parametrize(
    ("status", "code", "transient"),
    [
        (401, "CLUSTER_TOKEN_EXPIRED", False),
        (403, "KUBERNETES_FORBIDDEN", False),
        (409, "KUBERNETES_API_ERROR", False),
        (429, "KUBERNETES_API_ERROR", True),
        (503, "KUBERNETES_API_ERROR", True),
    ],
)
def test_refusals_have_codes_and_the_servers_words(
    api: Any, fakes: Any, client: Any, status: int, code: str, transient: bool
) -> None:
    api.trouble.append(fakes.Refusal(status, 'gateways "g" is forbidden: User "u" cannot get'))
    with pytest.raises(ApiProblem) as caught:
        client.get(GATEWAY, "g", "llm-d")
    assert caught.value.code == code
    assert caught.value.transient is transient
    assert 'User "u" cannot get' in caught.value.why
    assert caught.value.where.startswith("GET /apis/gateway")


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda client: client.get(GATEWAY, "g", "llm-d"),
    "list": lambda client: client.objects(POD, "llm-d"),
    "list metadata": lambda client: client.labels_of(SECRET, "llm-d"),
    "apply": lambda client: client.apply(GATEWAY, {"metadata": {"name": "g", "namespace": "llm-d"}}),
    "dry run": lambda client: client.apply(GATEWAY, {"metadata": {"name": "g", "namespace": "llm-d"}}, dry_run=True),
    "patch": lambda client: client.annotate(GATEWAY, "g", "llm-d", {"a": "b"}),
    "delete": lambda client: client.delete(POD, "p", "llm-d"),
    "events": lambda client: client.events("g", "llm-d"),
    "pods/log": lambda client: client.logs("p", "llm-d"),
    "pods/proxy get": lambda client: client.pod_get("p", "llm-d", 9090, "metrics"),
    "pods/proxy create": lambda client: client.pod_post("p", "llm-d", 8000, "v1/completions", {}),
    "version": lambda client: client.version(),
}


@pytest.mark.parametrize("verb", sorted(CALLS))
def test_every_verb_that_is_denied_is_named(api: Any, fakes: Any, client: Any, verb: str) -> None:
    """RBAC may lack any one of them; none is taken for "nothing there", and nothing is asked twice."""
    api.trouble.append(fakes.Refusal(403, f'x is forbidden: User "u" cannot {verb} resource'))
    with pytest.raises(ApiProblem) as caught:
        CALLS[verb](client)
    assert caught.value.code == "KUBERNETES_FORBIDDEN"
    assert f'User "u" cannot {verb}' in caught.value.why
    assert "roles/container.admin" in caught.value.remedy
    assert len(api.requests) == 1


def test_reads_survive_a_server_that_throttles_or_restarts(api: Any, fakes: Any, clock: Any) -> None:
    client = KubeClient(api, patience=20, clock=clock)
    api.trouble = [fakes.Refusal(status, "busy") for status in (429, 500, 503)]
    assert client.objects(POD, "llm-d") == []
    assert clock.now() - 1000 == 0.5 + 1 + 2
    api.trouble = [fakes.Refusal(500, "busy") for _unused in range(20)]
    with pytest.raises(ApiProblem):
        client.get(GATEWAY, "g", "llm-d")
    assert clock.now() - 1000 <= 3.5 + 20


def test_writes_and_a_dead_server_are_not_repeated(api: Any, fakes: Any, clock: Any) -> None:
    client = KubeClient(api, patience=20, clock=clock)
    api.trouble = [fakes.Refusal(500, "busy"), fakes.Refusal(500, "busy")]
    with pytest.raises(ApiProblem):
        client.annotate(GATEWAY, "g", "llm-d", {"a": "b"})
    assert len(api.trouble) == 1
    api.trouble = [ConnectionRefusedError(111, "refused"), ConnectionRefusedError(111, "refused")]
    with pytest.raises(ApiProblem):
        client.get(GATEWAY, "g", "llm-d")
    assert len(api.trouble) == 1


def test_no_connection_is_unreachable(api: Any, client: Any) -> None:
    api.trouble.append(ConnectionRefusedError(111, "refused"))
    with pytest.raises(ApiProblem) as caught:
        client.get(GATEWAY, "g", "llm-d")
    assert caught.value.code == "CLUSTER_UNREACHABLE"
    assert caught.value.transient


def test_a_fault_of_ours_is_not_hidden(api: Any, client: Any) -> None:
    api.trouble.append(TypeError("ours"))
    with pytest.raises(TypeError):
        client.get(GATEWAY, "g", "llm-d")


def test_a_broken_kubeconfig_is_named(fakes: Any, capfd: Any, tmp_path: Any) -> None:
    params = {"name": "g", "namespace": "n", "kubeconfig": str(tmp_path / "none")}
    result = fakes.run_module("gateway_reconcile", capfd, params)
    assert result["error"]["code"] == "KUBECONFIG_INVALID"


def test_selectors() -> None:
    assert label_selector({"b": "2", "a": "1"}) == "a=1,b=2"
