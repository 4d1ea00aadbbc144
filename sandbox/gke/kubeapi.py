"""A small Kubernetes client: requests with a client certificate, and a cache that watches.

Only what the controllers need. Objects are the API's own dictionaries.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import requests

log = logging.getLogger(__name__)

Object = dict[str, Any]
MANAGER = "sandbox-gke"
# Refusals that the next look mends: namespace being terminated, object gone, written by somebody else meanwhile.
PASSING = (403, 404, 409)
_WATCH_SECONDS = 240


class Admin(Protocol):
    """Shape of a cluster administrator's credentials (sandbox.gcp.backend.ClusterAdmin)."""

    @property
    def server(self) -> str: ...

    @property
    def ca_file(self) -> Any: ...

    @property
    def cert_file(self) -> Any: ...

    @property
    def key_file(self) -> Any: ...


@dataclass(frozen=True)
class Resource:
    """One kind as the API serves it, e.g. ``Resource("apps", "v1", "deployments", "Deployment")``.

    ``fields``: a field selector; only such objects are listed and watched.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    fields: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, of one object or of its subresource."""
        parts = ["/apis", self.group] if self.group else ["/api"]
        parts.append(self.version)
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


class ApiError(Exception):
    """The API server refused: ``code`` is the HTTP status, ``reason`` its word (NotFound, Conflict, Invalid)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason


class Client:
    """Calls to one API server. One session per thread, since sessions are not made for sharing."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._local = threading.local()

    def session(self) -> requests.Session:
        """This thread's session."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False  # no proxy stands between Google and its own cluster
            session.verify = str(self._admin.ca_file)
            if self._admin.cert_file is not None:
                session.cert = (str(self._admin.cert_file), str(self._admin.key_file))
            self._local.session = session
        return session

    def call(self, method: str, path: str, *, body: Any = None, kind: str = "application/json", **query: Any) -> Object:
        """One request; the answer's JSON. Raises ApiError, or requests' own errors where nobody answers."""
        response = self.session().request(
            method,
            self._admin.server + path,
            params={key: value for key, value in query.items() if value is not None},
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": kind, "Accept": "application/json"},
            timeout=20,
        )
        if response.status_code >= 400:
            raise _error(response)
        found: Object = response.json()
        return found

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None."""
        try:
            return self.call("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, resource: Resource) -> tuple[list[Object], str]:
        """All objects of a kind and the resourceVersion to watch from."""
        answer = self.call("GET", resource.path(), fieldSelector=resource.fields or None)
        for item in answer.get("items") or []:
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return answer.get("items") or [], str(answer["metadata"].get("resourceVersion", ""))

    def create(self, resource: Resource, body: Object) -> Object:
        """Create; ApiError 409 where it exists."""
        namespace = body["metadata"].get("namespace")
        return self.call("POST", resource.path(namespace), body=body, fieldManager=MANAGER)

    def apply(self, resource: Resource, body: Object, *, manager: str = MANAGER) -> Object:
        """Server-side apply, taking over conflicting fields."""
        meta = body["metadata"]
        path = resource.path(meta.get("namespace"), meta["name"])
        kind = "application/apply-patch+yaml"
        return self.call("PATCH", path, body=body, kind=kind, fieldManager=manager, force="true")

    def patch(
        self, resource: Resource, name: str, namespace: str | None, change: Object, subresource: str | None = None
    ) -> Object:
        """JSON merge patch of an object or its subresource (``status``)."""
        path = resource.path(namespace, name, subresource)
        return self.call("PATCH", path, body=change, kind="application/merge-patch+json", fieldManager=MANAGER)

    def delete(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        """Delete; an absent object is no error."""
        with contextlib.suppress(KeyError):
            try:
                self.call("DELETE", resource.path(namespace, name))
            except ApiError as error:
                if error.code != 404:
                    raise

    def watch(self, resource: Resource, version: str, keep: Callable[[requests.Response], None]) -> Iterator[Object]:
        """Watch events from ``version`` until the server ends the watch. ``keep`` gets the response, to close it."""
        response = self.session().get(
            self._admin.server + resource.path(),
            params={
                "watch": "true",
                "resourceVersion": version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(_WATCH_SECONDS),
                **({"fieldSelector": resource.fields} if resource.fields else {}),
            },
            stream=True,
            timeout=(10, _WATCH_SECONDS + 30),
        )
        keep(response)
        with response:
            if response.status_code >= 400:
                raise _error(response)
            for line in response.iter_lines(chunk_size=1 << 16):
                if line:
                    yield json.loads(line)


def _error(response: requests.Response) -> ApiError:
    try:
        status = response.json()
        return ApiError(response.status_code, str(status.get("reason", "")), str(status.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(response.status_code, "Unknown", response.text[:300])


def key_of(item: Object) -> tuple[str, str]:
    """(namespace, name); the namespace is empty for cluster-scoped objects."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


class Cache:
    """Watched kinds, each kept current by a thread of its own. ``changed`` is called after every difference."""

    def __init__(self, client: Client, resources: Iterable[Resource], changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._lock = threading.Lock()
        self._objects: dict[str, dict[tuple[str, str], Object]] = {}
        self._synced: set[str] = set()
        self._resources = {resource.kind: resource for resource in resources}
        self._stop = threading.Event()
        self._open: dict[str, requests.Response] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for resource in self._resources.values():
            thread = threading.Thread(target=self._follow, args=(resource,), daemon=True, name=f"watch-{resource.kind}")
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the watches. A thread that sits in a read ends with its connection."""
        self._stop.set()
        with self._lock:
            responses = list(self._open.values())
        for response in responses:
            with contextlib.suppress(Exception):
                _shut(response)

    def synced(self) -> bool:
        """Whether every kind was listed once."""
        with self._lock:
            return len(self._synced) == len(self._resources)

    def snapshot(self) -> dict[str, dict[tuple[str, str], Object]]:
        """All objects by kind and (namespace, name). The inner objects are shared: do not change them."""
        with self._lock:
            return {kind: dict(self._objects.get(kind, {})) for kind in self._resources}

    def observe(self, kind: str, item: Object) -> None:
        """Take in the answer of an own write at once, so that the next pass does not see the old object."""
        with self._lock:
            objects = self._objects.setdefault(kind, {})
            known = objects.get(key_of(item))
            if known is None or _version(item) > _version(known):
                objects[key_of(item)] = item

    def _follow(self, resource: Resource) -> None:
        while not self._stop.is_set():
            try:
                version = self._relist(resource)
                self._watch(resource, version)
            except Exception as error:
                if not self._stop.is_set():
                    log.debug("watch of %s: %s", resource.plural, error)
                self._stop.wait(0.5)

    def _relist(self, resource: Resource) -> str:
        items, version = self._client.list(resource)
        with self._lock:
            self._objects[resource.kind] = {key_of(item): item for item in items}
            self._synced.add(resource.kind)
        self._changed()
        return version

    def _watch(self, resource: Resource, version: str) -> None:
        def keep(response: requests.Response) -> None:
            with self._lock:
                self._open[resource.kind] = response

        while not self._stop.is_set():
            for event in self._client.watch(resource, version, keep):
                if event.get("type") == "ERROR":  # mostly 410 Gone: list again
                    return
                version = event["object"]["metadata"]["resourceVersion"]
                self._take(resource.kind, event)
                if self._stop.is_set():
                    return

    def _take(self, kind: str, event: Object) -> None:
        item = event["object"]
        if event["type"] == "BOOKMARK":
            return
        with self._lock:
            objects = self._objects.setdefault(kind, {})
            if event["type"] == "DELETED":
                objects.pop(key_of(item), None)
            elif (known := objects.get(key_of(item))) is None or _version(item) >= _version(known):
                objects[key_of(item)] = item
        self._changed()


def _shut(response: requests.Response) -> None:
    """Shut the socket under a response that another thread reads: close() alone would wait for that reader."""
    connection = getattr(response.raw, "connection", None) or getattr(response.raw, "_connection", None)
    socket = getattr(connection, "sock", None)
    if socket is not None:
        socket.shutdown(2)


def _version(item: Object) -> int:
    try:
        return int(item["metadata"].get("resourceVersion", 0))
    except ValueError:
        return 0
