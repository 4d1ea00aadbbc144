"""The metrics adapter's stand-in: what it takes for collected, and the two shapes in which it answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.gke.kubeapi import ApiError
from sandbox.images.metrics_adapter import series
from sandbox.images.metrics_adapter.__main__ import answer

NAME = "prometheus.googleapis.com|vllm:num_requests_waiting|gauge"
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
SCRAPE = {"spec": {"selector": {"matchLabels": {"serve": "yes"}}, "endpoints": [{"port": 8000}]}}
TEXT = 'vllm:num_requests_waiting{model="m"} 3.0\nvllm:num_requests_waiting_other 9\nvllm:num_requests_running 1\n'


def pod(name: str, phase: str = "Running", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "llm-d", "labels": labels},
        "spec": {"containers": [{"ports": [{"name": "vllm", "containerPort": 8000}]}]},
        "status": {"phase": phase, "podIP": "10.0.0.9"},
    }


def test_only_what_is_scraped_has_a_value() -> None:
    pods = [pod("a", serve="yes"), pod("b", serve="no"), pod("c", "Pending", serve="yes")]
    asked: list[str] = []
    found = series.values("v1beta2", NAME, pods, [SCRAPE], lambda url: asked.append(url) or TEXT, NOW)  # type: ignore[func-returns-value]
    assert asked == ["http://10.0.0.9:8000/metrics"]
    (item,) = found["items"]
    assert item["describedObject"]["name"] == "a"
    assert item["metric"]["name"] == NAME
    assert (item["value"], item["timestamp"]) == ("3000m", "2026-11-27T12:00:00Z")
    assert series.values("v1beta2", NAME, pods, [], lambda _url: TEXT, NOW)["items"] == []
    assert series.values("v1beta1", NAME, pods, [SCRAPE], lambda _url: TEXT, NOW)["items"][0]["metricName"] == NAME


def test_ports_by_name_and_metrics_that_are_not_there() -> None:
    assert series.port_of(pod("a"), "vllm") == 8000
    assert series.port_of(pod("a"), "another") == 0
    assert series.value_in(TEXT, "vllm:nothing") is None
    assert series.value_in(TEXT, "vllm:num_requests_running") == 1.0


class Api:
    def call(self, _verb: str, path: str, **_query: Any) -> dict[str, Any]:
        if "broken" in path:
            raise ApiError(403, "Forbidden", "no")
        return {"items": []}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/apis/custom.metrics.k8s.io/v1beta2", 200),
        ("/apis/custom.metrics.k8s.io/v1", 404),
        ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/llm-d/pods/*/prometheus.googleapis.com%7Cx%7Cgauge", 404),
        ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/llm-d/pods/*/prometheus.googleapis.com%7Cx%7Ccounter", 404),
        ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/broken/pods/*/prometheus.googleapis.com%7Cx%7Cgauge", 503),
    ],
)
def test_answers(path: str, status: int) -> None:
    assert answer(Api(), path)[0] == status  # type: ignore[arg-type]
