"""Error answers in the shapes and words that Google's APIs use.

Compute errors carry ``errors[]`` and mostly no ``status``; the newer APIs carry ``status`` and typed ``details``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

HTTP_OF_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
STATUS_OF_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass
class ApiError(Exception):
    """One refused request. ``status`` is the canonical code name, None where the real answer leaves it out."""

    code: int
    message: str
    status: str | None = None
    reason: str | None = None
    details: list[Json] = field(default_factory=list)
    domain: str = "global"
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code} {self.message}"

    def body(self) -> Json:
        error: Json = {"code": self.code, "message": self.message}
        if self.reason:
            error["errors"] = [{"message": self.message, "domain": self.domain, "reason": self.reason}]
        if self.status:
            error["status"] = self.status
        if self.details:
            error["details"] = self.details
        return {"error": error}


@dataclass
class OAuthError(Exception):
    """RFC 6749 error of the token endpoints: ``{"error", "error_description"}``."""

    error: str
    description: str
    code: int = 400

    def body(self) -> Json:
        return {"error": self.error, "error_description": self.description}


def error_info(reason: str, metadata: dict[str, str] | None = None, domain: str = "googleapis.com") -> Json:
    info: Json = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": domain}
    if metadata:
        info["metadata"] = metadata
    return info


def unauthenticated(reason: str) -> ApiError:
    """401 for a missing (``CREDENTIALS_MISSING``), unknown (``ACCESS_TOKEN_TYPE_UNSUPPORTED``) or expired token."""
    realm = 'Bearer realm="https://accounts.google.com/"'
    if reason == "CREDENTIALS_MISSING":
        message = (
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
            "other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
        )
        return ApiError(
            401, message, "UNAUTHENTICATED", "required", [error_info(reason)], headers={"WWW-Authenticate": realm}
        )
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    headers = {"WWW-Authenticate": realm + ', error="invalid_token"'}
    return ApiError(401, message, "UNAUTHENTICATED", "authError", [error_info(reason)], headers=headers)


def bad_request(violations: list[tuple[str, str]]) -> ApiError:
    """400 of the JSON front end: one line a violation, the same again as BadRequest.fieldViolations."""
    listed = [({"field": path} if path else {}) | {"description": text} for path, text in violations]
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": listed}
    return ApiError(400, "\n".join(text for _, text in violations), "INVALID_ARGUMENT", details=[detail])


def invalid_argument(message: str, reason: str = "badRequest") -> ApiError:
    return ApiError(400, message, "INVALID_ARGUMENT", reason)


def failed_precondition(message: str, details: list[Json] | None = None) -> ApiError:
    return ApiError(400, message, "FAILED_PRECONDITION", "failedPrecondition", details or [])


def service_disabled(service: str, title: str, number: str) -> ApiError:
    """403 of a call to an API that the project has not enabled."""
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={number}"
    message = (
        f"{title} has not been used in project {number} before or it is disabled. Enable it by visiting {url} then "
        "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and "
        "retry."
    )
    consumer = f"projects/{number}"
    metadata = {
        "service": service,
        "serviceTitle": title,
        "consumer": consumer,
        "containerInfo": number,
        "activationUrl": url,
    }
    details: list[Json] = [
        error_info("SERVICE_DISABLED", metadata),
        {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message},
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Google developers console API activation", "url": url}],
        },
    ]
    return ApiError(403, message, "PERMISSION_DENIED", "accessNotConfigured", details, domain="usageLimits")


def caller_without_permission() -> ApiError:
    """Resource Manager's answer for a project that is missing or not yours: it does not say which."""
    return ApiError(403, "The caller does not have permission", "PERMISSION_DENIED", "forbidden")


def unknown_consumer(project: str, service: str) -> ApiError:
    metadata = {"consumer": f"projects/{project}", "service": service, "containerInfo": project}
    message = f"Permission denied on resource project {project}."
    return ApiError(403, message, "PERMISSION_DENIED", "forbidden", [error_info("CONSUMER_INVALID", metadata)])


# --- compute -----------------------------------------------------------------------------------------------------


def compute_not_found(resource: str) -> ApiError:
    """``resource`` as ``projects/p/regions/r/subnetworks/s``."""
    return ApiError(404, f"The resource '{resource}' was not found", reason="notFound")


def compute_exists(resource: str) -> ApiError:
    return ApiError(409, f"The resource '{resource}' already exists", reason="alreadyExists")


def compute_invalid(field_name: str, value: object, why: str) -> ApiError:
    return ApiError(400, f"Invalid value for field '{field_name}': '{value}'. {why}", reason="invalid")


def compute_required(field_name: str) -> ApiError:
    return ApiError(400, f"Required field '{field_name}' not specified", reason="required")


def compute_in_use(kind: str, resource: str, user: str) -> ApiError:
    message = f"The {kind} resource '{resource}' is already being used by '{user}'"
    return ApiError(400, message, reason="resourceInUseByAnotherResource")


def compute_forbidden(permission: str, resource: str) -> ApiError:
    return ApiError(403, f"Required '{permission}' permission for '{resource}'", reason="forbidden")


# --- container ---------------------------------------------------------------------------------------------------


def container_not_found(resource: str) -> ApiError:
    return ApiError(404, f"Not found: {resource}.", "NOT_FOUND", "notFound")


def container_exists(resource: str) -> ApiError:
    return ApiError(409, f"Already exists: {resource}.", "ALREADY_EXISTS", "alreadyExists")


def container_forbidden(permission: str, resource: str) -> ApiError:
    message = f'Required "{permission}" permission(s) for "{resource}".'
    return ApiError(403, message, "PERMISSION_DENIED", "forbidden")


def cluster_busy(operation: str) -> ApiError:
    message = f"Cluster is running incompatible operation {operation}."
    details = [
        error_info("CLUSTER_ALREADY_HAS_OPERATION", domain="container.googleapis.com"),
        {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "0x" + operation[-12:].replace("-", "0")},
    ]
    return failed_precondition(message, details)


def cluster_being_created() -> ApiError:
    message = "The resource is being created and therefore can not be updated yet."
    return ApiError(409, message, "ABORTED", "aborted")


def service_forbidden(message: str) -> ApiError:
    return ApiError(403, message, "PERMISSION_DENIED", "forbidden")
