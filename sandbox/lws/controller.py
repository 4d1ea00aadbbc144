"""The loop: looks at all LeaderWorkerSets whenever anything of theirs changes, and writes what is missing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from sandbox.gke.kubeapi import PASSING, ApiError, Cache, Client, Object, Resource, key_of
from sandbox.lws import groups, objects
from sandbox.lws.groups import Group

log = logging.getLogger(__name__)
MANAGER = "lws"
_IDLE = 10.0

Objects = Mapping[str, Mapping[tuple[str, str], Object]]


class Controller:
    """Runs between ``start`` and ``stop``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._wake = threading.Event()
        self._stop = threading.Event()
        watched = (objects.SET, objects.STATEFUL_SET, objects.POD, objects.SERVICE, objects.NODE)
        self._cache = Cache(client, watched, self._wake.set)
        self._thread = threading.Thread(target=self._run, daemon=True, name="lws")

    def start(self) -> None:
        self._cache.start()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._cache.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(_IDLE)
            self._stop.wait(0.02)
            self._wake.clear()
            if self._stop.is_set() or not self._cache.synced():
                continue
            found = self._cache.snapshot()
            for item in found["LeaderWorkerSet"].values():
                try:
                    self.reconcile(item, found)
                except Exception as error:
                    passing = isinstance(error, OSError) or (isinstance(error, ApiError) and error.code in PASSING)
                    log.log(logging.DEBUG if passing else logging.ERROR, "%s: %s", key_of(item), error)
                    self._wake.set()
                    self._stop.wait(0.2)

    def reconcile(self, item: Object, found: Objects) -> None:
        """Bring one LeaderWorkerSet's objects and status in line with its specification."""
        if item["metadata"].get("deletionTimestamp"):
            return  # the owner references see to the rest
        namespace, name = key_of(item)
        sets = {key[1]: each for key, each in found["StatefulSet"].items() if key[0] == namespace}
        pods = [each for key, each in found["Pod"].items() if key[0] == namespace]
        present = groups.groups_of(item, pods, sets)
        version = objects.revision(item)
        self._leaders(item, sets.get(name), present, version)
        self._create(objects.SERVICE, objects.service(item), found["Service"])
        for group in present:
            self._group(item, group, found)
        wanted = groups.status(item, present, version)
        if wanted != item.get("status"):
            done = self._client.patch(objects.SET, name, namespace, {"status": wanted}, "status")
            self._cache.observe("LeaderWorkerSet", done)

    def _leaders(self, item: Object, found: Object | None, present: list[Group], version: str) -> None:
        """The leaders' StatefulSet; a new revision is let in group by group."""
        place = groups.partition(item, present, version) if found is not None else 0
        wanted = objects.leader_set(item, place, version)
        if found is None or differs(wanted, found):
            self._cache.observe("StatefulSet", self._client.apply(objects.STATEFUL_SET, wanted, manager=MANAGER))

    def _group(self, item: Object, group: Group, found: Objects) -> None:
        leader = group.leader
        policy = item["spec"]["leaderWorkerTemplate"].get("restartPolicy") or "RecreateGroupOnPodRestart"
        if leader is None or leader["metadata"].get("deletionTimestamp"):
            return  # workers of a leader that goes away must not be made
        if group.broken and policy == "RecreateGroupOnPodRestart":
            log.info("restarting group %d of %s", group.index, key_of(item))
            self._delete(leader)
            return
        if group.size == 1:
            return
        if item["spec"].get("startupPolicy") == "LeaderReady" and not groups.pod_ready(leader):
            return
        place: dict[str, str] | None = None
        topology = (item["metadata"].get("annotations") or {}).get(objects.EXCLUSIVE)
        if topology:
            node = found["Node"].get(("", str(leader["spec"].get("nodeName") or "")))
            value = ((node or {}).get("metadata", {}).get("labels") or {}).get(topology)
            if value is None:
                return  # the leader has not got its place yet
            place = {topology: value}
        if (item["spec"].get("networkConfig") or {}).get("subdomainPolicy") == "UniquePerReplica":
            self._create(objects.SERVICE, objects.service(item, leader), found["Service"])
        self._create(objects.STATEFUL_SET, objects.worker_set(item, leader, place), found["StatefulSet"])

    def _create(self, resource: Resource, wanted: Object, known: Mapping[tuple[str, str], Object]) -> None:
        if key_of(wanted) in known:
            return
        try:
            self._cache.observe(resource.kind, self._client.create(resource, wanted))
        except ApiError as error:
            if error.code not in PASSING:
                raise

    def _delete(self, leader: Object) -> None:
        """Delete a leader and, before it is gone, everything that it owns."""
        meta = leader["metadata"]
        path = objects.POD.path(meta["namespace"], meta["name"])
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": meta["uid"]}}
        try:
            self._client.call("DELETE", path, body=body)
        except ApiError as error:
            if error.code not in PASSING:
                raise


def differs(wanted: Object, found: Object) -> bool:
    """Whether a StatefulSet must be applied again: what we set is not what is there."""
    if (found["metadata"].get("labels") or {}).get(objects.REVISION) != wanted["metadata"]["labels"][objects.REVISION]:
        return True
    have, want = found["spec"], wanted["spec"]
    return bool(
        have.get("replicas") != want["replicas"]
        or (have.get("updateStrategy") or {}).get("rollingUpdate") != want["updateStrategy"]["rollingUpdate"]
    )
