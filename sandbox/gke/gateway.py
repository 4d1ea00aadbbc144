"""Gateways: whether one can be translated, how far its load balancer is, and what its status says. Pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sandbox.gke.conditions import EPOCH, Condition, condition, merge
from sandbox.gke.kubeapi import Object
from sandbox.gke.model import CLASSES, Certificate, Configuration, Extension, GatewayClass, Problem, canonical
from sandbox.gke.routes import PROTOCOLS, Binding, listeners_with_rules
from sandbox.gke.snapshot import GATEWAY_GROUP, generation, qualified

FINALIZER = "gateway.finalizer.networking.gke.io"
LAST_RECONCILE = "networking.gke.io/last-reconcile-time"
HEALTHY = "networking.gke.io/GatewayHealthy"
NO_PROXY_SUBNET = "An active proxy-only subnetwork is required in the same region and VPC as the forwarding rule."
NO_NETWORK_SERVICES = "NetworkServices API is not enabled"
READY_NOTE = (
    'The OSS Gateway API has altered the "Ready" condition semantics and reserved it for future use.  '
    'GKE Gateway will stop emitting it in a future update, use "Programmed" instead.'
)
DETACHED_NOTE = "The Detached condition has been deprecated by the OSS API, use Accepted instead."
_ADDRESS_SHARE = 0.4  # the address is known well before the load balancer serves


def class_of(gateway: Object) -> GatewayClass | None:
    """Our class of a Gateway, or None where it is somebody else's."""
    return CLASSES.get(gateway["spec"].get("gatewayClassName", ""))


# --- translation -------------------------------------------------------------------------------------------------


def configuration(
    gateway: Object,
    klass: GatewayClass,
    bindings: Iterable[Binding],
    live: set[str],
    extension: Extension | None = None,
    certificates: Mapping[str, tuple[Certificate, ...]] | None = None,
) -> Configuration:
    """What the Gateway asks of its load balancer. ``live``: routes that serve already; certificates: by listener."""
    meta = gateway["metadata"]
    addresses = gateway["spec"].get("addresses") or []
    named = [item["value"] for item in addresses if item.get("type") == "NamedAddress"]
    shown = certificates or {}
    listeners = tuple(
        replace(item, certificates=shown.get(item.name, ())) for item in listeners_with_rules(gateway, bindings, live)
    )
    address = named[0] if named else ""
    return Configuration(meta["namespace"], meta["name"], klass, listeners, address, extension)


def translate_problem(
    gateway: Object,
    bindings: Iterable[Binding],
    unfit_address: Callable[[str], str],
    certificate: Problem | None = None,
) -> Problem | None:
    """Why the objects cannot be translated: the Gateway's own fault, its certificates', then that of its oldest route.

    ``unfit_address``: why a named address cannot be had, "" where it can.
    """
    why = _invalid(gateway, unfit_address)
    if why is not None:
        reason, text = why
        message = f'Error GWCER106: Gateway "{qualified(gateway)}" is invalid, err: {text}.'
        return Problem("translate", message, reason)
    if certificate is not None:
        return certificate
    for binding in bindings:
        if binding.resolved is not None and "GWCER" in binding.resolved.message:
            message = binding.resolved.message
            return Problem("translate", message[message.index("Error GWCER") :], "RouteInvalid")
    return None


def _invalid(gateway: Object, unfit_address: Callable[[str], str]) -> tuple[str, str] | None:
    spec = gateway["spec"]
    for item in spec.get("addresses") or []:
        kind = item.get("type") or "IPAddress"
        if kind != "NamedAddress":
            return "UnsupportedAddress", f'unsupported address type "{kind}", only "NamedAddress" is supported'
        unfit = unfit_address(item["value"])
        if unfit:
            return "UnsupportedAddress", unfit
    if len(spec.get("addresses") or []) > 1:
        return "UnsupportedAddress", "only one address is supported"
    for listener in spec.get("listeners") or []:
        if listener.get("protocol") not in PROTOCOLS:
            word = listener.get("protocol")
            return "UnsupportedProtocol", f'protocol "{word}" of listener "{listener["name"]}" is not supported'
    return None


def gce_problem(
    config: Configuration, *, pools: bool, proxy_subnet: bool, network_services: bool, target: str
) -> Problem | None:
    """What Google Cloud refuses: the forwarding rule without a proxy-only subnet, the extension without its API.

    ``pools``: whether an InferencePool is routed (its picker becomes a traffic extension), with pods or without. A
    routing extension needs the same API.
    """
    if config.klass.regional and not proxy_subnet:
        text = f"Insert: Invalid value for field 'resource.target': '{target}'. {NO_PROXY_SUBNET}"
        return Problem("gce", f"generic::invalid_argument: error ensuring load balancer: {text}")
    if (pools or config.extension is not None) and not network_services:
        return Problem("gce", f"generic::failed_precondition: error ensuring load balancer: {NO_NETWORK_SERVICES}")
    return None


def trigger(gateway: Object, config: Configuration, problem: Problem | None) -> str:
    """Everything whose change makes the controller sync: the spec, annotations of others, the configuration."""
    notes = gateway["metadata"].get("annotations") or {}
    foreign = {key: value for key, value in notes.items() if not key.startswith("networking.gke.io/")}
    translate = problem.message if problem and problem.stage == "translate" else ""
    return canonical([gateway["spec"], foreign, repr(config), translate])


# --- progress ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Durations:
    """Seconds in this sandbox: first programming, an update, and the wait before a failed sync is tried again."""

    programmed: float
    update: float
    retry: float


@dataclass(frozen=True)
class Progress:
    """How far one Gateway is. ``live`` is what serves, ``target`` what is being programmed."""

    handled: str = ""
    live: Configuration | None = None
    target: Configuration | None = None
    problem: Problem | None = None
    address_at: float = 0.0
    due: float = 0.0
    retry_at: float = 0.0

    @property
    def programmed(self) -> bool:
        return self.live is not None and self.problem is None

    def routes_live(self) -> set[str]:
        """Routes that serve."""
        listeners = self.live.listeners if self.live else ()
        return {rule.route for listener in listeners for rule in listener.rules}


@dataclass(frozen=True)
class Step:
    """Outcome of one look at a Gateway. ``synced``: a sync began; ``arrived``: its target serves from now on."""

    progress: Progress
    synced: bool = False
    failed: bool = False
    arrived: bool = False
    address: bool = False


def step(
    before: Progress, cause: str, config: Configuration, problem: Problem | None, now: float, seconds: Durations
) -> Step:
    """One look: start a sync where its cause is new or a failed one is due again; finish one whose time has come."""
    progress = before
    synced = cause != before.handled or (before.problem is not None and now >= before.retry_at)
    if synced:
        if problem is not None:
            failed = replace(before, handled=cause, problem=problem, target=None, retry_at=now + seconds.retry)
            return Step(failed, synced=True, failed=True, address=before.live is not None)
        wait = seconds.programmed
        if before.live is not None:
            wait = seconds.update if config != before.live else 0.0
        pending = before.target is not None and before.problem is None
        due = max(now, before.due) if pending and before.live is None else now + wait
        soon = before.address_at if pending and before.live is None else now + wait * _ADDRESS_SHARE
        progress = replace(
            before, handled=cause, target=config, problem=None, due=due, address_at=soon if before.live is None else now
        )
    if progress.target is not None and now >= progress.due:
        return Step(replace(progress, live=progress.target, target=None), synced, arrived=True, address=True)
    address = progress.live is not None or (progress.target is not None and now >= progress.address_at)
    return Step(progress, synced, address=address)


def next_moment(progress: Progress, now: float) -> float | None:
    """When to look again, or None where only a change matters."""
    if progress.problem is not None:
        return progress.retry_at
    if progress.target is None:
        return None
    return progress.address_at if now < progress.address_at else progress.due


def resumed(gateway: Object, cause: str, config: Configuration, problem: Problem | None, parts_there: bool) -> Progress:
    """Where a controller that has just started picks up: a Gateway that says Programmed, and is, serves already."""
    status = gateway.get("status") or {}
    states = {item["type"]: item for item in status.get("conditions") or []}
    done = states.get("Programmed") or {}
    if done.get("status") != "True" or not status.get("addresses") or not parts_there or problem is not None:
        return Progress()
    if done.get("observedGeneration") != generation(gateway):
        return Progress(live=config)
    return Progress(handled=cause, live=config)


# --- status ------------------------------------------------------------------------------------------------------


def conditions_of(gateway: Object, progress: Progress) -> list[Condition]:
    """status.conditions, without kept times, in GKE's order."""
    seen = generation(gateway)
    problem = progress.problem
    if problem is not None:
        message = problem.message if problem.stage == "translate" else f"error cause: gce: {problem.message}"
        return [
            condition("Scheduled", True, "Scheduled", generation=seen),
            condition("Accepted", True, "Accepted", generation=seen),
            condition("Programmed", False, "Invalid", message, seen),
            condition("Ready", False, "NotReady", READY_NOTE, seen),
            condition(HEALTHY, False, "Error", f"Gateway: Invalid : {message}", seen),
        ]
    if progress.live is None:
        waiting = "Waiting for controller"
        return [
            {**condition("Scheduled", False, "NotReconciled", waiting, seen), "lastTransitionTime": EPOCH},
            {**condition("Accepted", "Unknown", "Pending", waiting, seen), "lastTransitionTime": EPOCH},
            {**condition("Programmed", "Unknown", "Pending", waiting, seen), "lastTransitionTime": EPOCH},
        ]
    return [
        condition("Scheduled", True, "Scheduled", generation=seen),
        condition("Accepted", True, "Accepted", generation=seen),
        condition("Programmed", True, "Programmed", generation=seen),
        condition("Ready", True, "Ready", READY_NOTE, seen),
        condition(HEALTHY, True, "Healthy", generation=seen),
    ]


def _listener_conditions(listener: Mapping[str, Any], progress: Progress, seen: int) -> list[Condition]:
    problem = progress.problem
    own = problem is not None and problem.reason.startswith("Unsupported")
    if problem is not None and own:
        return [
            condition("Detached", True, problem.reason, DETACHED_NOTE, seen),
            condition("Accepted", False, problem.reason, problem.message, seen),
        ]
    done = progress.programmed
    found = [condition("ResolvedRefs", True, "ResolvedRefs", generation=seen)]
    if problem is not None and problem.reason == "InvalidCertificateRef" and f'"{listener["name"]}"' in problem.message:
        found = [condition("ResolvedRefs", False, problem.reason, problem.message, seen)]
    if progress.live is None and problem is None:
        return found
    return [
        *found,
        condition("Accepted", True, "Accepted", generation=seen),
        condition("Programmed", done, "Programmed" if done else "Invalid", generation=seen),
        condition("Ready", done, "Ready" if done else "NotReady", READY_NOTE, seen),
        condition("Detached", False, "Accepted", DETACHED_NOTE, seen),
    ]


def status(gateway: Object, progress: Progress, bindings: Iterable[Binding], address: str) -> Object:
    """The Gateway's whole status. ``address`` empty: none yet."""
    old = gateway.get("status") or {}
    known = {item.get("name"): item for item in old.get("listeners") or []}
    accepted = [item for item in bindings if item.accepted is None]
    listeners = []
    for listener in gateway["spec"].get("listeners") or []:
        name = listener["name"]
        before = known.get(name) or {}
        wanted = _listener_conditions(listener, progress, generation(gateway))
        listeners.append(
            {
                "name": name,
                "supportedKinds": [{"group": GATEWAY_GROUP, "kind": "HTTPRoute"}],
                "attachedRoutes": len({item.name for item in accepted if name in item.listeners}),
                "conditions": merge(before.get("conditions") or [], wanted),
            }
        )
    return {
        "addresses": [{"type": "IPAddress", "value": address}] if address else [],
        "conditions": merge(old.get("conditions") or [], conditions_of(gateway, progress)),
        "listeners": listeners,
    }
