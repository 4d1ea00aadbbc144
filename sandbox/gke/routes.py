"""HTTPRoutes: which of them a Gateway takes, what they resolve to, and what their status says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.gke import names, policies, pools
from sandbox.gke.conditions import condition, merge
from sandbox.gke.kubeapi import Object
from sandbox.gke.model import (
    CONTROLLER,
    POOL_PORT,
    Backend,
    GatewayClass,
    Listener,
    Match,
    Rule,
    canonical,
)
from sandbox.gke.snapshot import (
    GATEWAY_GROUP,
    INFERENCE_GROUP,
    Snapshot,
    age_key,
    generation,
    qualified,
    selects,
)

PROTOCOLS = ("HTTP", "HTTPS")
_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite")


@dataclass(frozen=True)
class Fault:
    """Why a route, or a reference of it, is refused: a condition's reason and message."""

    reason: str
    message: str


class Refused(Exception):
    """A reference of a route cannot be used."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(reason, message)


@dataclass(frozen=True)
class Binding:
    """One route at one parentRef of one Gateway. ``listeners``: names of the listeners it is attached to."""

    route: Object
    ref: dict[str, Any]
    listeners: tuple[str, ...] = ()
    accepted: Fault | None = None
    resolved: Fault | None = None
    idle: str = ""  # the pool without pods, which keeps the route from being reconciled
    rules: tuple[Rule, ...] = field(default=())

    @property
    def name(self) -> str:
        return qualified(self.route)

    def routes_pool(self) -> bool:
        """Whether any rule leads to an InferencePool."""
        return any(backend.kind == "InferencePool" for rule in self.rules for backend, _weight in rule.backends)


def bind_all(snapshot: Snapshot, gateway: Object, klass: GatewayClass) -> list[Binding]:
    """Every binding of every route to a Gateway, oldest route first."""
    found = []
    for route in sorted(snapshot.all("HTTPRoute"), key=age_key):
        if not route["metadata"].get("deletionTimestamp"):
            refs = (route.get("spec") or {}).get("parentRefs") or []
            found += [bind(snapshot, gateway, klass, route, ref) for ref in refs if targets(route, ref, gateway)]
    return found


def targets(route: Object, ref: Mapping[str, Any], gateway: Object) -> bool:
    """Whether a parentRef names this Gateway."""
    meta = gateway["metadata"]
    return (
        (ref.get("group") or GATEWAY_GROUP) == GATEWAY_GROUP
        and (ref.get("kind") or "Gateway") == "Gateway"
        and ref.get("name") == meta["name"]
        and (ref.get("namespace") or route["metadata"]["namespace"]) == meta["namespace"]
    )


def bind(snapshot: Snapshot, gateway: Object, klass: GatewayClass, route: Object, ref: dict[str, Any]) -> Binding:
    """Decide one binding."""
    listeners, fault = _listeners(snapshot, gateway, route, ref)
    if fault is None:
        fault = _unsupported(route)
    if fault is not None:
        return Binding(route, ref, accepted=fault)
    attached = tuple(item["name"] for item in listeners)
    rules: list[Rule] = []
    idle = ""
    try:
        for index, rule in enumerate((route.get("spec") or {}).get("rules") or [{}]):
            made = _rule(snapshot, klass, route, index, rule)
            without = [item.name for item, weight in made.backends if weight and not pools.has_pods(snapshot, item)]
            idle = idle or (without[0] if without else "")
            rules.append(made)
    except Refused as refused:
        return Binding(route, ref, attached, resolved=refused.fault)
    return Binding(route, ref, attached, idle=idle, rules=tuple(rules))


def _listeners(
    snapshot: Snapshot, gateway: Object, route: Object, ref: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], Fault | None]:
    """Listeners that take a route, or why none does."""
    found = [
        item
        for item in gateway["spec"].get("listeners") or []
        if ref.get("sectionName") in (None, item["name"]) and ref.get("port") in (None, item["port"])
    ]
    if not found:
        return [], Fault("NoMatchingParent", f'no listener of Gateway "{qualified(gateway)}" matches the parentRef')
    allowed = [item for item in found if allows(snapshot, gateway, item, route)]
    if not allowed:
        return [], Fault("NotAllowedByListeners", f'HTTPRoute "{qualified(route)}" is not allowed by any listener')
    wanted = (route.get("spec") or {}).get("hostnames") or []
    matching = [item for item in allowed if intersect(item.get("hostname") or "", wanted)]
    if not matching:
        return [], Fault("NoMatchingListenerHostname", "no hostname of the route matches a listener's")
    return matching, None


def allows(snapshot: Snapshot, gateway: Object, listener: Mapping[str, Any], route: Object) -> bool:
    """allowedRoutes of a listener: namespaces Same (the default), All or Selector, and kinds."""
    allowed = listener.get("allowedRoutes") or {}
    kinds = allowed.get("kinds") or []
    if kinds and not any(item.get("kind") == "HTTPRoute" for item in kinds):
        return False
    namespaces = allowed.get("namespaces") or {}
    source = namespaces.get("from") or "Same"
    namespace = route["metadata"]["namespace"]
    if source == "All":
        return True
    if source == "Selector":
        return selects(namespaces.get("selector") or {}, snapshot.labels(namespace))
    return bool(source == "Same" and namespace == gateway["metadata"]["namespace"])


def intersect(listener: str, wanted: Iterable[str]) -> list[str]:
    """Hostnames that a listener and a route have in common; ``*`` stands for any. Empty: none."""
    hosts = list(wanted)
    if not hosts:
        return [listener or "*"]
    if not listener:
        return hosts
    return [found for host in hosts if (found := _common(listener, host))]


def _common(first: str, second: str) -> str:
    if first == second:
        return first
    for wide, narrow in ((first, second), (second, first)):
        if wide.startswith("*.") and narrow.endswith(wide[1:]) and len(narrow) > len(wide) - 1:
            return narrow
    return ""


def _misconfigured(route: Object, why: str) -> str:
    return f'Error GWCER104: HTTPRoute "{qualified(route)}" is misconfigured, err: {why}'


def _unsupported(route: Object) -> Fault | None:
    """What GKE does not take in an HTTPRoute at all."""
    for rule in (route.get("spec") or {}).get("rules") or []:
        if rule.get("timeouts"):
            return Fault("UnsupportedValue", _misconfigured(route, "Timeouts are not supported."))
        for item in rule.get("filters") or []:
            if item.get("type") not in _FILTERS:
                why = f"filter type {item.get('type')} is not supported."
                return Fault("UnsupportedValue", _misconfigured(route, why))
    return None


def _rule(snapshot: Snapshot, klass: GatewayClass, route: Object, index: int, rule: Mapping[str, Any]) -> Rule:
    backends = []
    for ref in rule.get("backendRefs") or []:
        weight = ref.get("weight")
        backends.append((resolve(snapshot, klass, route, ref), 1 if weight is None else int(weight)))
    meta = route["metadata"]
    return Rule(
        route=qualified(route),
        created=str(meta.get("creationTimestamp", "")),
        index=index,
        hostnames=tuple((route.get("spec") or {}).get("hostnames") or ()),
        matches=tuple(match(item) for item in rule.get("matches") or [{}]),
        backends=tuple(backends),
        filters=canonical(rule.get("filters") or []),
    )


def match(item: Mapping[str, Any]) -> Match:
    """Translate one HTTPRouteMatch."""
    path = item.get("path") or {}
    return Match(
        path_kind=path.get("type") or "PathPrefix",
        path=path.get("value") or "/",
        method=item.get("method") or "",
        headers=tuple((each.get("type") or "Exact", each["name"], each["value"]) for each in item.get("headers") or []),
        query=tuple(
            (each.get("type") or "Exact", each["name"], each["value"]) for each in item.get("queryParams") or []
        ),
    )


def resolve(snapshot: Snapshot, klass: GatewayClass, route: Object, ref: Mapping[str, Any]) -> Backend:
    """A backendRef as a backend. Raises Refused. A pool's ``port`` is ignored, as on GKE."""
    group, kind = ref.get("group") or "", ref.get("kind") or "Service"
    namespace = ref.get("namespace") or route["metadata"]["namespace"]
    name = str(ref["name"])
    if (group, kind) not in (("", "Service"), (INFERENCE_GROUP, "InferencePool")):
        raise _lost(route, "InvalidKind", f"backendRef {group}/{kind} is not supported.")
    if namespace != route["metadata"]["namespace"] and not granted(snapshot, route, group, kind, namespace, name):
        why = f"{kind} {namespace}/{name} is not permitted by a ReferenceGrant."
        raise _lost(route, "RefNotPermitted", why)
    if kind == "InferencePool":
        return _pool(snapshot, klass, route, namespace, name)
    return _service(snapshot, route, namespace, name, ref.get("port"))


def _lost(route: Object, reason: str, why: str) -> Refused:
    cause = "reference-not-found: " if reason == "BackendNotFound" else ""
    return Refused(reason, f"error cause: {cause}{_misconfigured(route, why)}")


def _pool(snapshot: Snapshot, klass: GatewayClass, route: Object, namespace: str, name: str) -> Backend:
    if not klass.inference:
        why = f"InferencePool is not supported by GatewayClass {klass.name}."
        raise _lost(route, "InvalidKind", why)
    pool = snapshot.find("InferencePool", namespace, name)
    if pool is None:
        raise _lost(route, "BackendNotFound", f"Error GWCER102: inferencepools {namespace}/{name} not found")
    picker = pools.picker_of(pool)
    wanted = str((pool.get("spec", {}).get("endpointPickerRef") or {}).get("name", ""))
    service = snapshot.find("Service", namespace, wanted)
    if picker is None or service is None:
        why = "failed to validate inference pool extension ref: InferencePool extension service"
        raise _lost(route, "BackendNotFound", f"{why} {wanted} not found.")
    if picker.port not in [item.get("port") for item in service.get("spec", {}).get("ports") or []]:
        why = f"failed to validate inference pool extension ref: Service {wanted} has no port {picker.port}."
        raise _lost(route, "BackendNotFound", why)
    timeout, logging = policies.backend_settings(snapshot, "InferencePool", namespace, name)
    return Backend(
        "InferencePool",
        namespace,
        name,
        names.pool_service(namespace, name),
        POOL_PORT,
        timeout,
        logging,
        policies.health_check(snapshot, "InferencePool", namespace, name),
        picker,
    )


def _service(snapshot: Snapshot, route: Object, namespace: str, name: str, port: int | None) -> Backend:
    service = snapshot.find("Service", namespace, name)
    if service is None:
        raise _lost(route, "BackendNotFound", f"Error GWCER102: services {namespace}/{name} not found")
    if port is None or port not in [item.get("port") for item in service.get("spec", {}).get("ports") or []]:
        raise _lost(route, "BackendNotFound", f"port {port} is not found in Service {namespace}/{name}.")
    timeout, logging = policies.backend_settings(snapshot, "Service", namespace, name)
    check = policies.health_check(snapshot, "Service", namespace, name)
    return Backend("Service", namespace, name, name, int(port), timeout, logging, check)


def granted(snapshot: Snapshot, route: Object, group: str, kind: str, namespace: str, name: str) -> bool:
    """Whether a ReferenceGrant in ``namespace`` lets the route's namespace refer to the object."""
    for grant in snapshot.all("ReferenceGrant"):
        spec = grant.get("spec") or {}
        if grant["metadata"]["namespace"] != namespace:
            continue
        sources = any(
            item.get("group") == GATEWAY_GROUP
            and item.get("kind") == "HTTPRoute"
            and item.get("namespace") == route["metadata"]["namespace"]
            for item in spec.get("from") or []
        )
        ends = any(
            (item.get("group") or "") == group and item.get("kind") == kind and item.get("name") in (None, name)
            for item in spec.get("to") or []
        )
        if sources and ends:
            return True
    return False


def listeners_with_rules(gateway: Object, bindings: Iterable[Binding], live: set[str]) -> tuple[Listener, ...]:
    """Listeners of a Gateway with the rules that serve.

    A route whose pool has no pods yet does not serve, unless it did before (``live``: names of such routes).
    """
    serving = [item for item in bindings if item.rules and (not item.idle or item.name in live)]
    return tuple(
        Listener(
            spec["name"],
            int(spec["port"]),
            spec.get("hostname") or "",
            tuple(rule for item in serving if spec["name"] in item.listeners for rule in item.rules),
            spec.get("protocol") == "HTTPS",
        )
        for spec in gateway["spec"].get("listeners") or []
        if spec.get("protocol") in PROTOCOLS
    )


def describe_ref(ref: Mapping[str, Any]) -> str:
    """A parentRef in the words of the controller's events."""

    def quoted(value: Any) -> str:
        return "nil" if value is None else f'"{value}"'

    return (
        f"ParentRef {{Group: {quoted(ref.get('group') or GATEWAY_GROUP)}, "
        f"Kind: {quoted(ref.get('kind') or 'Gateway')}, "
        f"Namespace: {quoted(ref.get('namespace'))}, Name: {quoted(ref.get('name'))}, "
        f"SectionName: {quoted(ref.get('sectionName'))}, Port: {ref.get('port') or 'nil'}}}"
    )


def parent_conditions(binding: Binding, reconciled: bool, problem: str) -> list[dict[str, Any]]:
    """Conditions of one parent, without times. Reconciled is absent until something is known about it."""
    seen = generation(binding.route)
    if binding.accepted is not None:
        refused = binding.accepted
        return [
            condition("ResolvedRefs", True, "ResolvedRefs", generation=seen),
            condition("Accepted", False, refused.reason, refused.message, seen),
            condition("Reconciled", False, "ReconciliationFailed", refused.message, seen),
        ]
    resolved = binding.resolved
    found = [
        condition("ResolvedRefs", True, "ResolvedRefs", generation=seen)
        if resolved is None
        else condition("ResolvedRefs", False, resolved.reason, resolved.message, seen),
        condition("Accepted", True, "Accepted", generation=seen),
    ]
    why = problem or (resolved.message if resolved else "")
    if not why and binding.idle and not reconciled:
        why = f'error cause: no-endpoints: no pod matches the selector of InferencePool "{binding.idle}".'
    if why:
        found.append(condition("Reconciled", False, "ReconciliationFailed", why, seen))
    elif reconciled:
        found.append(condition("Reconciled", True, "ReconciliationSucceeded", generation=seen))
    return found


def parents_status(route: Object, mine: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]) -> list[Object]:
    """status.parents of a route: ours rewritten with their times kept, other controllers' as they are."""
    old = (route.get("status") or {}).get("parents") or []
    result = [item for item in old if item.get("controllerName") != CONTROLLER]
    for ref, wanted in mine:
        before: dict[str, Any] = next(
            (item for item in old if item.get("controllerName") == CONTROLLER and item.get("parentRef") == ref), {}
        )
        kept = before.get("conditions") or []
        if not any(item["type"] == "Reconciled" for item in wanted):
            kept_reconciled = [item for item in kept if item.get("type") == "Reconciled"]
            result.append(_parent(ref, merge(kept, wanted) + kept_reconciled))
        else:
            result.append(_parent(ref, merge(kept, wanted)))
    return result


def _parent(ref: dict[str, Any], conditions: list[dict[str, Any]]) -> Object:
    return {"parentRef": ref, "controllerName": CONTROLLER, "conditions": conditions}
