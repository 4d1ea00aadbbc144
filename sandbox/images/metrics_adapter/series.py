"""What the custom metrics API answers, from pods, scrape targets and metrics texts. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

GROUP = "custom.metrics.k8s.io"
VERSIONS = ("v1beta1", "v1beta2")
NAME = re.compile(r"prometheus\.googleapis\.com\|(?P<metric>[a-zA-Z_:][a-zA-Z0-9_:]*)\|gauge")
PATH = re.compile(rf"/apis/{re.escape(GROUP)}/(?P<version>[^/]+)/namespaces/(?P<space>[^/]+)/pods/\*/(?P<name>[^/]+)")
Json = dict[str, Any]


def resources(version: str) -> Json:
    """The discovery document. Nothing is listed: the real one lists what a project happens to have collected."""
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{version}", "resources": []}


def refusal(code: int, message: str) -> Json:
    """A Status, as API servers refuse."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def chosen(item: Json, labels: Json) -> bool:
    """Whether matchLabels (the only selector that is modelled) take these labels."""
    wanted = (((item.get("spec") or {}).get("selector")) or {}).get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def port_of(pod: Json, named: str | int) -> int:
    """A scrape target's port of a pod, by number or by the name that a container gives it; 0 where there is none."""
    if str(named).isdigit():
        return int(named)
    ports = [port for part in pod["spec"]["containers"] for port in part.get("ports") or []]
    return next((int(port["containerPort"]) for port in ports if port.get("name") == named), 0)


def targets(pod: Json, scrapes: Iterable[Json]) -> Iterator[tuple[int, str]]:
    """Port and path of everything that managed Prometheus would collect from a pod."""
    labels = pod["metadata"].get("labels") or {}
    if not (pod.get("status") or {}).get("podIP") or pod["status"].get("phase") != "Running":
        return
    for scrape in scrapes:
        if chosen(scrape, labels):
            for endpoint in scrape["spec"].get("endpoints") or []:
                port = port_of(pod, endpoint.get("port", ""))
                if port:
                    yield port, str(endpoint.get("path") or "/metrics")


def value_in(text: str, metric: str) -> float | None:
    """The sum of a metric's series, None where there is none."""
    found = [line.rsplit(" ", 1)[1] for line in text.splitlines() if re.match(rf"{re.escape(metric)}[ {{]", line)]
    return sum(map(float, found)) if found else None


def values(
    version: str, name: str, pods: Iterable[Json], scrapes: list[Json], read: Callable[[str], str], now: datetime
) -> Json:
    """A MetricValueList: one entry for each pod of which something was collected. read: a metrics page by its URL."""
    match = NAME.fullmatch(name)
    assert match is not None
    items = []
    for pod in pods:
        seen = [value_in(read(f"http://{pod['status']['podIP']}:{port}{path}"), match["metric"])
                for port, path in targets(pod, scrapes)]  # fmt: skip
        known = [value for value in seen if value is not None]
        if known:
            items.append(_entry(version, name, pod["metadata"], known[0], now))
    return {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{version}", "metadata": {}, "items": items}


def _entry(version: str, name: str, metadata: Json, value: float, now: datetime) -> Json:
    about = {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "apiVersion": "/v1"}
    metric = {"metricName": name} if version == "v1beta1" else {"metric": {"name": name, "selector": None}}
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"describedObject": about, **metric, "timestamp": stamp, "value": f"{round(value * 1000)}m"}
