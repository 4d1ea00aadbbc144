"""Configuration texts, machine sizes, node labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import paths as layout
from sandbox.gcp.backend import NodeSpec
from sandbox.kubernetes import baseobjects, machines, node, render
from sandbox.kubernetes.addresses import ClusterPlan, NodePlan

PLAN = ClusterPlan(1)
NODE = NodePlan(PLAN, 2, 1)


def node_config(**changes: Any) -> render.NodeConfig:
    values: dict[str, Any] = {
        "plan": NODE,
        "files": render.NodeFiles(Path("/s/clusters/1/nodes/2")),
        "name": "gke-a-b-1",
        "provider_id": "gce://p/us-central1-a/gke-a-b-1",
        "cgroup": "/llmd-sandbox-x/n1-2",
        "base_spec": Path("/s/base.json"),
        "registry_hosts": Path("/s/registry"),
        "machine": machines.Machine(4, 15360),
        "taints": [dict(node.GPU_TAINT)],
    }
    return render.NodeConfig(**{**values, **changes})


def kwokctl() -> str:
    control = render.ControlPlane(PLAN, Path("/bin"), Path("/home"), Path("/keepers"))
    return render.kwokctl(control, Path("/hook"), Path("/access"))


def arguments(component: str) -> dict[str, str]:
    text = kwokctl()
    patches = {patch["name"]: patch["extraArgs"] for patch in yaml.safe_load(text)["componentsPatches"]}
    return {item["key"]: item["value"] for item in patches[component]}


def test_api_server_is_as_gke_has_it() -> None:
    found = arguments("kube-apiserver")
    assert "ExtendedResourceToleration" in found["enable-admission-plugins"]
    assert found["advertise-address"] == "172.16.1.2"
    assert found["service-cluster-ip-range"] == layout.SERVICE_RANGE
    assert found["authentication-token-webhook-config-file"] == "/hook"
    assert found["authentication-token-webhook-cache-ttl"] == "5s"
    assert found["authorization-mode"] == "Node,RBAC,Webhook"
    assert found["authorization-webhook-config-file"] == "/access"
    assert found["kubelet-client-certificate"].endswith("kubelet-client.crt")


def test_kwokctl_runs_no_fake_nodes_and_port_443() -> None:
    text = kwokctl()
    options = yaml.safe_load(text)["options"]
    assert options["disable"] == ["kwok-controller"]
    assert options["kubeApiserverPort"] == 443
    assert options["kubeApiserverBinary"] == "/bin/kube-apiserver"


def test_what_kwokctl_sets_itself_is_overridden() -> None:
    text = kwokctl()
    patch = next(item for item in yaml.safe_load(text)["componentsPatches"] if item["name"] == "kube-apiserver")
    overridden = {item["key"] for item in patch["extraArgs"] if item.get("override")}
    assert {"tls-cert-file", "service-account-signing-key-file", "proxy-client-cert-file"} <= overridden


def test_a_webhook_quotes_the_key() -> None:
    config = yaml.safe_load(render.webhook("tokenreview", "p/us-central1-a/c"))
    assert config["clusters"][0]["cluster"]["server"].endswith("/kubernetes/tokenreview/p%2Fus-central1-a%2Fc")


def test_kubelet_configuration() -> None:
    config = yaml.safe_load(render.kubelet(node_config()))
    assert config["cgroupRoot"] == "/llmd-sandbox-x/n1-2"
    assert config["clusterDNS"] == [layout.CLUSTER_DNS]
    assert config["providerID"] == "gce://p/us-central1-a/gke-a-b-1"
    assert config["registerWithTaints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert config["kubeReserved"] == {"cpu": "80m", "memory": "2660Mi"}
    assert config["address"] == "10.128.0.11"


def test_kubelet_of_an_unknown_machine_type_reserves_nothing() -> None:
    assert "kubeReserved" not in yaml.safe_load(render.kubelet(node_config(machine=None)))


def test_containerd_uses_the_mirror_and_the_base_spec() -> None:
    text = render.containerd(node_config(snapshotter="native"))
    assert 'config_path = "/s/registry"' in text
    assert 'base_runtime_spec = "/s/base.json"' in text
    assert 'snapshotter = "native"' in text
    assert f'sandbox_image = "{render.PAUSE_IMAGE}"' in text


def test_registry_falls_back_to_nobody() -> None:
    text = render.registry_hosts()
    assert text.startswith('server = "http://192.0.2.10:5000"')


def test_cni_has_the_nodes_own_range() -> None:
    bridge = json.loads(render.cni(NODE))["plugins"][0]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.4.1.0/24"}]]
    assert bridge["ipMasq"] is False


def test_kube_proxy_configuration() -> None:
    config = yaml.safe_load(render.kube_proxy(node_config()))
    assert (config["mode"], config["clusterCIDR"], config["hostnameOverride"]) == (
        "nftables",
        "10.4.0.0/14",
        "gke-a-b-1",
    )


def test_corefile_asks_the_cluster_before_it_says_no() -> None:
    text = render.corefile(PLAN, Path("/k"))
    blocks = [block.strip().splitlines()[0] for block in text.split("\n}\n") if block.strip()]
    assert blocks == ["cluster.local in-addr.arpa {", "huggingface.co {", ". {"]
    assert text.count("bind 172.16.1.2") == 3


def test_base_spec_keeps_the_default_and_binds_read_only() -> None:
    default = {"mounts": [{"destination": "/proc"}], "process": {}}
    spec = render.base_spec(default, ["/usr", "/venv"])
    assert spec["mounts"][0] == {"destination": "/proc"}
    assert [item["destination"] for item in spec["mounts"][1:]] == ["/usr", "/venv"]
    assert all("ro" in item["options"] for item in spec["mounts"][1:])
    assert default["mounts"] == [{"destination": "/proc"}]


@pytest.mark.parametrize(
    ("name", "cpus", "memory"),
    [
        ("n1-standard-4", 4, 15360),
        ("n1-standard-1", 1, 3840),
        ("n1-highmem-8", 8, 53248),
        ("e2-standard-4", 4, 16384),
        ("e2-medium", 2, 4096),
        ("g2-standard-8", 8, 32768),
        ("n2d-standard-16", 16, 65536),
        ("a2-highgpu-1g", 12, 87040),
        ("a3-highgpu-8g", 208, 1916928),
        ("n2-custom-6-20480", 6, 20480),
        ("custom-2-8192", 2, 8192),
    ],
)
def test_machine_sizes(name: str, cpus: int, memory: int) -> None:
    assert machines.machine(name) == machines.Machine(cpus, memory)


@pytest.mark.parametrize("name", ["", "n1", "n1-standard", "tpu-v5", "n1-standard-x"])
def test_unknown_machine_types(name: str) -> None:
    assert machines.machine(name) is None


@pytest.mark.parametrize(("cpus", "reserved"), [(1, 60), (2, 70), (4, 80), (8, 90), (16, 110)])
def test_cpu_reservation_is_gkes(cpus: int, reserved: int) -> None:
    assert machines.reserved_cpu_millicores(cpus) == reserved


def test_memory_reservation_is_gkes() -> None:
    assert machines.reserved_memory_mib(15360) == int(1024 + 819.2 + 0.1 * 7168) + 100
    assert machines.reserved_memory_mib(512) == 255


def test_meminfo_is_what_a_kubelet_reads() -> None:
    assert machines.meminfo(machines.Machine(4, 15360)).splitlines()[0].split() == ["MemTotal:", "15728640", "kB"]


def test_cpu_tree_has_no_topology(tmp_path: Path) -> None:
    machines.write_cpu_tree(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cpu0",
        "cpu1",
        "cpu2",
        "cpu3",
        "online",
        "possible",
        "present",
    ]
    assert (tmp_path / "online").read_text() == "0-3\n"
    assert not list(tmp_path.glob("cpu*/topology"))


def test_gke_labels_and_the_pools_own() -> None:
    spec = NodeSpec(
        "n", "gpu", "us-central1-a", "n1-standard-4", {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    )
    found = node.labels(spec)
    assert found["cloud.google.com/gke-nodepool"] == "gpu"
    assert found["topology.kubernetes.io/region"] == "us-central1"
    assert found["topology.kubernetes.io/zone"] == "us-central1-a"
    assert found["node.kubernetes.io/instance-type"] == "n1-standard-4"
    assert found["cloud.google.com/gke-accelerator"] == "nvidia-tesla-t4"


def test_labels_that_a_kubelet_may_not_set_are_added_later() -> None:
    wanted = {
        "cloud.google.com/gke-nodepool": "a",
        "team": "b",
        "node.kubernetes.io/instance-type": "c",
        "topology.kubernetes.io/zone": "d",
        "node-role.kubernetes.io/worker": "",
        "addons.k8s.io/x": "y",
    }
    assert set(node.registration_labels(wanted)) == set(wanted) - {"node-role.kubernetes.io/worker", "addons.k8s.io/x"}


def test_gpu_taint_comes_once() -> None:
    assert node.taints(NodeSpec("n", "p", "z", "m", gpus=1)) == [node.GPU_TAINT]
    given = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoExecute"}]
    assert node.taints(NodeSpec("n", "p", "z", "m", taints=given, gpus=2)) == given
    assert node.taints(NodeSpec("n", "p", "z", "m")) == []


def test_a_gpu_node_is_ready_only_with_its_gpus() -> None:
    found: dict[str, Any] = {"status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {}}}
    assert node.is_ready(found, 0)
    assert not node.is_ready(found, 1)
    found["status"]["allocatable"]["nvidia.com/gpu"] = "1"
    assert node.is_ready(found, 1)
    found["status"]["conditions"][0]["status"] = "False"
    assert not node.is_ready(found, 1)


def test_base_objects_hold_the_iam_groups() -> None:
    found = baseobjects.objects(PLAN)
    bound = [body for path, body in found if path.endswith("bindings")]
    bindings = {body["subjects"][0]["name"]: body["roleRef"]["name"] for body in bound}
    assert bindings["gke:roles/container.admin"] == "cluster-admin"
    roles = {body["metadata"]["name"]: body for path, body in found if path.endswith("clusterroles")}
    developer = roles["gke:container.developer"]
    writers = [rule for rule in developer["rules"] if "rbac.authorization.k8s.io" in rule["apiGroups"]]
    assert [rule["verbs"] for rule in writers] == [["get", "list", "watch"]]


def test_snapshotter_by_filesystem() -> None:
    mounts = "/dev/vda / ext4 rw 0 0\noverlay /var overlay rw 0 0\ntmpfs /var/lib/x tmpfs rw 0 0\n"
    assert node.filesystem_of("/srv/a", mounts) == "ext4"
    assert node.filesystem_of("/var/lib/y", mounts) == "overlay"
    assert node.filesystem_of("/var/lib/x/y", mounts) == "tmpfs"
    assert node.filesystem_of("/variable", mounts) == "ext4"
