"""HealthCheckPolicy and GCPBackendPolicy: what they ask for, and their Attached condition."""

from __future__ import annotations

from typing import Any

from sandbox.gke.conditions import condition, merge
from sandbox.gke.kubeapi import Object
from sandbox.gke.model import HealthCheck
from sandbox.gke.snapshot import INFERENCE_GROUP, Snapshot, age_key, generation, qualified

KINDS = ("HealthCheckPolicy", "GCPBackendPolicy")
DEFAULT_TIMEOUT = 30  # of a backend service without a policy, in seconds
_DETAILS = {
    "HTTP": "httpHealthCheck",
    "HTTPS": "httpsHealthCheck",
    "HTTP2": "http2HealthCheck",
    "GRPC": "grpcHealthCheck",
    "TCP": "tcpHealthCheck",
}


def _group(kind: str) -> str:
    return INFERENCE_GROUP if kind == "InferencePool" else ""


def health_check(snapshot: Snapshot, kind: str, namespace: str, name: str) -> HealthCheck:
    """The health check of a backend: its policy's, else HTTP on ``/`` at the serving port."""
    policy = snapshot.policy("HealthCheckPolicy", namespace, _group(kind), kind, name)
    default: dict[str, Any] = ((policy or {}).get("spec") or {}).get("default") or {}
    config = default.get("config") or {}
    protocol = str(config.get("type") or "HTTP").upper()
    detail = config.get(_DETAILS.get(protocol, "")) or {}
    port = detail.get("port")
    interval = int(default.get("checkIntervalSec") or (5 if policy else 15))
    return HealthCheck(
        kind=protocol,
        path=str(detail.get("requestPath") or "/"),
        port=None if detail.get("portSpecification") == "USE_SERVING_PORT" or port is None else int(port),
        host=str(detail.get("host") or ""),
        interval=interval,
        timeout=int(default.get("timeoutSec") or (5 if policy else 15)),
        healthy=int(default.get("healthyThreshold") or (2 if policy else 1)),
        unhealthy=int(default.get("unhealthyThreshold") or 2),
    )


def backend_settings(snapshot: Snapshot, kind: str, namespace: str, name: str) -> tuple[int, bool]:
    """(timeout in seconds, request logging) of a backend."""
    policy = snapshot.policy("GCPBackendPolicy", namespace, _group(kind), kind, name)
    default = ((policy or {}).get("spec") or {}).get("default") or {}
    return int(default.get("timeoutSec") or DEFAULT_TIMEOUT), bool((default.get("logging") or {}).get("enabled"))


def attached(snapshot: Snapshot, policy: Object) -> tuple[bool, str, str]:
    """(attached, reason, message) of one policy."""
    ref = (policy.get("spec") or {}).get("targetRef") or {}
    kind, name = str(ref.get("kind", "")), str(ref.get("name", ""))
    namespace = policy["metadata"]["namespace"]
    if kind not in ("Service", "InferencePool", "ServiceImport"):
        return False, "Invalid", f"targetRef kind {kind!r} is not supported"
    if snapshot.find(kind, namespace, name) is None:
        return False, "TargetNotFound", f"{kind} {namespace}/{name} not found"
    first = snapshot.policy(policy["kind"], namespace, str(ref.get("group") or ""), kind, name)
    if first is not None and age_key(first) != age_key(policy):
        return False, "Conflicted", f"conflicted with {policy['kind']} {qualified(first)} of higher precedence"
    return True, "Attached", ""


def conditions_of(policy: Object, verdict: tuple[bool, str, str]) -> list[Object]:
    """status.conditions of a policy: Attached, with its times kept."""
    old = (policy.get("status") or {}).get("conditions") or []
    done, reason, message = verdict
    return merge(old, [condition("Attached", done, reason, message, generation(policy))])
