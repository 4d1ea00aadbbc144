"""gcp_services from options to JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., dict[str, Any]]
OPERATION = {"name": "operations/acat.p2-1-2"}


def answer(**states: str) -> dict[str, Any]:
    return {
        "services": [{"name": f"projects/1/services/{n}.googleapis.com", "state": state} for n, state in states.items()]
    }


def test_all_enabled_is_one_call(google: Any, run_module: Run) -> None:
    google.on("GET", "services:batchGet", answer(compute="ENABLED", container="ENABLED"))
    result = run_module("gcp_services", services=["compute", "container.googleapis.com"])
    assert (result["changed"], result["enabled"]) == (False, [])
    assert result["api_calls"] == {"serviceusage.services.batchGet": 1}
    assert "names=projects%2Fmy-project%2Fservices%2Fcompute.googleapis.com" in google.requests[0].url


def test_several_are_enabled_with_one_call_and_proven(
    google: Any, run_module: Run, disabled_reply: Callable[..., Any]
) -> None:
    google.on("GET", "services:batchGet", answer(compute="DISABLED", container="ENABLED", networkservices="DISABLED"))
    google.on("POST", "services:batchEnable", OPERATION)
    google.on("GET", "/operations/", OPERATION, {**OPERATION, "done": True})
    google.on("GET", "compute/v1/projects/my-project$", disabled_reply(), {"name": "my-project"})
    options = {"services": ["compute", "container", "networkservices"]}
    predicted = run_module("gcp_services", check=True, **options)
    assert google.writes() == []
    result = run_module("gcp_services", **options)
    assert result["changed"] is True
    assert result["enabled"] == ["compute.googleapis.com", "networkservices.googleapis.com"] == predicted["enabled"]
    (enable,) = google.writes()
    assert enable.body == {"serviceIds": ["compute.googleapis.com", "networkservices.googleapis.com"]}
    assert result["api_calls"]["compute.projects.get"] == 2
    assert result["diff"]["after"] == predicted["diff"]["after"]


def test_one_is_enabled_by_its_own_call(google: Any, run_module: Run, error_reply: Callable[..., Any]) -> None:
    google.on("GET", "services:batchGet", answer(networkservices="DISABLED"))
    busy = error_reply(400, "Another activation or deactivation is in progress for service(s): x")
    google.on("POST", "services/networkservices.googleapis.com:enable", busy, {**OPERATION, "done": True})
    result = run_module("gcp_services", services=["networkservices"])
    assert result["changed"] is True
    assert result["api_calls"]["serviceusage.services.enable"] == 2


def test_disabling(google: Any, run_module: Run) -> None:
    google.on("GET", "services:batchGet", answer(networkservices="ENABLED", compute="DISABLED"))
    google.on("POST", "services/networkservices.googleapis.com:disable", {**OPERATION, "done": True})
    result = run_module("gcp_services", services=["networkservices", "compute"], state="absent")
    assert result["disabled"] == ["networkservices.googleapis.com"]
    assert google.writes()[0].body == {"disableDependentServices": False}


def test_what_others_need_is_disabled_after_them(google: Any, run_module: Run, error_reply: Callable[..., Any]) -> None:
    google.on("GET", "services:batchGet", answer(compute="ENABLED", container="ENABLED"))
    needed = error_reply(400, "The service compute.googleapis.com is depended on by container.googleapis.com")
    google.on("POST", "services/compute.googleapis.com:disable", needed, {**OPERATION, "done": True})
    google.on("POST", "services/container.googleapis.com:disable", {**OPERATION, "done": True})
    both = run_module("gcp_services", services=["compute", "container"], state="absent")
    assert both["disabled"] == ["compute.googleapis.com", "container.googleapis.com"]
    google.on("GET", "services:batchGet", answer(compute="ENABLED"))
    google.on("POST", "services/compute.googleapis.com:disable", needed)
    assert run_module("gcp_services", services=["compute"], state="absent")["error"]["code"] == "SERVICE_NEEDED"


def test_a_name_that_does_not_exist(google: Any, run_module: Run, error_reply: Callable[..., Any]) -> None:
    message = "Not found or permission denied for service(s): nonsense.googleapis.com."
    google.on("GET", "services:batchGet", error_reply(403, message, canonical="PERMISSION_DENIED"))
    result = run_module("gcp_services", services=["nonsense"])
    assert result["error"]["code"] == "SERVICE_UNKNOWN"
    assert "nonsense" in result["msg"]


def test_many_go_in_batches(google: Any, run_module: Run) -> None:
    google.on("GET", "services:batchGet", {"services": []})
    google.on("POST", "services:batchEnable", {**OPERATION, "done": True})
    google.on("POST", ":enable", {**OPERATION, "done": True})
    result = run_module("gcp_services", services=[f"s{n}" for n in range(41)])
    assert result["api_calls"] == {
        "serviceusage.services.batchGet": 3,
        "serviceusage.services.batchEnable": 2,
        "serviceusage.services.enable": 1,
    }
