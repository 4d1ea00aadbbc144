# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules over what was installed: namespace, CRDs, Secret, releases, nodes, pods, pool. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import compare_scorers
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.deadlocks import upgrade_deadlock, waits_for_gpu
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import brief, message_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import explain_pod, is_ready, name_of, progress_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import selector_of
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.read_cluster import (
    autoscaler_of,
    container_ports,
    is_body_router,
    is_model_server,
    is_picker,
    pool_of,
    selected,
    server_of,
)
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Json, Observation
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm_errors import explain_helm
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import PENDING

GPU = "nvidia.com/gpu"
HEALTH_MISMATCH = re.compile(r"unknown service|SERVICE_UNKNOWN|NotFound|does not implement the grpc health", re.I)
# annotations that keep a load balancer of GKE inside the VPC
INTERNAL = frozenset({"networking.gke.io/load-balancer-type", "cloud.google.com/load-balancer-type"})


def namespace(seen: Observation) -> Iterator[Problem]:
    found, name = seen.cluster.namespace, seen.scope.namespace
    if found is None:
        return
    if not found:
        remedy = "Role llmd.gke.llmd_helmfile makes it; or: kubectl create namespace " + name
        yield Problem("NAMESPACE_MISSING", f"There is no namespace {name}.", "", remedy, f"namespace {name}", True)
    elif (found.get("metadata") or {}).get("deletionTimestamp"):
        stuck = "; ".join(
            str(entry.get("message"))
            for entry in (found.get("status") or {}).get("conditions") or []
            if entry.get("status") == "True" and entry.get("message")
        )
        remedy = "Wait until it is gone; finalizers named above keep it (a Gateway waits for its load balancer)."
        yield Problem("NAMESPACE_TERMINATING", "The namespace is being deleted.", stuck, remedy, f"namespace {name}")


def crds(seen: Observation) -> Iterator[Problem]:
    for name, found in (seen.cluster.crds or {}).items():
        if not found:
            remedy = "Run role llmd.gke.gateway_crds; on newer GKE versions enable the Gateway API and wait."
            yield Problem("CRD_MISSING", f"The CRD {name} is not there.", "", remedy, f"CRD {name}", True)
        elif not of_object(found, "Established").true:
            why = of_object(found, "NamesAccepted").say()
            remedy = "Look at its conditions; another CRD may claim its names."
            yield Problem("CRD_NOT_ESTABLISHED", f"The CRD {name} is not served.", why, remedy, f"CRD {name}")


def secret(seen: Observation) -> Iterator[Problem]:
    """The Hugging Face Secret and its key; only the names of keys were read."""
    scope = seen.scope
    if not scope.secret or seen.cluster.secret_exists is None or not seen.cluster.namespace:
        return
    where = f"Secret {scope.namespace}/{scope.secret}"
    if not seen.cluster.secret_exists:
        remedy = "Set llmd_hf_token (or the environment variable HF_TOKEN) so that the role writes the Secret."
        yield Problem("HF_SECRET_MISSING", f"The Secret {scope.secret} does not exist.", "", remedy, where, True)
    elif scope.secret_key not in (seen.cluster.secret_keys or []):
        yield Problem(
            "HF_SECRET_KEY_WRONG",
            f"The Secret {scope.secret} has no key {scope.secret_key}.",
            f"its keys: {', '.join(seen.cluster.secret_keys or []) or 'none'}",
            f"Store the token under the key {scope.secret_key}: run role llmd.gke.llmd_helmfile with llmd_hf_token.",
            where,
            fatal=True,
        )


def releases(seen: Observation) -> Iterator[Problem]:
    """helm's releases: there, and not failed or left half-done."""
    if seen.cluster.releases is None or not seen.cluster.namespace:
        return
    there = {str(release["name"]): release for release in seen.cluster.releases}
    for name in seen.scope.releases:
        release, where = there.get(name), f"release {seen.scope.namespace}/{name}"
        if release is None:
            remedy = "Run playbooks/pattern1.yml again: it installs what is missing."
            yield Problem("RELEASE_MISSING", f"The helm release {name} is not there.", "", remedy, where, True)
        elif release["status"] == "failed":
            error = explain_helm(f"The last change of {name}", 1, str(release["description"]), where=where)
            yield Problem(error.code, error.what, error.why, error.remedy, where, fatal=True)
        elif release["status"] in PENDING:
            yield Problem(
                "HELM_RELEASE_LOCKED",
                f"The release {name} is {release['status']}: helm is at work, or was killed.",
                f"revision {release['revision']}",
                "If no helm is running, run playbooks/pattern1.yml again: it heals the release.",
                where,
            )


def nodes(seen: Observation) -> Iterator[Problem]:
    """Nodes that are down, and GPU nodes that offer no GPU."""
    for node in seen.cluster.nodes or []:
        name = f"node {node['metadata']['name']}"
        ready = of_object(node, "Ready")
        labels = node["metadata"].get("labels") or {}
        if not ready.true:
            remedy = "GKE repairs nodes by itself after about ten minutes; look at the node's conditions and events."
            yield Problem("NODE_NOT_READY", "A node is not Ready.", ready.say(), remedy, name)
        elif "cloud.google.com/gke-accelerator" in labels and not _gpus(node):
            yield Problem(
                "GPU_DRIVER_NOT_INSTALLED",
                "A GPU node offers no GPU: its driver or device plugin does not run (yet).",
                f"allocatable has no {GPU}; accelerator {labels['cloud.google.com/gke-accelerator']},"
                f" driver {labels.get('cloud.google.com/gke-gpu-driver-version', 'not asked for')}",
                "Create the pool with a driver (llmd_gpu.driver: default or latest); a new node needs some minutes.",
                name,
            )


def _gpus(node: Json) -> int:
    return int(((node.get("status") or {}).get("allocatable") or {}).get(GPU) or 0)


def _ours(pod: Json, seen: Observation) -> bool:
    return is_picker(pod, seen.scope) or is_body_router(pod, seen.scope) or is_model_server(pod, seen)


def pods(seen: Observation) -> Iterator[Problem]:
    """Every pod of the deployment that is not ready, by its own reason."""
    for pod in seen.cluster.pods or []:
        if not _ours(pod, seen) or is_ready(pod):
            continue
        if (pod.get("metadata") or {}).get("deletionTimestamp"):
            continue
        events = events_of(seen, str(pod["metadata"].get("uid")))
        problem = explain_pod(pod, events, seen.cluster.logs.get(str(pod["metadata"]["name"]), ""))
        if problem is None:
            continue
        if problem.code == "GPU_UNAVAILABLE":
            problem = _deadlock(seen, pod, events) or replace(problem, why=f"{problem.why} {_gpu_view(seen)}")
        yield problem if problem.evidence else replace(problem, evidence=brief(events))


def _deadlock(seen: Observation, pod: Json, events: list[Json]) -> Problem | None:
    """Whether a pod waits for a GPU that an older pod of its own Deployment keeps."""
    for workload in seen.cluster.workloads or []:
        wanted = selector_of(workload).items()
        mine = [other for other in seen.cluster.pods or [] if wanted <= (other["metadata"].get("labels") or {}).items()]
        if wanted and pod in mine and waits_for_gpu(pod):
            return upgrade_deadlock(workload, mine, events)
    return None


def picker_health(seen: Observation) -> Iterator[Problem]:
    """A picker whose health service has another name than the chart's probes ask for: image and chart are no pair."""
    for pod in seen.cluster.pods or []:
        if not is_picker(pod, seen.scope) or is_ready(pod):
            continue
        for event in events_of(seen, str(pod["metadata"].get("uid"))):
            if event.get("reason") == "Unhealthy" and HEALTH_MISMATCH.search(message_of(event)):
                yield Problem(
                    "PICKER_HEALTH_MISMATCH",
                    "The endpoint picker runs, but its chart asks for a health service that it does not have.",
                    message_of(event),
                    "Take picker image and pool chart from one profile (llmd_profile).",
                    f"pod {name_of(pod)}",
                    fatal=True,
                )
                break


def direct_services(seen: Observation) -> Iterator[Problem]:
    """A load balancer straight to the model servers, open to the internet (a warning: it may be wished)."""
    for service in seen.cluster.services or []:
        metadata, spec = service.get("metadata") or {}, service.get("spec") or {}
        chosen = (spec.get("selector") or {}).items()
        if spec.get("type") != "LoadBalancer" or not chosen or INTERNAL & set(metadata.get("annotations") or {}):
            continue
        hit = [
            pod
            for pod in seen.cluster.pods or []
            if is_model_server(pod, seen) and chosen <= (pod["metadata"].get("labels") or {}).items()
        ]
        if hit:
            yield Problem(
                "DIRECT_SERVICE_PUBLIC",
                "A public load balancer leads straight to the model servers, past the picker, unauthenticated.",
                f"Service {metadata.get('name')} of type LoadBalancer selects {name_of(hit[0])}",
                "Set llmd_direct_service to none or internal and run playbooks/pattern1.yml again; delete a Service"
                " that is not of this collection.",
                f"Service {seen.scope.namespace}/{metadata.get('name')}",
            )


def events_of(seen: Observation, uid: str) -> list[Json]:
    return [event for event in seen.cluster.events or [] if (event.get("involvedObject") or {}).get("uid") == uid]


def _gpu_view(seen: Observation) -> str:
    """The three usual causes in figures: no GPU node, GPUs taken by others, too large a wish."""
    having = [node for node in seen.cluster.nodes or [] if _gpus(node)]
    words = f"[{len(having)} nodes with {sum(map(_gpus, having))} GPUs"
    if seen.google.pool_sizes:
        words += "; pools: " + ", ".join(f"{name} {size}" for name, size in sorted(seen.google.pool_sizes.items()))
    if seen.cluster.foreign_gpu_pods:
        words += f"; GPUs are held by {', '.join(seen.cluster.foreign_gpu_pods[:5])}"
    return words + "]"


def workloads(seen: Observation) -> Iterator[Problem]:
    """Workloads scaled to nothing, refused by the API server, or not there although their release is."""
    if seen.cluster.workloads is None or not seen.cluster.namespace:
        return
    for workload in seen.cluster.workloads:
        spec, name = workload.get("spec") or {}, str(workload["metadata"]["name"])
        where = f"{workload['kind']} {seen.scope.namespace}/{name}"
        if spec.get("replicas") == 0:
            picker = name.endswith("-epp")
            yield Problem(
                "PICKER_NOT_READY" if picker else "MODEL_SERVER_SCALED_TO_ZERO",
                "The endpoint picker is scaled to zero." if picker else "The model server is scaled to zero.",
                "spec.replicas is 0",
                "Resume the deployment (playbooks/pattern1.yml restores the replicas of the values).",
                where,
                fatal=True,
            )
    yield from _refused(seen)
    names = {str(workload["metadata"]["name"]) for workload in seen.cluster.workloads}
    installed = {str(release["name"]) for release in seen.cluster.releases or []}
    for server in seen.scope.served:
        deployment = f"{server.pool}-epp"
        if server.pool in installed and deployment not in names:
            remedy = "Run the pattern's playbook again: it repairs a release whose objects were deleted."
            where = f"Deployment {seen.scope.namespace}/{deployment}"
            yield Problem("PICKER_NOT_READY", "The endpoint picker's Deployment is gone.", "", remedy, where, True)


def _refused(seen: Observation) -> Iterator[Problem]:
    live = {str(pod["metadata"]["name"]).rsplit("-", 1)[0] for pod in seen.cluster.pods or []}
    for event in seen.cluster.events or []:
        about = str((event.get("involvedObject") or {}).get("name"))
        if (
            event.get("reason") == "FailedCreate"
            and about not in live
            and re.search("forbidden|quota|denied|not found", message_of(event))
        ):
            remedy = "Read the API server's words above (quota, admission policy, missing ServiceAccount)."
            yield Problem("POD_REFUSED", "The cluster refuses to create a pod.", message_of(event), remedy, about, True)
            return


def pools(seen: Observation) -> Iterator[Problem]:
    """Every InferencePool against the pods: selector, port, picker."""
    if seen.cluster.pools is None or seen.cluster.pods is None or not seen.cluster.namespace:
        return
    for server in seen.scope.served:
        yield from _pool(seen, server.pool)


def _pool(seen: Observation, name: str) -> Iterator[Problem]:
    found, where = pool_of(seen, name), f"InferencePool {seen.scope.namespace}/{name}"
    if not found:
        if any(release["name"] == name for release in seen.cluster.releases or []):
            remedy = "Run the pattern's playbook again: it repairs a release whose objects were deleted."
            yield Problem("POOL_MISSING", f"There is no InferencePool {name}.", "", remedy, where, True)
        return
    spec, pods = found.get("spec") or {}, seen.cluster.pods or []
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    chosen = [pod for pod in pods if selected(found, pod["metadata"].get("labels") or {})]
    # Servers that another pool takes are no witness against this one.
    servers = [
        pod
        for pod in pods
        if is_model_server(pod, seen) and server_of(pod["metadata"].get("labels") or {}, seen) is None
    ]
    if not chosen and servers:
        yield Problem(
            "POOL_SELECTS_NOTHING",
            "The InferencePool's selector matches no pod although there are model servers.",
            f"selector {wanted}; {name_of(servers[0])} has {servers[0]['metadata'].get('labels')}",
            "Labels differ between llm-d generations: take selector and chart from one profile (llmd_profile).",
            where,
            fatal=True,
        )
    ports = {int(entry["number"]) for entry in spec.get("targetPorts") or [] if entry.get("number")}
    served = {
        int(port["containerPort"]) for pod in chosen for port in container_ports(pod) if port.get("containerPort")
    }
    if ports and served and not ports <= served:
        yield Problem(
            "POOL_TARGET_PORT_WRONG",
            "The InferencePool sends requests to a port that the model servers do not open.",
            f"targetPorts {sorted(ports)}, the pods declare {sorted(served)}",
            "Set inferencePool.targetPorts (and targetPortNumber) to the model server's port.",
            where,
            fatal=True,
        )
    yield from _picker_service(seen, spec, where)


def _picker_service(seen: Observation, spec: Json, where: str) -> Iterator[Problem]:
    service = str((spec.get("endpointPickerRef") or {}).get("name") or "")
    if not service or seen.cluster.services is None:
        return
    if service not in {str(entry["metadata"]["name"]) for entry in seen.cluster.services}:
        yield Problem(
            "PICKER_SERVICE_MISSING",
            "The Service of the endpoint picker does not exist.",
            f"endpointPickerRef names {service}",
            "Run playbooks/pattern1.yml again: it repairs a release whose objects were deleted.",
            where,
            fatal=True,
        )


def scorers(seen: Observation) -> Iterator[Problem]:
    """The picker's scorers and weights as its start-up log gives them."""
    for pod, found in seen.cluster.scorers.items():
        wrong = compare_scorers(dict(seen.scope.scorers), found) if found and seen.scope.scorers else []
        if wrong:
            remedy = "Compare the pool release's pluginsConfigFile with the profile."
            what = "The picker does not score as wished."
            yield Problem("SCORERS_WRONG", what, "; ".join(wrong), remedy, f"picker {pod}")


def autoscalers(seen: Observation) -> Iterator[Problem]:
    """Autoscalers that cannot see what they go by: the number of servers stays what it is."""
    for server in seen.scope.served:
        found = autoscaler_of(server, seen)
        for name in ("AbleToScale", "ScalingActive") if found else ():
            condition = of_object(found or {}, name)
            # Scaled to nothing, as by a pause, it rests.
            if condition.false and condition.reason != "ScalingDisabled":
                yield Problem(
                    "AUTOSCALER_BLIND",
                    f"The number of servers of {server.model} follows nothing.",
                    condition.say(),
                    "Install what llmd_autoscaling.by wants: the Custom Metrics Stackdriver Adapter, whose account"
                    " needs roles/monitoring.viewer, or KEDA. A new metric takes some minutes to be known.",
                    f"HorizontalPodAutoscaler {seen.scope.namespace}/{(found or {})['metadata']['name']}",
                )
                break


def waiting(seen: Observation) -> list[str]:
    """Pods that are on their way without a problem, in words."""
    return [
        f"pod {name_of(pod)}: {progress_of(pod)}"
        for pod in seen.cluster.pods or []
        if _ours(pod, seen) and not is_ready(pod)
    ]
