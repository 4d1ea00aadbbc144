"""Google's words -> our codes. The texts are those of public reports of the real APIs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.gcp import errors
from ansible_collections.llmd.gke.plugins.module_utils.gcp.errors import (
    Refusal,
    http_error,
    operation_error,
    read_refusal,
)


def body(status: int, message: str, canonical: str = "", reason: str = "") -> str:
    error: dict[str, Any] = {"code": status, "message": message, "status": canonical}
    if reason:
        error["errors"] = [{"reason": reason, "message": message}]
    return json.dumps({"error": error})


CASES = [
    (
        "API_DISABLED",
        403,
        "Compute Engine API has not been used in project 1 before or it is disabled. Enable it by "
        "visiting "
        "https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project=1 "
        "then retry",
        "PERMISSION_DENIED",
        "accessNotConfigured",
    ),
    (
        "PERMISSION_DENIED",
        403,
        'Required "container.clusters.create" permission(s) for "projects/p".',
        "PERMISSION_DENIED",
        "forbidden",
    ),
    (
        "PERMISSION_DENIED",
        403,
        "Required 'compute.subnetworks.create' permission for 'projects/p/regions/r/subnetworks/s'",
        "",
        "forbidden",
    ),
    (
        "PERMISSION_DENIED",
        403,
        "The caller does not have permission",
        "PERMISSION_DENIED",
        "forbidden",
    ),
    (
        "SERVICE_UNKNOWN",
        403,
        "Not found or permission denied for service(s): nonsense.googleapis.com",
        "PERMISSION_DENIED",
        "",
    ),
    (
        "NOT_FOUND",
        404,
        "The resource 'projects/p/regions/r/subnetworks/s' was not found",
        "",
        "notFound",
    ),
    (
        "NOT_FOUND",
        404,
        "Not found: projects/p/zones/z/clusters/c.",
        "NOT_FOUND",
        "notFound",
    ),
    (
        "NOT_FOUND",
        404,
        'Not found: node pool "x" not found.',
        "NOT_FOUND",
        "notFound",
    ),
    (
        "PROJECT_NOT_FOUND",
        404,
        "The resource 'projects/nonsense' was not found",
        "",
        "notFound",
    ),
    (
        "ZONE_NOT_FOUND",
        404,
        "The resource 'projects/p/zones/us-moon1-a' was not found",
        "",
        "notFound",
    ),
    (
        "ZONE_NOT_FOUND",
        403,
        "Permission denied on 'locations/us-moon1-a' (or it may not exist).",
        "PERMISSION_DENIED",
        "",
    ),
    (
        "ALREADY_EXISTS",
        409,
        "Already exists: projects/p/zones/z/clusters/c.",
        "ALREADY_EXISTS",
        "alreadyExists",
    ),
    (
        "ALREADY_EXISTS",
        409,
        "The resource 'projects/p/regions/r/subnetworks/s' already exists",
        "",
        "alreadyExists",
    ),
    (
        "CLUSTER_BUSY",
        400,
        "Cluster is running incompatible operation operation-17.",
        "FAILED_PRECONDITION",
        "failedPrecondition",
    ),
    (
        "CLUSTER_BUSY",
        400,
        "Operation operation-1 is currently upgrading cluster c. Please wait and try again once it is done.",
        "FAILED_PRECONDITION",
        "",
    ),
    (
        "CLUSTER_BUSY",
        409,
        "The resource is being created and therefore can not be updated yet",
        "ABORTED",
        "",
    ),
    (
        "QUOTA_EXCEEDED",
        403,
        "Insufficient regional quota to satisfy request: resource \"CPUS\": request requires '72.0' "
        "and is short '48.0'.",
        "PERMISSION_DENIED",
        "forbidden",
    ),
    (
        "QUOTA_EXCEEDED",
        403,
        "Quota 'SUBNETWORKS' exceeded.  Limit: 100.0 globally.",
        "",
        "quotaExceeded",
    ),
    (
        "CIDR_RESERVED_RANGE",
        400,
        "Invalid value for field 'resource.ipCidrRange': '10.200.0.0/16'. Extended subnetworks in "
        "auto subnet mode networks cannot overlap with 10.128.0.0/9.",
        "",
        "invalid",
    ),
    (
        "CIDR_CONFLICT",
        400,
        "Invalid IPCidrRange: 192.168.0.0/23 conflicts with existing subnetwork 'x' in region 'r'.",
        "",
        "invalid",
    ),
    (
        "RESOURCE_IN_USE",
        400,
        "The subnetwork resource 'projects/p/s' is already being used by 'projects/p/forwardingRules/f'",
        "",
        "resourceInUseByAnotherResource",
    ),
    (
        "RATE_LIMITED",
        429,
        "Quota exceeded",
        "RESOURCE_EXHAUSTED",
        "rateLimitExceeded",
    ),
    (
        "RATE_LIMITED",
        403,
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service",
        "",
        "rateLimitExceeded",
    ),
    (
        "ACTIVATION_BUSY",
        400,
        "Another activation or deactivation is in progress for service(s): x",
        "FAILED_PRECONDITION",
        "",
    ),
    (
        "CONCURRENT_CHANGE",
        409,
        "There were concurrent policy changes.",
        "ABORTED",
        "aborted",
    ),
    (
        "UNAUTHENTICATED",
        401,
        "Request had invalid authentication credentials.",
        "UNAUTHENTICATED",
        "authError",
    ),
    (
        "BILLING_DISABLED",
        403,
        "This API method requires billing to be enabled.",
        "PERMISSION_DENIED",
        "BILLING_DISABLED",
    ),
    (
        "INVALID_REQUEST",
        400,
        'Invalid JSON payload received. Unknown name "x"',
        "INVALID_ARGUMENT",
        "",
    ),
    (
        "IMPOSSIBLE_NOW",
        400,
        "Something is in the wrong state",
        "FAILED_PRECONDITION",
        "",
    ),
    (
        "GOOGLE_UNAVAILABLE",
        503,
        "Try again",
        "UNAVAILABLE",
        "backendError",
    ),
    (
        "UNKNOWN",
        418,
        "I am a teapot",
        "",
        "",
    ),
]


@pytest.mark.parametrize(("code", "status", "message", "canonical", "reason"), CASES)
def test_the_table(code: str, status: int, message: str, canonical: str, reason: str) -> None:
    refusal = read_refusal(status, body(status, message, canonical, reason))
    error = http_error(refusal, what="x was refused", where="GET y", project="my-project")
    assert error.code == code
    assert error.why.endswith(message)  # Google's own words are never lost in error.why
    assert error.evidence["message"] == message
    assert error.remedy
    assert "{" not in error.remedy


def test_remedies_name_the_thing() -> None:
    _code, remedy = errors.recognise(read_refusal(403, body(*CASES[0][1:])), project="my-project")
    assert "gcloud services enable compute.googleapis.com --project my-project" in remedy
    _code, remedy = errors.recognise(read_refusal(403, body(*CASES[1][1:])), project="my-project")
    assert "container.clusters.create" in remedy
    assert "roles/container.admin" in remedy


@pytest.mark.parametrize(
    "text", ["<html>502 Bad Gateway</html>", '{"error": {"code"', "", "[1]", "null", '{"error": 3}']
)
def test_bodies_that_are_no_google_json_are_kept_as_text(text: str) -> None:
    refusal = read_refusal(502, text)
    assert errors.recognise(refusal)[0] == "GOOGLE_UNAVAILABLE"
    assert refusal.message.startswith("HTTP 502")


def test_the_oauth_form() -> None:
    refusal = read_refusal(400, '{"error": "invalid_grant", "error_description": "Token used too early"}')
    assert refusal.message == "invalid_grant: Token used too early"


@pytest.mark.parametrize(
    ("message", "reasons", "code"),
    [
        ("Not all instances running in IGM after 35m0s. Current errors: [GCE_STOCKOUT]: ...", (), "STOCKOUT"),
        ("", ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",), "STOCKOUT"),
        ("Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 0.0 in region us-central1.", ("QUOTA_EXCEEDED",), "QUOTA_EXCEEDED"),
        ("something else", (), "OPERATION_FAILED"),
    ],
)
def test_operations_go_through_the_same_table(message: str, reasons: tuple[str, ...], code: str) -> None:
    error = operation_error(message, reasons=reasons, what="x failed", where="y", project="p", evidence={"a": 1})
    assert error.code == code
    assert error.evidence == {"a": 1}


def test_every_remedy_can_be_filled_in() -> None:
    for case in errors.CASES:
        case.remedy.format(project="p", service="s", permission="x", role="r")
    assert errors.recognise(Refusal(0, "x"))[0] == "UNKNOWN"
