"""One fault at a time in a healthy observation: its code comes first, and nothing else that it does not bring."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

Make = Callable[[], Any]


def codes(seen: Any) -> list[str]:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    return [finding.problem.code for finding in diagnose(seen)]


def waiting_pod(pod: dict[str, Any], reason: str, message: str) -> None:
    pod["status"] = {
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {"name": "c", "image": "i", "state": {"waiting": {"reason": reason, "message": message}}}
        ],
    }


def unschedulable(pod: dict[str, Any]) -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}


def waits_for_its_own_gpu(seen: Any) -> None:
    """A second pod of another revision that finds no GPU, while the first one serves."""
    old = seen.cluster.pods[1]
    old["metadata"]["labels"]["pod-template-hash"] = "a"
    new = copy.deepcopy(old)
    new["metadata"].update(name="server-new", uid="uid-new", labels={"serve": "true", "pod-template-hash": "b"})
    unschedulable(new)
    seen.cluster.pods.append(new)
    seen.cluster.workloads[1]["spec"].update(selector={"matchLabels": {"serve": "true"}})


def health_service_of_another_name(seen: Any) -> None:
    pod = seen.cluster.pods[0]
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]}
    words = "Readiness probe failed: rpc error: code = NotFound desc = unknown service inference-extension"
    about = {"kind": "Pod", "name": "picker", "uid": "uid-picker"}
    seen.cluster.events.append({"type": "Warning", "reason": "Unhealthy", "message": words, "involvedObject": about})


def token_for_metrics(seen: Any) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.kube.client import explain_status

    seen.unread["metrics/picker"] = explain_status(401, "Unauthorized", "get", "/api/v1/.../proxy/metrics")


def crashed(seen: Any, log: str) -> None:
    pod = seen.cluster.pods[1]
    state = {"name": "c", "restartCount": 3, "lastState": {"terminated": {"exitCode": 1}}, "state": {"waiting": {}}}
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "True"}], "containerStatuses": [state]}
    seen.cluster.logs["server"] = log


def condition(item: dict[str, Any], type_: str, message: str, reason: str = "Invalid") -> None:
    found = next(entry for entry in item["conditions"] if entry["type"] == type_)
    found.update(status="False", reason=reason, message=message)


def route_with_timeouts(seen: Any) -> None:
    route = seen.cluster.routes[0]
    route["spec"]["rules"][0]["timeouts"] = {"request": "0s"}
    condition(route["status"]["parents"][0], "Accepted", "timeouts", "UnsupportedValue")


def failed_release(seen: Any) -> None:
    words = 'Release "gaie" failed: clusterroles is forbidden: User "x" cannot create resource "clusterroles"'
    seen.cluster.releases[1].update(status="failed", description=words)


def sick_backend(seen: Any) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import BackendHealth

    seen.google.backends = [BackendHealth("b", (), 1)]


def answer(seen: Any, status: int, text: bytes) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer

    for request in seen.answers:
        seen.answers[request] = Answer(status, {}, text)


FAULTS: dict[str, Callable[[Any], Any]] = {
    "NETWORK_SERVICES_API_DISABLED": lambda s: s.google.services.update({"networkservices.googleapis.com": "DISABLED"}),
    "API_DISABLED": lambda s: s.google.services.update({"compute.googleapis.com": "DISABLED"}),
    "PROXY_ONLY_SUBNET_MISSING": lambda s: s.google.subnets.clear(),
    "PROXY_SUBNET_LEGACY": lambda s: s.google.subnets[0].update(purpose="INTERNAL_HTTPS_LOAD_BALANCER"),
    "PERMISSION_MISSING": lambda s: s.google.missing_permissions.append("container.clusterRoles.create"),
    "CLUSTER_NOT_FOUND": lambda s: s.google.cluster.clear(),
    "CLUSTER_ERROR": lambda s: s.google.cluster.update(status="ERROR"),
    "CLUSTER_NETWORK_MISMATCH": lambda s: s.google.cluster.update(network="other"),
    "GATEWAY_API_DISABLED": lambda s: s.google.cluster.update(networkConfig={}),
    "HTTP_LOAD_BALANCING_DISABLED": lambda s: s.google.cluster.update(
        addonsConfig={"httpLoadBalancing": {"disabled": True}}
    ),
    "GKE_VERSION_TOO_OLD": lambda s: s.google.cluster.update(currentMasterVersion="1.31.9-gke.1"),
    "NODE_NOT_READY": lambda s: condition(s.cluster.nodes[0]["status"], "Ready", "kubelet stopped"),
    "GPU_DRIVER_NOT_INSTALLED": lambda s: s.cluster.nodes[0]["metadata"].update(
        labels={"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    ),
    "NAMESPACE_MISSING": lambda s: s.cluster.namespace.clear(),
    "NAMESPACE_TERMINATING": lambda s: s.cluster.namespace["metadata"].update(deletionTimestamp="now"),
    "CRD_MISSING": lambda s: s.cluster.crds.update(y={}),
    "CRD_NOT_ESTABLISHED": lambda s: condition(s.cluster.crds["x"]["status"], "Established", "no"),
    "HF_SECRET_MISSING": lambda s: setattr(s.cluster, "secret_exists", False),
    "HF_SECRET_KEY_WRONG": lambda s: setattr(s.cluster, "secret_keys", ["token"]),
    "RELEASE_MISSING": lambda s: s.cluster.releases.pop(2),
    "HELM_RBAC_DENIED": failed_release,
    "HELM_RELEASE_LOCKED": lambda s: s.cluster.releases[1].update(status="pending-install"),
    "MODEL_SERVER_SCALED_TO_ZERO": lambda s: s.cluster.workloads[1]["spec"].update(replicas=0),
    "PICKER_NOT_READY": lambda s: s.cluster.workloads[0]["spec"].update(replicas=0),
    "IMAGE_PULL_FAILED": lambda s: waiting_pod(s.cluster.pods[1], "ErrImagePull", "not found"),
    "GPU_UNAVAILABLE": lambda s: unschedulable(s.cluster.pods[1]),
    "GPU_UPGRADE_DEADLOCK": waits_for_its_own_gpu,
    "GPU_OUT_OF_MEMORY": lambda s: crashed(s, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 500 MiB"),
    "HF_MODEL_GATED": lambda s: crashed(s, "GatedRepoError: 403 Client Error"),
    "PICKER_RBAC_FORBIDDEN": lambda s: crashed(s, 'failed to list *v1.Pod: pods is forbidden: User "x"'),
    "POD_CRASHES": lambda s: crashed(s, "something new"),
    "PICKER_HEALTH_MISMATCH": health_service_of_another_name,
    "METRICS_UNREADABLE": token_for_metrics,
    "DIRECT_SERVICE_PUBLIC": lambda s: s.cluster.services.append(
        {"metadata": {"name": "vllm"}, "spec": {"type": "LoadBalancer", "selector": {"serve": "true"}}}
    ),
    "GPU_ATTENTION_UNSUPPORTED": lambda s: crashed(s, "FlashAttention only supports Ampere GPUs or newer."),
    "SHARED_MEMORY_TOO_SMALL": lambda s: crashed(s, "OSError: [Errno 28] No space left on device: '/dev/shm/x'"),
    "GPU_DRIVER_MISMATCH": lambda s: crashed(s, "RuntimeError: Error 803: system has unsupported display driver"),
    "HF_RATE_LIMITED": lambda s: crashed(s, "429 Client Error: Too Many Requests for url: https://huggingface.co/x"),
    "REQUEST_TIMED_OUT": lambda s: answer(s, 504, b"upstream request timeout"),
    "CHAT_SYSTEM_ROLE": lambda s: answer(s, 400, b"System role not supported"),
    "GATEWAY_CLASS_FOREIGN": lambda s: s.cluster.gateway_class["spec"].update(controllerName="istio.io/x"),
    "GATEWAY_CERTIFICATE_UNSUITABLE": lambda s: condition(
        s.cluster.gateway["status"], "Programmed", 'Error GWCER105: Listener "https" is invalid, err: no Secret'
    ),
    "GATEWAY_ADDRESS_UNSUITABLE": lambda s: condition(
        s.cluster.gateway["status"], "Programmed", 'Error GWCER106: unsupported address type "IPAddress"'
    ),
    "ROUTE_BACKEND_NOT_FOUND": lambda s: condition(
        s.cluster.routes[0]["status"]["parents"][0], "ResolvedRefs", "extension service x not found", "BackendNotFound"
    ),
    "ROUTE_NOT_RECONCILED": lambda s: condition(
        s.cluster.routes[0]["status"]["parents"][0], "Reconciled", "no pods", "ReconciliationFailed"
    ),
    "MODEL_UNKNOWN": lambda s: setattr(s, "scope", replace(s.scope, model="another")),
    "HELM_SCHEMA_REFUSED": lambda s: s.cluster.releases[2].update(
        status="failed", description="values don't meet the specifications of the schema(s)"
    ),
    "HELM_CRD_MISSING": lambda s: s.cluster.releases[2].update(
        status="failed", description='no matches for kind "PodMonitor" in version "monitoring.coreos.com/v1"'
    ),
    "HEALTH_CHECK_POLICY_REFUSED": lambda s: s.cluster.releases[1].update(
        status="failed", description="port and portName must be unset for portSpecification being USE_SERVING_PORT"
    ),
    "POOL_MISSING": lambda s: s.cluster.pools.clear(),
    "POOL_SELECTS_NOTHING": lambda s: s.cluster.pools[0]["spec"]["selector"].update(matchLabels={"a": "b"}),
    "POOL_TARGET_PORT_WRONG": lambda s: s.cluster.pools[0]["spec"].update(targetPorts=[{"number": 8200}]),
    "PICKER_SERVICE_MISSING": lambda s: s.cluster.services.clear(),
    "SCORERS_WRONG": lambda s: s.cluster.scorers.update(picker={"queue-scorer": 1.0}),
    "GATEWAY_CLASS_UNSUITABLE": lambda s: s.cluster.gateway["spec"].update(
        gatewayClassName="gke-l7-global-external-managed"
    ),
    "GATEWAY_MISSING": lambda s: setattr(s.cluster, "gateway", {}),
    "GATEWAY_CLASS_MISSING": lambda s: s.cluster.gateway_class.clear(),
    "QUOTA_EXCEEDED": lambda s: condition(
        s.cluster.gateway["status"], "Programmed", "Quota 'IN_USE_ADDRESSES' exceeded"
    ),
    "ROUTE_MISSING": lambda s: s.cluster.routes.clear(),
    "ROUTE_REJECTED": route_with_timeouts,
    "ROUTE_PARENT_MISMATCH": lambda s: s.cluster.routes[0]["spec"].update(parentRefs=[{"name": "another"}]),
    "ROUTE_BACKEND_GROUP_WRONG": lambda s: s.cluster.routes[0]["spec"]["rules"][0]["backendRefs"][0].update(
        group="inference.networking.x-k8s.io"
    ),
    "POLICY_NOT_ATTACHED": lambda s: s.cluster.health_policies[0].update(
        status={"conditions": [{"type": "Attached", "status": "False", "reason": "Invalid", "message": "m"}]}
    ),
    "POLICY_CONFLICT": lambda s: s.cluster.backend_policies.append(s.cluster.backend_policies[0]),
    "BACKEND_NO_ENDPOINTS": sick_backend,
    "NO_ROUTE_YET": lambda s: answer(s, 404, b"fault filter abort"),
    "NO_HEALTHY_UPSTREAM": lambda s: answer(s, 503, b"no healthy upstream"),
    "PICKER_BYPASSED": lambda s: s.answers["POST /v1/completions"].headers.clear(),
    "PICKER_UNREACHABLE": lambda s: answer(s, 500, b""),
}


def test_a_healthy_deployment_has_no_finding(healthy: Make) -> None:
    assert codes(healthy()) == []


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_a_fault_is_found_first(healthy: Make, code: str) -> None:
    seen = healthy()
    FAULTS[code](seen)
    assert codes(seen)[0] == code


def detached(seen: Any) -> None:
    condition(seen.cluster.routing_extension["status"]["ancestors"][0], "Attached", "one a Gateway", "Conflicted")


def autoscaled(seen: Any, condition: str = "", reason: str = "") -> None:
    blind = {"type": condition, "status": "False", "reason": reason, "message": "no metrics"}
    target = {"kind": "Deployment", "name": "ms-n"}
    spec = {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": target}
    status = {"desiredReplicas": 2, "conditions": [blind] if condition else []}
    seen.cluster.autoscalers = [{"metadata": {"name": "ms-n"}, "spec": spec, "status": status}]


SECOND: dict[str, tuple[Callable[[Any], Any], str]] = {
    "RELEASE_MISSING": (lambda s: s.cluster.releases.pop(), "ms-n"),
    "PICKER_NOT_READY": (lambda s: s.cluster.workloads.pop(2), "gaie-n-epp"),
    "POOL_MISSING": (lambda s: s.cluster.pools.pop(), "gaie-n"),
    "POOL_TARGET_PORT_WRONG": (lambda s: s.cluster.pools[1]["spec"].update(targetPorts=[{"number": 8200}]), "gaie-n"),
    "POOL_SELECTS_NOTHING": (
        lambda s: s.cluster.pools[1]["spec"]["selector"].update(matchLabels={"a": "b"}),
        "InferencePool llm-d/gaie-n",
    ),
    "SCORERS_WRONG": (lambda s: s.cluster.scorers.update({"picker-n": {"queue-scorer": 1.0}}), "picker-n"),
    "IMAGE_PULL_FAILED": (lambda s: waiting_pod(s.cluster.pods[3], "ErrImagePull", "not found"), "server-n"),
    "CONTAINER_CONFIG_ERROR": (
        lambda s: waiting_pod(s.cluster.pods[4], "CreateContainerConfigError", "no such key"),
        "router",
    ),
    "BODY_ROUTER_NOT_ATTACHED": (detached, "bbr"),
    "AUTOSCALER_BLIND": (lambda s: autoscaled(s, "ScalingActive", "FailedGetPodsMetric"), "ms-n"),
    "PICKER_BYPASSED": (lambda s: s.answers["POST /v1/completions n"].headers.clear(), "endpoint"),
}


def test_two_models_that_are_well_have_no_finding(healthy_two: Make) -> None:
    assert codes(healthy_two()) == []


@pytest.mark.parametrize("code", sorted(SECOND))
def test_a_fault_of_the_second_model_is_found_and_placed(healthy_two: Make, code: str) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    seen = healthy_two()
    plant, place = SECOND[code]
    plant(seen)
    found = diagnose(seen)
    assert found[0].problem.code == code
    assert [place in where for where in found[0].places] == [True], found[0].places


def test_every_model_must_be_in_the_list(healthy_two: Make) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    seen = healthy_two()
    answer_of = seen.answers["GET /v1/models"]
    seen.answers["GET /v1/models"] = replace(answer_of, body=json.dumps({"data": [{"id": "m"}]}).encode())
    (finding,) = diagnose(seen)
    assert finding.problem.code == "MODEL_UNKNOWN"
    assert finding.problem.what == "n is not served."


def test_an_autoscaler_that_works_or_rests_is_no_finding(healthy_two: Make) -> None:
    for condition in ((), ("ScalingActive", "ScalingDisabled")):
        seen = healthy_two()
        autoscaled(seen, *condition)
        assert codes(seen) == []


def test_an_extension_that_is_not_there_is_named(healthy_two: Make) -> None:
    seen = healthy_two()
    seen.cluster.routing_extension = {}
    assert codes(seen) == ["BODY_ROUTER_NOT_ATTACHED"]


def test_causes_come_before_what_follows_from_them(healthy: Make) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    seen = healthy()
    answer(seen, 503, b"no healthy upstream")
    sick_backend(seen)
    crashed(seen, "CUDA out of memory")
    findings = diagnose(seen)
    assert [finding.problem.code for finding in findings] == [
        "GPU_OUT_OF_MEMORY",
        "BACKEND_NO_ENDPOINTS",
        "NO_HEALTHY_UPSTREAM",
    ]
    assert [finding.follows_from for finding in findings] == ["", "GPU_OUT_OF_MEMORY", "GPU_OUT_OF_MEMORY"]


def test_what_a_broken_cluster_lacks_follows_from_it(healthy: Make) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    seen = healthy()
    seen.google.cluster["status"] = "ERROR"
    seen.cluster.namespace.clear()
    findings = [(finding.problem.code, finding.follows_from) for finding in diagnose(seen)]
    assert findings[:2] == [("CLUSTER_ERROR", ""), ("NAMESPACE_MISSING", "CLUSTER_ERROR")]


def test_what_is_not_ready_without_a_reason_stays_unknown(healthy: Make) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    seen = healthy()
    seen.cluster.pods[1]["status"] = {"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}]}
    finding = diagnose(seen)[0]
    assert (finding.problem.code, finding.severity) == ("NOT_READY_YET", "unknown")
    assert "server" in finding.problem.why


def test_what_could_not_be_read_is_said_and_judged_by_nobody(healthy: Make) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.kube.client import explain_status
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis import shapes
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    seen = shapes.Observation(healthy().scope)
    seen.unread["kubernetes"] = explain_status(401, "Unauthorized", "get", "/version")
    assert [(finding.problem.code, finding.severity) for finding in diagnose(seen)] == [
        ("CLUSTER_TOKEN_EXPIRED", "error")
    ]
    seen.unread["kubernetes"] = explain_status(500, "boom", "get", "/version")
    assert diagnose(seen)[0].severity == "unknown"


def test_helm_says_why_a_release_failed() -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.read_cluster import failure_of

    record = gzip.compress(json.dumps({"info": {"description": "it broke"}}).encode())
    data = base64.b64encode(base64.b64encode(record)).decode()
    assert failure_of({"data": {"release": data}}) == "it broke"
    assert failure_of({"data": {"release": "bm90aGluZw=="}}) == ""
    assert failure_of({}) == ""


def test_a_bundle_carries_no_secret(healthy: Make) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.bundle import bundle
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose

    seen = healthy()
    token, jwt = "hf_" + "a1B2c3D4" * 4, "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJr.c2ln"
    crashed(seen, f"401 Client Error: Bearer {token}\nInvalid user token {token}")
    seen.cluster.pods[0]["spec"]["containers"][0]["env"] = [{"name": "API_TOKEN", "value": "plain-words"}]
    seen.google.cluster["masterAuth"] = {"clientKey": "key-material"}
    seen.answers["GET /v1/models"].headers["x"] = jwt
    seen.cluster.events = [{"message": f"token {jwt}", "involvedObject": {"kind": "Pod", "name": "server"}}]
    text = json.dumps(bundle(seen, diagnose(seen)))
    for secret in (token, jwt, "plain-words", "key-material"):
        assert secret not in text
    assert "HF_TOKEN_REFUSED" in text


def test_a_read_that_hangs_does_not_keep_the_others() -> None:
    import threading

    from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.parallel import read_all

    never = threading.Event()
    values, errors = read_all({"slow": never.wait, "quick": lambda: 7}, seconds=0.05)
    never.set()
    assert values == {"quick": 7}
    assert errors["slow"].code == "READ_TIMEOUT"
