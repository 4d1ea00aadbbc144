# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules over the way of a request: Gateway, routes, policies, backends, the endpoint's own answers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer, went_through_picker
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import find_condition, of_object, summary
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import GatewayVerdict, judge_gateway
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import INFERENCE_POOL
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem
from ansible_collections.llmd.gke.plugins.module_utils.kube.routes import RouteVerdict, judge_route
from ansible_collections.llmd.gke.plugins.module_utils.llmd.backends import ClusterView, enough, explain
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.observe import COMPLETION, MODELS
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Json, Observation

INFERENCE_CLASSES = ("gke-l7-regional-external-managed", "gke-l7-rilb")


def _events(seen: Observation, kind: str, name: str) -> list[Json]:
    wanted = (kind, name)
    return [
        event
        for event in seen.cluster.events or []
        if tuple((event.get("involvedObject") or {}).get(key) for key in ("kind", "name")) == wanted
    ]


def gateway_verdict(seen: Observation) -> GatewayVerdict | None:
    """The verdict over the Gateway; None while it is unknown."""
    cluster, scope = seen.cluster, seen.scope
    if cluster.gateway is None or cluster.gateway_class is None or not cluster.namespace:
        return None
    return judge_gateway(
        cluster.gateway or None,
        _events(seen, "Gateway", scope.gateway),
        cluster.gateway_class or None,
        f"{scope.namespace}/{scope.gateway}",
    )


def route_verdict(seen: Observation) -> RouteVerdict | None:
    """The verdict over the deployment's route; None while it is unknown."""
    scope = seen.scope
    if seen.cluster.routes is None or not seen.cluster.namespace or not scope.route:
        return None
    route = next((entry for entry in seen.cluster.routes if entry["metadata"]["name"] == scope.route), None)
    return judge_route(route, _events(seen, "HTTPRoute", scope.route), scope.route, scope.gateway, scope.namespace)


def gateway(seen: Observation) -> Iterator[Problem]:
    """The Gateway's class, and its state by its own conditions and events."""
    name = str(((seen.cluster.gateway or {}).get("spec") or {}).get("gatewayClassName") or "")
    if name.startswith("gke-") and name not in INFERENCE_CLASSES:
        yield Problem(
            "GATEWAY_CLASS_UNSUITABLE",
            f"Gateways of class {name} cannot have an InferencePool behind them.",
            f"Only {' and '.join(INFERENCE_CLASSES)} can.",
            "Set llmd_gateway_class to one of them and run playbooks/pattern1.yml again.",
            f"Gateway {seen.scope.namespace}/{seen.scope.gateway}",
            fatal=True,
        )
    verdict = gateway_verdict(seen)
    if verdict is not None and verdict.problem is not None:
        yield verdict.problem


def routes(seen: Observation) -> Iterator[Problem]:
    """The route's backends as they are written, then its conditions."""
    scope = seen.scope
    for route in seen.cluster.routes or []:
        if route["metadata"]["name"] == scope.route:
            yield from _backend_refs(seen, route)
    verdict = route_verdict(seen)
    if verdict is not None and verdict.problem is not None:
        yield verdict.problem


def _backend_refs(seen: Observation, route: Json) -> Iterator[Problem]:
    group = INFERENCE_POOL.api_version.split("/", 1)[0]
    for rule in (route.get("spec") or {}).get("rules") or []:
        for ref in rule.get("backendRefs") or []:
            if ref.get("kind") == "InferencePool" and ref.get("group") != group:
                yield Problem(
                    "ROUTE_BACKEND_GROUP_WRONG",
                    "The HTTPRoute names an InferencePool of another API group.",
                    f"group {ref.get('group')}; GKE wants {group}",
                    f"Set the backendRef's group to {group} (role llmd.gke.gateway_route writes it so).",
                    f"HTTPRoute {seen.scope.namespace}/{seen.scope.route}",
                    fatal=True,
                )


def body_router(seen: Observation) -> Iterator[Problem]:
    """The extension that reads the model's name out of the body: there, and attached to our Gateway."""
    name, found = seen.scope.body_router, seen.cluster.routing_extension
    if not name or found is None or not seen.cluster.namespace:
        return
    said: list[Json] = []
    for ancestor in (found.get("status") or {}).get("ancestors") or []:
        if (ancestor.get("ancestorRef") or {}).get("name") == seen.scope.gateway:
            said = ancestor.get("conditions") or []
    attached = find_condition(said, "Attached", (found.get("metadata") or {}).get("generation"))
    if not attached.true:
        yield Problem(
            "BODY_ROUTER_NOT_ATTACHED",
            f"GCPRoutingExtension {name} is {'not attached to the Gateway' if found else 'not there'}: what a request"
            " names as its model is not read.",
            attached.say() if found else "",
            "Run playbooks/pattern2.yml again. The class must be gke-l7-regional-external-managed or gke-l7-rilb, and"
            " there may be one such extension a Gateway.",
            f"GCPRoutingExtension {seen.scope.namespace}/{name}",
            fatal=True,
        )


def policies(seen: Observation) -> Iterator[Problem]:
    """Policies that GKE did not attach, and two backend policies for one pool."""
    targets: Counter[tuple[str, str]] = Counter()
    for kind, found in (
        ("HealthCheckPolicy", seen.cluster.health_policies),
        ("GCPBackendPolicy", seen.cluster.backend_policies),
    ):
        for policy in found or []:
            attached = of_object(policy, "Attached")
            target = (policy.get("spec") or {}).get("targetRef") or {}
            targets[(kind, str(target.get("name")))] += 1
            if attached.false:
                yield Problem(
                    "POLICY_NOT_ATTACHED",
                    f"GKE does not apply a {kind}.",
                    attached.say(),
                    "Read the controller's words above: usually its target does not exist, or another one has it.",
                    f"{kind} {seen.scope.namespace}/{policy['metadata']['name']}",
                )
    for (kind, name), count in targets.items():
        if count > 1:
            yield Problem(
                "POLICY_CONFLICT",
                f"{count} objects of kind {kind} target the same pool; GKE applies one.",
                f"target {name}",
                "Keep the chart's policy and change it by the chart's values.",
                f"{kind} in {seen.scope.namespace}",
            )


def backends(seen: Observation) -> Iterator[Problem]:
    """Backend services of the load balancer, with what the cluster knows of their endpoints."""
    if seen.google.backends is None or not (seen.cluster.gateway or {}).get("metadata"):
        return
    if seen.google.backends and all(enough(backend, 1) for backend in seen.google.backends):
        return
    view = ClusterView(seen.cluster.pods or [], seen.cluster.health_policies or [])
    yield explain(seen.google.backends, 1, view)


def endpoint(seen: Observation) -> Iterator[Problem]:
    """What the endpoint itself answers, when it answers badly."""
    for request, answer in seen.answers.items():
        cause = explain_answer(answer)
        if cause is not None:
            why = f"{request}: HTTP {answer.status} {answer.text.strip()[:200] or answer.error}".strip()
            yield Problem(cause.code, cause.what, why, cause.remedy, "endpoint")
    listed = seen.answers.get(MODELS)
    if listed is not None and listed.status == 200:
        names = [str(entry.get("id")) for entry in listed.document().get("data") or [] if isinstance(entry, dict)]
        missing = [model for model in seen.scope.models if model not in names]
        if missing:
            yield Problem(
                "MODEL_UNKNOWN",
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not served.",
                f"/v1/models names {', '.join(names) or 'nothing'}",
                "Compare llmd_model (llmd_models) with the list at /v1/models.",
                "endpoint",
            )


def bypass(seen: Observation) -> Iterator[Problem]:
    """An answer that did not pass the picker (a warning: not every load balancer keeps its header)."""
    for request, answer in seen.answers.items():
        if not request.startswith(COMPLETION) or answer.status != 200:
            continue
        if not went_through_picker(answer, seen.scope.response_header):
            yield Problem(
                "PICKER_BYPASSED",
                "The answer to a POST does not carry the endpoint picker's header.",
                f"{request}: no {seen.scope.response_header}: true",
                "Check that the HTTPRoute's backend is the InferencePool, and the pool's failureMode.",
                "endpoint",
            )


def waiting(seen: Observation) -> list[str]:
    """Gateway and route that are not ready, without a problem, in words."""
    words = []
    gate, route = gateway_verdict(seen), route_verdict(seen)
    if gate is not None and not gate.ready and gate.problem is None:
        words.append(f"Gateway: {gate.detail}")
    if route is not None and not route.ready and route.problem is None:
        words.append(f"HTTPRoute: {route.detail}")
    return words


def conditions(seen: Observation) -> dict[str, dict[str, str]]:
    """Conditions of Gateway and route, for the bundle."""
    found = {"gateway": summary(((seen.cluster.gateway or {}).get("status") or {}).get("conditions"))}
    for route in seen.cluster.routes or []:
        for parent in (route.get("status") or {}).get("parents") or []:
            found[f"route {route['metadata']['name']}"] = summary(parent.get("conditions"))
    return found
