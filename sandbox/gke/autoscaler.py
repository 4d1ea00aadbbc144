"""The cluster autoscaler: buys nodes for pods that find none, gives idle nodes back. One thread a cluster.

Decisions are in ``scaleplan.py``; here is what it takes to carry them out: watching, events, taints, evictions, time.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sandbox.gcp.operations import OperationFailed
from sandbox.gcp.scaling import Busy, PoolScaler, ScalingPool
from sandbox.gke import scaleplan, scheduling
from sandbox.gke.events import Recorder
from sandbox.gke.kubeapi import PASSING, Admin, ApiError, Cache, Client, Object
from sandbox.gke.scaleplan import Growth, Idle
from sandbox.gke.snapshot import NODE, POD
from sandbox.timing import Timing

log = logging.getLogger(__name__)

SOURCE = "cluster-autoscaler"
# This machine needs real seconds from a node to its first pod, whatever the speed: an idle time below that would take
# nodes away from those who are about to use them.
SHORTEST_IDLE = 120.0
SHORTEST_BACKOFF = 10.0
# The real one looks every ten seconds: a pod that waits a moment for its predecessor's GPU buys nothing.
SHORTEST_WAIT = 3.0
REPEAT = 60.0  # seconds after which a refusal is told again
DRAIN = 120.0  # seconds that pods get to end before their node goes all the same
STARTING = "node.kubernetes.io/"  # taints that Kubernetes itself puts on a node that is not ready yet
_TICK = 1.0


@dataclass
class Memory:
    """What the autoscaler keeps between two looks. Times are of its clock."""

    waiting_since: dict[str, float] = field(default_factory=dict)  # pod's uid -> when it was first seen to wait
    idle_since: dict[str, float] = field(default_factory=dict)
    coming: dict[str, int] = field(default_factory=dict)  # nodes under way, by pool
    backoff: dict[tuple[str, str], float] = field(default_factory=dict)  # (pool, zone) -> until
    told: dict[tuple[str, str], float] = field(default_factory=dict)  # (pod's uid, refusal) -> when
    grown_at: float = float("-inf")
    leaving: set[str] = field(default_factory=set)


class Autoscaler:
    """Runs between ``start`` and ``stop``."""

    def __init__(
        self,
        key: str,
        admin: Admin,
        scaler: PoolScaler,
        timing: Timing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = key
        self._scaler = scaler
        self._timing = timing
        self._clock = clock
        self._client = Client(admin)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._cache = Cache(self._client, (POD, NODE), self._wake.set)
        self._events = Recorder(self._client, SOURCE)
        self._memory = Memory()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"autoscaler-{key}")

    def start(self) -> None:
        self._cache.start()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._cache.stop()

    def occupied(self) -> set[str]:
        """Names of the nodes that pods run on which no DaemonSet put there."""
        pods = self._cache.snapshot()["Pod"].values()
        return {pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName") and scheduling.counts(pod)}

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(_TICK)
            self._stop.wait(0.2)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self.sync()
            except Exception as error:
                passing = isinstance(error, OSError) or (isinstance(error, ApiError) and error.code in PASSING)
                level = logging.DEBUG if passing else logging.ERROR
                log.log(level, "autoscaler of %s: %r", self._key, error, exc_info=level == logging.ERROR)
                self._stop.wait(1.0)

    def sync(self) -> None:
        """One look: grow where pods wait, else see what is idle."""
        if not self._cache.synced():
            return
        pools = self._scaler.pools(self._key)
        if not pools:
            self._memory.idle_since.clear()
            return
        objects = self._cache.snapshot()
        pods, items = list(objects["Pod"].values()), {name: item for (_, name), item in objects["Node"].items()}
        waiting = [pod for pod in pods if scheduling.unschedulable(pod) and scheduling.counts(pod)]
        if patient := self._patient(waiting):
            self._grow(patient, pods, items, pools)
        self._shrink(pods, items, pools, bool(waiting))

    # --- growing -----------------------------------------------------------------------------------------------

    def _patient(self, waiting: list[Object]) -> list[Object]:
        """Those that have waited for as long as the autoscaler takes to notice."""
        now, since = self._clock(), self._memory.waiting_since
        by_uid = {str(pod["metadata"].get("uid")): pod for pod in waiting}
        self._memory.waiting_since = {uid: since.get(uid, now) for uid in by_uid}
        least = max(self._timing.seconds("autoscaler-scan"), SHORTEST_WAIT)
        return [by_uid[uid] for uid, begun in self._memory.waiting_since.items() if now - begun >= least]

    def _grow(
        self, waiting: list[Object], pods: list[Object], items: dict[str, Object], pools: list[ScalingPool]
    ) -> None:
        now = self._clock()
        nodes = [scheduling.node_of(item, pods) for item in items.values() if _takes_pods(item)]
        with self._lock:
            self._memory.backoff = {place: until for place, until in self._memory.backoff.items() if until > now}
            coming, backing_off = dict(self._memory.coming), frozenset(self._memory.backoff)
        # Nodes that are there but not Ready yet are under way too.
        for pool in pools:
            late = sum(not (name in items and _settled(items[name], pool)) for name in pool.nodes)
            coming[pool.name] = max(coming.get(pool.name, 0), late)
        plan = scaleplan.plan_growth(waiting, nodes, pools, coming, backing_off)
        for growth in plan.growths:
            with self._lock:
                self._memory.coming[growth.pool] = self._memory.coming.get(growth.pool, 0) + growth.count
            for pod in growth.pods:
                self._events.record(pod, "TriggeredScaleUp", f"pod triggered scale-up: [{{{growth.say()}}}]")
            threading.Thread(target=self._carry_out, args=(growth,), daemon=True, name="scale-up").start()
        for pod, why in plan.refused:
            self._refuse(pod, why, now)

    def _refuse(self, pod: Object, why: str, now: float) -> None:
        about = (str(pod["metadata"].get("uid")), why)
        if now - self._memory.told.get(about, float("-inf")) >= REPEAT:
            self._memory.told = {key: when for key, when in self._memory.told.items() if now - when < REPEAT}
            self._memory.told[about] = now
            self._events.record(pod, "NotTriggerScaleUp", why)

    def _carry_out(self, growth: Growth) -> None:
        log.info("%s: %s", self._key, growth.say())
        try:
            self._scaler.grow(self._key, growth.pool, growth.zone, growth.count)
        except OperationFailed as failure:
            self._failed(growth, failure)
        except (Busy, KeyError):
            log.info("%s: pool %s cannot grow now", self._key, growth.pool)
        finally:
            with self._lock:
                self._memory.coming[growth.pool] -= growth.count
                self._memory.grown_at = self._clock()
            self._wake.set()

    def _failed(self, growth: Growth, failure: OperationFailed) -> None:
        condition = failure.extra.get("condition")
        reasons = {"GCE_STOCKOUT": "GCE out of resources", "GCE_QUOTA_EXCEEDED": "GCE quota exceeded"}
        why = reasons.get(str(condition), "Internal error")
        log.info("%s: %s failed: %s", self._key, growth.say(), failure)
        pause = max(self._timing.seconds("autoscaler-backoff"), SHORTEST_BACKOFF)
        with self._lock:
            self._memory.backoff[growth.pool, growth.zone] = self._clock() + pause
        message = (
            f"Node scale up in zones {growth.zone} associated with this pod failed: {why}. "
            "Pod is at risk of not being scheduled."
        )
        for pod in growth.pods:
            self._events.record(pod, "FailedScaleUp", message, warning=True)

    # --- giving back -------------------------------------------------------------------------------------------

    def _shrink(self, pods: list[Object], items: dict[str, Object], pools: list[ScalingPool], waiting: bool) -> None:
        now = self._clock()
        ready = {name: item for name, item in items.items() if _takes_pods(item)}
        idle = {found.name: found for found in scaleplan.idle_nodes(ready, pods, pools)}
        with self._lock:
            since = self._memory.idle_since
            self._memory.idle_since = {name: since.get(name, now) for name in idle}
            delayed = now - self._memory.grown_at < self._timing.seconds("autoscaler-delay-after-add")
            busy = delayed or waiting or any(self._memory.coming.values()) or bool(self._memory.leaving)
            if busy:
                return
            patience = max(self._timing.seconds("autoscaler-unneeded"), SHORTEST_IDLE)
            due = [idle[name] for name, begun in self._memory.idle_since.items() if now - begun >= patience]
            # Empty nodes go together, within the pool's minimum; of the others one at a time.
            chosen = _within_minimum([found for found in due if found.empty], pools) or due[:1]
            self._memory.leaving |= {found.name for found in chosen}
        for found in chosen:
            threading.Thread(target=self._give_back, args=(found, ready[found.name]), daemon=True).start()

    def _give_back(self, idle: Idle, node: Object) -> None:
        log.info("%s: node %s of pool %s is not needed", self._key, idle.name, idle.pool)
        try:
            self._mark(node)
            for pod in idle.pods:
                self._events.record(pod, "ScaleDown", "deleting pod for node scale down")
                self._evict(pod)
            if self._drained(idle.name) and self._scaler.shrink(self._key, idle.pool, idle.name):
                self._events.record(node, "ScaleDown", "node removed by cluster autoscaler")
            else:
                self._unmark(idle.name)
        except (Busy, KeyError):
            self._unmark(idle.name)
        except Exception as error:
            log.warning("%s: node %s stays: %r", self._key, idle.name, error)
            self._unmark(idle.name)
        finally:
            with self._lock:
                self._memory.leaving.discard(idle.name)
                self._memory.idle_since.pop(idle.name, None)
            self._wake.set()

    def _mark(self, node: Object) -> None:
        """The taint that keeps new pods away."""
        name = node["metadata"]["name"]
        found = self._client.get(NODE, name) or node
        taint = {"key": scaleplan.TO_BE_DELETED, "value": str(int(time.time())), "effect": "NoSchedule"}
        taints = [*((found.get("spec") or {}).get("taints") or []), taint]
        self._client.patch(NODE, name, None, {"spec": {"taints": taints}})
        self._events.record(node, "ScaleDown", "marked the node as toBeDeleted/unschedulable")

    def _unmark(self, name: str) -> None:
        with contextlib.suppress(Exception):  # the node may be gone, or its cluster
            found = self._client.get(NODE, name)
            if found is not None:
                taints = [
                    taint for taint in found["spec"].get("taints") or [] if taint["key"] != scaleplan.TO_BE_DELETED
                ]
                self._client.patch(NODE, name, None, {"spec": {"taints": taints or None}})

    def _evict(self, pod: Object) -> None:
        """Ask for a pod's eviction; a disruption budget may refuse it, then the node stays."""
        meta = pod["metadata"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        }
        with contextlib.suppress(_Gone):
            try:
                self._client.call("POST", POD.path(meta["namespace"], meta["name"], "eviction"), body=body)
            except ApiError as error:
                if error.code == 404:
                    raise _Gone from error
                raise

    def _drained(self, node: str) -> bool:
        """Wait until nothing runs there any more; False where something stays."""
        deadline = self._clock() + DRAIN
        while not self._stop.is_set() and self._clock() < deadline:
            if node not in self.occupied():
                return True
            self._stop.wait(0.5)
        return False


class _Gone(Exception):
    """The pod has ended by itself."""


def _takes_pods(item: Object) -> bool:
    """Whether a Node is Ready, without the taints of one that starts, and nobody has closed it."""
    if (item.get("spec") or {}).get("unschedulable") or _marked(item):
        return False
    if any(str(taint.get("key")).startswith(STARTING) for taint in (item.get("spec") or {}).get("taints") or []):
        return False
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _settled(item: Object, pool: ScalingPool) -> bool:
    """Whether a Node is all that it will be: no new one is to be expected from it any more."""
    if _marked(item) or (item.get("spec") or {}).get("unschedulable"):
        return True
    allocatable = (item.get("status") or {}).get("allocatable") or {}
    return _takes_pods(item) and (not pool.template.gpus or scheduling.GPU in allocatable)


def _marked(item: Object) -> bool:
    taints: Iterable[dict[str, Any]] = (item.get("spec") or {}).get("taints") or []
    return any(taint.get("key") == scaleplan.TO_BE_DELETED for taint in taints)


def _within_minimum(idle: list[Idle], pools: list[ScalingPool]) -> list[Idle]:
    """As many of the nodes as may go together without a pool falling below its minimum."""
    chosen: list[Idle] = []
    by_name = {pool.name: pool for pool in pools}
    taken: dict[tuple[str, str], int] = {}
    for found in idle:
        pool = by_name[found.pool]
        zone = pool.nodes[found.name]
        place = (pool.name, "" if pool.total_high else zone)
        if taken.get(place, 0) < pool.spare(zone):
            taken[place] = taken.get(place, 0) + 1
            chosen.append(found)
    return chosen


# --- all clusters ------------------------------------------------------------------------------------------------


class Clusters(Protocol):
    """The part of the world that is followed."""

    @property
    def lock(self) -> contextlib.AbstractContextManager[Any]: ...

    @property
    def clusters(self) -> dict[str, dict[str, Any]]: ...

    def on_change(self, callback: Callable[[], None]) -> None: ...


class Autoscalers:
    """One autoscaler for every cluster that runs."""

    def __init__(self, world: Clusters, backend: Any, scaler: PoolScaler, timing: Timing) -> None:
        self._world, self._backend, self._scaler, self._timing = world, backend, scaler, timing
        self._running: dict[str, tuple[str, Autoscaler]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="autoscalers")
        world.on_change(self._wake.set)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._scaler.close()
        with self._lock:
            for _identity, autoscaler in self._running.values():
                autoscaler.stop()
            self._running.clear()

    def occupied(self, key: str) -> set[str]:
        """Nodes of a cluster that something runs on; none where nobody looks at it yet."""
        with self._lock:
            found = self._running.get(key)
        return found[1].occupied() if found is not None else set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(2.0)
            self._stop.wait(0.05)
            self._wake.clear()
            if not self._stop.is_set():
                try:
                    self.sync()
                except Exception:
                    log.exception("autoscalers")

    def sync(self) -> None:
        """Follow the clusters: a cluster that was deleted and made again has another certificate authority."""
        with self._world.lock:
            wanted = {key for key, item in self._world.clusters.items() if item.get("status") == "RUNNING"}
            known = set(self._world.clusters)
        with self._lock:
            for key in [key for key in self._running if key not in known]:
                self._running.pop(key)[1].stop()
            for key in wanted:
                self._one(key)

    def _one(self, key: str) -> None:
        try:
            admin: Admin = self._backend.admin(key)
            identity = f"{admin.server} {admin.ca_file.read_text(encoding='utf-8')}"
        except (KeyError, OSError):
            return
        running = self._running.get(key)
        if running is not None and running[0] == identity:
            return
        if running is not None:
            running[1].stop()
        autoscaler = Autoscaler(key, admin, self._scaler, self._timing)
        autoscaler.start()
        self._running[key] = identity, autoscaler


def make_autoscalers(emulator: Any, backend: Any, timing: Timing) -> Autoscalers:
    """The autoscalers of a sandbox, running; the daemon calls this once and ``stop`` at its end."""
    autoscalers = Autoscalers(emulator.world, backend, PoolScaler(emulator), timing)
    emulator.fleet.occupied = autoscalers.occupied
    autoscalers.start()
    return autoscalers
