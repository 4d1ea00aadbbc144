"""The command line's way of naming a fault, read into the JSON object that ``faults`` takes.

- a named fault with its arguments in order: ``stockout us-central1-a nvidia-tesla-t4``
- ``api [HTTP] [xTIMES] METHOD [ANSWER] [key=value ...]``: ``api 503 x3 container.projects.locations.clusters.get``,
  ``api x1 compute.subnetworks.insert reset late=true``
- ``operation METHOD [code=CODE] [text]``
- anything else as one word of JSON: ``'{"method": "...", "http": 403, "details": [...]}'``
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


class BadFault(ValueError):
    """A fault that cannot be planted, and why."""


@dataclass(frozen=True)
class Argument:
    """One argument of a named fault."""

    name: str
    needed: bool = True
    number: bool = False


NAMED: dict[str, tuple[Argument, ...]] = {
    "stockout": (Argument("zone"), Argument("type", needed=False)),
    "not-offered": (Argument("type"), Argument("zone", needed=False)),
    "outage": (Argument("place"),),
    "gpu-quota": (Argument("limit", number=True),),
    "quota": (Argument("metric"), Argument("limit", number=True), Argument("region", needed=False)),
    "api-disabled": (Argument("service"),),
    "api-propagation": (Argument("seconds", number=True), Argument("service", needed=False)),
    "proxy-subnet-missing": (),
    "permission-missing": (Argument("permission"),),
    "billing-disabled": (),
    "project-inactive": (),
    "token-expired": (),
    "gke-version": (Argument("version"),),
    "cluster-busy": (Argument("cluster"), Argument("seconds", needed=False, number=True)),
    "roles": (Argument("principal"), Argument("roles", needed=False)),
}
_ANSWER_WORDS = ("reset", "cut", "broken", "html", "text", "empty", "redirect")


def read(given: Sequence[object]) -> Json:
    """The fault that the words mean. BadFault where they mean none."""
    words = [str(word) for word in given]
    if not words:
        raise BadFault("no fault named; one of: " + ", ".join([*NAMED, "api", "operation"]))
    name, rest = words[0], words[1:]
    if name.startswith("{"):
        return _document(name)
    if name == "api":
        return _api(rest)
    if name == "operation":
        if not rest:
            raise BadFault("operation METHOD [code=CODE] [message]")
        settings, text = _settings(rest[1:])
        return {"operation": rest[0], **({"message": " ".join(text)} if text else {}), **settings}
    if name not in NAMED:
        raise BadFault(f"unknown fault {name!r}; one of: " + ", ".join([*NAMED, "api", "operation"]))
    if len(rest) > len(NAMED[name]):
        raise BadFault(f"{name} takes: {' '.join(argument.name for argument in NAMED[name]) or 'nothing'}")
    return {"name": name, **{argument.name: word for argument, word in zip(NAMED[name], rest, strict=False)}}


def _document(text: str) -> Json:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BadFault(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadFault("a JSON object is wanted")
    return document


def _api(words: list[str]) -> Json:
    settings, plain = _settings(words)
    counts = [word for word in plain if word[:1] == "x" and word[1:].isdigit()]
    codes = [word for word in plain if word.isdigit()]
    answers = [word for word in plain if word in _ANSWER_WORDS]
    methods = [word for word in plain if "." in word or "*" in word]
    if len(methods) != 1:
        raise BadFault("api [HTTP] [xTIMES] METHOD, for example: api 503 x3 container.projects.locations.clusters.get")
    spec: Json = {"method": methods[0], "times": int(counts[0][1:]) if counts else 1}
    if answers:
        spec["answer"] = answers[0]
    if codes or not (answers or "delay" in settings):
        spec["http"] = int(codes[0]) if codes else 503
    return {**spec, **settings}


def _settings(words: list[str]) -> tuple[Json, list[str]]:
    """``key=value`` words (values as JSON where they are that), and the others."""
    settings: Json = {}
    plain = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.isidentifier():
            try:
                settings[key] = json.loads(value)
            except ValueError:
                settings[key] = value
        else:
            plain.append(word)
    return settings, plain
