"""The monitoring role's scrape configuration, rules and dashboard, by a real Prometheus on the stand-ins' metrics."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests import prometheus

from .conftest import MODEL, NAMESPACE, POOL, ModelServer, Picker, free_port, http
from .test_picker import Stream, body, headers

pytest.importorskip("grpc")
pytestmark = pytest.mark.skipif(not prometheus.installed(), reason="no prometheus: sandbox tools --only prometheus")
SECURE = False
# Needs a failed request of a known model, which none of these is; promtool's test shows it.
NOT_HERE = {"llmd:picker_errors:ratio_rate5m"}


def pod(
    name: str, labels: dict[str, str], address: str, port: dict[str, Any], phase: str = "Running"
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"containers": [{"name": "main", "ports": [port, {"name": "other", "containerPort": 9}]}]},
        "status": {"podIP": address, "phase": phase},
    }


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def watched(
    shared_picker: Picker, model_servers: list[ModelServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[prometheus.Prometheus]:
    serving = {"llm-d.ai/inferenceServing": "true"}
    pods = [pod(one.pod, serving, one.address, {"name": "vllm", "containerPort": one.port}) for one in model_servers]
    pods.append(pod("gone", serving, "127.0.0.9", {"name": "vllm", "containerPort": 9}, phase="Succeeded"))
    port = {"name": "metrics", "containerPort": shared_picker.metrics_port}
    pods.append(pod("gaie-epp", {"inferencepool": f"{POOL}-epp"}, "127.0.0.1", port))
    pods.append(pod("stranger", {"app": "web"}, "127.0.0.1", port))
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus.running(folder, pods, port=free_port(), fetch=fetch) as one:
        yield one


@pytest.fixture
def load(shared_picker: Picker, model_servers: list[ModelServer]) -> Iterator[None]:
    """A request at a time, to the model servers and through the picker, until the test ends."""
    stopped = threading.Event()
    asked = {"model": MODEL, "prompt": "To be or not to be. " * 8, "max_tokens": 4}

    def send() -> None:
        while not stopped.wait(0.1):
            for server in model_servers:
                http(server.url + "/v1/completions", asked)
            first = headers((":method", "POST"), (":path", "/v1/completions"))
            Stream(shared_picker.port).exchange(first, body(json.dumps(asked).encode(), end=True))

    sender = threading.Thread(target=send)
    sender.start()
    yield
    stopped.set()
    sender.join(timeout=30)


@pytest.mark.usefixtures("load")
def test_every_expression_of_the_dashboard_and_every_recording_has_numbers(watched: prometheus.Prometheus) -> None:
    recorded = [rule["record"] for group in prometheus.rules("recording.yml")["groups"] for rule in group["rules"]]
    wanted = [*prometheus.expressions(NAMESPACE), *(name for name in recorded if name not in NOT_HERE)]
    assert watched.without_numbers(wanted, 30) == []
    assert watched.numbers(f'inference_pool_ready_pods{{namespace="{NAMESPACE}"}}') == [2]


def test_only_the_named_ports_of_running_pods_are_read(watched: prometheus.Prometheus) -> None:
    active = watched.fetch(f"{watched.url}/api/v1/targets?state=active")["data"]["activeTargets"]
    assert {one["labels"]["pod"] for one in active} == {"ms-pattern1-decode-2", "ms-pattern1-decode-3", "gaie-epp"}
    assert len(active) == 3
    assert watched.without_numbers(["count(up == 1) == 3"], 10) == []


def test_no_rule_is_broken_and_a_missing_name_would_be_seen(watched: prometheus.Prometheus) -> None:
    assert watched.without_numbers(["llmd:requests_waiting:sum"], 10) == []
    assert watched.broken_rules() == []
    assert watched.without_numbers(["vllm:no_such_metric"], 1) == ["vllm:no_such_metric"]
