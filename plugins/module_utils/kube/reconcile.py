# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nudge a GKE Gateway where needed and wait until it and its routes work; say why if they do not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import summary
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import Mark, brief, current_warnings
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import (
    GatewayVerdict,
    backend_service_refs,
    endpoint_of,
    judge_gateway,
    never_programmed,
    route_parents,
    unencrypted,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import GATEWAY, GATEWAY_CLASS, HTTP_ROUTE
from ansible_collections.llmd.gke.plugins.module_utils.kube.observing import Seen, tolerant
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem, Steady
from ansible_collections.llmd.gke.plugins.module_utils.kube.routes import RouteVerdict, judge_route
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, Verdict, wait_until

OWN_ANNOTATIONS = "networking.gke.io/"
LAST_RECONCILE = "networking.gke.io/last-reconcile-time"
LOOK_AGAIN = 30.0


@dataclass(frozen=True)
class Target:
    """What to bring into order. Seconds; ``grace``: how long a clear failure must last to end the wait early."""

    name: str
    namespace: str
    routes: tuple[str, ...] = ()
    annotation: str = "force-reconcile"
    reconcile: str = "auto"
    timeout: float = 600
    interval: float = 2
    grace: float = 90
    api_just_enabled: bool = False


@dataclass(frozen=True)
class Look:
    """One look at the Gateway, its class, its routes, and their events (only read while something is wrong)."""

    gateway: dict[str, Any] | None
    gateway_class: dict[str, Any] | None
    events: list[dict[str, Any]] = field(default_factory=list)
    routes: dict[str, tuple[dict[str, Any] | None, list[dict[str, Any]]]] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """The verdicts over one look."""

    gateway: GatewayVerdict
    routes: dict[str, RouteVerdict]

    @property
    def ready(self) -> bool:
        return self.gateway.ready and all(route.ready for route in self.routes.values())

    @property
    def problem(self) -> Problem | None:
        """The first problem in the order of cause: the Gateway's before its routes'."""
        found = [self.gateway.problem, *(route.problem for route in self.routes.values())]
        return next((problem for problem in found if problem is not None), None)

    def say(self) -> str:
        """What still is not as it should be."""
        if not self.gateway.ready:
            return self.gateway.detail
        return next(
            (f"route {name}: {route.detail}" for name, route in self.routes.items() if not route.ready), "ready"
        )


def observe(client: KubeClient, target: Target) -> Look:
    """Read what the verdict needs: two requests for a healthy Gateway without routes."""
    gateway = client.get(GATEWAY, target.name, target.namespace)
    class_name = str(((gateway or {}).get("spec") or {}).get("gatewayClassName") or "")
    gateway_class = client.get(GATEWAY_CLASS, class_name) if class_name else None
    look = Look(gateway, gateway_class)
    if gateway is not None and not judge(look, target).gateway.ready:
        look.events.extend(client.events(target.name, target.namespace, "Gateway"))
    for name in target.routes:
        route = client.get(HTTP_ROUTE, name, target.namespace)
        look.routes[name] = (route, [])
        if route is not None and not judge_route(route, [], name, target.name, target.namespace).ready:
            look.routes[name] = (route, client.events(name, target.namespace, "HTTPRoute"))
    return look


def judge(look: Look, target: Target) -> State:
    """The verdicts over a look. Pure."""
    label = f"{target.namespace}/{target.name}"
    gateway = judge_gateway(look.gateway, look.events, look.gateway_class, label)
    routes = {
        name: judge_route(route, events, name, target.name, target.namespace)
        for name, (route, events) in look.routes.items()
    }
    return State(gateway, routes)


@dataclass
class Outcome:
    """The result of a reconciliation. ``nudged``: how often the annotation was (or would have been) written."""

    look: Look
    state: State
    nudged: int = 0
    before: str = ""
    after: str = ""


class Reconciler:
    """One run. The annotation is written at most twice: at the start, and once more halfway through a failure's grace,
    because the controller may have looked just before the missing piece came."""

    def __init__(self, client: KubeClient, target: Target, clock: Clock | None = None) -> None:
        self.client = client
        self.target = target
        self.clock: Clock = clock or SystemClock()
        self.nudged = 0
        self.after = ""
        self._mark = Mark(frozenset())
        self._steady = Steady(self.clock, target.grace)
        self._halfway = Steady(self.clock, target.grace / 2)
        self._fresh = Steady(self.clock, target.grace / 4)
        self._ready_before: str | None = None
        self._nudged_at = 0.0

    def run(self, check_mode: bool = False) -> Outcome:
        """Look, nudge if needed, wait. In check mode: look and predict."""
        look = observe(self.client, self.target)
        state = judge(look, self.target)
        before = _annotation(look, self.target.annotation)
        needed = self.target.reconcile == "always" or (self.target.reconcile == "auto" and not state.gateway.ready)
        if check_mode:
            after = _stamp() if needed else before
            return Outcome(look, state, int(needed), before, after)
        if needed and look.gateway is not None:
            self._nudge(look)
        if self.target.reconcile == "always" or not state.ready:
            look = self._wait(look)
            state = judge(look, self.target)
        return Outcome(look, state, self.nudged, before, self.after or before)

    def _nudge(self, look: Look) -> None:
        self._mark = Mark.of(look.events)
        self._nudged_at = self.clock.now()
        # a Gateway that is ready already must be seen to have been looked at again
        self._ready_before = _annotation(look, LAST_RECONCILE) if judge(look, self.target).gateway.ready else None
        self.after = _stamp()
        self.client.annotate(GATEWAY, self.target.name, self.target.namespace, {self.target.annotation: self.after})
        self.nudged += 1

    def _judge(self, seen: Seen[Look]) -> Verdict:
        if seen.value is None or seen.trouble:
            return Verdict(False, seen.trouble)
        state = judge(seen.value, self.target)
        problem = state.problem
        fatal = problem.code if problem is not None and problem.fatal else None
        retried = self.nudged > 0 and any(self._mark.is_new(event) for event in current_warnings(seen.value.events))
        # the controller has tried again and still fails; an API that was just enabled needs the whole grace, though
        young = fatal == "NETWORK_SERVICES_API_DISABLED" and self.target.api_just_enabled
        certain = fatal if fatal == "ROUTE_REJECTED" or (retried and not young) else None
        if problem is not None and (self._steady.seen(fatal) | self._fresh.seen(certain)):
            raise replace(problem, evidence=evidence(seen.value)).error()
        may_nudge = self.target.reconcile != "never" and self.nudged < 2 and not state.gateway.ready
        if self._halfway.seen(fatal) and may_nudge and not retried:
            self._nudge(seen.value)
        # a route that was not there yet at the first nudge, or a Gateway that only just came into being
        if self.nudged == 0 and may_nudge and self.target.reconcile == "auto" and seen.value.gateway is not None:
            self._nudge(seen.value)
        if state.ready and not self._looked_again(seen.value):
            return Verdict(False, "waiting for the controller to look again")
        return Verdict(state.ready, state.say())

    def _looked_again(self, look: Look) -> bool:
        """Whether the controller has come by since the nudge: it says when; where it does not, a while is enough."""
        if self._ready_before is None:
            return True
        said = _annotation(look, LAST_RECONCILE)
        return said != self._ready_before or self.clock.now() - self._nudged_at >= LOOK_AGAIN

    def _explain(self, seen: Seen[Look]) -> WaitTimeout:
        label = f"Gateway {self.target.namespace}/{self.target.name}"
        look = seen.value or Look(None, None)
        state = judge(look, self.target)
        problem = state.problem or never_programmed(label, seen.trouble or state.say())
        return WaitTimeout(
            f"{problem.what} (waited {self.target.timeout:.0f} s)",
            code=problem.code,
            where=problem.where,
            why=problem.why or state.say(),
            remedy=problem.remedy,
            evidence=evidence(look),
        )

    def _wait(self, first: Look) -> Look:
        seen = wait_until(
            tolerant(lambda: observe(self.client, self.target)),
            self._judge,
            what=f"Gateway {self.target.namespace}/{self.target.name}"
            + (f" with routes {', '.join(self.target.routes)}" if self.target.routes else ""),
            timeout=self.target.timeout,
            interval=self.target.interval,
            clock=self.clock,
            explain=self._explain,
        )
        return seen.value or first


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _annotation(look: Look, name: str) -> str:
    annotations = ((look.gateway or {}).get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(name) or "")


def evidence(look: Look) -> dict[str, Any]:
    """What a person (or diagnose) wants to see of a failed Gateway."""
    return {
        "conditions": summary(((look.gateway or {}).get("status") or {}).get("conditions")),
        "events": brief(look.events),
        "routes": {name: brief(events) for name, (_route, events) in look.routes.items() if events},
    }


def as_result(outcome: Outcome, target: Target) -> dict[str, Any]:
    """The module's return values."""
    gateway = outcome.look.gateway or {}
    annotations = (gateway.get("metadata") or {}).get("annotations") or {}
    routes = {}
    for name, (route, _events) in outcome.look.routes.items():
        parents = route_parents(route or {}, target.name, target.namespace)
        routes[name] = {
            "ready": outcome.state.routes[name].ready,
            "detail": outcome.state.routes[name].detail,
            "conditions": summary(parents[0].get("conditions")) if parents else {},
        }
    return {
        "changed": outcome.nudged > 0,
        "ready": outcome.state.ready,
        "detail": outcome.state.say(),
        "address": outcome.state.gateway.address,
        "endpoint": endpoint_of(gateway),
        "conditions": summary((gateway.get("status") or {}).get("conditions")),
        "annotations": {key: value for key, value in annotations.items() if key.startswith(OWN_ANNOTATIONS)},
        "backend_services": backend_service_refs(gateway),
        "routes": routes,
        "reconciled": outcome.nudged,
        "warnings": [text] if (text := unencrypted(gateway)) else [],
    }
