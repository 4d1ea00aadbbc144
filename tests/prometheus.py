"""A real Prometheus for tests: the role's own scrape configuration, rules and dashboard, on pods that are really there.

Debian's build has no service discovery of Kubernetes. So the test asks for the pods itself and writes what that
discovery would find, label by label; keeping, dropping and renaming stay the shipped configuration's.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import yaml

FILES = Path(__file__).resolve().parents[1] / "roles/monitoring/files"
RULES = ("recording.yml", "alerts.yml", "deployment.yml")
# What the role would have read of a deployment with a lease and a certificate.
DEPLOYMENT = {"cost": 0.81, "lease_end": 4_000_000_000, "certificate_end": 4_000_000_000}
PROGRAMS = ("prometheus", "promtool")
Fetch = Callable[[str], Any]


def installed() -> bool:
    """Whether Debian's package is there (python3 -m sandbox.toolchain ensure --only prometheus)."""
    return all(shutil.which(name) for name in PROGRAMS)


def expressions(namespace: str) -> list[str]:
    """Every expression of the dashboard, for one namespace."""
    dashboard = json.loads((FILES / "dashboards/grafana.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert found
    return [expression.replace("$namespace", namespace) for expression in found]


def rules(name: str, **found: Any) -> dict[str, Any]:
    """A file of rules; those of a deployment with what the role would have found."""
    if name == "deployment.yml":
        names = {"monitoring_namespace": "llm-d", "monitoring_deployment": "pattern1"}
        template = (FILES.parent / "templates/deployment.yml.j2").read_text(encoding="utf-8")
        environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
        text = environment.from_string(template).render(__monitoring_facts={**DEPLOYMENT, **found}, **names)
    else:
        text = (FILES / "rules" / name).read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def discovered(pods: Sequence[Mapping[str, Any]], selector: str) -> list[dict[str, Any]]:
    """What Kubernetes discovery tells of the pods that ``selector`` (KEY or KEY=VALUE) takes: a target a port."""
    key, _unused, value = selector.partition("=")
    found = []
    for pod in pods:
        labels, status = pod["metadata"].get("labels", {}), pod["status"]
        if key not in labels or (value and labels[key] != value) or not status.get("podIP"):
            continue
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                told = {
                    "namespace": pod["metadata"]["namespace"],
                    "pod_name": pod["metadata"]["name"],
                    "pod_phase": status["phase"],
                    "pod_container_name": container["name"],
                    "pod_container_port_name": port.get("name", ""),
                }
                labels_of = {f"__meta_kubernetes_{name}": text for name, text in told.items()}
                found.append({"targets": [f"{status['podIP']}:{port['containerPort']}"], "labels": labels_of})
    return found


def write_configuration(folder: Path, pods: Sequence[Mapping[str, Any]]) -> Path:
    """The shipped configuration with every second instead of its intervals, and files instead of discovery."""
    config = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    for job in config["scrape_configs"]:
        (discovery,) = job.pop("kubernetes_sd_configs")
        (selector,) = discovery["selectors"]
        targets = discovered(pods, selector["label"])
        assert targets, f"no pod for {job['job_name']}"
        file = folder / f"{job['job_name']}.json"
        file.write_text(json.dumps(targets), encoding="utf-8")
        job["file_sd_configs"] = [{"files": [str(file)]}]
    (folder / "rules").mkdir()
    for name in RULES:
        content = rules(name)
        for group in content["groups"]:
            group["interval"] = "1s"
        (folder / "rules" / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config), encoding="utf-8")
    return written


@dataclass
class Prometheus:
    """A running one; ``fetch`` gets a URL's JSON from where it listens."""

    url: str
    fetch: Fetch
    process: subprocess.Popen[bytes]
    log: Path

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.fetch(f"{self.url}/api/v1/query?query={quote(expression, safe='')}")
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def numbers(self, expression: str) -> list[float]:
        """Values of the series that are numbers: NaN is what a quotient of nothing gives."""
        values = [float(series["value"][1]) for series in self.query(expression)]
        return [value for value in values if math.isfinite(value)]

    def without_numbers(self, wanted: Sequence[str], seconds: float) -> list[str]:
        """Those of the expressions that had no number in any of their series until the time was up."""
        deadline, left = time.monotonic() + seconds, list(wanted)
        while left and time.monotonic() < deadline:
            left = [expression for expression in left if not self.numbers(expression)]
        return left

    def broken_rules(self) -> list[dict[str, Any]]:
        groups = self.fetch(f"{self.url}/api/v1/rules")["data"]["groups"]
        every = [rule for group in groups for rule in group["rules"]]
        assert len(every) == sum(len(group["rules"]) for name in RULES for group in rules(name)["groups"])
        return [rule for rule in every if rule["health"] != "ok"]

    def wait_ready(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.fetch(f"{self.url}/api/v1/status/runtimeinfo")["status"] == "success":
                    return
            except (OSError, ValueError, AssertionError):
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text(encoding="utf-8")[-3000:])
            time.sleep(0.1)


@contextmanager
def running(
    folder: Path, pods: Sequence[Mapping[str, Any]], *, port: int, fetch: Fetch, prefix: Sequence[str] = (), **more: Any
) -> Iterator[Prometheus]:
    """A Prometheus for the ``with`` block. ``prefix`` is put before the command (to enter a network)."""
    config = write_configuration(folder, pods)
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h", "--log.level=warn"]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*prefix, *command], stdout=output, stderr=subprocess.STDOUT, cwd=folder, **more)
    try:
        one = Prometheus(f"http://127.0.0.1:{port}", fetch, process, log)
        one.wait_ready()
        yield one
    finally:
        process.terminate()
        process.wait(timeout=30)
