"""Trouble on order: HTTP errors of chosen methods, failing operations, and the named troubles of the runbook.

A fault is a small JSON object. Planting returns it with an ``id`` by which it can be cleared:

- ``{"method": "container.projects.locations.clusters.nodePools.create", "http": 503, "times": 3}``: the next three
  calls (shell patterns are fine) answer 503; ``message``, ``status``, ``reason``, ``details``, ``retryAfter`` optional.
- ``{"operation": "compute.subnetworks.insert", "message": "...", "code": "QUOTA_EXCEEDED"}``: the operation that the
  call starts ends with this error; ``http`` optional; for container operations ``code`` is the google.rpc number.
- ``{"name": "stockout", "zone": "us-central1-a"}``, ``{"name": "gpu-quota", "limit": 0}``,
  ``{"name": "api-disabled", "service": "networkservices.googleapis.com"}``, ``{"name": "proxy-subnet-missing"}``:
  hold until cleared. The words of the command line are accepted too: ``{"words": ["stockout", "us-central1-a"]}``.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sandbox.gcp.errors import STATUS_OF_HTTP, ApiError

Json = dict[str, Any]

# name -> its argument (None: takes none), whether that is a number
NAMED: dict[str, tuple[str | None, bool]] = {
    "stockout": ("zone", False),
    "gpu-quota": ("limit", True),
    "api-disabled": ("service", False),
    "proxy-subnet-missing": (None, False),
}
_MESSAGES = {
    429: "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service.",
    500: "Internal error encountered.",
    503: "The service is currently unavailable.",
    504: "Deadline exceeded.",
}
_REASONS = {403: "forbidden", 404: "notFound", 409: "aborted", 429: "rateLimitExceeded", 500: "backendError",
            503: "backendError", 504: "backendError"}  # fmt: skip


class BadFault(ValueError):
    """A fault that cannot be planted, and why."""


@dataclass
class Planted:
    """One planted fault; ``left`` counts down, None means until cleared."""

    id: int
    spec: Json
    left: int | None

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
        spec = _checked(_from_words(spec) if "words" in spec else dict(spec))
        times = spec.get("times", None if "name" in spec else 1)
        if times is not None and (type(times) is not int or times < 1):
            raise BadFault(f"times {times!r}: a number from 1")
        with self._lock:
            planted = Planted(next(self._ids), spec, times)
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

    def check_call(self, method: str) -> None:
        """Raise the planted ApiError of a method call, if any."""
        spec = self._take("method", method)
        if spec is None:
            return
        code = int(spec.get("http", 503))
        raise ApiError(
            code,
            str(spec.get("message", _MESSAGES.get(code, "Planted error."))),
            spec.get("status", STATUS_OF_HTTP.get(code)),
            spec.get("reason", _REASONS.get(code)),
            list(spec.get("details", [])),
            headers={"Retry-After": str(spec["retryAfter"])} if "retryAfter" in spec else {},
        )

    def operation(self, method: str) -> Json | None:
        """The error with which the operation of this method call is to end, if any."""
        return self._take("operation", method)

    def named(self, name: str) -> list[Json]:
        """Planted named faults of this name."""
        with self._lock:
            return [dict(planted.spec) for planted in self._planted.values() if planted.spec.get("name") == name]

    def stocked_out(self, zone: str) -> bool:
        return any(spec["zone"] in (zone, zone.rpartition("-")[0], "*") for spec in self.named("stockout"))

    def disabled(self, service: str) -> bool:
        return any(spec["service"] == service for spec in self.named("api-disabled"))

    def gpu_limit(self) -> int | None:
        """The smallest planted GPU quota."""
        return min((int(spec["limit"]) for spec in self.named("gpu-quota")), default=None)

    def _take(self, kind: str, method: str) -> Json | None:
        with self._lock:
            for key, planted in self._planted.items():
                if kind in planted.spec and fnmatchcase(method, str(planted.spec[kind])):
                    if planted.left is not None:
                        planted.left -= 1
                        if planted.left == 0:
                            del self._planted[key]
                    return dict(planted.spec)
        return None


def _from_words(spec: Json) -> Json:
    """``["stockout", "us-central1-a"]``; ``["api", "503", "x3", "METHOD"]``; ``["operation", "METHOD", "text"]``."""
    words = [str(word) for word in spec["words"]]
    if not words:
        raise BadFault("no fault named; one of: " + ", ".join([*NAMED, "api", "operation"]))
    name, rest = words[0], words[1:]
    if name == "api":
        counts = [word for word in rest if word[:1] == "x" and word[1:].isdigit()]
        codes = [word for word in rest if word.isdigit()]
        methods = [word for word in rest if "." in word or "*" in word]
        if len(methods) != 1:
            raise BadFault(
                "api [HTTP] [xTIMES] METHOD, for example: api 503 x3 container.projects.locations.clusters.get"
            )
        return {
            "method": methods[0],
            "http": int(codes[0]) if codes else 503,
            "times": int(counts[0][1:]) if counts else 1,
        }
    if name == "operation":
        if not rest:
            raise BadFault("operation METHOD [message]")
        return {"operation": rest[0], **({"message": " ".join(rest[1:])} if rest[1:] else {})}
    if name not in NAMED:
        raise BadFault(f"unknown fault {name!r}; one of: " + ", ".join([*NAMED, "api", "operation"]))
    argument = NAMED[name][0]
    return {"name": name, **({argument: rest[0]} if argument and rest else {})}


def _checked(spec: Json) -> Json:
    kinds = [kind for kind in ("method", "operation", "name") if kind in spec]
    if len(kinds) != 1:
        raise BadFault("a fault needs exactly one of method, operation, name")
    if kinds == ["name"]:
        if spec["name"] not in NAMED:
            raise BadFault(f"unknown fault {spec['name']!r}; one of: " + ", ".join(NAMED))
        argument, number = NAMED[spec["name"]]
        if argument and argument not in spec:
            raise BadFault(f"{spec['name']} needs: {argument}")
        if argument and number:
            try:
                spec[argument] = int(spec[argument])
            except (TypeError, ValueError) as error:
                raise BadFault(f"{spec['name']}: {argument} is a number") from error
        if spec["name"] == "api-disabled" and "." not in str(spec["service"]):
            spec["service"] = f"{spec['service']}.googleapis.com"
    if "http" in spec and not 400 <= int(spec["http"]) <= 599:
        raise BadFault(f"http {spec['http']}: an error code, 400 to 599")
    return spec
