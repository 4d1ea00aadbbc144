"""LeaderWorkerSets: their objects, their pods' admission, their groups' states and the controller's loop."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

pytest.importorskip("requests")

from sandbox.gke.kubeapi import ApiError, Resource
from sandbox.lws import admission, controller, groups, objects, server
from sandbox.lws.objects import GROUP_INDEX, GROUP_KEY, LEADER_NAME, NAME, REVISION, SIZE, WORKER_INDEX

Object = dict[str, Any]
LWS = "ms-moe"


def lws(replicas: int = 1, size: int = 3, **spec: Any) -> Object:
    template = {"size": size, "workerTemplate": {"spec": {"containers": [{"name": "vllm", "image": "x"}]}}}
    meta = {"name": LWS, "namespace": "llm-d", "uid": "u", "generation": 4}
    return {"metadata": meta, "spec": {"replicas": replicas, "leaderWorkerTemplate": template, **spec}}


def leader_pod(item: Object, index: int = 0, *, ready: bool = True, version: str = "", **meta: Any) -> Object:
    labels = {NAME: LWS, WORKER_INDEX: "0", GROUP_INDEX: str(index), GROUP_KEY: f"k{index}"}
    labels[REVISION] = version or objects.revision(item)
    pod = {"name": f"{LWS}-{index}", "namespace": "llm-d", "uid": f"p{index}", "labels": labels, **meta}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": pod, "spec": {"containers": []}, "status": {"phase": "Running", "conditions": conditions}}


def worker_set(item: Object, leader: Object, ready: int) -> Object:
    return {**objects.worker_set(item, leader), "status": {"readyReplicas": ready}}


def whole(item: Object, *leaders: Object, ready: int = 2) -> list[groups.Group]:
    sets = {pod["metadata"]["name"]: worker_set(item, pod, ready) for pod in leaders}
    return groups.groups_of(item, leaders, sets)


def test_leaders_and_workers() -> None:
    item = lws(replicas=2)
    version = objects.revision(item)
    made = objects.leader_set(item, 0, version)
    assert made["spec"]["selector"]["matchLabels"] == {NAME: LWS, WORKER_INDEX: "0"}
    assert made["spec"]["template"]["metadata"]["labels"] == {NAME: LWS, REVISION: version, WORKER_INDEX: "0"}
    workers = objects.worker_set(item, leader_pod(item, 1), {"rack": "r1"})
    assert (workers["metadata"]["name"], workers["spec"]["replicas"], workers["spec"]["ordinals"]) == (
        f"{LWS}-1", 2, {"start": 1},
    )  # fmt: skip
    assert workers["spec"]["template"]["metadata"]["annotations"] == {SIZE: "3", LEADER_NAME: f"{LWS}-1"}
    assert workers["spec"]["template"]["spec"]["nodeSelector"] == {"rack": "r1"}
    assert workers["metadata"]["ownerReferences"][0]["uid"] == "p1"
    assert objects.revision(lws(replicas=5)) == version != objects.revision(lws(size=4))


def test_one_service_or_one_a_group() -> None:
    item = lws(networkConfig={"subdomainPolicy": "UniquePerReplica"})
    assert objects.service(item)["spec"]["selector"] == {NAME: LWS}
    own = objects.service(item, leader_pod(item))
    assert (own["metadata"]["name"], own["spec"]["selector"]) == (f"{LWS}-0", {NAME: LWS, GROUP_INDEX: "0"})
    assert objects.worker_set(item, leader_pod(item))["spec"]["serviceName"] == f"{LWS}-0"


def pod(name: str, labels: dict[str, str], **notes: str) -> Object:
    container = {"name": "vllm", "env": [{"name": "A", "value": "$(LWS_WORKER_INDEX)"}]}
    meta = {"name": name, "labels": {NAME: LWS, **labels}, "annotations": notes}
    return {"metadata": meta, "spec": {"containers": [container], "subdomain": LWS}}


def test_admission_of_pods() -> None:
    leader = admission.admit_pod(pod(f"{LWS}-1", {WORKER_INDEX: "0"}, **{SIZE: "3"}), "llm-d")
    assert leader["metadata"]["labels"][GROUP_INDEX] == "1"
    assert leader["metadata"]["labels"][GROUP_KEY] == objects.group_key("llm-d", f"{LWS}-1")
    names = [entry["name"] for entry in leader["spec"]["containers"][0]["env"]]
    assert names == ["LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX", "A"]
    worker = admission.admit_pod(pod(f"{LWS}-1-2", {}, **{SIZE: "3", LEADER_NAME: f"{LWS}-1"}), "llm-d")
    assert worker["metadata"]["labels"][WORKER_INDEX] == "2"
    assert worker["spec"]["containers"][0]["env"][0]["value"] == f"{LWS}-1.{LWS}.llm-d"
    assert admission.admit_pod(worker, "llm-d") == worker
    with pytest.raises(admission.Refused, match="size annotation"):
        admission.admit_pod(pod(f"{LWS}-0", {WORKER_INDEX: "0"}), "llm-d")


def test_exclusive_topology() -> None:
    notes = {SIZE: "2", objects.EXCLUSIVE: "rack"}
    leader = admission.admit_pod(pod(f"{LWS}-0", {WORKER_INDEX: "0"}, **notes), "llm-d")
    affinity = leader["spec"]["affinity"]
    for kind in ("podAffinity", "podAntiAffinity"):
        (term,) = affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "rack"


def review(path: str, item: Object) -> Object:
    found = server.review(path, {"request": {"uid": "1", "namespace": "llm-d", "object": item}})
    assert found is not None
    answer: Object = found["response"]
    return answer


def test_reviews() -> None:
    answer = review("/mutate--v1-pod", pod(f"{LWS}-0", {WORKER_INDEX: "0"}, **{SIZE: "3"}))
    patched = {entry["path"] for entry in json.loads(base64.b64decode(answer["patch"]))}
    assert patched == {"/metadata/labels", "/spec"}
    assert "patch" not in review("/mutate--v1-pod", {"metadata": {"name": "x", "labels": {}}, "spec": {}})
    assert "patch" in review("/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset", lws())
    check = "/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset"
    assert review(check, lws())["allowed"]
    rolling = {"rollingUpdateConfiguration": {"maxUnavailable": 0, "maxSurge": "0%"}}
    refused = review(check, lws(rolloutStrategy=rolling))
    assert not refused["allowed"]
    assert "maxSurge" in refused["status"]["message"]
    assert server.review("/elsewhere", {"request": {"uid": "1"}}) is None


def test_status() -> None:
    item = lws(replicas=2)
    version = objects.revision(item)
    first = whole(item, leader_pod(item), ready=2)
    found = groups.status(item, first, version)
    states = {each["type"]: each["status"] for each in found["conditions"]}
    assert (states, found["readyReplicas"], found["replicas"]) == ({"Progressing": "True", "Available": "False"}, 1, 1)
    both = whole(item, leader_pod(item), leader_pod(item, 1))
    states = {each["type"]: each["status"] for each in groups.status(item, both, version)["conditions"]}
    assert states == {"Progressing": "False", "Available": "True"}
    waiting = whole(item, leader_pod(item), leader_pod(item, 1), ready=1)
    assert groups.status(item, waiting, version)["readyReplicas"] == 0
    assert groups.groups_of(lws(size=1), [leader_pod(lws(size=1))], {})[0].ready


def test_an_update_goes_from_the_last_group_to_the_first() -> None:
    item = lws(replicas=3)
    old, version = "old", objects.revision(item)

    def place(*versions: str, ready: bool = True) -> int:
        leaders = [leader_pod(item, index, version=each) for index, each in enumerate(versions)]
        found = whole(item, *leaders)
        if not ready:
            found[-1] = groups.Group(2, leader_pod(item, 2, ready=False), found[-1].workers, (), 3)
        return groups.partition(item, found, version)

    assert place(old, old, old) == 2
    assert place(old, old, version) == 1
    assert place(old, old, version, ready=False) == 2  # one at a time
    assert place(old, version, version) == 0
    assert place(version, version, version) == 0
    item["spec"]["rolloutStrategy"] = {"rollingUpdateConfiguration": {"maxUnavailable": "50%", "partition": 1}}
    assert place(old, old, old) == 1
    assert place(version, version, version) == 1


class FakeClient:
    """Remembers what was written."""

    def __init__(self, *, conflict: bool = False) -> None:
        self.written: list[tuple[str, str, str]] = []
        self._conflict = conflict

    def _note(self, verb: str, kind: str, name: str) -> Object:
        self.written.append((verb, kind, name))
        if self._conflict and verb == "create":
            raise ApiError(409, "AlreadyExists", name)
        return {"metadata": {"name": name, "namespace": "llm-d", "resourceVersion": "1"}}

    def apply(self, resource: Resource, body: Object, *, manager: str = "") -> Object:
        return self._note("apply", resource.kind, body["metadata"]["name"])

    def create(self, resource: Resource, body: Object) -> Object:
        return self._note("create", resource.kind, body["metadata"]["name"])

    def patch(self, resource: Resource, name: str, namespace: str, change: Object, subresource: str = "") -> Object:
        return self._note(f"patch {subresource}", resource.kind, name)

    def call(self, method: str, path: str, *, body: Any = None) -> Object:
        assert body["propagationPolicy"] == "Foreground"
        return self._note(method, "Pod", path.rsplit("/", 1)[-1])


def reconcile(item: Object, *found: tuple[str, Object], client: FakeClient | None = None) -> list[tuple[str, str, str]]:
    used = client or FakeClient()
    known: dict[str, dict[tuple[str, str], Object]] = {
        kind: {} for kind in ("LeaderWorkerSet", "StatefulSet", "Pod", "Service", "Node")
    }
    for kind, each in found:
        known[kind][each["metadata"].get("namespace", ""), each["metadata"]["name"]] = each
    made: Any = used
    controller.Controller(made).reconcile(item, known)
    return used.written


def test_the_loop_makes_what_is_missing() -> None:
    item = lws()
    first = reconcile(item)
    assert first == [
        ("apply", "StatefulSet", LWS), ("create", "Service", LWS), ("patch status", "LeaderWorkerSet", LWS),
    ]  # fmt: skip
    assert reconcile(item, client=FakeClient(conflict=True)) == first  # somebody was faster: no failure
    leaders = objects.leader_set(item, 0, objects.revision(item))
    known = [("StatefulSet", leaders), ("Service", objects.service(item)), ("Pod", leader_pod(item))]
    assert reconcile(item, *known) == [
        ("create", "StatefulSet", f"{LWS}-0"), ("patch status", "LeaderWorkerSet", LWS),
    ]  # fmt: skip
    known.append(("StatefulSet", worker_set(item, leader_pod(item), 2)))
    done = copy.deepcopy(item)
    done["status"] = groups.status(item, whole(item, leader_pod(item)), objects.revision(item))
    assert reconcile(done, *known) == []
    assert reconcile({**item, "metadata": {**item["metadata"], "deletionTimestamp": "t"}}) == []


def test_one_for_all() -> None:
    item = lws()
    leader = leader_pod(item)
    known = [("StatefulSet", objects.leader_set(item, 0, objects.revision(item))), ("Service", objects.service(item))]
    lost = pod(f"{LWS}-0-1", {GROUP_INDEX: "0", WORKER_INDEX: "1"})
    lost["metadata"] |= {"namespace": "llm-d", "deletionTimestamp": "t"}
    again = copy.deepcopy(lost)
    del again["metadata"]["deletionTimestamp"]
    again["status"] = {"phase": "Running", "containerStatuses": [{"restartCount": 1}]}
    for worker in (lost, again):
        written = reconcile(item, *known, ("Pod", leader), ("Pod", worker))
        assert ("DELETE", "Pod", f"{LWS}-0") in written
        assert ("create", "StatefulSet", f"{LWS}-0") not in written
    item["spec"]["leaderWorkerTemplate"]["restartPolicy"] = "None"
    assert not [entry for entry in reconcile(item, *known, ("Pod", leader), ("Pod", again)) if entry[0] == "DELETE"]


def test_workers_wait_for_their_leader() -> None:
    item = lws(startupPolicy="LeaderReady")
    known = [("StatefulSet", objects.leader_set(item, 0, objects.revision(item))), ("Service", objects.service(item))]
    made = ("create", "StatefulSet", f"{LWS}-0")
    assert made not in reconcile(item, *known, ("Pod", leader_pod(item, ready=False)))
    assert made in reconcile(item, *known, ("Pod", leader_pod(item)))
    item = lws()
    item["metadata"]["annotations"] = {objects.EXCLUSIVE: "rack"}
    leader = leader_pod(item)
    assert made not in reconcile(item, *known, ("Pod", leader))  # it has not got its place yet
    leader["spec"]["nodeName"] = "n"
    node = {"metadata": {"name": "n", "labels": {"rack": "r1"}}}
    assert made in reconcile(item, *known, ("Pod", leader), ("Node", node))
