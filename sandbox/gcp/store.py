"""Every resource of the emulated Compute Engine: plain API dicts, kept by collection, scope and name.

A scope is ``global``, ``regions/R`` or ``zones/Z``. Collections may be called by any of their discovery names:
``regionBackendServices`` in ``regions/us-central1`` and ``backendServices`` in the same scope are one thing.
"""

from __future__ import annotations

import base64
import copy
import datetime
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from sandbox.gcp.errors import compute_exists, compute_not_found

Json = dict[str, Any]
Key = tuple[str, str, str]  # family, scope, name
# ``list`` is also the name of a method of the store, hence these.
Resources = list[Json]
Names = list[str]

ROOT = "https://www.googleapis.com/compute/v1/"
# Families whose resource has a ``fingerprint`` field (from compute.v1).
FINGERPRINTED = frozenset(
    {"backendServices", "forwardingRules", "instanceGroupManagers", "instanceGroups", "instances", "sslPolicies",
     "subnetworks", "targetHttpProxies", "targetHttpsProxies", "urlMaps"}
)  # fmt: skip
_LINK = re.compile(r"(?:https?://[^ ]*?/)?(?:compute/)?(?:(?:v1|beta)/)?(projects/[^/]+/(?:global|regions|zones)/.+)")
_PARTIAL = re.compile(r"(?:global|regions/[^/]+|zones/[^/]+)/[a-zA-Z]+/[^/]+")


def family(collection: str) -> str:
    """``regionBackendServices`` and ``globalForwardingRules`` -> ``backendServices``, ``forwardingRules``."""
    found = re.fullmatch(r"(?:region|global)([A-Z]\w*)", collection)
    return collection if found is None else found.group(1)[0].lower() + found.group(1)[1:]


def singular(collection: str) -> str:
    """``targetHttpProxies`` -> ``targetHttpProxy``, ``addresses`` -> ``address``."""
    name = family(collection)
    if name.endswith("ies"):
        return name[:-3] + "y"
    return name[:-2] if name.endswith("sses") else name.removesuffix("s")


def compute_time(seconds: float) -> str:
    """As compute writes it: milliseconds and the Pacific offset."""
    zone = datetime.timezone(datetime.timedelta(hours=-8))
    return datetime.datetime.fromtimestamp(seconds, zone).isoformat(timespec="milliseconds")


def fingerprint(body: Json) -> str:
    """Eight bytes of the content, so that a resource that is put back as it was looks as it was."""
    content = {key: value for key, value in body.items() if key != "fingerprint"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return base64.b64encode(digest[:8]).decode()


class ComputeStore:
    """Resources, their links and who uses whom. All methods take and give copies and are thread-safe."""

    def __init__(
        self,
        project: str,
        number: str,
        *,
        lock: AbstractContextManager[Any],
        mutate: Callable[[], AbstractContextManager[None]],
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.project, self.number = project, number
        self._lock, self._mutate, self._new_id, self._clock = lock, mutate, new_id, clock
        self._resources: dict[Key, Json] = {}
        self._endpoints: dict[Key, Resources] = {}

    # --- links -------------------------------------------------------------------------------------------------

    def path(self, collection: str, scope: str, name: str) -> str:
        """``projects/p/regions/r/subnetworks/s``, as error texts name a resource."""
        return f"projects/{self.project}/{scope}/{family(collection)}/{name}"

    def link(self, collection: str, scope: str, name: str) -> str:
        return ROOT + self.path(collection, scope, name)

    def scope_link(self, scope: str) -> str:
        return f"{ROOT}projects/{self.project}/{scope}"

    def canonical(self, value: Any) -> Any:
        """``value`` with every resource reference, full or partial, as this project's full link."""
        if isinstance(value, dict):
            return {key: self.canonical(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.canonical(item) for item in value]
        if not isinstance(value, str):
            return value
        found = _LINK.fullmatch(value)
        if found:
            rest = found.group(1).replace(f"projects/{self.number}/", f"projects/{self.project}/", 1)
            return ROOT + rest
        return f"{ROOT}projects/{self.project}/{value}" if _PARTIAL.fullmatch(value) else value

    # --- resources ---------------------------------------------------------------------------------------------

    def insert(self, collection: str, scope: str, body: Json) -> Json:
        """Add a resource and fill what the server fills. ApiError 409 where it exists."""
        name, group = str(body["name"]), family(collection)
        with self._mutate():
            if (group, scope, name) in self._resources:
                raise compute_exists(self.path(group, scope, name))
            resource: Json = {
                "kind": f"compute#{singular(group)}",
                "id": self._new_id(),
                "creationTimestamp": compute_time(self._clock()),
                **self.canonical(copy.deepcopy(body)),
                "selfLink": self.link(group, scope, name),
            }
            place, _, where = scope.partition("/")
            if where:
                resource[place.removesuffix("s")] = self.scope_link(scope)
            if group in FINGERPRINTED:
                resource["fingerprint"] = fingerprint(resource)
            self._resources[group, scope, name] = resource
            return copy.deepcopy(resource)

    def get(self, collection: str, scope: str, name: str) -> Json | None:
        with self._lock:
            return copy.deepcopy(self._resources.get((family(collection), scope, name)))

    def need(self, collection: str, scope: str, name: str) -> Json:
        """As ``get``, but ApiError 404 where there is none."""
        found = self.get(collection, scope, name)
        if found is None:
            raise compute_not_found(self.path(collection, scope, name))
        return found

    def list(self, collection: str, scope: str | None = None) -> Resources:
        """Resources of a collection in one scope, or everywhere, ordered by scope and name."""
        group = family(collection)
        with self._lock:
            found = [key for key in self._resources if key[0] == group and scope in (None, key[1])]
            return [copy.deepcopy(self._resources[key]) for key in sorted(found)]

    def scoped(self, collection: str) -> dict[str, Resources]:
        """All resources of a collection by scope."""
        result: dict[str, Resources] = {}
        group = family(collection)
        with self._lock:
            for key in sorted(key for key in self._resources if key[0] == group):
                result.setdefault(key[1], []).append(copy.deepcopy(self._resources[key]))
        return result

    def patch(self, collection: str, scope: str, name: str, fields: Json) -> Json:
        """Set top-level fields; None removes one. ApiError 404 where the resource is missing."""
        key = (family(collection), scope, name)
        with self._mutate():
            resource = self._resources.get(key)
            if resource is None:
                raise compute_not_found(self.path(*key))
            for field, value in fields.items():
                if value is None:
                    resource.pop(field, None)
                else:
                    resource[field] = self.canonical(copy.deepcopy(value))
            if key[0] in FINGERPRINTED:
                resource["fingerprint"] = fingerprint(resource)
            return copy.deepcopy(resource)

    def delete(self, collection: str, scope: str, name: str) -> bool:
        """Remove a resource whoever uses it (the API refuses before it comes here). False where there was none."""
        key = (family(collection), scope, name)
        with self._mutate():
            self._endpoints.pop(key, None)
            return self._resources.pop(key, None) is not None

    def everything(self) -> dict[str, dict[str, Json]]:
        """All resources: family -> ``scope/name`` -> resource."""
        result: dict[str, dict[str, Json]] = {}
        with self._lock:
            for group, scope, name in sorted(self._resources):
                resource = copy.deepcopy(self._resources[group, scope, name])
                result.setdefault(group, {})[f"{scope}/{name}"] = resource
        return result

    def users(self, link: str) -> Names:
        """Paths of the resources that refer to ``link``."""
        found = []
        with self._lock:
            for (group, scope, name), resource in sorted(self._resources.items()):
                if resource["selfLink"] != link and link in _strings(resource):
                    found.append(self.path(group, scope, name))
        return found

    # --- endpoints of network endpoint groups ------------------------------------------------------------------

    def endpoints(self, scope: str, name: str) -> Resources:
        """Network endpoints of a NEG: ``{"ipAddress", "port", "instance"}`` each."""
        with self._lock:
            return copy.deepcopy(self._endpoints.get(("networkEndpointGroups", scope, name), []))

    def set_endpoints(self, scope: str, name: str, endpoints: Resources) -> None:
        """Replace the endpoints of a NEG; its ``size`` follows. ApiError 404 where there is no such NEG."""
        with self._mutate():
            self.patch("networkEndpointGroups", scope, name, {"size": len(endpoints)})
            self._endpoints["networkEndpointGroups", scope, name] = self.canonical(copy.deepcopy(endpoints))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
