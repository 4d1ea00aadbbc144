# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend services of a Gateway's load balancer: which are ours, are they healthy, and why not?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import BackendHealth
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import is_ready, name_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, Verdict, wait_until

_REF = re.compile(
    r"(?:.*/)?projects/(?P<project>[^/]+)/(?:regions/(?P<region>[^/]+)|global)/backendServices/(?P<name>[^/]+)$"
)


@dataclass(frozen=True)
class ServiceRef:
    """A backend service as the Gateway's annotation names it; region "" = global."""

    name: str
    region: str
    project: str

    @property
    def is_default(self) -> bool:
        """GKE's answer to requests without a route; it has no endpoints and is never healthy."""
        return "serve404" in self.name


def parse_ref(text: str) -> ServiceRef | None:
    """From "/projects/NUMBER/regions/REGION/backendServices/NAME"; None for something else."""
    match = _REF.match(text)
    return ServiceRef(match["name"], match["region"] or "", match["project"]) if match else None


@dataclass(frozen=True)
class ClusterView:
    """What the cluster says about the endpoints: pods of the namespace and its HealthCheckPolicies."""

    pods: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)


def enough(backend: BackendHealth, min_endpoints: int) -> bool:
    """Whether a service has its endpoints and all of them are HEALTHY."""
    return backend.exists and backend.total >= min_endpoints and backend.healthy == backend.total


def say(backends: Sequence[BackendHealth], min_endpoints: int) -> str:
    """As in: 1 of 2 backend services healthy; gkegw1-... 0 of 1 endpoints."""
    late = [backend for backend in backends if not enough(backend, min_endpoints)]
    words = f"{len(backends) - len(late)} of {len(backends)} backend services healthy"
    details = [
        f"{backend.name}: " + (f"{backend.healthy} of {backend.total} endpoints" if backend.exists else "not there yet")
        for backend in late[:3]
    ]
    return "; ".join([words, *details])


def explain(backends: Sequence[BackendHealth], min_endpoints: int, view: ClusterView) -> Problem:
    """The first reason why the services are not healthy."""
    late = [backend for backend in backends if not enough(backend, min_endpoints)]
    if not late:
        return Problem(
            "BACKENDS_NOT_FOUND",
            "The Gateway's load balancer has no backend service.",
            "The annotation networking.gke.io/backend-services is empty or names only the default one.",
            "The route is not bound yet: wait with llmd.gke.gateway_reconcile (routes) first.",
        )
    backend = late[0]
    where = f"backend service {backend.name}"
    if not backend.exists:
        return Problem(
            "BACKEND_MISSING",
            "A backend service of the Gateway does not exist.",
            "The Gateway names it, Google Cloud does not know it; a sync may be under way.",
            "Wait, or have the Gateway synced again (llmd.gke.gateway_reconcile with reconcile=always).",
            where,
        )
    if backend.total < min_endpoints:
        return Problem(
            "BACKEND_NO_ENDPOINTS",
            "A backend service has too few endpoints.",
            f"{backend.total} endpoints in {backend.groups} network endpoint groups, at least {min_endpoints} wanted.",
            "No ready pod matches: compare the InferencePool's selector with the pods' labels, and look whether the"
            " pods are Ready.",
            where,
        )
    return _unhealthy(backend, view, where)


def _unhealthy(backend: BackendHealth, view: ClusterView, where: str) -> Problem:
    sick = [endpoint for endpoint in backend.endpoints if not endpoint.healthy]
    endpoints = ", ".join(f"{endpoint.ip}:{endpoint.port}" for endpoint in sick[:5])
    by_ip = {str((pod.get("status") or {}).get("podIP")): pod for pod in view.pods}
    pods = [by_ip[endpoint.ip] for endpoint in sick if endpoint.ip in by_ip]
    unready = [name_of(pod) for pod in pods if not is_ready(pod)]
    if unready:
        return Problem(
            "BACKEND_POD_NOT_READY",
            "Endpoints are UNHEALTHY because their pods are not Ready.",
            f"{endpoints}: pods {', '.join(unready)}",
            "Look at the pods: events and log say why (llmd.gke.helm_releases waits for them and tells).",
            where,
        )
    policy_problem = _policy_problem(sick[0].port, view, where, endpoints)
    if policy_problem is not None and pods:
        return policy_problem
    return Problem(
        "BACKEND_UNHEALTHY",
        "Endpoints are UNHEALTHY although nothing in the cluster says why.",
        f"{endpoints}" + (f"; their pods are Ready: {', '.join(map(name_of, pods))}" if pods else ""),
        "Health checks come from 35.191.0.0/16 and 130.211.0.0/22, traffic from the proxy-only range: allow both to the"
        " pods' ports (in a Shared VPC the controller cannot do it by itself).",
        where,
    )


def _policy_problem(port: int, view: ClusterView, where: str, endpoints: str) -> Problem | None:
    checks = []
    for policy in view.policies:
        config = ((policy.get("spec") or {}).get("default") or {}).get("config") or {}
        kind = str(config.get("type") or "").lower()
        if kind:
            checks.append(config.get(f"{kind}HealthCheck") or {})
    if not checks:
        return Problem(
            "HEALTH_CHECK_POLICY_MISSING",
            "The pods are Ready, but no HealthCheckPolicy tells the load balancer how to ask them.",
            f"{endpoints}: without a policy GKE asks for / and a model server answers that with 404.",
            "The pool chart writes the policy when provider.name is gke; if its installation failed on it (newer CRDs"
            " refuse the chart's policy), apply one for the InferencePool: HTTP, requestPath /health, the pool's port.",
            where,
        )
    ports = {int(check["port"]) for check in checks if check.get("port")}
    if ports and port not in ports:
        return Problem(
            "HEALTH_CHECK_PORT_WRONG",
            "The load balancer asks for health on another port than the pods serve.",
            f"{endpoints}; the HealthCheckPolicy asks on port {', '.join(map(str, sorted(ports)))}.",
            "Set inferencePool.targetPortNumber as well as targetPorts: up to chart 1.4.0 the policy takes the former.",
            where,
        )
    return None


def poll(
    read: Callable[[], list[BackendHealth]],
    view: Callable[[], ClusterView],
    *,
    min_endpoints: int,
    timeout: float,
    interval: float,
    clock: Clock | None = None,
) -> list[BackendHealth]:
    """Read until every service has its endpoints and all are HEALTHY. Raises WaitTimeout with the reason."""
    last: list[BackendHealth] = []
    trouble = [""]

    def observe() -> list[BackendHealth]:
        try:
            last[:] = read()
            trouble[0] = ""
        except GoogleApiError as error:
            if error.status not in (0, 429) and error.status < 500:
                raise
            trouble[0] = f"Google Cloud does not answer well ({error.what})"
        return list(last)

    def judge(backends: list[BackendHealth]) -> Verdict:
        done = bool(backends) and not trouble[0] and all(enough(backend, min_endpoints) for backend in backends)
        if trouble[0]:
            return Verdict(False, trouble[0])
        return Verdict(done, say(backends, min_endpoints) if backends else "the Gateway names no backend service yet")

    def expired(backends: list[BackendHealth]) -> WaitTimeout:
        problem = explain(backends, min_endpoints, view())
        return WaitTimeout(
            f"{problem.what} (waited {timeout:.0f} s)",
            code=problem.code,
            where=problem.where,
            why="; ".join(part for part in (problem.why, trouble[0]) if part),
            remedy=problem.remedy,
            evidence=[backend.as_result() for backend in backends],
        )

    return wait_until(
        observe,
        judge,
        what="Backends HEALTHY",
        timeout=timeout,
        interval=interval,
        clock=clock,
        explain=expired,
    )
