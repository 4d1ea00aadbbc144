# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTPRoutes on GKE: bound or not, and if not, why? Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import Condition
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import current_warnings, message_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import parent_condition, route_parents
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem


@dataclass(frozen=True)
class RouteVerdict:
    """What a route's status says. ``ready`` = Accepted, ResolvedRefs and Reconciled with regard to the Gateway."""

    ready: bool
    detail: str
    problem: Problem | None = None


def judge_route(
    route: dict[str, Any] | None, events: list[dict[str, Any]], name: str, gateway: str, namespace: str
) -> RouteVerdict:
    """The verdict over one HTTPRoute of ``namespace`` and its binding to ``gateway``."""
    where = f"HTTPRoute {namespace}/{name}"
    if route is None:
        return RouteVerdict(
            False,
            "does not exist",
            Problem(
                "ROUTE_MISSING",
                f"There is no HTTPRoute {namespace}/{name}.",
                remedy="Apply the route first (role llmd.gke.gateway_route).",
                where=where,
            ),
        )
    if not names_gateway(route, gateway, namespace):
        return RouteVerdict(
            False,
            f"does not name Gateway {gateway}",
            Problem(
                "ROUTE_PARENT_MISMATCH",
                f"The HTTPRoute does not name Gateway {namespace}/{gateway} as its parent.",
                f"spec.parentRefs: {(route.get('spec') or {}).get('parentRefs')}",
                "Set the route's parentRefs to the Gateway of this deployment.",
                where,
                fatal=True,
            ),
        )
    parents = route_parents(route, gateway, namespace)
    if not parents:
        return RouteVerdict(False, "not looked at by the controller yet", _from_events(events, where))
    accepted, resolved, reconciled = (
        parent_condition(route, parents[0], type_) for type_ in ("Accepted", "ResolvedRefs", "Reconciled")
    )
    if accepted.true and resolved.true and reconciled.true:
        return RouteVerdict(True, "accepted, resolved and reconciled")
    problem = explain_route(route, accepted, resolved, reconciled, events, where)
    waiting = next(entry for entry in (accepted, resolved, reconciled) if not entry.true)
    detail = f"{waiting.type} not reported yet" if waiting.initial else waiting.say()[:200]
    return RouteVerdict(False, detail, problem)


def names_gateway(route: dict[str, Any], gateway: str, namespace: str) -> bool:
    """Whether the route's spec asks for this Gateway."""
    own = (route.get("metadata") or {}).get("namespace")
    return any(
        ref.get("name") == gateway and (ref.get("namespace") or own or namespace) == namespace
        for ref in (route.get("spec") or {}).get("parentRefs") or []
    )


def explain_route(
    route: dict[str, Any],
    accepted: Condition,
    resolved: Condition,
    reconciled: Condition,
    events: list[dict[str, Any]],
    where: str,
) -> Problem | None:
    """The first condition that fails, in the order in which the controller works."""
    if accepted.false:
        return _not_accepted(route, accepted, where)
    if resolved.false:
        return Problem(
            "ROUTE_BACKEND_NOT_FOUND",
            "The HTTPRoute's backend, or the picker Service of its InferencePool, does not exist.",
            resolved.say(),
            "Deploy the pool (release gaie-...) into the route's namespace and name it in backendRefs with group"
            " inference.networking.k8s.io and kind InferencePool.",
            where,
        )
    if reconciled.false:
        return Problem(
            "ROUTE_NOT_RECONCILED",
            "The load balancer does not carry the HTTPRoute yet.",
            message_of(next(iter(current_warnings(events)), None)) or reconciled.say(),
            "The usual cause is a pool without any matching pod: compare the pool's selector with the labels of the"
            " model-server pods, and wait until one is Ready.",
            where,
        )
    return _from_events(events, where)


def _not_accepted(route: dict[str, Any], accepted: Condition, where: str) -> Problem:
    timeouts = [rule for rule in (route.get("spec") or {}).get("rules") or [] if rule.get("timeouts")]
    if accepted.reason == "UnsupportedValue" or (timeouts and accepted.reason not in ("NotAllowedByListeners",)):
        remedy = "Take out what the message names."
        if timeouts:
            remedy = (
                "Take `timeouts` out of the route's rules: GKE's controller refuses them. Set the time limit in the"
                " pool's GCPBackendPolicy (timeoutSec) instead."
            )
        return Problem(
            "ROUTE_REJECTED",
            "GKE's controller refuses the HTTPRoute.",
            accepted.say(),
            remedy,
            where,
            fatal=True,
        )
    return Problem(
        "ROUTE_REJECTED",
        "The Gateway does not accept the HTTPRoute.",
        accepted.say(),
        "Check the route's hostnames and sectionName against the Gateway's listeners, and their allowedRoutes.",
        where,
        fatal=accepted.reason in ("NotAllowedByListeners", "NoMatchingListenerHostname", "NoMatchingParent"),
    )


def _from_events(events: list[dict[str, Any]], where: str) -> Problem | None:
    warning = next(iter(current_warnings(events)), None)
    if warning is None:
        return None
    return Problem(
        "ROUTE_NOT_RECONCILED",
        "The controller has trouble with the HTTPRoute.",
        message_of(warning),
        "Read the controller's words above.",
        where,
    )
