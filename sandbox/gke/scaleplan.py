"""What the cluster autoscaler decides: which pool grows where, which node is idle and may go. Pure.

Texts are those of the real one, as its source and GKE's troubleshooting pages show them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandbox.gcp.backend import NodeSpec
from sandbox.gcp.scaling import ScalingPool
from sandbox.gke import scheduling
from sandbox.gke.kubeapi import Object
from sandbox.gke.scheduling import GPU, Node
from sandbox.kubernetes import machines

IDLE_BELOW = 0.5  # a node that is fuller is not looked at
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
_PODS_A_NODE = 110
_MIB = 2**20


@dataclass(frozen=True)
class Growth:
    """One scale-up: so many nodes more in one zone of one pool, for these pods."""

    pool: str
    zone: str
    count: int
    before: int
    limit: int
    group: str
    pods: tuple[Object, ...] = ()

    def say(self) -> str:
        return f"{self.group} {self.before}->{self.before + self.count} (max: {self.limit})"


@dataclass
class Plan:
    """``growths``: what to do now. ``refused``: pods that no pool helps, with the reasons counted."""

    growths: list[Growth] = field(default_factory=list)
    refused: list[tuple[Object, str]] = field(default_factory=list)


def template(spec: NodeSpec, number: int = 0) -> Node:
    """An empty node as the pool would bring it."""
    size = machines.machine(spec.machine_type)
    allocatable: scheduling.Resources = Counter(pods=_PODS_A_NODE)
    if size is not None:
        memory = size.memory_mib - machines.reserved_memory_mib(size.memory_mib)
        allocatable["memory"] = memory * _MIB
        allocatable["cpu"] = size.cpus - machines.reserved_cpu_millicores(size.cpus) / 1000  # type: ignore[assignment]
    if spec.gpus:
        allocatable[GPU] = spec.gpus
    labels = {**spec.labels, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return Node(f"{spec.name}-{number}", labels, tuple(spec.taints), allocatable)


def plan_growth(
    pods: Sequence[Object],
    nodes: Iterable[Node],
    pools: Sequence[ScalingPool],
    coming: Mapping[str, int],
    backing_off: frozenset[tuple[str, str]] = frozenset(),
) -> Plan:
    """Nodes for the pods that found none.

    ``nodes``: those that take pods now; ``coming``: nodes under way, by pool: what fits on them needs no others.
    ``backing_off``: (pool, zone) whose last scale-up failed a moment ago.
    """
    by_name = {pool.name: pool for pool in pools}
    under_way = [
        template(by_name[name].template, number)
        for name, count in coming.items()
        if name in by_name
        for number in range(count)
    ]
    _, left = scheduling.place(pods, [*nodes, *under_way])
    plan = Plan()
    for pool in sorted(pools, key=_price):
        if not left:
            break
        growths, left = _grow(pool, left, backing_off)
        plan.growths += growths
    plan.refused = [(pod, refusal(pod, pools, backing_off)) for pod in left]
    return plan


def _price(pool: ScalingPool) -> tuple[int, float, str]:
    """Cheapest first: without GPUs, then the smaller machine."""
    size = machines.machine(pool.template.machine_type)
    return pool.template.gpus, size.cpus if size else 0, pool.name


def _grow(
    pool: ScalingPool, pods: list[Object], backing_off: frozenset[tuple[str, str]]
) -> tuple[list[Growth], list[Object]]:
    """New nodes of one pool until its limits; the growths and the pods that are still without a node."""
    zones = [zone for zone in pool.targets if (pool.name, zone) not in backing_off]
    targets = dict(pool.targets)
    added: Counter[str] = Counter()
    served: dict[str, list[Object]] = {zone: [] for zone in zones}
    left = list(pods)
    while left:
        now = replace(pool, targets=dict(targets))
        open_zones = [zone for zone in zones if targets[zone] < now.limit(zone)]
        if not open_zones:
            break
        zone = min(open_zones, key=lambda name: (targets[name], name))  # as many in one zone as in the other
        placed, rest = scheduling.place(left, [template(_in_zone(pool.template, zone))])
        if not placed[0].used:
            break
        served[zone] += [pod for pod in left if pod not in rest]
        targets[zone] += 1
        added[zone] += 1
        left = rest
    growths = [
        Growth(
            pool.name,
            zone,
            count,
            pool.targets[zone],
            pool.total_high or pool.high,
            pool.groups.get(zone, ""),
            tuple(served[zone]),
        )
        for zone, count in added.items()
    ]
    return growths, left


def _in_zone(spec: NodeSpec, zone: str) -> NodeSpec:
    labels = {**spec.labels, "topology.kubernetes.io/zone": zone, "topology.gke.io/zone": zone}
    return replace(spec, zone=zone, labels=labels)


def refusal(pod: Object, pools: Sequence[ScalingPool], backing_off: frozenset[tuple[str, str]]) -> str:
    """Why no pool grows for a pod: "1 max node group size reached, 1 Insufficient nvidia.com/gpu"."""
    reasons: Counter[str] = Counter()
    for pool in pools:
        for zone in pool.targets:
            obstacles = scheduling.obstacles(pod, template(_in_zone(pool.template, zone)))
            if obstacles:
                reasons[obstacles[0]] += 1
            elif (pool.name, zone) in backing_off:
                reasons["in backoff after failed scale-up"] += 1
            else:
                reasons["max node group size reached"] += 1
    said = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"pod didn't trigger scale-up: {said}" if said else "pod didn't trigger scale-up: "


# --- giving back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Idle:
    """A node that is not needed: what still runs there would fit elsewhere."""

    pool: str
    name: str
    pods: tuple[Object, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.pods


def idle_nodes(items: Mapping[str, Object], pods: Sequence[Object], pools: Sequence[ScalingPool]) -> list[Idle]:
    """Nodes above their pool's minimum that may go, empty ones first. ``items``: the live Nodes by name."""
    nodes = {name: scheduling.node_of(item, pods) for name, item in items.items()}
    found: list[Idle] = []
    for pool in pools:
        for name, zone in pool.nodes.items():
            if name in nodes and pool.spare(zone):
                idle = _idle(pool.name, nodes[name], list(nodes.values()), pods)
                found += [idle] if idle is not None else []
    return sorted(found, key=lambda idle: (not idle.empty, idle.pool, idle.name))


def _idle(pool: str, node: Node, nodes: list[Node], pods: Sequence[Object]) -> Idle | None:
    here = [pod for pod in pods if pod["spec"].get("nodeName") == node.name and scheduling.counts(pod)]
    if not here:
        return Idle(pool, node.name)
    if scheduling.utilization(node) >= IDLE_BELOW or any(scheduling.stays_put(pod) for pod in here):
        return None
    others = [other for other in nodes if other.name != node.name and not leaving(other)]
    _, homeless = scheduling.place(here, others)
    return None if homeless else Idle(pool, node.name, tuple(here))


def leaving(node: Node) -> bool:
    """Whether the autoscaler has marked the node for deletion already."""
    return any(taint.get("key") == TO_BE_DELETED for taint in node.taints)
