"""The benchmark and the monitoring of a deployment, by the playbooks that a real one gets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import prometheus

from .conftest import Sandbox

pytestmark = pytest.mark.sandbox

BENCHMARK = "playbooks/benchmark.yml"
MONITORING = "playbooks/monitoring.yml"
NAMESPACE = "llm-d"
QUICK: dict[str, Any] = {
    "benchmark_requests": 40,
    "benchmark_concurrency": [4],
    "benchmark_workload": {"kind": "synthetic", "prompt": 32, "output": 16},
    "benchmark_duration": 20,
    "benchmark_gate": "off",
}
needs_prometheus = pytest.mark.skipif(
    not prometheus.installed(), reason="no prometheus: ./sandbox/sandbox tools --only prometheus"
)


@pytest.fixture(scope="module")
def deployed(sandbox: Sandbox) -> Sandbox:
    run = sandbox.playbook("playbooks/pattern1.yml")
    assert run.rc == 0, run.output[-6000:]
    return sandbox


def kubernetes(sandbox: Sandbox, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.exec_json("kubectl", "-n", NAMESPACE, "get", *words, "-o", "json")["items"]
    return found


# --- benchmark --------------------------------------------------------------------------------------------------------


def test_check_mode_says_what_would_be_sent_and_sends_nothing(deployed: Sandbox) -> None:
    before = len(deployed.exec("kubectl", "-n", NAMESPACE, "get", "services", "-o", "name").split())
    run = deployed.playbook(BENCHMARK, "--check", benchmark_direct="pod", **QUICK)
    assert run.rc == 0, run.output[-3000:]
    assert "Nothing was sent (check mode)." in run.output
    assert not (deployed.home / ".llmd/pattern1/benchmark").exists()
    assert len(deployed.exec("kubectl", "-n", NAMESPACE, "get", "services", "-o", "name").split()) == before


def test_the_endpoint_against_the_pod_behind_it(deployed: Sandbox) -> None:
    run = deployed.playbook(BENCHMARK, benchmark_direct="pod", benchmark_groups=2, **QUICK)
    assert run.rc == 0, run.output[-6000:]
    assert run.count("changed") == 0
    report = deployed.artifact("benchmark/benchmark.json")
    gateway, direct = report["results"]
    assert (gateway["target"], direct["target"]) == ("gateway", "direct")
    for side in (gateway, direct):
        assert side["requests"]["ok"] == side["requests"]["finished"] > 0
        assert side["causes"] == []
        first, whole = side["latency"]["ttft"]["p50"]["value"], side["latency"]["e2e"]["p50"]["value"]
        assert 0 < first < whole
        assert side["output_tokens_per_second"]["value"] > 0
    assert report["comparisons"]
    assert report["calibration"]["counts_exact"]
    lines = (deployed.home / ".llmd/pattern1/benchmark/requests.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert {record["output_tokens"] for record in told} == {16}
    assert {record["target"] for record in told} == {"gateway", "direct"}
    page = (deployed.home / ".llmd/pattern1/benchmark/benchmark.html").read_text()
    assert "<svg" in page
    assert "http-equiv" not in page.lower()


def test_the_way_past_the_gateway_is_gone_also_after_a_failure(deployed: Sandbox) -> None:
    assert not [one for one in kubernetes(deployed, "services") if "benchmark" in one["metadata"]["name"]]
    run = deployed.playbook(BENCHMARK, benchmark_direct="pod", benchmark_model="no/such-model", **QUICK)
    assert run.rc != 0
    assert "BENCHMARK_" in run.output, run.output[-3000:]
    assert "Traceback" not in run.output
    assert not [one for one in kubernetes(deployed, "services") if "benchmark" in one["metadata"]["name"]]


def test_a_later_run_is_compared_with_the_last(deployed: Sandbox) -> None:
    for _ in range(2):
        run = deployed.playbook(BENCHMARK, **QUICK)
        assert run.rc == 0, run.output[-6000:]
    assert deployed.artifact("benchmark/benchmark.json")["since_last"]
    assert "gateway at 4 since" in run.output


def test_the_load_generator_of_the_model_image_as_a_job(deployed: Sandbox) -> None:
    """The Job, its limits and its way to the Gateway are real; the program in the image is the sandbox's stand-in."""
    run = deployed.playbook(BENCHMARK, benchmark_engine="vllm", **QUICK)
    assert run.rc == 0, run.output[-6000:]
    assert run.count("changed") == 0
    report = deployed.artifact("benchmark/benchmark.json")
    assert report["engine"]["name"] == "vllm"
    (result,) = report["results"]
    assert result["target"] == "gateway (vllm)"
    assert result["requests"]["ok"] == 40
    assert result["tokens"]["output"] == 40 * 16
    assert result["own"]["ttft.p50"] > 0
    for kind in ("jobs", "configmaps", "pods"):
        assert not [one for one in kubernetes(deployed, kind) if "benchmark" in one["metadata"]["name"]], kind


def test_a_job_whose_model_does_not_exist_tells_why_and_is_gone(deployed: Sandbox) -> None:
    more = {**QUICK, "benchmark_engine_timeout": 120}
    run = deployed.playbook(BENCHMARK, benchmark_engine="vllm", benchmark_model="no/such-model", **more)
    assert run.rc != 0
    assert "ENGINE_FAILED" in run.output, run.output[-3000:]
    assert "Initial test run failed" in run.output
    assert not [one for one in kubernetes(deployed, "jobs") if "benchmark" in one["metadata"]["name"]]


# --- monitoring -------------------------------------------------------------------------------------------------------


@pytest.fixture
def load(deployed: Sandbox) -> Iterator[None]:
    """A few requests a second through the Gateway until the test ends."""
    endpoint = deployed.artifact("verify.json")["endpoint"]
    body = json.dumps({"model": "google/gemma-2b-it", "prompt": "To be or not to be. " * 8, "max_tokens": 8})
    stopped = threading.Event()

    def send() -> None:
        command = ("curl", "-s", "-o", "/dev/null", f"{endpoint}/v1/completions")
        while not stopped.wait(0.3):
            deployed.exec(*command, "-H", "Content-Type: application/json", "-d", body, check=False)

    sender = threading.Thread(target=send)
    sender.start()
    yield
    stopped.set()
    sender.join(timeout=60)


@needs_prometheus
@pytest.mark.usefixtures("load")
def test_metrics_arrive_and_every_expression_has_numbers(deployed: Sandbox, tmp_path: Path) -> None:
    pods = kubernetes(deployed, "pods")
    enter = (str(prometheus.FILES.parents[2] / "sandbox/sandbox"), "exec")

    def fetch(url: str) -> Any:
        return json.loads(deployed.exec("curl", "-s", url))

    with prometheus.running(
        tmp_path, pods, port=19090, fetch=fetch, prefix=enter, env=deployed.environment
    ) as watching:
        run = deployed.playbook(MONITORING, monitoring_prometheus_url=watching.url, monitoring_timeout=60)
        assert run.rc == 0, run.output[-3000:]
        assert watching.without_numbers(prometheus.expressions(NAMESPACE), 60) == []
        assert watching.broken_rules() == []
        assert watching.numbers(f'inference_pool_ready_pods{{namespace="{NAMESPACE}"}}') == [1]


def test_the_objects_are_those_of_the_role_and_a_second_run_changes_nothing(deployed: Sandbox) -> None:
    run = deployed.playbook(MONITORING)
    assert run.rc == 0, run.output[-3000:]
    again = deployed.playbook(MONITORING)
    assert (again.rc, again.count("changed")) == (0, 0), again.output[-3000:]
    (alerts,) = (one for one in kubernetes(deployed, "rules") if one["metadata"]["name"].endswith("-alerts"))
    shipped = {rule["alert"]: rule["expr"] for rule in prometheus.rules("alerts.yml")["groups"][0]["rules"]}
    assert {rule["alert"]: rule["expr"] for rule in alerts["spec"]["groups"][0]["rules"]} == shipped
    assert "{{ $labels." in json.dumps(alerts)
    (own,) = (one for one in kubernetes(deployed, "rules") if one["metadata"]["name"].endswith("-deployment"))
    (cost,) = own["spec"]["groups"][0]["rules"]  # no lease was set, and the endpoint has no certificate
    assert cost["record"] == "llmd:cost_running:usd_per_hour"
    assert cost["labels"] == {"namespace": NAMESPACE, "deployment": "pattern1"}
    assert float(cost["expr"].removeprefix("vector(").rstrip(")")) > 0
    (dashboard,) = deployed.snapshot()["dashboards"].values()
    assert dashboard["labels"]["llmd-deployment"] == "pattern1"
    ours = {one["metadata"]["name"] for one in kubernetes(deployed, "podmonitorings")}
    assert ours == {"gaie-pattern1", "llmd-pattern1-model-servers"}
    assert (deployed.home / ".llmd/pattern1/monitoring/dashboards/grafana.json").is_file()


def test_objects_for_an_operator_of_ones_own(deployed: Sandbox, tmp_path: Path) -> None:
    """The two kinds are open here: no operator reads them, and their real schemas are its own."""
    missing = deployed.playbook(MONITORING, monitoring_backend="operator")
    assert "CRD_MISSING" in missing.output, missing.output[-3000:]
    for plural, kind in (("podmonitors", "PodMonitor"), ("prometheusrules", "PrometheusRule")):
        crd = open_definition("monitoring.coreos.com", plural, kind)
        (tmp_path / plural).write_text(json.dumps(crd), encoding="utf-8")
        deployed.exec("kubectl", "apply", "-f", str(tmp_path / plural))
        deployed.exec("kubectl", "wait", "--for=condition=Established", "--timeout=60s", "crd", crd["metadata"]["name"])
    labels = {"release": "kube-prometheus-stack"}
    run = deployed.playbook(MONITORING, monitoring_backend="operator", monitoring_operator_labels=labels)
    assert run.rc == 0, run.output[-3000:]
    monitors = {one["metadata"]["name"]: one for one in kubernetes(deployed, "podmonitors")}
    assert set(monitors) == {"llmd-pattern1-model-servers", "llmd-pattern1-pickers"}
    for one in [*monitors.values(), *kubernetes(deployed, "prometheusrules")]:
        assert one["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    for one in monitors.values():  # each selects pods that have the port it names
        selector = one["spec"]["selector"]
        words = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
        words += [entry["key"] for entry in selector.get("matchExpressions", [])]
        pods = json.loads(deployed.exec("kubectl", "get", "pods", "-n", NAMESPACE, "-l", ",".join(words), "-o", "json"))
        ports = {port.get("name") for pod in pods["items"] for c in pod["spec"]["containers"] for port in c["ports"]}
        assert one["spec"]["podMetricsEndpoints"][0]["port"] in ports
    (alerts,) = (one for one in kubernetes(deployed, "prometheusrules") if one["metadata"]["name"].endswith("-alerts"))
    assert alerts["spec"] == prometheus.rules("alerts.yml")
    gone = deployed.playbook(MONITORING, monitoring_backend="operator", monitoring_state="absent")
    assert gone.rc == 0, gone.output[-3000:]
    assert kubernetes(deployed, "podmonitors") == kubernetes(deployed, "prometheusrules") == []


def open_definition(group: str, plural: str, kind: str) -> dict[str, Any]:
    """A CRD that takes every object of its kind."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [version],
        },
    }


def test_absent_takes_them_away(deployed: Sandbox) -> None:
    run = deployed.playbook(MONITORING, monitoring_state="absent")
    assert run.rc == 0, run.output[-3000:]
    assert kubernetes(deployed, "rules") == []
    assert deployed.snapshot()["dashboards"] == {}
    assert {one["metadata"]["name"] for one in kubernetes(deployed, "podmonitorings")} == {"gaie-pattern1"}
