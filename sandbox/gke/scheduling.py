"""Would a pod fit onto a node? The scheduler's filters that matter for buying and returning nodes. Pure.

Resources are plain numbers: cpu in cores, memory in bytes, everything else by count; ``pods`` is one a pod.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.gke.kubeapi import Object
from sandbox.gke.snapshot import selects

GPU = "nvidia.com/gpu"
_SCALE = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTP]|[KMGTP]i)?$")

Resources = Counter[str]


def quantity(text: object) -> float:
    """A Kubernetes quantity as a number ("500m" -> 0.5, "10Gi" -> 10737418240). ValueError for anything else."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _SCALE[found[2] or ""]


def _amounts(values: Mapping[str, object] | None) -> Counter[str]:
    amounts: Counter[str] = Counter()
    for name, value in (values or {}).items():
        amounts[name] = quantity(value)  # type: ignore[assignment]  # Counter's type knows whole numbers only
    return amounts


def requests(pod: Object) -> Resources:
    """What a pod asks of a node: its containers together, or its largest init container where that is more."""
    spec = pod.get("spec") or {}
    total: Resources = Counter()
    for container in spec.get("containers") or []:
        total.update(_of_container(container))
    largest: Resources = Counter()
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":  # a sidecar stays beside the others
            total.update(_of_container(container))
        else:
            largest |= _of_container(container)
    total |= largest
    total["pods"] = 1
    return total


def _of_container(container: Mapping[str, Any]) -> Resources:
    given = container.get("resources") or {}
    return _amounts({**(given.get("limits") or {}), **(given.get("requests") or {})})


@dataclass(frozen=True)
class Node:
    """A node, or one that a pool could bring. ``used`` counts the pods that are bound to it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...] = ()
    allocatable: Resources = field(default_factory=Counter)
    used: Resources = field(default_factory=Counter)

    def with_pod(self, pod: Object) -> Node:
        return Node(self.name, self.labels, self.taints, self.allocatable, self.used + requests(pod))


def node_of(item: Object, pods: Iterable[Object]) -> Node:
    """A live Node with the pods that are bound to it and have not ended."""
    meta, spec = item["metadata"], item.get("spec") or {}
    used: Resources = Counter()
    for pod in pods:
        if pod["spec"].get("nodeName") == meta["name"] and not ended(pod):
            used.update(requests(pod))
    taints = tuple(spec.get("taints") or [])
    allocatable = _amounts((item.get("status") or {}).get("allocatable"))
    return Node(meta["name"], meta.get("labels") or {}, taints, allocatable, used)


def ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def obstacles(pod: Object, node: Node) -> list[str]:
    """Why the pod cannot run there, in the scheduler's words; [] where it can."""
    found = []
    spec = pod.get("spec") or {}
    for taint in node.taints:
        hard = taint.get("effect") in ("NoSchedule", "NoExecute")
        if hard and not any(tolerates(entry, taint) for entry in spec.get("tolerations") or []):
            found.append(f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value', '')}}}")
            break
    if not _wants(spec, node):
        found.append("node(s) didn't match Pod's node affinity/selector")
    for name, amount in sorted(requests(pod).items()):
        if amount > node.allocatable[name] - node.used[name] + 1e-9:
            found.append("Too many pods" if name == "pods" else f"Insufficient {name}")
    return found


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    return bool(toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get("value", ""))


def _wants(spec: Mapping[str, Any], node: Node) -> bool:
    labels = dict(node.labels)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not required:
        return True
    terms = required.get("nodeSelectorTerms") or []
    return any(selects({"matchExpressions": term.get("matchExpressions") or []}, labels) for term in terms)


def place(pods: Iterable[Object], nodes: Iterable[Node]) -> tuple[list[Node], list[Object]]:
    """First fit: the nodes as they would be then, and the pods that found no place."""
    placed, left = list(nodes), []
    for pod in pods:
        where = next((index for index, node in enumerate(placed) if not obstacles(pod, node)), None)
        if where is None:
            left.append(pod)
        else:
            placed[where] = placed[where].with_pod(pod)
    return placed, left


def utilization(node: Node) -> float:
    """How full a node is: its GPUs where it has any, else the larger share of cpu and memory."""
    names = (GPU,) if node.allocatable[GPU] else ("cpu", "memory")
    return max((node.used[name] / node.allocatable[name] for name in names if node.allocatable[name]), default=0.0)


def stays_put(pod: Object) -> str:
    """Why the autoscaler may not take a pod away from its node; empty where it may."""
    meta = pod["metadata"]
    if (meta.get("annotations") or {}).get("cluster-autoscaler.kubernetes.io/safe-to-evict") == "false":
        return "not safe to evict"
    owner = _owner(pod)
    if not owner:
        return "no controller would make it anew"
    return "" if owner != "Node" else "static"


def counts(pod: Object) -> bool:
    """Whether a pod keeps a node from being empty: neither a DaemonSet's nor a static one, and not ended."""
    return not ended(pod) and _owner(pod) not in ("DaemonSet", "Node")


def _owner(pod: Object) -> str:
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(owner.get("kind")) for owner in owners if owner.get("controller")), "")


def unschedulable(pod: Object) -> bool:
    """Whether the scheduler has looked at a pod and found no node."""
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp") or ended(pod):
        return False
    return any(
        item.get("type") == "PodScheduled" and item.get("status") == "False" and item.get("reason") == "Unschedulable"
        for item in (pod.get("status") or {}).get("conditions") or []
    )
