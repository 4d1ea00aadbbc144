"""The Gateway controller of one cluster: looks at everything, decides with the pure modules, writes the differences.

One thread does all the work. It wakes when an object, the project or an endpoint's health changes, and when a
modelled duration has passed. Nothing that matters is only in memory: a new controller picks up from the objects'
status and the compute API, so a restart or a duplicate pass changes nothing.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sandbox.gke import certificates, conditions, extensions, gateway, loadbalancer, parts, pools, routes
from sandbox.gke.compute import Place, World, place_of
from sandbox.gke.envoy import EnvoyFleet
from sandbox.gke.events import Recorder
from sandbox.gke.extensions import Verdict
from sandbox.gke.gateway import Durations, Progress, Step
from sandbox.gke.health import Prober
from sandbox.gke.kubeapi import PASSING, Admin, ApiError, Cache, Client, Object
from sandbox.gke.model import Configuration, GatewayClass, Problem
from sandbox.gke.names import Namer
from sandbox.gke.parts import Key, Part, Planner
from sandbox.gke.routes import Binding
from sandbox.gke.serving import Serving
from sandbox.gke.snapshot import GATEWAY, SERVICE, WATCHED, Snapshot, qualified
from sandbox.gke.statuses import StatusWriter
from sandbox.paths import LOAD_BALANCER_RANGE, Paths
from sandbox.timing import Timing

log = logging.getLogger(__name__)

_DEBOUNCE = 0.05
_IDLE = 10.0  # seconds after which to look again although nothing happened


@dataclass
class Pass:
    """What one look at the cluster collects."""

    snapshot: Snapshot
    planner: Planner
    zones: tuple[str, ...]
    now: float
    wanted: set[Key] = field(default_factory=set)
    live: dict[str, Configuration] = field(default_factory=dict)  # by Gateway's namespace/name
    kept: list[Configuration] = field(default_factory=list)  # live ones and those on the way
    addresses: dict[str, str] = field(default_factory=dict)
    bindings: list[tuple[Binding, bool, str]] = field(default_factory=list)  # binding, reconciled, problem
    extensions: list[Verdict] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    drained: list[Object] = field(default_factory=list)


class GatewayController:
    """Runs between ``start`` and ``stop``. ``wake`` makes it look at once."""

    def __init__(
        self,
        world: World,
        admin: Admin,
        cluster_key: str,
        timing: Timing,
        paths: Paths,
        envoy: EnvoyFleet,
        prober: Prober | None = None,
    ) -> None:
        self._world = world
        self._key = cluster_key
        self._timing = timing
        self._paths = paths
        self._client = Client(admin)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._cache = Cache(self._client, WATCHED, self._wake.set)
        self._events = Recorder(self._client)
        self._statuses = StatusWriter(self._client, self._cache, self._events)
        self._prober = prober or Prober(timing)
        self._prober.on_change(self._wake.set)
        self._serving = Serving(cluster_key, world, self._prober, envoy, self._client, self._cache)
        self._progress: dict[str, Progress] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"gateway-{cluster_key}")

    def start(self) -> None:
        self._cache.start()
        self._thread.start()

    def stop(self) -> None:
        """End the threads and stop serving. Parts of load balancers stay: orphans, as when a real cluster goes."""
        self._stop.set()
        self._wake.set()
        self._cache.stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)
        self._serving.stop()

    def wake(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        pause = 0.2
        while not self._stop.is_set():
            self._wake.wait(pause)
            self._stop.wait(_DEBOUNCE)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                pause = self.sync()
            except Exception as error:
                passing = isinstance(error, OSError) or (isinstance(error, ApiError) and error.code in PASSING)
                level = logging.DEBUG if passing else logging.ERROR
                log.log(level, "gateway controller of %s: %r", self._key, error, exc_info=level == logging.ERROR)
                pause = 1.0

    def sync(self) -> float:
        """One look at everything; seconds until the next one is due by itself."""
        if not self._cache.synced():
            return 0.2
        current = self._begin()
        if current is None:
            return 1.0
        self._shadow_services(current)
        for item in current.snapshot.all("Gateway"):
            klass = gateway.class_of(item)
            if klass is not None and item["metadata"].get("deletionTimestamp"):
                self._drain(current, item)
            elif klass is not None:
                self._gateway(current, item)
        self._statuses.write(current.snapshot, current.bindings)
        self._statuses.extensions(current.snapshot, current.extensions, current.live)
        self._serving.update(
            current.snapshot, current.planner, current.zones, current.live, current.kept, current.addresses
        )
        wanted = current.wanted | loadbalancer.groups_of(self._world.compute, current.wanted)
        loadbalancer.collect(self._world.compute, current.planner, wanted)
        loadbalancer.mark_reserved(self._world.compute)
        for item in current.drained:
            self._release(item)
        waits = [moment - current.now for moment in current.moments]
        return max(0.0, min([*waits, _IDLE]))

    def _begin(self) -> Pass | None:
        snapshot = Snapshot(self._cache.snapshot())
        system = snapshot.find("Namespace", "", "kube-system")
        with self._world.lock:
            cluster = self._world.clusters.get(self._key)
            place = place_of(self._key, cluster) if cluster is not None else None
        if system is None or place is None:
            return None
        zones = {zone for node in snapshot.all("Node") if (zone := snapshot.zone(node["metadata"]["name"]))}
        planner = Planner(place, Namer(system["metadata"]["uid"]))
        return Pass(snapshot, planner, tuple(sorted(zones or place.zones)), time.monotonic())

    def _shadow_services(self, current: Pass) -> None:
        for pool in current.snapshot.all("InferencePool"):
            if pool["metadata"].get("deletionTimestamp") or not pools.pool_ports(pool):
                continue
            wanted = pools.shadow_service(pool)
            meta = wanted["metadata"]
            if pools.service_differs(current.snapshot.find("Service", meta["namespace"], meta["name"]), wanted):
                try:
                    self._cache.observe("Service", self._client.apply(SERVICE, wanted))
                except ApiError as error:
                    if error.code not in PASSING:
                        raise

    # --- one Gateway -------------------------------------------------------------------------------------------

    def _gateway(self, current: Pass, item: Object) -> None:
        klass = gateway.class_of(item)
        assert klass is not None
        item = self._finalizer(item)
        bindings = routes.bind_all(current.snapshot, item, klass)
        before = self._progress.get(item["metadata"]["uid"])
        place = current.planner.place
        shown = certificates.of_gateway(current.snapshot, item, self._shared_certificate(klass.regional, place))
        served = before.routes_live() if before else set()
        asked, verdicts = extensions.of_gateway(current.snapshot, item, klass)
        current.extensions += verdicts
        config = gateway.configuration(item, klass, bindings, served, asked, shown.by_listener)
        problem = gateway.translate_problem(item, bindings, self._unfit_address(klass, place), shown.problem)
        cause = gateway.trigger(item, config, problem)
        problem = problem or self._gce_problem(current.planner, config, any(each.routes_pool() for each in bindings))
        if before is None:
            before = self._resume(current, item, cause, config, problem)
            config = gateway.configuration(item, klass, bindings, before.routes_live(), asked, shown.by_listener)
            cause = gateway.trigger(item, config, problem if problem and problem.stage == "translate" else None)
        done = gateway.step(before, cause, config, problem, current.now, self._durations())
        self._progress[item["metadata"]["uid"]] = done.progress
        address = self._parts(current, item, config, done)
        self._tell(item, before, done)
        self._statuses.gateway(item, done.progress, bindings, address)
        self._finish(current, item, done.progress, bindings, address)

    def _finish(self, current: Pass, item: Object, progress: Progress, bindings: list[Binding], address: str) -> None:
        name = qualified(item)
        if address:
            current.addresses[name] = address
        if progress.live is not None:
            current.live[name] = progress.live
        live = progress.routes_live()
        failing = progress.problem.message if progress.problem is not None else ""
        current.bindings += [(binding, binding.name in live, failing) for binding in bindings]
        moment = gateway.next_moment(progress, current.now)
        if moment is not None:
            current.moments.append(moment)

    def _durations(self) -> Durations:
        first = self._timing.seconds("gateway-programmed")
        return Durations(first, self._timing.seconds("gateway-update"), max(2.0, 3 * first))

    def _finalizer(self, item: Object) -> Object:
        meta = item["metadata"]
        present = meta.get("finalizers") or []
        if gateway.FINALIZER in present:
            return item
        change = {"metadata": {"finalizers": [*present, gateway.FINALIZER], "resourceVersion": meta["resourceVersion"]}}
        found = self._client.patch(GATEWAY, meta["name"], meta["namespace"], change)
        self._cache.observe("Gateway", found)
        return found

    def _unfit_address(self, klass: GatewayClass, place: Place) -> Callable[[str], str]:
        """Why a named address cannot be a Gateway's, "" where it can; of an absent one in the compute API's words."""
        scope = f"regions/{place.region}" if klass.regional else "global"
        kind = "INTERNAL" if klass.internal else "EXTERNAL"

        def unfit(name: str) -> str:
            found = self._world.compute.get(parts.collection("addresses", scope), scope, name)
            if found is None:
                where = f"projects/{place.project}/{scope}/addresses/{name}"
                return f"googleapi: Error 404: The resource '{where}' was not found, notFound"
            has = found.get("addressType") or "EXTERNAL"
            return "" if has == kind else f'address "{name}" is {has}, GatewayClass {klass.name} needs {kind}'

        return unfit

    def _shared_certificate(self, regional: bool, place: Place) -> certificates.FindShared:
        scope = f"regions/{place.region}" if regional else "global"
        return lambda name: self._world.compute.get(parts.collection("sslCertificates", scope), scope, name)

    def _gce_problem(self, planner: Planner, config: Configuration, routes_pool: bool) -> Problem | None:
        place = planner.place
        proxy = planner.gateway_name(config, "proxy")
        return gateway.gce_problem(
            config,
            pools=routes_pool,
            proxy_subnet=self._world.active_proxy_subnet(place.region, place.network) is not None,
            network_services=self._world.service_enabled("networkservices.googleapis.com"),
            target=place.url("targetHttpProxies", planner.scope(config), proxy),
        )

    def _resume(
        self, current: Pass, item: Object, cause: str, config: Configuration, problem: Problem | None
    ) -> Progress:
        named = parts.named(item["metadata"].get("annotations") or {})
        rules = [key for key in named if key[0] == "forwardingRules"]
        store = self._world.compute
        there = bool(rules) and all(store.get(parts.collection(key[0], key[1]), key[1], key[2]) for key in rules)
        return gateway.resumed(item, cause, config, problem, there)

    # --- its parts ---------------------------------------------------------------------------------------------

    def _parts(self, current: Pass, item: Object, config: Configuration, done: Step) -> str:
        """Make the load balancer's parts as far as they should be by now; the Gateway's address, if it has one."""
        progress, planner, store = done.progress, current.planner, self._world.compute
        notes = item["metadata"].get("annotations") or {}
        current.wanted |= parts.named(notes)
        configs = [each for each in (progress.live, progress.target) if each is not None]
        if not configs and progress.problem is not None and progress.problem.stage == "gce":
            configs = [config]
        current.kept += configs
        if not configs:
            return ""
        address = self._address(current, configs[-1]) if done.address else ""
        subnet = self._world.active_proxy_subnet(planner.place.region, planner.place.network) or {}
        # of two configurations the newer one decides about parts that both have
        proxy_range = str(subnet.get("ipCidrRange", ""))
        made = {
            part.key: part
            for each in configs
            for part in planner.parts(each, current.zones, address=address, proxy_range=proxy_range)
        }
        ordered = sorted(made.values(), key=lambda part: parts.ORDER.index(part.family))
        current.wanted |= set(made)
        loadbalancer.ensure(store, ordered)
        if progress.live is not None and progress.target is None:
            self._annotate(current, item, progress.live, ordered, done.arrived)
        return address

    def _address(self, current: Pass, config: Configuration) -> str:
        family, scope, name = current.planner.address_key(config)
        found = self._world.compute.get(parts.collection(family, scope), scope, name)
        if found is not None:
            return str(found["address"])
        return loadbalancer.free_address(
            self._world.compute,
            current.planner.place,
            internal=config.klass.internal,
            external_range=LOAD_BALANCER_RANGE,
            reserved=current.addresses.values(),
        )

    def _annotate(self, current: Pass, item: Object, live: Configuration, made: list[Part], arrived: bool) -> None:
        meta = item["metadata"]
        name_of = current.planner.gateway_name
        traffic = [name_of(live, "extension")] if live.routes_pools() else []
        routing = [name_of(live, "route-extension")] if live.extension is not None else []
        wanted = parts.annotation_values(current.planner.place, made, traffic, routing)
        have = meta.get("annotations") or {}
        change = {key: value for key, value in wanted.items() if have.get(key) != value}
        if arrived:
            change[gateway.LAST_RECONCILE] = conditions.now()
        if change:
            body = {"metadata": {"annotations": change}}
            self._cache.observe("Gateway", self._client.patch(GATEWAY, meta["name"], meta["namespace"], body))

    # --- words and the end -------------------------------------------------------------------------------------

    def _tell(self, item: Object, before: Progress, done: Step) -> None:
        """Events of one step, and the time of a failed reconciliation."""
        name = qualified(item)
        fresh = done.progress.handled != before.handled
        if done.synced and fresh:
            self._events.record(item, "UPDATE" if before.handled else "ADD", name)
        problem = done.progress.problem
        if done.failed and problem is not None:
            prefix = f'failed to translate Gateway "{name}": ' if problem.stage == "translate" else ""
            self._events.record(item, "SYNC", prefix + problem.message, warning=True)
            if fresh:
                meta = item["metadata"]
                body = {"metadata": {"annotations": {gateway.LAST_RECONCILE: conditions.now()}}}
                self._cache.observe("Gateway", self._client.patch(GATEWAY, meta["name"], meta["namespace"], body))
        if done.arrived:
            self._events.record(item, "SYNC", f"SYNC on {name} was a success")

    def _drain(self, current: Pass, item: Object) -> None:
        """A Gateway that is being deleted serves no more; its parts go after the modelled time, then itself."""
        meta = item["metadata"]
        self._progress.pop(meta["uid"], None)
        if gateway.FINALIZER not in (meta.get("finalizers") or []):
            return
        begun = datetime.datetime.fromisoformat(meta["deletionTimestamp"]).timestamp()
        left = begun + self._timing.seconds("gateway-drain") - time.time()
        if left <= 0:
            current.drained.append(item)
            return
        current.wanted |= parts.named(meta.get("annotations") or {})
        current.moments.append(current.now + left)

    def _release(self, item: Object) -> None:
        meta = item["metadata"]
        rest = [name for name in meta.get("finalizers") or [] if name != gateway.FINALIZER]
        change = {"metadata": {"finalizers": rest or None, "resourceVersion": meta["resourceVersion"]}}
        try:
            self._client.patch(GATEWAY, meta["name"], meta["namespace"], change)
        except ApiError as error:
            if error.code not in PASSING:
                raise
            self._wake.set()
