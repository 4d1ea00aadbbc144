"""What a LeaderWorkerSet is made of: a StatefulSet of leaders, one of workers for each of them, a Service. Pure."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sandbox.gke.kubeapi import Object, Resource

GROUP = "leaderworkerset.x-k8s.io"
PREFIX = "leaderworkerset.sigs.k8s.io/"
NAME = PREFIX + "name"
GROUP_INDEX = PREFIX + "group-index"
GROUP_KEY = PREFIX + "group-key"
WORKER_INDEX = PREFIX + "worker-index"
REVISION = PREFIX + "template-revision-hash"
SIZE = PREFIX + "size"
REPLICAS = PREFIX + "replicas"
LEADER_NAME = PREFIX + "leader-name"
EXCLUSIVE = PREFIX + "exclusive-topology"

SET = Resource(GROUP, "v1", "leaderworkersets", "LeaderWorkerSet")
STATEFUL_SET = Resource("apps", "v1", "statefulsets", "StatefulSet")
POD = Resource("", "v1", "pods", "Pod")
SERVICE = Resource("", "v1", "services", "Service")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)


def size(item: Object) -> int:
    """Pods of a group."""
    return int(item["spec"]["leaderWorkerTemplate"].get("size") or 1)


def replicas(item: Object) -> int:
    """Groups."""
    found = item["spec"].get("replicas")
    return 1 if found is None else int(found)


def revision(item: Object) -> str:
    """Stands for everything whose change makes new groups: the templates and the network."""
    spec = item["spec"]
    text = json.dumps([spec["leaderWorkerTemplate"], spec.get("networkConfig")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def group_key(namespace: str, leader: str) -> str:
    """Label that all pods of a group share."""
    return hashlib.sha1(f"{namespace}/{leader}".encode(), usedforsecurity=False).hexdigest()


def _owner(resource: Resource, item: Object) -> Object:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": item["metadata"]["name"],
        "uid": item["metadata"].get("uid", ""),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _template(source: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]) -> Object:
    """A pod template with more labels and annotations."""
    meta = copy.deepcopy(dict(source.get("metadata") or {}))
    meta["labels"] = {**(meta.get("labels") or {}), **labels}
    meta["annotations"] = {**(meta.get("annotations") or {}), **annotations}
    return {"metadata": meta, "spec": copy.deepcopy(source["spec"])}


def _annotations(item: Object) -> dict[str, str]:
    found = {SIZE: str(size(item))}
    exclusive = (item["metadata"].get("annotations") or {}).get(EXCLUSIVE)
    return {**found, EXCLUSIVE: exclusive} if exclusive else found


def leader_set(item: Object, partition: int, version: str) -> Object:
    """The StatefulSet whose pods lead a group each. Groups below ``partition`` keep what they run."""
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    templates = item["spec"]["leaderWorkerTemplate"]
    labels = {NAME: name, REVISION: version}
    return {
        "apiVersion": STATEFUL_SET.api_version,
        "kind": STATEFUL_SET.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {REPLICAS: str(replicas(item))},
            "ownerReferences": [_owner(SET, item)],
        },
        "spec": {
            "serviceName": name,
            "replicas": replicas(item),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {NAME: name, WORKER_INDEX: "0"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
            "template": _template(
                templates.get("leaderTemplate") or templates["workerTemplate"],
                {**labels, WORKER_INDEX: "0"},
                _annotations(item),
            ),
        },
    }


def worker_set(item: Object, leader: Object, place: Mapping[str, str] | None = None) -> Object:
    """The StatefulSet of one group's workers. ``place``: node labels that they must find, for exclusive topology."""
    meta = leader["metadata"]
    name = item["metadata"]["name"]
    shared = {GROUP_INDEX: meta["labels"][GROUP_INDEX], GROUP_KEY: meta["labels"][GROUP_KEY], NAME: name}
    labels = {**shared, REVISION: meta["labels"].get(REVISION, "")}
    template = _template(
        item["spec"]["leaderWorkerTemplate"]["workerTemplate"],
        labels,
        {**_annotations(item), LEADER_NAME: meta["name"]},
    )
    if place:
        template["spec"]["nodeSelector"] = {**(template["spec"].get("nodeSelector") or {}), **place}
    unique = (item["spec"].get("networkConfig") or {}).get("subdomainPolicy") == "UniquePerReplica"
    return {
        "apiVersion": STATEFUL_SET.api_version,
        "kind": STATEFUL_SET.kind,
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [_owner(POD, leader)],
        },
        "spec": {
            "serviceName": meta["name"] if unique else name,
            "replicas": size(item) - 1,
            "podManagementPolicy": "Parallel",
            "ordinals": {"start": 1},
            "selector": {"matchLabels": shared},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": template,
        },
    }


def service(item: Object, leader: Object | None = None) -> Object:
    """The headless Service that gives the pods their names: one for all groups, or one for ``leader``'s group."""
    name = item["metadata"]["name"]
    selector = {NAME: name}
    if leader is not None:
        selector[GROUP_INDEX] = leader["metadata"]["labels"][GROUP_INDEX]
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": {
            "name": name if leader is None else leader["metadata"]["name"],
            "namespace": item["metadata"]["namespace"],
            "labels": {NAME: name},
            "ownerReferences": [_owner(SET, item) if leader is None else _owner(POD, leader)],
        },
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector},
    }
