"""What role llmd_helmfile renders from each profile: taken by the charts' strict schemas, the recording's objects.

The recording is what the real charts made of the guides' values. Ours differ on purpose in what is listed here;
everything else that is compared must be the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT

REFERENCE = Path(os.environ.get("LLMD_REFERENCE", ROOT.parent / "shared/reference"))
PROFILES = ("llm-d-0.4", "llm-d-0.6")
PLAY = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Load the role's variables
      ansible.builtin.import_role:
        name: llmd.gke.llmd_helmfile
        public: true
      when: false
    - name: Keep what it would install
      ansible.builtin.copy:
        content: "{{ __llmd_helmfile_releases | to_json }}"
        dest: "{{ result_file }}"
        mode: "0600"
"""
Objects = dict[tuple[str, str], dict[str, Any]]
# for a collector with a token, which llm-d-0.6 leaves out: nobody could read the metrics through the API server then
WITHOUT_TOKEN = ("metrics-reader", "gaie-pattern1-llm-d-epp", "PodMonitoring")


@pytest.fixture
def render(tools: Path, charts: Path, tmp_path: Path) -> Callable[..., Objects]:
    """Objects of every release of a profile, made by the stand-in charts of its versions from the role's values."""
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "templates").symlink_to(ROOT / "roles/llmd_helmfile/templates")  # as if inside of the role

    def run(profile: str, **more: Any) -> Objects:
        result = tmp_path / "releases.json"
        variables = {"llmd_project": "p", "llmd_profile": profile, "result_file": str(result), **more}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks/collections"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        }
        command = ["ansible-playbook", "-i", "localhost,", "play.yml", "-e", json.dumps(variables)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        found: Objects = {}
        for release in json.loads(result.read_text()):
            values = tmp_path / f"{release['name']}.yaml"
            values.write_text(yaml.safe_dump(release["values"]))
            chart = charts / f"{release['chart']}-{release['version']}.tgz"
            words = ("template", release["name"], str(chart), "--namespace", "llm-d", "--values", str(values))
            made = subprocess.run([str(tools / "helm"), *words], capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr  # the charts' schemas refuse what they do not know
            found |= objects(made.stdout)
        return found

    return run


def objects(text: str) -> Objects:
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text) if item}


def recorded(profile: str) -> Objects:
    folder = REFERENCE / profile
    if not folder.is_dir():
        pytest.skip("no recording here")
    found: Objects = {}
    for path in sorted(folder.glob("*.rendered.yaml")):
        found |= objects(path.read_text())
    return found


def servers(found: Objects) -> dict[str, Any]:
    return dict(found["Deployment", "ms-pattern1-llm-d-modelservice-decode"]["spec"])


@pytest.mark.parametrize("profile", PROFILES)
def test_the_objects_are_those_of_the_recording(render: Callable[..., Objects], profile: str) -> None:
    ours, theirs = render(profile), recorded(profile)
    assert set(ours) - set(theirs) == set()
    missing = {f"{kind} {name}" for kind, name in set(theirs) - set(ours)}
    assert {item for item in missing if not any(word in item for word in WITHOUT_TOKEN)} == set()
    if profile == "llm-d-0.4":
        assert missing == set()

    pool, recorded_pool = (found["InferencePool", "gaie-pattern1"]["spec"] for found in (ours, theirs))
    selector, recorded_selector = (each.pop("selector")["matchLabels"] for each in (pool, recorded_pool))
    assert pool == recorded_pool
    assert recorded_selector.items() <= selector.items()  # ours names the model too: pools may stand side by side
    assert selector.items() <= servers(ours)["template"]["metadata"]["labels"].items()
    for kind in ("HealthCheckPolicy", "GCPBackendPolicy"):
        assert ours[kind, "gaie-pattern1"]["spec"] == theirs[kind, "gaie-pattern1"]["spec"]
    gateways = [found["Gateway", "infra-pattern1-inference-gateway"] for found in (ours, theirs)]
    assert gateways[0]["metadata"]["labels"] == gateways[1]["metadata"]["labels"]
    assert gateways[0]["spec"]["gatewayClassName"] == gateways[1]["spec"]["gatewayClassName"]
    (listener,), (recorded_listener,) = (gateway["spec"]["listeners"] for gateway in gateways)
    assert {**listener, "allowedRoutes": {"namespaces": {"from": "All"}}} == recorded_listener  # ours: Same
    picker, recorded_picker = (
        found["Deployment", "gaie-pattern1-epp"]["spec"]["template"]["spec"]["containers"][0]
        for found in (ours, theirs)
    )
    assert picker["image"] == recorded_picker["image"]
    assert picker["ports"] == recorded_picker["ports"]

    mine, real = servers(ours), servers(theirs)
    assert mine["selector"] == real["selector"]
    assert mine["template"]["metadata"]["labels"] == real["template"]["metadata"]["labels"]
    container, recorded_container = (spec["template"]["spec"]["containers"][0] for spec in (mine, real))
    for part in ("name", "image", "command", "ports", "resources"):
        assert container[part] == recorded_container[part], part
    assert {entry["name"] for entry in container["env"]} == {entry["name"] for entry in recorded_container["env"]}
    assert container["args"][:3] == recorded_container["args"][:3]  # model and port


def test_an_own_gateway_takes_the_place_of_the_charts(render: Callable[..., Objects]) -> None:
    """Same name, same release: the chart can do without addresses and Google's certificates only."""
    tls = {"certificates": ["managed"]}
    for profile in PROFILES:
        found = render(profile, llmd_tls=tls, llmd_address="mine", llmd_hostnames=["a.example.com", "b.example.com"])
        spec = found["Gateway", "infra-pattern1-inference-gateway"]["spec"]
        assert spec["addresses"] == [{"type": "NamedAddress", "value": "mine"}]
        plain, secure = spec["listeners"]
        assert (plain["port"], plain["protocol"]) == (80, "HTTP")
        assert secure["tls"] == {"mode": "Terminate", "options": {"networking.gke.io/cert-manager-certs": "managed"}}
        assert "hostname" not in secure  # two names: the route names them
        closed = render(
            profile, llmd_tls={"ssl_certificates": ["x", "y"], "http": "none"}, llmd_hostnames=["a.example.com"]
        )
        (only,) = closed["Gateway", "infra-pattern1-inference-gateway"]["spec"]["listeners"]
        assert (only["hostname"], only["tls"]["options"]) == (
            "a.example.com",
            {"networking.gke.io/pre-shared-certs": "x,y"},
        )


@pytest.mark.parametrize("profile", PROFILES)
def test_an_autoscaler_goes_with_the_servers(render: Callable[..., Objects], profile: str) -> None:
    found = render(profile, llmd_autoscaling={"min": 2, "max": 4, "metric": "kv_cache"})
    hpa = found["HorizontalPodAutoscaler", "ms-pattern1"]["spec"]
    assert hpa["scaleTargetRef"]["name"] == "ms-pattern1-llm-d-modelservice-decode"
    assert (hpa["minReplicas"], hpa["maxReplicas"], servers(found)["replicas"]) == (2, 4, 2)
    (metric,) = hpa["metrics"]
    assert metric["pods"]["metric"]["name"] == "prometheus.googleapis.com|vllm:kv_cache_usage_perc|gauge"
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "800m"}
    assert hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    paused = render(profile, llmd_autoscaling={"max": 4}, llmd_helmfile_autoscaling=False)
    assert not [kind for kind, _name in paused if kind == "HorizontalPodAutoscaler"]


def test_keda_asks_managed_prometheus_as_itself_or_a_prometheus_of_ones_own(render: Callable[..., Objects]) -> None:
    found = render("llm-d-0.4", llmd_autoscaling={"max": 3, "by": "keda"})
    scaled = found["ScaledObject", "ms-pattern1"]["spec"]
    (trigger,) = scaled["triggers"]
    told = trigger["metadata"]
    assert told["serverAddress"] == "https://monitoring.googleapis.com/v1/projects/p/location/global/prometheus"
    servers_of = 'namespace="llm-d",pod=~"ms-pattern1-llm-d-modelservice-decode-.+"'
    assert told["query"] == f"sum(vllm:num_requests_waiting{{{servers_of}}})"
    assert told["threshold"] == "5.0"
    assert found["TriggerAuthentication", "ms-pattern1"]["spec"] == {"podIdentity": {"provider": "gcp"}}
    own = render("llm-d-0.4", llmd_autoscaling={"max": 3, "by": "keda", "prometheus": "http://prometheus:9090"})
    assert "authenticationRef" not in own["ScaledObject", "ms-pattern1"]["spec"]["triggers"][0]
    assert ("TriggerAuthentication", "ms-pattern1") not in own


def test_all_of_a_group_in_one_place(render: Callable[..., Objects]) -> None:
    place = "cloud.google.com/gce-topology-subblock"
    found = render("llm-d-0.4", llmd_pattern="pattern4", llmd_multinode={"size": 2, "topology": place})
    group = found["LeaderWorkerSet", "ms-pattern1-llm-d-modelservice-decode"]
    assert group["metadata"]["annotations"] == {"leaderworkerset.sigs.k8s.io/exclusive-topology": place}
