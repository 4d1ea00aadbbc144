"""What the node-pool autoscaler asks of Google: pools that scale, one more node in a zone, a chosen node gone.

An autoscaler's work is no operation of the cluster: it changes the target of an instance group and waits for the group.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.gcp import quotas
from sandbox.gcp.backend import NodeSpec
from sandbox.gcp.catalog import region_of
from sandbox.gcp.container_shape import group_name, new_etag
from sandbox.gcp.nodes import group_error, node_spec, pool_nodes, usage, zone_of
from sandbox.gcp.operations import OperationFailed

if TYPE_CHECKING:
    from sandbox.gcp.emulator import Emulator

Json = dict[str, Any]


class Busy(Exception):
    """The cluster has an operation under way, or the pool is not one that scales (any more)."""


@dataclass(frozen=True)
class ScalingPool:
    """A pool with autoscaling: its limits, what a new node of it looks like, its nodes and targets by zone.

    ``low``, ``high``: nodes in each zone; ``total_low``, ``total_high``: of the whole pool, where those are set (then
    the limits of a zone do not count).
    """

    name: str
    template: NodeSpec
    low: int
    high: int
    total_low: int = 0
    total_high: int = 0
    policy: str = "BALANCED"
    targets: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)  # name -> zone
    groups: dict[str, str] = field(default_factory=dict)  # zone -> address of its instance group

    @property
    def size(self) -> int:
        return sum(self.targets.values())

    def limit(self, zone: str) -> int:
        """How many nodes the zone may have in all, as things stand elsewhere."""
        if not self.total_high:
            return self.high
        return self.total_high - self.size + self.targets[zone]

    def room(self) -> int:
        """Nodes that may still come."""
        if self.total_high:
            return max(0, self.total_high - self.size)
        return sum(max(0, self.high - target) for target in self.targets.values())

    def spare(self, zone: str) -> int:
        """Nodes of the zone that may go."""
        if self.total_high:
            return max(0, self.size - self.total_low)
        return max(0, self.targets[zone] - self.low)


class PoolScaler:
    """Grows and shrinks pools of the emulated project. Thread-safe; a call blocks until its nodes are there or gone."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._world = emulator.world
        self._fleet = emulator.fleet
        self._stop = threading.Event()

    def close(self) -> None:
        """End the waiting for modelled time."""
        self._stop.set()

    def pools(self, key: str) -> list[ScalingPool]:
        """The pools of a cluster that scale by themselves and are in a state to do so."""
        with self._world.lock:
            cluster = self._world.clusters.get(key)
            if cluster is None or cluster.get("status") not in ("RUNNING", "DEGRADED"):
                return []
            pools = [pool for pool in cluster["nodePools"] if pool.get("autoscaling", {}).get("enabled")]
            return [self._view(cluster, pool) for pool in pools if pool["status"] not in ("STOPPING", "PROVISIONING")]

    def _view(self, cluster: Json, pool: Json) -> ScalingPool:
        scaling = pool["autoscaling"]
        nodes = {item["name"]: zone_of(item) for item in pool_nodes(self._world, cluster, pool["name"])}
        targets = {zone: self._target(cluster, pool, zone) for zone in pool["locations"]}
        groups = {
            zone: self._world.compute.link("instanceGroups", f"zones/{zone}", group_name(cluster, pool, zone))
            for zone in pool["locations"]
        }
        return ScalingPool(
            name=pool["name"],
            template=node_spec(cluster, pool, pool["locations"][0], f"template-of-{pool['name']}"),
            low=int(scaling.get("minNodeCount", 0)),
            high=int(scaling.get("maxNodeCount", 0)),
            total_low=int(scaling.get("totalMinNodeCount", 0)),
            total_high=int(scaling.get("totalMaxNodeCount", 0)),
            policy=str(scaling.get("locationPolicy", "BALANCED")),
            targets=targets,
            nodes=nodes,
            groups=groups,
        )

    def _target(self, cluster: Json, pool: Json, zone: str) -> int:
        group = self._world.compute.get("instanceGroupManagers", f"zones/{zone}", group_name(cluster, pool, zone))
        return int((group or {}).get("targetSize", 0))

    def _find(self, key: str, name: str) -> tuple[Json, Json]:
        """The live cluster and pool. Busy where the pool does not scale now; KeyError for unknown names."""
        cluster = self._world.clusters[key]
        pool: Json | None = next((one for one in cluster["nodePools"] if one["name"] == name), None)
        if pool is None:
            raise KeyError(name)
        if not pool.get("autoscaling", {}).get("enabled") or self._emulator.operations.busy(key) is not None:
            raise Busy(name)
        return cluster, pool

    # --- growing -----------------------------------------------------------------------------------------------

    def grow(self, key: str, name: str, zone: str, count: int) -> None:
        """``count`` more nodes in a zone, within the pool's limits.

        Raises OperationFailed for stockout, quota and nodes that do not start (the target is as before then), Busy,
        KeyError.
        """
        with self._world.mutate():
            cluster, pool = self._find(key, name)
            view = self._view(cluster, pool)
            count = min(count, view.limit(zone) - view.targets[zone])
            if count <= 0:
                return
            self._set_target(cluster, pool, zone, count)
        failure = self._shortage(cluster, pool, zone, count)
        self._sit_out("node-pool-resize")
        if failure is None:
            try:
                self._fleet.fill(key, cluster, pool, zone)
            except OperationFailed as error:
                failure = error
            except Exception as error:
                failure = OperationFailed(str(error))
        with self._world.mutate():
            if failure is not None:  # what did not come is not waited for any longer
                present = sum(place == zone for place in self._view(cluster, pool).nodes.values())
                self._set_target(cluster, pool, zone, present - self._target(cluster, pool, zone))
                group_error(self._world, cluster, pool, zone, failure)
            cluster["etag"] = pool["etag"] = new_etag()
        if failure is not None:
            raise failure

    def _set_target(self, cluster: Json, pool: Json, zone: str, by: int) -> None:
        group = group_name(cluster, pool, zone)
        if self._world.compute.get("instanceGroupManagers", f"zones/{zone}", group) is not None:
            target = max(0, self._target(cluster, pool, zone) + by)
            self._world.compute.patch("instanceGroupManagers", f"zones/{zone}", group, {"targetSize": target})

    def _shortage(self, cluster: Json, pool: Json, zone: str, count: int) -> OperationFailed | None:
        texts = quotas.shortages(self._world, region_of(zone), usage(pool, count))
        if texts:
            return OperationFailed(" ".join(texts), 8, extra={"condition": "GCE_QUOTA_EXCEEDED"})
        try:
            self._fleet.check(cluster, pool, [(zone, count)], "node-pool-resize")
        except OperationFailed as failure:
            return failure
        return None

    def _sit_out(self, event: str) -> None:
        """The modelled time of an event; a change of the speed is felt within a second."""
        begun = time.monotonic()
        while not self._stop.is_set():
            left = begun + self._emulator.timing.seconds(event) - time.monotonic()
            if left <= 0 or self._stop.wait(min(left, 1.0)):
                return

    # --- shrinking ---------------------------------------------------------------------------------------------

    def shrink(self, key: str, name: str, node: str) -> bool:
        """Take one node away if the pool's minimum allows; whether it went. Busy, KeyError as ``grow``."""
        # No operation may begin meanwhile: it would count a node that is on its way out.
        with self._emulator.exclusive():
            with self._world.mutate():
                cluster, pool = self._find(key, name)
                view = self._view(cluster, pool)
                zone = view.nodes.get(node)
                if zone is None or not view.spare(zone):
                    return False
                self._set_target(cluster, pool, zone, -1)
            instances = [item for item in pool_nodes(self._world, cluster, name) if item["name"] == node]
            self._fleet.remove(key, cluster, instances)
            with self._world.mutate():
                cluster["etag"] = pool["etag"] = new_etag()
        return True
