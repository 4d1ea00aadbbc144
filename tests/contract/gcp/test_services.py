"""Service Usage: enabling, disabling and asking."""

from __future__ import annotations

from sandbox.gcp.testing import Cloud
from sandbox.timing import Timing

SERVICES = "serviceusage.googleapis.com/v1/projects/llmd-sandbox/services"


def test_a_fresh_project_has_little_on(fresh: Cloud) -> None:
    names = {one["config"]["name"] for one in fresh.ok("GET", f"{SERVICES}?filter=state:ENABLED")["services"]}
    assert {"serviceusage.googleapis.com", "cloudresourcemanager.googleapis.com", "iam.googleapis.com"} <= names
    assert not names & {"compute.googleapis.com", "container.googleapis.com", "networkservices.googleapis.com"}


def test_enabling_brings_what_is_needed(fresh: Cloud) -> None:
    operation = fresh.ok("POST", f"{SERVICES}:batchEnable", {"serviceIds": ["container.googleapis.com"]})
    assert "done" not in operation
    done = fresh.done(operation)
    assert done["response"]["services"][0]["state"] == "ENABLED"
    assert fresh.ok("GET", f"{SERVICES}/compute.googleapis.com")["state"] == "ENABLED"
    again = fresh.ok("POST", f"{SERVICES}/container.googleapis.com:enable", {})
    assert again["name"] == "operations/noop.DONE_OPERATION"
    assert again["done"] is True
    assert fresh.ok("GET", f"serviceusage.googleapis.com/v1/{again['name']}")["done"] is True


def test_disabling_respects_those_who_need_it(cloud: Cloud) -> None:
    error = cloud.fails(400, "POST", f"{SERVICES}/compute.googleapis.com:disable", {})
    assert error["status"] == "FAILED_PRECONDITION"
    assert "container.googleapis.com" in error["message"]
    cloud.run("POST", f"{SERVICES}/networkservices.googleapis.com:disable", {})
    assert not cloud.world.service_enabled("networkservices.googleapis.com")
    cloud.run("POST", f"{SERVICES}/compute.googleapis.com:disable", {"disableDependentServices": True})
    assert not cloud.world.service_enabled("container.googleapis.com")


def test_one_activation_at_a_time(fresh: Cloud) -> None:
    fresh.emulator.timing.speed = 1
    operation = fresh.ok("POST", f"{SERVICES}/compute.googleapis.com:enable", {})
    error = fresh.fails(400, "POST", f"{SERVICES}/monitoring.googleapis.com:enable", {})
    assert "Another activation or deactivation is in progress" in error["message"]
    fresh.emulator.timing.speed = 0
    fresh.emulator.operations.wake()
    fresh.done(operation)
    assert isinstance(fresh.emulator.timing, Timing)


def test_unknown_services_and_missing_permission(cloud: Cloud) -> None:
    error = cloud.fails(403, "POST", f"{SERVICES}/nonsense.googleapis.com:enable", {})
    assert error["message"] == "Not found or permission denied for service(s): nonsense.googleapis.com."
    cloud.fails(403, "GET", f"{SERVICES}/nonsense.googleapis.com")
    viewer = cloud.token_of("roles/viewer")
    assert cloud.ok("GET", f"{SERVICES}/compute.googleapis.com", token=viewer)["state"] == "ENABLED"
    error = cloud.fails(403, "POST", f"{SERVICES}/dns.googleapis.com:enable", {}, token=viewer)
    assert error["status"] == "PERMISSION_DENIED"
    names = "&".join(f"names=projects/llmd-sandbox/services/{name}.googleapis.com" for name in ("compute", "dns"))
    states = [one["state"] for one in cloud.ok("GET", f"{SERVICES}:batchGet?{names}")["services"]]
    assert states == ["ENABLED", "DISABLED"]
