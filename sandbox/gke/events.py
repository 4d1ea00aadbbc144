"""Kubernetes events of Google's controllers; repeats are counted on one object."""

from __future__ import annotations

import logging

from sandbox.gke import conditions, names
from sandbox.gke.kubeapi import ApiError, Client, Object
from sandbox.gke.snapshot import EVENT

log = logging.getLogger(__name__)
SOURCE = "sc-gateway-controller"


class Recorder:
    """Writes events. The name of an event follows from its text, so that a restarted controller counts on."""

    def __init__(self, client: Client, source: str = SOURCE) -> None:
        self._client = client
        self._source = source

    def record(self, about: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """One event about an object. Never raises: events are courtesy."""
        kind = "Warning" if warning else "Normal"
        try:
            self._write(about, kind, reason, message[:1000])
        except Exception as error:
            log.debug("event %s on %s: %s", reason, about["metadata"]["name"], error)

    def _write(self, about: Object, kind: str, reason: str, message: str) -> None:
        meta = about["metadata"]
        namespace = meta.get("namespace") or "default"
        identity = f"{meta.get('uid')}/{kind}/{reason}/{message}"
        name = f"{meta['name'][:200]}.{names.hexadecimal(identity, 16)}"
        stamp = conditions.now()
        try:
            self._client.create(EVENT, event(about, name, namespace, kind, reason, message, stamp, self._source))
        except ApiError as error:
            if error.code != 409:
                raise
            found = self._client.get(EVENT, name, namespace) or {}
            change = {"count": int(found.get("count") or 1) + 1, "lastTimestamp": stamp}
            self._client.patch(EVENT, name, namespace, change)


def event(
    about: Object,
    name: str,
    namespace: str,
    kind: str,
    reason: str,
    message: str,
    stamp: str,
    source: str = SOURCE,
) -> Object:
    """A core/v1 Event as the API takes it."""
    meta = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": about.get("apiVersion", ""),
            "kind": about.get("kind", ""),
            "name": meta["name"],
            "namespace": meta.get("namespace", ""),
            "uid": meta.get("uid", ""),
            "resourceVersion": meta.get("resourceVersion", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": source},
        "reportingComponent": source,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
