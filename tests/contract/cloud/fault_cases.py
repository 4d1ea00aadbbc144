"""Google's refusals as they were seen in the wild: what to plant, and the code that must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
INFO = "type.googleapis.com/google.rpc.ErrorInfo"
CREATE = "container.projects.locations.clusters.create"
POOL = "container.projects.locations.clusters.nodePools.create"
GET = "container.projects.locations.clusters.get"
SUBNET = "compute.subnetworks.insert"
DELETE = "compute.subnetworks.delete"
ENABLE = "serviceusage.services.batchEnable"
ACCOUNT = "iam.projects.serviceAccounts.create"
SET_POLICY = "cloudresourcemanager.projects.setIamPolicy"


@dataclass(frozen=True)
class Case:
    """``method`` is called after planting; ``operation``: the fault is the end of its operation, not its answer."""

    name: str
    method: str
    code: str
    fault: Json
    operation: bool = False
    says: tuple[str, ...] = field(default=())  # words that the error must hold beside Google's own

    @property
    def spec(self) -> Json:
        return {("operation" if self.operation else "method"): self.method, **self.fault}


def http(name: str, method: str, code: str, number: int, message: str, /, *says: str, **more: Any) -> Case:
    return Case(name, method, code, {"http": number, "message": message, "times": 99, **more}, says=says)


def ended(name: str, method: str, code: str, message: str, /, *says: str, **more: Any) -> Case:
    return Case(name, method, code, {"message": message, **more}, operation=True, says=says)


GKE_CPUS = (
    "Insufficient regional quota to satisfy request: resource \"CPUS\": request requires '72.0' and is short '48.0'. "
    "project has a quota of '24.0' with '24.0' available. View and manage quotas at https://console.cloud.google.com"
)
GKE_GPUS = (
    GKE_CPUS.replace("CPUS", "NVIDIA_T4_GPUS").replace("72.0", "2.0").replace("48.0", "1.0").replace("24.0", "1.0")
)
STOCKOUT = (
    "Google Compute Engine: Not all instances running in IGM after 35m0s. Expected 1, running 0, transitioning 1. "
    "Current errors: [GCE_STOCKOUT]: Instance 'gke-x' creation failed: The zone 'projects/p/zones/us-central1-a' does "
    "not have enough resources available to fulfill the request."
)
DISABLED = (
    "Network Services API has not been used in project 1 before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/networkservices.googleapis.com/overview?project=1 then retry."
)
RATE = [
    {"@type": INFO, "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com", "metadata": {"quota_limit": "x"}},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
]
EXHAUSTED = {
    "errorDetails": [
        {
            "errorInfo": {
                "reason": "resource_availability",
                "domain": "compute.googleapis.com",
                "metadatas": {
                    "zone": "us-central1-a",
                    "attachment": "nvidia-tesla-t4:1",
                    "zonesAvailable": "us-central1-b,us-central1-f",
                },
            }
        }
    ]
}
QUOTA_INFO = {
    "errorDetails": [
        {
            "quotaInfo": {
                "metricName": "compute.googleapis.com/nvidia_t4_gpus",
                "limitName": "NVIDIA-T4-GPUS-per-project-region",
                "dimensions": {"region": "us-central1"},
                "limit": 1,
            }
        }
    ]
}
FORBIDDEN = {"status": "PERMISSION_DENIED", "reason": "forbidden"}
BUSY = {"status": "FAILED_PRECONDITION", "reason": "failedPrecondition"}

CASES = (
    http("API disabled", GET, "API_DISABLED", 403, DISABLED, "networkservices", reason="accessNotConfigured",
         details=[{"@type": INFO, "reason": "SERVICE_DISABLED", "domain": "googleapis.com",
                   "metadata": {"service": "networkservices.googleapis.com"}}]),
    http("billing off", ENABLE, "BILLING_DISABLED", 400, "Billing must be enabled for activation of service 'x' in "
         "project '1' to proceed.", status="FAILED_PRECONDITION"),
    http("GKE permission", CREATE, "PERMISSION_DENIED", 403,
         'Required "container.clusters.create" permission(s) for "projects/p".', "roles/container.admin", **FORBIDDEN),
    http("compute permission", SUBNET, "PERMISSION_DENIED", 403,
         "Required 'compute.subnetworks.create' permission for 'projects/p/regions/r/subnetworks/s'",
         "roles/compute.networkAdmin", reason="forbidden"),
    http("resource manager permission", "cloudresourcemanager.projects.get", "PERMISSION_DENIED", 403,
         "The caller does not have permission", **FORBIDDEN),
    http("unknown service", ENABLE, "SERVICE_UNKNOWN", 403,
         "Not found or permission denied for service(s): nonsense.googleapis.com.", **FORBIDDEN),
    http("compute 404", SUBNET, "NOT_FOUND", 404,
         "The resource 'projects/p/regions/r/subnetworks/s' was not found", reason="notFound"),
    http("GKE 404", GET, "NOT_FOUND", 404, "Not found: projects/p/zones/z/clusters/c.", status="NOT_FOUND"),
    http("pool 404", POOL, "NOT_FOUND", 404, 'Not found: node pool "x" not found.', status="NOT_FOUND"),
    http("compute exists", SUBNET, "ALREADY_EXISTS", 409,
         "The resource 'projects/p/regions/r/subnetworks/s' already exists", reason="alreadyExists"),
    http("GKE exists", CREATE, "ALREADY_EXISTS", 409, "Already exists: projects/p/zones/z/clusters/c.",
         status="ALREADY_EXISTS"),
    http("busy", POOL, "CLUSTER_BUSY", 400, "Cluster is running incompatible operation operation-1-2.", **BUSY),
    http("busy, older words", POOL, "CLUSTER_BUSY", 400, "Operation operation-1 is currently upgrading cluster c. "
         "Please wait and try again once it is done.", **BUSY),
    http("being created", POOL, "CLUSTER_BUSY", 409,
         "The resource is being created and therefore can not be updated yet", status="ABORTED"),
    http("too many operations", POOL, "CLUSTER_BUSY", 429, "Too many concurrent operations in the project.",
         status="RESOURCE_EXHAUSTED", reason="resourceExhausted"),
    http("GKE quota", CREATE, "QUOTA_EXCEEDED", 403, GKE_CPUS, "quota CPUS in us-central1: limit 24, used 0, asked 72",
         **FORBIDDEN),
    http("GKE quotas, a list", CREATE, "QUOTA_EXCEEDED", 403, f"Insufficient quota: (1) {GKE_CPUS} (2) {GKE_GPUS}",
         "quota NVIDIA_T4_GPUS in us-central1: limit 1, used 0, asked 2", "quota CPUS", **FORBIDDEN),
    http("compute quota", SUBNET, "QUOTA_EXCEEDED", 403, "Quota 'SUBNETWORKS' exceeded.  Limit: 275.0 globally.",
         "quota SUBNETWORKS in all regions: limit 275", reason="quotaExceeded"),
    ended("compute quota at the end", SUBNET, "QUOTA_EXCEEDED", "Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 1.0 in "
          "region us-central1.", "quota NVIDIA_T4_GPUS in us-central1: limit 1", code="QUOTA_EXCEEDED",
          extra=QUOTA_INFO),
    ended("compute quota, details only", SUBNET, "QUOTA_EXCEEDED", "A quota is used up.", "us-central1: limit 1",
          code="QUOTA_EXCEEDED", extra=QUOTA_INFO),
    ended("GKE stockout", CREATE, "STOCKOUT", STOCKOUT, "llmd_zone", code=8),
    ended("compute stockout", SUBNET, "STOCKOUT", "The zone does not have enough resources available.",
          "us-central1-b, us-central1-f", code="ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", extra=EXHAUSTED),
    http("reserved range", SUBNET, "CIDR_RESERVED_RANGE", 400, "Invalid value for field 'resource.ipCidrRange': "
         "'10.200.0.0/16'. Extended subnetworks in auto subnet mode networks cannot overlap with 10.128.0.0/9.",
         "192.168.0.0/23", reason="invalid"),
    http("overlap", SUBNET, "CIDR_CONFLICT", 400,
         "Invalid IPCidrRange: 10.0.0.0/23 conflicts with existing subnetwork 'y' in region 'r'.", reason="invalid"),
    http("proxy subnet without role", SUBNET, "PROXY_SUBNET_ROLE", 400, "Invalid value for field 'resource.role': "
         "'UNSPECIFIED_ROLE'. Subnetwork role must be specified when purpose set to REGIONAL_MANAGED_PROXY.",
         reason="invalid"),
    http("proxy subnet with logs", SUBNET, "PROXY_SUBNET_FIELD", 400,
         "Invalid field set in subnetwork with purpose REGIONAL_MANAGED_PROXY.", reason="invalid"),
    http("auto subnet", DELETE, "AUTO_SUBNET", 400,
         "Cannot delete auto subnetwork from an auto subnet mode network.", reason="invalid"),
    http("subnet in use", DELETE, "RESOURCE_IN_USE", 400, "The subnetwork resource 'projects/p/x' is already being "
         "used by 'projects/p/y'", reason="resourceInUseByAnotherResource"),
    ended("in use at the end", SUBNET, "RESOURCE_IN_USE", "The resource is in use.",
          code="RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
    http("not ready", DELETE, "RESOURCE_NOT_READY", 400, "The resource 'x' is not ready", reason="resourceNotReady"),
    http("rate limit", GET, "RATE_LIMITED", 429, "Quota exceeded for quota metric 'R' and limit 'R per minute'",
         reason="rateLimitExceeded", status="RESOURCE_EXHAUSTED", details=RATE),
    http("compute's rate limit", SUBNET, "RATE_LIMITED", 403,
         "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service",
         reason="rateLimitExceeded"),
    http("activation busy", ENABLE, "ACTIVATION_BUSY", 400,
         "Another activation or deactivation is in progress.", **BUSY),
    http("second active proxy subnet", SUBNET, "PROXY_SUBNET_EXISTS", 400, "Invalid value for field 'resource.role': "
         "'ACTIVE'. There is already an ACTIVE subnetwork with purpose REGIONAL_MANAGED_PROXY.", reason="invalid"),
    http("service account permission", ACCOUNT, "PERMISSION_DENIED", 403,
         "Permission 'iam.serviceAccounts.create' denied on resource (or it may not exist).",
         "roles/iam.serviceAccountAdmin", **FORBIDDEN),
    http("service account exists", ACCOUNT, "ALREADY_EXISTS", 409,
         "Service account d-nodes already exists within project projects/p.", status="ALREADY_EXISTS"),
    http("policy without the right", SET_POLICY, "PERMISSION_DENIED", 403, "The caller does not have permission",
         **FORBIDDEN),
    http("policy race", SET_POLICY, "CONCURRENT_CHANGE", 409,
         "There were concurrent policy changes. Please retry the whole read-modify-write.", status="ABORTED"),
    http("unknown permission", "cloudresourcemanager.projects.testIamPermissions", "INVALID_REQUEST", 400,
         "Permission x.y.z is not valid for this resource.", status="INVALID_ARGUMENT"),
    http("401", GET, "UNAUTHENTICATED", 401, "Request had invalid authentication credentials.",
         status="UNAUTHENTICATED"),
    http("500", GET, "GOOGLE_UNAVAILABLE", 500, "Internal error encountered."),
    http("503", SUBNET, "GOOGLE_UNAVAILABLE", 503, "The service is currently unavailable."),
    ended("unknown end", CREATE, "OPERATION_FAILED", "Something that nobody has seen before.", code=13),
    http("unknown", GET, "INVALID_REQUEST", 400, "Something that nobody has seen before."),
)  # fmt: skip

# Answers that are not Google's JSON at all: (name, what to plant, code).
FOREIGN = (
    ("HTML error page", {"answer": "html"}, "GOOGLE_UNAVAILABLE"),
    ("HTML with 403", {"answer": "html", "http": 403}, "MALFORMED_ANSWER"),
    ("HTML with 404", {"answer": "html", "http": 404}, "MALFORMED_ANSWER"),
    ("JSON broken off", {"answer": "broken"}, "TRUNCATED_ANSWER"),
    ("body cut off", {"answer": "cut"}, "CONNECTION_FAILED"),
    ("connection reset", {"answer": "reset"}, "CONNECTION_FAILED"),
    ("redirect", {"answer": "redirect"}, "MALFORMED_ANSWER"),
    ("JSON as another content type", {"answer": "text"}, "MALFORMED_ANSWER"),
    ("no body", {"answer": "empty"}, "TRUNCATED_ANSWER"),
)
# What is said where this machine's clock is wrong: by the token endpoint, and by Google's own library.
SKEWED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp "
    "values in the JWT claim.",
    "Token used too early, 1764270000 < 1764273600. Check that your computer's clock is set correctly.",
)
