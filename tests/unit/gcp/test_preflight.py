"""gcp_preflight: all findings at once, each with code and remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.gcp import preflight_local
from ansible_collections.llmd.gke.plugins.module_utils.gcp.preflight_local import HubAnswer, HubUnreachable

Run = Callable[..., dict[str, Any]]
OPTIONS: dict[str, Any] = {
    "region": "us-central1",
    "zone": "us-central1-a",
    "node_pools": [
        {"machine_type": "n1-standard-4", "node_count": 2},
        {"machine_type": "n1-standard-4", "node_count": 1, "accelerator": {"type": "nvidia-tesla-t4", "count": 1}},
    ],
    "proxy_subnet_range": "192.168.0.0/23",
    "permissions": ["container.clusters.create", "compute.subnetworks.create"],
    "require_helm": False,
}
REGION = "https://www.googleapis.com/compute/v1/projects/my-project/regions/us-central1"


def quota(**limits: float) -> list[dict[str, Any]]:
    return [{"metric": metric, "limit": limit, "usage": 0} for metric, limit in limits.items()]


@pytest.fixture
def project(google: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project where everything is as it should be."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(preflight_local, "_importable", lambda module: True)
    google.on("GET", "cloudresourcemanager.*projects/my-project$", {"projectNumber": "1", "lifecycleState": "ACTIVE"})
    google.on("GET", "billingInfo$", {"billingEnabled": True, "billingAccountName": "billingAccounts/1"})
    google.on("POST", ":testIamPermissions", lambda request: {"permissions": request.body["permissions"]})
    services = [
        {"name": f"x/{n}.googleapis.com", "state": "ENABLED"} for n in ("compute", "container", "networkservices")
    ]
    google.on("GET", "services:batchGet", {"services": services})
    google.on("GET", "zones/us-central1-a$", {"name": "us-central1-a", "status": "UP"})
    google.on("GET", "machineTypes/n1-standard-4$", {"name": "n1-standard-4", "guestCpus": 4})
    google.on("GET", "acceleratorTypes/nvidia-tesla-t4$", {"name": "nvidia-tesla-t4", "maximumCardsPerInstance": 4})
    google.on(
        "GET",
        "regions/us-central1$",
        {"quotas": quota(CPUS=24, NVIDIA_T4_GPUS=1, IN_USE_ADDRESSES=8, SSD_TOTAL_GB=500)},
    )
    google.on("GET", "compute/v1/projects/my-project$", {"quotas": quota(GPUS_ALL_REGIONS=1)})
    google.on("GET", "locations/-/clusters$", {})
    google.on("GET", "aggregated/subnetworks", {"items": {}})
    google.on("GET", "networks/default$", {"name": "default", "autoCreateSubnetworks": True})
    return google


def codes(result: dict[str, Any], severity: str = "error") -> set[str]:
    return {check["code"] for check in result["checks"] if check["severity"] == severity}


def test_all_is_well(project: Any, run_module: Run) -> None:
    result = run_module("gcp_preflight", **OPTIONS)
    assert result["passed"] is True
    assert result["changed"] is False
    assert {check["severity"] for check in result["checks"]} == {"ok"}
    assert project.writes() == []


def test_every_fault_is_found_in_one_pass(project: Any, run_module: Run, error_reply: Callable[..., Any]) -> None:
    missing = error_reply(404, "The resource 'projects/my-project/zones/us-central1-a/x/y' was not found")
    project.on("POST", ":testIamPermissions", {"permissions": ["container.clusters.create"]})
    project.on("GET", "machineTypes/", missing)
    project.on("GET", "acceleratorTypes/nvidia-tesla-t4$", missing)
    zones = {"zones/us-central1-b": {"acceleratorTypes": [{"name": "nvidia-tesla-t4"}]}, "zones/us-central1-c": {}}
    project.on("GET", "aggregated/acceleratorTypes", {"items": zones})
    project.on("GET", "compute/v1/projects/my-project$", {"quotas": quota(GPUS_ALL_REGIONS=0)})
    result = run_module(
        "gcp_preflight", **{**OPTIONS, "proxy_subnet_range": "10.129.0.0/23", "model": "google/gemma-2b-it"}
    )
    assert result["failed"] is True
    assert codes(result) == {
        "PERMISSION_MISSING",
        "MACHINE_TYPE_UNAVAILABLE",
        "ACCELERATOR_UNAVAILABLE",
        "QUOTA_EXCEEDED",
        "CIDR_RESERVED_RANGE",
        "HF_TOKEN_MISSING",
    }
    assert result["error"]["code"] == "PREFLIGHT_FAILED"
    for word in ("roles/compute.networkAdmin", "us-central1-b", "GPUS_ALL_REGIONS", "192.168.0.0/23", "HF_TOKEN"):
        assert word in result["msg"], word
    reported = run_module("gcp_preflight", fail_on="never", **{**OPTIONS, "proxy_subnet_range": "x"})
    assert reported.get("failed") is None
    assert reported["passed"] is False


def test_a_disabled_compute_api_fails_nothing(
    project: Any, run_module: Run, disabled_reply: Callable[..., Any]
) -> None:
    project.on("GET", "compute/v1/", disabled_reply())
    project.on("GET", "services:batchGet", {"services": []})
    result = run_module("gcp_preflight", **OPTIONS)
    assert result["passed"] is True
    assert codes(result, "unknown") == {"API_DISABLED"}
    assert codes(result, "warning") == {"API_DISABLED"}
    bad = run_module("gcp_preflight", **{**OPTIONS, "proxy_subnet_range": "192.168.0.1/23"})
    assert codes(bad) == {"CIDR_HOST_BITS"}  # what is wrong by itself is told all the same


@pytest.mark.parametrize(
    ("verb_pattern", "answer", "code"),
    [
        ("cloudresourcemanager", (403, "The caller does not have permission"), "PROJECT_NOT_FOUND"),
        (
            "zones/us-central1-a$",
            (404, "The resource 'projects/p/zones/us-central1-a' was not found"),
            "ZONE_NOT_FOUND",
        ),
        (
            "networks/default$",
            (404, "The resource 'projects/p/global/networks/default' was not found"),
            "NETWORK_NOT_FOUND",
        ),
    ],
)
def test_named_faults(
    project: Any, run_module: Run, error_reply: Callable[..., Any], verb_pattern: str, answer: Any, code: str
) -> None:
    project.on("GET", verb_pattern, error_reply(*answer))
    result = run_module("gcp_preflight", **OPTIONS)
    assert result["error"]["code"] == code


def test_refused_credentials_are_one_finding(project: Any, run_module: Run) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError

    project.token = GoogleApiError("no token", code="UNAUTHENTICATED", status=401)
    result = run_module("gcp_preflight", **OPTIONS)
    assert codes(result) == {"UNAUTHENTICATED"}
    assert project.requests == []


def test_own_nodes_among_the_used_ones_are_only_a_warning(project: Any, run_module: Run) -> None:
    used = [{"metric": "NVIDIA_T4_GPUS", "limit": 1, "usage": 1}, *quota(CPUS=24, IN_USE_ADDRESSES=8, SSD_TOTAL_GB=500)]
    project.on("GET", "regions/us-central1$", {"quotas": used})
    assert codes(run_module("gcp_preflight", **OPTIONS)) == {"QUOTA_EXCEEDED"}
    project.on("GET", "locations/-/clusters$", {"clusters": [{"name": "llm-d-cluster"}]})
    again = run_module("gcp_preflight", cluster="llm-d-cluster", **OPTIONS)
    assert again["passed"] is True
    assert codes(again, "warning") == {"QUOTA_EXCEEDED"}


def test_the_zone_must_be_in_the_region(project: Any, run_module: Run) -> None:
    assert codes(run_module("gcp_preflight", **{**OPTIONS, "region": "europe-west4"})) == {"ZONE_NOT_IN_REGION"}


def test_an_existing_proxy_subnet_makes_the_range_irrelevant(project: Any, run_module: Run) -> None:
    active = {
        "name": "theirs",
        "network": "x/projects/my-project/global/networks/default",
        "region": REGION,
        "purpose": "REGIONAL_MANAGED_PROXY",
        "role": "ACTIVE",
        "ipCidrRange": "192.168.0.0/23",
    }
    project.on("GET", "aggregated/subnetworks", {"items": {"r": {"subnetworks": [active]}}})
    assert run_module("gcp_preflight", **OPTIONS)["passed"] is True


def test_an_unknown_permission_spoils_no_other(project: Any, run_module: Run, error_reply: Callable[..., Any]) -> None:
    def answer(request: Any) -> Any:
        asked = request.body["permissions"]
        return (
            error_reply(400, "Permission x is not valid") if "made.up.permission" in asked else {"permissions": asked}
        )

    project.on("POST", ":testIamPermissions", answer)
    result = run_module(
        "gcp_preflight", **{**OPTIONS, "permissions": ["container.clusters.create", "made.up.permission"]}
    )
    assert result["passed"] is True
    assert codes(result, "warning") == {"PERMISSION_UNKNOWN"}


def test_options_of_a_wrong_form(project: Any, run_module: Run) -> None:
    result = run_module("gcp_preflight", **{**OPTIONS, "node_pools": [{"accelerator": {"count": "two"}}]})
    assert result["error"]["code"] == "PREFLIGHT_OPTION"


@pytest.mark.parametrize(
    ("answer", "code", "severity"),
    [
        (HubAnswer(200), "", "ok"),
        (HubAnswer(302), "", "ok"),
        (HubAnswer(401, "", "Invalid credentials"), "HF_TOKEN_REFUSED", "error"),
        (HubAnswer(403, "GatedRepo"), "HF_MODEL_GATED", "error"),
        (HubAnswer(401, "GatedRepo"), "HF_MODEL_GATED", "error"),
        (HubAnswer(404, "RepoNotFound"), "HF_MODEL_NOT_FOUND", "error"),
        (HubAnswer(500), "HF_UNREACHABLE", "warning"),
        (HubUnreachable("no route"), "HF_UNREACHABLE", "warning"),
    ],
)
def test_the_hub(answer: Any, code: str, severity: str) -> None:
    asked = []

    def ask(url: str, token: str) -> HubAnswer:
        asked.append(url)
        if isinstance(answer, Exception):
            raise answer
        return HubAnswer(answer.status, answer.error_code, answer.message)

    (check,) = preflight_local.model_access("google/gemma-2b-it", "hf_secret", "http://hub/", ask)
    assert (check.code, check.severity) == (code, severity)
    assert asked == ["http://hub/google/gemma-2b-it/resolve/main/config.json"]
    assert "hf_secret" not in str(check)
    (check,) = preflight_local.model_access("google/gemma-2b-it", "hf_secret", "http://hub/", ask, needed=False)
    assert (check.code, check.severity) == (code, "ok" if severity == "ok" else "warning")


def test_weights_on_a_volume_need_no_token(project: Any, run_module: Run) -> None:
    result = run_module("gcp_preflight", **OPTIONS, model="google/gemma-2b-it", hf_token="", hf_token_optional=True)
    assert result["passed"] is True
    (check,) = [check for check in result["checks"] if check["name"] == "hugging face token"]
    assert (check["status"], check["code"]) == ("OK", "")


@pytest.mark.parametrize(
    ("path", "output", "code"),
    [
        (None, "", "HELM_MISSING"),
        ("/bin/helm", "v3.11.9+g1", "HELM_TOO_OLD"),
        ("/bin/helm", "what?", "HELM_MISSING"),
        ("/bin/helm", "v3.12.0+g1", ""),
        ("/bin/helm", "v4.0.1", ""),
    ],
)
def test_helm(path: str | None, output: str, code: str) -> None:
    assert preflight_local.helm(lambda: path, lambda _path: output).code == code


def test_libraries() -> None:
    check = preflight_local.python_libraries({"a": "pkg-a", "b": "pkg-b"}, lambda module: module == "a")
    assert check.code == "LIBRARY_MISSING"
    assert "pkg-b" in check.detail
    assert preflight_local.python_libraries({"json.decoder": "x"}).ok
    assert not preflight_local.python_libraries({"no_such_package.sub": "x"}).ok
