from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem, label_selector
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import (
    CLUSTER_ROLE,
    GATEWAY,
    POD,
    ROLE_BINDING,
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
