"""A small API server in memory, at the transport; a clock that does not really sleep; modules run to their very end.

Used by tests/unit/{kube,llmd,inference}, whose conftest.py load it by path.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

Manifest = dict[str, Any]


class FakeClock:
    """Time that moves only when somebody sleeps; ``at`` plans what happens when."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.plans: list[tuple[float, Callable[[], Any]]] = []

    def now(self) -> float:
        return self.time

    def at(self, seconds: float, action: Callable[[], Any]) -> None:
        """Run something once that many seconds have passed."""
        self.plans.append((1000.0 + seconds, action))

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        due = [plan for plan in self.plans if plan[0] <= self.time]
        self.plans = [plan for plan in self.plans if plan[0] > self.time]
        for _unused, action in due:
            action()


class Refusal(Exception):
    """What the real client raises for an HTTP error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps({"kind": "Status", "message": message}).encode()


class _Reply:
    def __init__(self, data: bytes) -> None:
        self.data = data


class FakeApi:
    """Objects by path ("/api/v1/namespaces/llm-d/pods/x"), texts (logs, metrics) by path, scripted trouble."""

    def __init__(self) -> None:
        self.objects: dict[str, Manifest] = {}
        self.texts: dict[str, str] = {}
        self.trouble: list[Exception] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.on_write: Callable[[str, str, Manifest], Any] | None = None
        self.refuse: Callable[[str, Manifest], str] | None = None

    def put(self, path: str, manifest: Manifest) -> Manifest:
        """Store an object; its name and namespace are taken from the path."""
        metadata = manifest.setdefault("metadata", {})
        metadata.setdefault("name", path.rsplit("/", 1)[-1])
        match = re.search(r"/namespaces/([^/]+)/", path)
        if match:
            metadata.setdefault("namespace", match[1])
        metadata.setdefault("uid", f"uid-{metadata['name']}")
        self.objects[path] = manifest
        return manifest

    def writes(self) -> list[tuple[str, str, Any]]:
        return [request for request in self.requests if request[0] != "get"]

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> _Reply:
        self.requests.append((method, path, body))
        if self.trouble:
            raise self.trouble.pop(0)
        parts = urlsplit(path)
        where, query = unquote(parts.path), dict(parse_qsl(parts.query))
        if method == "get":
            return self._get(where, query)
        if method == "delete":
            if self.objects.pop(where, None) is None:
                raise Refusal(404, "not found")
            return _Reply(b"{}")
        document = json.loads(body) if isinstance(body, str) else body
        if self.refuse is not None and (words := self.refuse(where, document)):
            raise Refusal(422, words)
        if "apply-patch" in params.get("content_type", "") and where in self.objects:
            document = _merged(self.objects[where], document)
        if query.get("dryRun"):
            return _Reply(json.dumps(document).encode())
        return self._patch(where, document, params.get("content_type", ""))

    def _get(self, where: str, query: dict[str, str]) -> _Reply:
        key = where + ("?previous" if query.get("previous") else "")
        if key in self.texts:
            return _Reply(self.texts[key].encode())
        if where in self.objects:
            return _Reply(json.dumps(self.objects[where]).encode())
        below = {path: found for path, found in self.objects.items() if path.rsplit("/", 1)[0] == where}
        if not below and where.rsplit("/", 1)[-1] not in ("pods", "events", "healthcheckpolicies"):
            raise Refusal(404, f"{where} not found")
        items = [found for found in below.values() if _selected(found, query)]
        return _Reply(json.dumps({"items": items}).encode())

    def _patch(self, where: str, document: Manifest, content_type: str) -> _Reply:
        if content_type == "application/merge-patch+json":
            if where not in self.objects:
                raise Refusal(404, "not found")
            annotations = self.objects[where]["metadata"].setdefault("annotations", {})
            annotations.update(document["metadata"]["annotations"])
        else:
            self.put(where, document)
        if self.on_write:
            self.on_write(where, content_type, document)
        return _Reply(json.dumps(self.objects[where]).encode())


def _merged(live: Any, applied: Any) -> Any:
    """Server-side apply in small: what was applied lies over what is there."""
    if isinstance(live, dict) and isinstance(applied, dict):
        return {**live, **{key: _merged(live.get(key), value) for key, value in applied.items()}}
    return applied


def _selected(found: Manifest, query: dict[str, str]) -> bool:
    labels = found.get("metadata", {}).get("labels") or {}
    wanted = [part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part]
    if any(labels.get(key) != value for key, value in wanted):
        return False
    for part in query.get("fieldSelector", "").split(","):
        if not part:
            continue
        key, value = part.split("=", 1)
        node: Any = found
        for step in key.split("."):
            node = (node or {}).get(step)
        if node is not None and str(node) != value:
            return False
    return True


def event(
    name: str, message: str, *, kind: str, type_: str = "Warning", reason: str = "SYNC", at: str = "10:00:00"
) -> Manifest:
    """An event about an object."""
    return {
        "involvedObject": {"name": name, "kind": kind},
        "type": type_,
        "reason": reason,
        "message": message,
        "lastTimestamp": f"2026-11-23T{at}Z",
        "count": 1,
        "source": {"component": "sc-gateway-controller"},
    }


def condition(type_: str, status: str, reason: str = "", message: str = "", generation: int = 1) -> Manifest:
    """A fresh condition."""
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": "2026-11-23T10:00:00Z",
    }


def run_module(name: str, capfd: Any, params: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """Run a module's main() and return what it printed (JSON)."""
    from ansible.module_utils.testing import patch_module_args

    module = importlib.import_module(f"ansible_collections.llmd.gke.plugins.modules.{name}")
    arguments = {**params, "_ansible_check_mode": check_mode, "_ansible_diff": True}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capfd.readouterr().out)
    return result
