"""GCPRoutingExtensions: the service that a Gateway asks before it chooses a route. Pure decisions.

A load balancer takes one routing extension with one callout a chain; the first chain that matches is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.gke import policies
from sandbox.gke.conditions import condition, merge
from sandbox.gke.kubeapi import Object
from sandbox.gke.model import CONTROLLER, Extension, GatewayClass
from sandbox.gke.snapshot import GATEWAY_GROUP, Snapshot, age_key, generation, qualified

KIND = "GCPRoutingExtension"
_REQUEST = {"RequestHeaders", "RequestBody", "RequestTrailers"}


@dataclass(frozen=True)
class Verdict:
    """What becomes of one extension at one Gateway. ``reason`` empty: it is used."""

    item: Object
    gateway: tuple[str, str]
    reason: str = ""
    message: str = ""


def of_gateway(snapshot: Snapshot, gateway: Object, klass: GatewayClass) -> tuple[Extension | None, list[Verdict]]:
    """The extension that a Gateway uses, and the verdict on every one that names it. The oldest good one wins."""
    meta = gateway["metadata"]
    key = meta["namespace"], meta["name"]
    used: Extension | None = None
    verdicts: list[Verdict] = []
    winner = ""
    for item in sorted(snapshot.all(KIND), key=age_key):
        if item["metadata"].get("deletionTimestamp") or key not in targets(item):
            continue
        if used is not None:
            why = f"conflicted with {KIND} {winner} of higher precedence"
            verdicts.append(Verdict(item, key, "Conflicted", why))
            continue
        found, reason, message = _resolve(snapshot, klass, item)
        if found is not None:
            used, winner = found, qualified(item)
        verdicts.append(Verdict(item, key, reason, message))
    return used, verdicts


def targets(item: Object) -> list[tuple[str, str]]:
    """Gateways that an extension names: always of its own namespace."""
    refs = (item.get("spec") or {}).get("targetRefs") or []
    return [
        (item["metadata"]["namespace"], str(ref.get("name")))
        for ref in refs
        if ref.get("group") == GATEWAY_GROUP and ref.get("kind") == "Gateway"
    ]


def lost(snapshot: Snapshot, item: Object) -> list[Verdict]:
    """Verdicts on the Gateways that an extension names and that do not exist."""
    missing = [key for key in targets(item) if snapshot.find("Gateway", *key) is None]
    return [
        Verdict(item, key, "TargetNotFound", f"Gateway {key[0]}/{key[1]} not found")
        for key in missing
        if not item["metadata"].get("deletionTimestamp")
    ]


def _resolve(snapshot: Snapshot, klass: GatewayClass, item: Object) -> tuple[Extension | None, str, str]:
    if not klass.inference:
        return None, "Unsupported", f"{KIND} is not supported by GatewayClass {klass.name}"
    chain = item["spec"]["extensionChains"][0]
    callout, why = _callout(chain)
    if callout is None:
        return None, "Invalid", why
    ref = callout["backendRef"]
    namespace, name, port = item["metadata"]["namespace"], str(ref["name"]), int(ref["port"])
    service = snapshot.find("Service", namespace, name)
    if service is None:
        return None, "BackendNotFound", f"Service {namespace}/{name} not found"
    if port not in [entry.get("port") for entry in service.get("spec", {}).get("ports") or []]:
        return None, "BackendNotFound", f"Service {namespace}/{name} has no port {port}"
    events = set(callout.get("supportedEvents") or ["RequestHeaders"])
    body = str(callout.get("requestBodySendMode") or "Streamed") if "RequestBody" in events else ""
    found = Extension(
        name=qualified(item),
        namespace=namespace,
        service=name,
        port=port,
        authority=str(callout.get("authority") or ""),
        body=body,
        trailers="RequestTrailers" in events,
        fail_open=bool(callout.get("failOpen")),
        health=policies.health_check(snapshot, "Service", namespace, name),
    )
    return found, "", ""


def _callout(chain: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """The one callout of a chain, or why it is refused."""
    name = chain.get("name")
    if chain.get("matchCondition"):
        return None, f"chain {name}: matchCondition is not modelled by the sandbox"
    if len(chain["extensions"]) != 1:
        return None, f"chain {name}: a {KIND} takes one extension a chain"
    callout: Mapping[str, Any] = chain["extensions"][0]
    if "backendRef" not in callout:
        return None, f"extension {callout.get('name')}: googleAPIServiceName is not supported by a {KIND}"
    wrong = set(callout.get("supportedEvents") or ()) - _REQUEST
    if wrong:
        return None, f"extension {callout.get('name')}: event {min(wrong)} is not supported by a {KIND}"
    return callout, ""


def ancestors(item: Object, verdicts: Iterable[Verdict], serving: Mapping[tuple[str, str], str]) -> list[Object]:
    """status.ancestors of an extension, other controllers' entries kept.

    ``serving``: the extension that each Gateway's load balancer asks by now. A good extension gets its entry when it
    does; until then it keeps the one it had.
    """
    old = (item.get("status") or {}).get("ancestors") or []
    result = [entry for entry in old if entry.get("controllerName") != CONTROLLER]
    for verdict in sorted(verdicts, key=lambda each: each.gateway):
        namespace, name = verdict.gateway
        ref = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "name": name}
        before: Object = next(
            (entry for entry in old if entry.get("controllerName") == CONTROLLER and entry.get("ancestorRef") == ref),
            {},
        )
        done = not verdict.reason
        if done and serving.get(verdict.gateway) != qualified(item):
            result += [before] if before else []
            continue
        wanted = condition("Attached", done, verdict.reason or "Attached", verdict.message, generation(item))
        conditions = merge(before.get("conditions") or [], [wanted])
        result.append({"ancestorRef": ref, "controllerName": CONTROLLER, "conditions": conditions})
    return result
