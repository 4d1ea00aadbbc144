"""Trouble on order: what chosen calls answer, how operations end, and the named troubles of a project.

A fault is a small JSON object. Planting returns it with an ``id`` by which it can be cleared:

- ``{"method": "container.projects.locations.clusters.nodePools.create", "http": 503, "times": 3}``: the next three
  calls (shell patterns are fine) answer 503; ``message``, ``status``, ``reason``, ``details``, ``retryAfter`` optional.
  ``after``: that many calls pass first. ``delay``: seconds before the answer. ``answer``: one of ``ANSWERS`` in place
  of an error. ``late``: the call does its work and only its answer is lost.
- ``{"operation": "compute.subnetworks.insert", "message": "...", "code": "QUOTA_EXCEEDED"}``: the operation that the
  call starts ends with this error; ``http`` optional; for container operations ``code`` is the google.rpc number.
- ``{"name": "stockout", "zone": "us-central1-a"}`` and the others of ``NAMED``: hold until cleared.

The words of the command line are accepted too: ``{"words": ["stockout", "us-central1-a"]}``; see ``fault_words``.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sandbox.gcp import fault_words
from sandbox.gcp.errors import STATUS_OF_HTTP, ApiError
from sandbox.gcp.fault_words import NAMED, BadFault

Json = dict[str, Any]

# What can come in place of Google's JSON, and how.
ANSWERS = {
    "reset": "the connection is reset, no answer",
    "cut": "half of the body, then the connection ends",
    "broken": "the whole of a body whose JSON ends in the middle",
    "html": "an HTML page, as a proxy or a front end in trouble sends it",
    "text": "the good answer as text/plain",
    "empty": "no body",
    "redirect": "302 to a log-in page",
}
_MESSAGES = {
    429: "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service.",
    500: "Internal error encountered.",
    503: "The service is currently unavailable.",
    504: "Deadline exceeded.",
}
_REASONS = {403: "forbidden", 404: "notFound", 409: "aborted", 429: "rateLimitExceeded", 500: "backendError",
            503: "backendError", 504: "backendError"}  # fmt: skip


@dataclass
class Planted:
    """One planted fault; ``left`` counts down, None means until cleared; ``spare`` calls pass first."""

    id: int
    spec: Json
    left: int | None
    spare: int = 0

    def describe(self) -> Json:
        return {"id": self.id, **self.spec, "left": self.left}


class Faults:
    """What is planted. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._planted: dict[int, Planted] = {}

    def plant(self, spec: Json) -> Json:
        """Plant a fault; its description with ``id``. BadFault for one that makes no sense."""
        spec = _checked(fault_words.read(spec["words"]) if "words" in spec else dict(spec))
        times = spec.get("times", None if "name" in spec else 1)
        if times is not None and (type(times) is not int or times < 1):
            raise BadFault(f"times {times!r}: a number from 1")
        with self._lock:
            planted = Planted(next(self._ids), spec, times, int(spec.get("after", 0)))
            self._planted[planted.id] = planted
        return planted.describe()

    def planted(self) -> list[Json]:
        with self._lock:
            return [planted.describe() for planted in self._planted.values()]

    def clear(self, which: str | int | None = None) -> int:
        """Clear all, one by id, or all of a name or method; how many there were."""
        with self._lock:
            before = len(self._planted)
            self._planted = {
                key: planted
                for key, planted in self._planted.items()
                if which is not None
                and str(which) not in (str(key), *(str(planted.spec.get(k)) for k in ("name", "method", "operation")))
            }
            return before - len(self._planted)

    def call(self, method: str) -> Json | None:
        """The fault for this call of a method, counted down; its delay is over on return."""
        spec = self._take("method", method)
        if spec is not None and spec.get("delay"):
            time.sleep(float(spec["delay"]))
        return spec

    def operation(self, method: str) -> Json | None:
        """The error with which the operation of this method call is to end, if any."""
        return self._take("operation", method)

    # --- named ones --------------------------------------------------------------------------------------------

    def named(self, name: str) -> list[Json]:
        """Planted named faults of this name."""
        with self._lock:
            return [dict(planted.spec) for planted in self._planted.values() if planted.spec.get("name") == name]

    def stocked_out(self, zone: str, machine: str, gpu: str | None) -> bool:
        """Whether a zone has no such nodes. A stockout without a type is one of GPUs, as they mostly are."""
        return any(
            spec["zone"] in (zone, zone.rpartition("-")[0], "*")
            and (spec["type"] in (machine, gpu) if "type" in spec else gpu is not None)
            for spec in self.named("stockout")
        )

    def disabled(self, service: str) -> bool:
        return any(spec["service"] == service for spec in self.named("api-disabled"))

    def propagation(self, service: str) -> float:
        """Seconds that a service needs after it was enabled until its API answers."""
        found = [spec for spec in self.named("api-propagation") if spec.get("service", service) == service]
        return max((float(spec["seconds"]) for spec in found), default=0.0)

    def gpu_limit(self) -> int | None:
        """The smallest planted GPU quota."""
        return min((int(spec["limit"]) for spec in self.named("gpu-quota")), default=None)

    def quota(self, metric: str, region: str = "") -> float | None:
        """The smallest planted limit of a metric; ``region`` empty for a quota of the whole project."""
        found = [spec for spec in self.named("quota") if spec["metric"] == metric]
        return min((float(spec["limit"]) for spec in found if spec.get("region", region) == region), default=None)

    def outage(self, text: str) -> str:
        """The place of a planted outage that a resource's path names, empty where there is none."""
        words = text.split("/")
        for spec in self.named("outage"):
            place = str(spec["place"])
            if any(word == place or word.rpartition("-")[0] == place for word in words):
                return place
        return ""

    def offered(self, kind: str, zone: str) -> bool:
        """Whether a machine or accelerator type is (still) offered in a zone."""
        return not any(
            spec["type"] == kind and spec.get("zone", zone) in (zone, zone.rpartition("-")[0])
            for spec in self.named("not-offered")
        )

    def missing(self, permission: str) -> bool:
        return any(fnmatchcase(permission, str(spec["permission"])) for spec in self.named("permission-missing"))

    def busy(self, cluster: str) -> bool:
        """Whether a planted operation keeps a cluster busy, for good or for its seconds."""
        return any(
            spec["cluster"] in (cluster, "*") and time.time() < float(spec["at"]) + float(spec.get("seconds", "inf"))
            for spec in self.named("cluster-busy")
        )

    def roles(self, email: str) -> frozenset[str] | None:
        """The only roles that a principal has, where that is planted."""
        found = [spec for spec in self.named("roles") if spec["principal"] == email]
        if not found:
            return None
        return frozenset(role for spec in found for role in str(spec.get("roles", "")).split(",") if role)

    def expired(self, issued: float) -> bool:
        """Whether a token of that age was ended by a planted ``token-expired``."""
        return any(issued < float(spec["at"]) for spec in self.named("token-expired"))

    def _take(self, kind: str, method: str) -> Json | None:
        with self._lock:
            for key, planted in self._planted.items():
                if kind in planted.spec and fnmatchcase(method, str(planted.spec[kind])):
                    if planted.spare:
                        planted.spare -= 1
                        continue
                    if planted.left is not None:
                        planted.left -= 1
                        if planted.left == 0:
                            del self._planted[key]
                    return dict(planted.spec)
        return None


def error_of(spec: Json) -> ApiError:
    """The error that a planted method fault answers with."""
    code = int(spec.get("http", 503))
    message = str(spec.get("message", _MESSAGES.get(code, "Planted error.")))
    plain = not {"status", "reason"} & spec.keys()  # who gives one of them wants no other
    return ApiError(
        code,
        message,
        spec.get("status", STATUS_OF_HTTP.get(code) if plain else None),
        spec.get("reason", _REASONS.get(code) if plain else None),
        list(spec.get("details", [])),
        str(spec.get("domain", "global")),
        headers={"Retry-After": str(spec["retryAfter"])} if "retryAfter" in spec else {},
    )


def _checked(spec: Json) -> Json:
    kinds = [kind for kind in ("method", "operation", "name") if kind in spec]
    if len(kinds) != 1:
        raise BadFault("a fault needs exactly one of method, operation, name")
    if kinds == ["name"]:
        _check_named(spec)
    if "http" in spec and not 400 <= int(spec["http"]) <= 599:
        raise BadFault(f"http {spec['http']}: an error code, 400 to 599")
    if spec.get("answer", "reset") not in ANSWERS:
        raise BadFault(f"answer {spec['answer']!r}: one of {', '.join(ANSWERS)}")
    if not 0 <= float(spec.get("delay", 0)) <= 60 or int(spec.get("after", 0)) < 0:
        raise BadFault("delay: 0 to 60 seconds; after: a number of calls")
    return spec


def _check_named(spec: Json) -> None:
    arguments = NAMED.get(spec["name"])
    if arguments is None:
        raise BadFault(f"unknown fault {spec['name']!r}; one of: {', '.join(NAMED)}")
    for argument in arguments:
        if argument.name not in spec:
            if argument.needed:
                raise BadFault(f"{spec['name']} needs: {argument.name}")
        elif argument.number:
            try:
                spec[argument.name] = int(spec[argument.name])
            except (TypeError, ValueError) as error:
                raise BadFault(f"{spec['name']}: {argument.name} is a number") from error
    if "service" in spec and "." not in str(spec["service"]):
        spec["service"] = f"{spec['service']}.googleapis.com"
    if spec["name"] in ("token-expired", "cluster-busy"):
        spec.setdefault("at", time.time())


__all__ = ["ANSWERS", "NAMED", "BadFault", "Faults", "error_of"]
