from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import BackendHealth, Endpoint
from ansible_collections.llmd.gke.plugins.module_utils.llmd.backends import ClusterView, explain, parse_ref, poll, say

GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/llm-d/gateways/g"
POOL = "gkegw1-on7z-llm-d-gaie-pattern1-ips-b68768ac-54321-0izcufp50m0a"


def pool(*states: str, port: int = 8000, exists: bool = True) -> BackendHealth:
    endpoints = tuple(Endpoint(f"10.4.0.{number}", port, state) for number, state in enumerate(states))
    return BackendHealth(POOL, endpoints, 1, exists)


def pod(ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": "ms-1", "namespace": "llm-d"},
        "status": {"podIP": "10.4.0.0", "conditions": [{"type": "Ready", "status": ready}]},
    }


def policy(port: int) -> dict[str, Any]:
    check = {"type": "HTTP", "httpHealthCheck": {"requestPath": "/health", "port": port}}
    return {"spec": {"default": {"config": check}}}


def test_the_annotations_references() -> None:
    ref = parse_ref(f"/projects/123/regions/us-central1/backendServices/{POOL}")
    assert ref is not None
    assert (ref.name, ref.region, ref.project, ref.is_default) == (POOL, "us-central1", "123", False)
    default = parse_ref("/projects/123/global/backendServices/gkegw1-on7z-llm-d-gw-serve404-80-x")
    assert default is not None
    assert default.is_default
    assert default.region == ""
    assert parse_ref("nonsense") is None


@pytest.mark.parametrize(
    ("backends", "view", "code"),
    [
        ([], ClusterView(), "BACKENDS_NOT_FOUND"),
        ([pool(exists=False)], ClusterView(), "BACKEND_MISSING"),
        ([pool()], ClusterView(), "BACKEND_NO_ENDPOINTS"),
        ([pool("UNHEALTHY")], ClusterView([pod("False")]), "BACKEND_POD_NOT_READY"),
        ([pool("UNHEALTHY")], ClusterView([pod()]), "HEALTH_CHECK_POLICY_MISSING"),
        ([pool("UNHEALTHY", port=8200)], ClusterView([pod()], [policy(8000)]), "HEALTH_CHECK_PORT_WRONG"),
        ([pool("UNHEALTHY")], ClusterView([pod()], [policy(8000)]), "BACKEND_UNHEALTHY"),
        ([pool("UNHEALTHY")], ClusterView(), "BACKEND_UNHEALTHY"),
    ],
)
def test_why_a_backend_is_not_healthy(backends: list[BackendHealth], view: ClusterView, code: str) -> None:
    problem = explain(backends, 1, view)
    assert problem.code == code
    assert problem.remedy


def test_it_is_polled_until_all_are_healthy(clock: Any) -> None:
    looks = [[], [pool()], [pool("UNHEALTHY", "HEALTHY")], [pool("HEALTHY", "HEALTHY")]]
    found = poll(lambda: looks.pop(0), ClusterView, min_endpoints=1, timeout=60, interval=3, clock=clock)
    assert say(found, 1) == "1 of 1 backend services healthy"
    assert clock.now() == 1009.0


def test_passing_trouble_is_survived_and_a_refusal_is_not(clock: Any) -> None:
    answers: list[Any] = [GoogleApiError("503", status=503), [pool("HEALTHY")]]

    def read() -> list[BackendHealth]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found: list[BackendHealth] = answer
        return found

    assert poll(read, ClusterView, min_endpoints=1, timeout=60, interval=3, clock=clock)[0].all_healthy
    answers[:] = [GoogleApiError("403", status=403, code="PERMISSION_DENIED")]
    with pytest.raises(GoogleApiError):
        poll(read, ClusterView, min_endpoints=1, timeout=60, interval=3, clock=clock)


def test_time_up_says_what_was_last_seen(clock: Any) -> None:
    with pytest.raises(LlmdError) as caught:
        poll(lambda: [pool("UNHEALTHY")], ClusterView, min_endpoints=1, timeout=9, interval=3, clock=clock)
    assert caught.value.code == "BACKEND_UNHEALTHY"
    assert caught.value.evidence[0]["endpoints"][0]["state"] == "UNHEALTHY"


def test_the_module_reads_the_gateways_annotation(
    api: Any, client: Any, fakes: Any, capfd: Any, monkeypatch: Any
) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments
    from ansible_collections.llmd.gke.plugins.modules import backend_health

    class Session:
        calls: dict[str, int] = {}  # noqa: RUF012

    asked: list[Any] = []

    def health(session: Any, project: str, region: str, names: list[str]) -> list[BackendHealth]:
        asked.append((project, region, list(names)))
        return [pool("HEALTHY")]

    root = "/projects/1/regions/us-central1/backendServices/"
    value = f"{root}{POOL}, {root}gkegw1-on7z-llm-d-gw-serve404-80-x"
    api.put(GATEWAY, {"metadata": {"annotations": {"networking.gke.io/backend-services": value}}})
    monkeypatch.setattr(backend_health, "client_from_params", lambda params: client)
    monkeypatch.setattr(backend_health, "backend_health", health)
    monkeypatch.setattr(arguments, "open_session", lambda params, deadline=None: Session())
    params = {"project": "my-project", "gateway": "g", "namespace": "llm-d", "timeout": 0}
    result = fakes.run_module("backend_health", capfd, params)
    assert result["changed"] is False
    assert result["healthy"] is True
    assert asked == [("my-project", "us-central1", [POOL])]
    result = fakes.run_module("backend_health", capfd, {**params, "min_endpoints": 2})
    assert result["error"]["code"] == "BACKEND_NO_ENDPOINTS"
    result = fakes.run_module("backend_health", capfd, {**params, "min_endpoints": 2, "wait": False})
    assert result["healthy"] is False
