"""What the webhooks do: labels, environment and affinity of a group's pods, defaults and rules of the sets. Pure."""

from __future__ import annotations

import copy
import re
from typing import Any

from sandbox.gke.kubeapi import Object
from sandbox.lws.objects import EXCLUSIVE, GROUP_INDEX, GROUP_KEY, LEADER_NAME, NAME, SIZE, WORKER_INDEX, group_key

_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class Refused(Exception):
    """An object that must not be stored as it is; the text says why."""


def _ordinal(name: str) -> int:
    found = re.fullmatch(r".*-([0-9]+)", name)
    if found is None:
        raise Refused(f"parsing pod ordinal for pod {name}")
    return int(found[1])


def admit_pod(pod: Object, namespace: str) -> Object:
    """A pod of a LeaderWorkerSet as it shall be stored. Raises Refused."""
    found = copy.deepcopy(pod)
    meta = found["metadata"]
    labels, notes = meta.setdefault("labels", {}), meta.get("annotations") or {}
    if NAME not in labels:
        return found
    if SIZE not in notes:
        raise Refused(f"size annotation is unexpectedly missing for pod {meta['name']}")
    if labels.get(WORKER_INDEX) == "0":
        leader = meta["name"]
        labels.setdefault(GROUP_INDEX, str(_ordinal(leader)))
        labels.setdefault(GROUP_KEY, group_key(namespace, leader))
        if EXCLUSIVE in notes:
            _alone(found["spec"], labels[GROUP_KEY], notes[EXCLUSIVE])
    else:
        leader = str(notes.get(LEADER_NAME) or meta["name"].rpartition("-")[0])
        labels[WORKER_INDEX] = str(_ordinal(meta["name"]))
    subdomain = found["spec"].get("subdomain") or labels[NAME]
    variables = {
        "LWS_LEADER_ADDRESS": f"{leader}.{subdomain}.{namespace}",
        "LWS_GROUP_SIZE": notes[SIZE],
        "LWS_WORKER_INDEX": labels[WORKER_INDEX],
    }
    for kind in ("containers", "initContainers"):
        for container in found["spec"].get(kind) or []:
            _add_environment(container, variables)
    return found


def _add_environment(container: Object, variables: dict[str, str]) -> None:
    """First of all, so that the container's own variables and arguments can refer to them."""
    own = container.get("env") or []
    known = {entry["name"] for entry in own}
    container["env"] = [{"name": key, "value": value} for key, value in variables.items() if key not in known] + own


def _alone(spec: Object, key: str, topology: str) -> None:
    """One group in one place of a topology, and no other group there."""
    affinity = spec.setdefault("affinity", {})
    mine = {"key": GROUP_KEY, "operator": "In", "values": [key]}
    others = [{"key": GROUP_KEY, "operator": "Exists"}, {"key": GROUP_KEY, "operator": "NotIn", "values": [key]}]
    for kind, expressions in (("podAffinity", [mine]), ("podAntiAffinity", others)):
        terms = affinity.setdefault(kind, {}).setdefault("requiredDuringSchedulingIgnoredDuringExecution", [])
        if not any(term.get("topologyKey") == topology for term in terms):
            terms.append({"labelSelector": {"matchExpressions": expressions}, "topologyKey": topology})


def admit_set(item: Object) -> Object:
    """A LeaderWorkerSet with its defaults (most of them are the CRD's)."""
    found = copy.deepcopy(item)
    network = found["spec"].setdefault("networkConfig", {})
    network.setdefault("subdomainPolicy", "Shared")
    return found


def check_set(item: Object) -> None:
    """Raises Refused for a LeaderWorkerSet that cannot work."""
    name = str(item["metadata"].get("name") or "")
    if not _LABEL.fullmatch(name):
        raise Refused(f"metadata.name: Invalid value: {name!r}: a DNS-1035 label is expected")
    rolling = (item["spec"].get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
    if _none(rolling.get("maxUnavailable", 1)) and _none(rolling.get("maxSurge", 0)):
        raise Refused(
            "spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable: may not be 0 when `maxSurge` is 0"
        )


def _none(value: Any) -> bool:
    return str(value) in ("0", "0%")


def json_patch(before: Object, after: Object) -> list[Object]:
    """The difference of two objects in their labels and in their specs, as an admission answer wants it."""
    found: list[Object] = []
    if before["metadata"].get("labels") != after["metadata"].get("labels"):
        found.append({"op": "add", "path": "/metadata/labels", "value": after["metadata"]["labels"]})
    if before.get("spec") != after.get("spec"):
        found.append({"op": "replace", "path": "/spec", "value": after["spec"]})
    return found
