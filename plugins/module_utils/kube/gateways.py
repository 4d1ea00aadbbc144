# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways of GKE: are they programmed and healthy, and if not, why? Pure functions over the objects and events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import Condition, find_condition, of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import current_warnings, message_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateway_causes import explain_message
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem

GKE_CONTROLLER = "networking.gke.io/gateway"
HEALTHY = "networking.gke.io/GatewayHealthy"
BACKEND_SERVICES = "networking.gke.io/backend-services"
UNENCRYPTED = "ENDPOINT_UNENCRYPTED"
# Classes of GKE whose load balancers have addresses of the internet: gke-l7-regional-external-managed, gke-l7-gxlb, ...
PUBLIC_CLASS = re.compile(r"gke-l7-(?:.*external|gxlb)")


@dataclass(frozen=True)
class GatewayVerdict:
    """What a Gateway's status says. ``ready`` = Accepted, Programmed, (on GKE) healthy, and with an address."""

    ready: bool
    detail: str
    address: str = ""
    problem: Problem | None = None


def address_of(gateway: dict[str, Any]) -> str:
    """The first address in the status; it appears before the load balancer serves."""
    addresses = (gateway.get("status") or {}).get("addresses") or []
    return str(addresses[0].get("value") or "") if addresses else ""


def serves_https(gateway: dict[str, Any]) -> bool:
    """Whether any listener terminates TLS."""
    return any(entry.get("protocol") == "HTTPS" for entry in (gateway.get("spec") or {}).get("listeners") or [])


def endpoint_of(gateway: dict[str, Any]) -> str:
    """Where clients go: scheme and address ("https://203.0.113.7"), with the port where it is not the scheme's own."""
    address = address_of(gateway)
    if not address:
        return ""
    scheme, usual = ("https", 443) if serves_https(gateway) else ("http", 80)
    listeners = [
        int(entry.get("port") or usual)
        for entry in (gateway.get("spec") or {}).get("listeners") or []
        if entry.get("protocol") == scheme.upper()
    ]
    port = usual if usual in listeners or not listeners else listeners[0]
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}{'' if port == usual else f':{port}'}"


def unencrypted(gateway: dict[str, Any]) -> str:
    """A warning where anybody in the internet may ask and anybody on the way may read; else empty."""
    name = str((gateway.get("spec") or {}).get("gatewayClassName") or "")
    if serves_https(gateway) or not PUBLIC_CLASS.match(name):
        return ""
    where = endpoint_of(gateway) or label_of(gateway)
    return (
        f"{UNENCRYPTED}: {where} is public, plain HTTP and without authentication (class {name}): prompts and answers"
        " can be read on their way, and whoever knows the address can use the GPUs. What now: set llmd_tls"
        " (docs/tls.md), or llmd_gateway_class: gke-l7-rilb for an address inside the VPC (docs/security.md)."
    )


def label_of(gateway: dict[str, Any]) -> str:
    """Gateway namespace/name"""
    metadata = gateway.get("metadata") or {}
    return f"Gateway {metadata.get('namespace')}/{metadata.get('name')}"


def is_gke_class(gateway_class: dict[str, Any] | None) -> bool:
    """Whether GKE's controller owns the class."""
    return bool(gateway_class) and ((gateway_class or {}).get("spec") or {}).get("controllerName") == GKE_CONTROLLER


def judge_class(name: str, gateway_class: dict[str, Any] | None, where: str) -> Problem | None:
    """Whether the Gateway's class is there, accepted, and GKE's.

    The last matters because GKE's controller was seen writing Programmed=False onto Gateways of other classes:
    conditions on such a Gateway say nothing.
    """
    if gateway_class is None:
        return Problem(
            "GATEWAY_CLASS_MISSING",
            f"The GatewayClass {name} does not exist in the cluster.",
            "GKE installs its classes some minutes after the Gateway API was enabled on the cluster.",
            "gcloud container clusters update CLUSTER --gateway-api=standard (role llmd.gke.gke_gpu_cluster does it)",
            where,
        )
    if not is_gke_class(gateway_class):
        return Problem(
            "GATEWAY_CLASS_FOREIGN",
            f"The GatewayClass {name} does not belong to GKE's controller.",
            f"spec.controllerName is {(gateway_class.get('spec') or {}).get('controllerName')}, not {GKE_CONTROLLER};"
            " conditions on its Gateways may come from either controller.",
            "Set llmd_gateway_class to gke-l7-regional-external-managed or gke-l7-rilb.",
            where,
            fatal=True,
        )
    accepted = of_object(gateway_class, "Accepted")
    if accepted.false:
        return Problem(
            "GATEWAY_CLASS_NOT_ACCEPTED",
            f"The GatewayClass {name} is not accepted by its controller.",
            accepted.say(),
            "Wait some minutes after enabling the Gateway API; look at the class's conditions.",
            where,
        )
    return None


def judge_gateway(
    gateway: dict[str, Any] | None,
    events: list[dict[str, Any]],
    gateway_class: dict[str, Any] | None,
    name: str,
) -> GatewayVerdict:
    """The verdict over one Gateway ("namespace/name" in ``name``); gateway None = it does not exist."""
    if gateway is None:
        missing = Problem(
            "GATEWAY_MISSING",
            f"There is no Gateway {name}.",
            remedy="Deploy the infra release first (role llmd.gke.llmd_helmfile): it makes the Gateway.",
            where=f"Gateway {name}",
        )
        return GatewayVerdict(False, "does not exist", problem=missing)
    where = label_of(gateway)
    class_name = str((gateway.get("spec") or {}).get("gatewayClassName") or "")
    problem = judge_class(class_name, gateway_class, where)
    if problem is not None:
        return GatewayVerdict(False, problem.what, address_of(gateway), problem)
    accepted, programmed, healthy = (of_object(gateway, name) for name in ("Accepted", "Programmed", HEALTHY))
    address = address_of(gateway)
    if programmed.true and healthy.true and address and accepted.status != "False":
        return GatewayVerdict(True, f"programmed and healthy at {address}", address)
    problem = explain_gateway([healthy, programmed, accepted], current_warnings(events), where)
    return GatewayVerdict(False, _progress(accepted, programmed, healthy, address), address, problem)


def _progress(accepted: Condition, programmed: Condition, healthy: Condition, address: str) -> str:
    if all(condition.initial for condition in (accepted, programmed, healthy)):
        return "waiting for the controller's first look"
    bad = next((entry for entry in (programmed, accepted, healthy) if not entry.true), None)
    if bad is None:
        return "no address yet" if not address else "not ready"
    if bad.initial:
        return f"{bad.type.rsplit('/', 1)[-1]} not reported yet"
    return bad.say()[:200]


def explain_gateway(conditions: list[Condition], warnings: list[dict[str, Any]], where: str) -> Problem | None:
    """The cause of a Gateway that is not ready: the newest Warning that names one, else the conditions' messages."""
    for warning in warnings:
        problem = explain_message(message_of(warning), where)
        if problem is not None:
            return problem
    failed = [condition for condition in conditions if condition.false]
    for condition in failed:
        problem = explain_message(condition.message, where)
        if problem is not None:
            return problem
    invalid = next((condition for condition in failed if condition.reason == "Invalid"), None)
    if invalid is not None:
        return Problem(
            "GATEWAY_INVALID",
            "The controller refuses the Gateway.",
            message_of(warnings[0]) if warnings else invalid.say(),
            "Read the controller's words above and correct the values of the infra release.",
            where,
        )
    if failed or warnings:
        return Problem(
            "GATEWAY_NOT_PROGRAMMED",
            "The Gateway is not programmed, for a reason that is not known to us.",
            message_of(warnings[0]) if warnings else failed[0].say(),
            "Read the controller's words above; kubectl describe shows the Gateway's events.",
            where,
        )
    return None


def never_programmed(where: str, detail: str) -> Problem:
    """For a time-out without any recognised cause."""
    return Problem(
        "GATEWAY_NOT_PROGRAMMED",
        "The Gateway did not become programmed and healthy in time; its controller names no cause.",
        detail,
        "Check that the cluster's Gateway API is on (CHANNEL_STANDARD) and the HttpLoadBalancing add-on is enabled;"
        " then run again with a longer timeout.",
        where,
    )


def backend_service_refs(gateway: dict[str, Any]) -> list[str]:
    """Backend services of the Gateway's load balancer from the annotation that the controller writes after a sync.

    Values look like "/projects/NUMBER/regions/REGION/backendServices/NAME", joined by ", ".
    """
    annotations = (gateway.get("metadata") or {}).get("annotations") or {}
    return [part.strip() for part in str(annotations.get(BACKEND_SERVICES) or "").split(",") if part.strip()]


def cluster_mark(gateway: dict[str, Any]) -> str:
    """The four characters by which GKE marks the load balancer parts of one cluster, "" where nothing tells."""
    annotations = (gateway.get("metadata") or {}).get("annotations") or {}
    text = " ".join(str(value) for key, value in annotations.items() if key.startswith("networking.gke.io/"))
    match = re.search(r"\bgkegw1-([a-z0-9]{4})-", text)
    return match[1] if match else ""


def route_parents(route: dict[str, Any], gateway: str, namespace: str) -> list[dict[str, Any]]:
    """What GKE's controller says about a route with regard to one Gateway."""
    own = (route.get("metadata") or {}).get("namespace")
    parents = (route.get("status") or {}).get("parents") or []
    return [
        parent
        for parent in parents
        if parent.get("controllerName") == GKE_CONTROLLER
        and (parent.get("parentRef") or {}).get("name") == gateway
        and ((parent.get("parentRef") or {}).get("namespace") or own) == namespace
    ]


def parent_condition(route: dict[str, Any], parent: dict[str, Any], type_: str) -> Condition:
    """A condition of a route's parent entry, checked against the route's generation."""
    generation = (route.get("metadata") or {}).get("generation")
    return find_condition(parent.get("conditions"), type_, int(generation) if generation else None)
