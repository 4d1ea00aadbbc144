"""One node: containerd, kubelet and kube-proxy as a machine of their own in a namespace of their own."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sandbox import fabric, processes
from sandbox.gcp.backend import NodeSpec
from sandbox.kubernetes import cgroups, machines, pki, render, shared
from sandbox.kubernetes.addresses import NodePlan
from sandbox.kubernetes.api import ApiClient
from sandbox.kubernetes.controlplane import Layout, StartFailed, kept_folders, minimal_environment, tail
from sandbox.kubernetes.pid1 import MachineSpec, Mount, Service, launch_command
from sandbox.paths import VPC_GATEWAY, Paths

READY_TIMEOUT = 120.0  # seconds; 3 to 8 are usual on two cores
GPU = "nvidia.com/gpu"
GPU_TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
_KUBELET_MAY_SET = re.compile(
    r"(?:kubelet|node)\.kubernetes\.io/.*|kubernetes\.io/(?:os|arch|hostname)"
    r"|topology\.kubernetes\.io/(?:zone|region)|node\.kubernetes\.io/instance-type"
)


@dataclass(frozen=True)
class Node:
    """A node as the manager remembers it."""

    spec: NodeSpec
    plan: NodePlan
    project: str

    @property
    def provider_id(self) -> str:
        return f"gce://{self.project}/{self.spec.zone}/{self.spec.name}"


def labels(spec: NodeSpec) -> dict[str, str]:
    """The labels GKE gives every node, then the pool's own (which win)."""
    region = spec.zone.rpartition("-")[0]
    family = spec.machine_type.partition("-")[0]
    found = {
        "cloud.google.com/gke-nodepool": spec.pool,
        "cloud.google.com/gke-os-distribution": "cos",
        "cloud.google.com/gke-container-runtime": "containerd",
        "cloud.google.com/machine-family": family,
        "node.kubernetes.io/instance-type": spec.machine_type,
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": spec.zone,
        "topology.gke.io/zone": spec.zone,
    }
    return {**found, **spec.labels}


def taints(spec: NodeSpec) -> list[dict[str, str]]:
    """The pool's taints; a GPU node has GKE's own GPU taint too."""
    found = [dict(taint) for taint in spec.taints]
    if spec.gpus > 0 and not any(taint.get("key") == GPU for taint in found):
        found.append(dict(GPU_TAINT))
    return found


def registration_labels(all_labels: dict[str, str]) -> dict[str, str]:
    """Labels that a kubelet may give itself; the others are added from outside."""
    return {key: value for key, value in all_labels.items() if _may_register(key)}


def _may_register(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    reserved = domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io"))
    return not reserved or _KUBELET_MAY_SET.fullmatch(key) is not None


def write_files(paths: Paths, layout: Layout, node: Node, authority: pki.Authority, server: str) -> Path:
    """Certificates and configuration of a node; the machine specification to launch."""
    files, plan, name = layout.node(node.plan.number), node.plan, node.spec.name
    for folder in (files.cni, files.config("x").parent, files.kubelet_root, files.logs, files.pki):
        folder.mkdir(parents=True, exist_ok=True)
    files.ca.write_bytes(authority.pem)
    node_user = f"system:node:{name}"
    pki.write_pair(files.pki, "kubelet", *pki.issue(authority, node_user, ["system:nodes"], [name, plan.internal_ip]))
    pki.write_pair(files.pki, "kube-proxy", *pki.issue(authority, "system:kube-proxy"))
    size = machines.machine(node.spec.machine_type)
    config = render.NodeConfig(
        plan=plan,
        files=files,
        name=name,
        provider_id=node.provider_id,
        cgroup=cgroups.node_group(paths, plan.role),
        base_spec=shared.base_spec_file(paths),
        registry_hosts=shared.registry_hosts_folder(paths),
        machine=size,
        snapshotter=snapshotter(paths.state),
        taints=taints(node.spec),
    )
    for user in ("kubelet", "kube-proxy"):
        text = render.kubeconfig(server, files.ca, files.pki / f"{user}.crt", files.pki / f"{user}.key", user)
        files.config(f"{user}.kubeconfig").write_text(text, encoding="utf-8")
    (files.cni / "10-pods.conflist").write_text(render.cni(plan), encoding="utf-8")
    files.config("containerd.toml").write_text(render.containerd(config), encoding="utf-8")
    files.config("kubelet.yaml").write_text(render.kubelet(config), encoding="utf-8")
    files.config("kube-proxy.yaml").write_text(render.kube_proxy(config), encoding="utf-8")
    spec = files.home / f"{plan.role}.json"
    MachineSpec(_mounts(paths, files, size), _services(paths, files, node)).write(spec)
    return spec


def _mounts(paths: Paths, files: render.NodeFiles, size: machines.Machine | None) -> list[Mount]:
    """A node's own /run, /var/lib, /var/log and, where the machine type is known, its own size."""
    keep = kept_folders(paths)
    mounts = [
        Mount("tmpfs", "/run", keep=keep),
        Mount("tmpfs", "/var/lib", keep=keep),
        Mount("bind", "/var/lib/kubelet", str(files.kubelet_root)),
        Mount("bind", "/var/log", str(files.logs)),
    ]
    if size is not None:
        memory, cpus = files.config("meminfo"), files.config("cpus")
        memory.write_text(machines.meminfo(size), encoding="ascii")
        machines.write_cpu_tree(cpus, size.cpus)
        mounts.append(Mount("bind", "/proc/meminfo", str(memory)))
        mounts.append(Mount("bind", "/sys/devices/system/cpu", str(cpus)))
        if Path("/sys/devices/system/node").is_dir():
            mounts.append(Mount("tmpfs", "/sys/devices/system/node"))  # no NUMA: the CPUs are counted from cpu/ alone
    return mounts


def _services(paths: Paths, files: render.NodeFiles, node: Node) -> list[Service]:
    def log(name: str) -> str:
        return str(paths.logs / f"{node.plan.role}-{name}.log")

    kubelet = [str(paths.bin / "kubelet"), "--config", str(files.config("kubelet.yaml"))]
    kubelet += ["--kubeconfig", str(files.config("kubelet.kubeconfig")), "--hostname-override", node.spec.name]
    own = ",".join(f"{key}={value}" for key, value in registration_labels(labels(node.spec)).items())
    kubelet += ["--node-ip", node.plan.internal_ip, "--node-labels", own]
    proxy = [str(paths.bin / "kube-proxy"), "--config", str(files.config("kube-proxy.yaml"))]
    return [
        Service("containerd", ["containerd", "-c", str(files.config("containerd.toml"))], log("containerd")),
        Service("kubelet", kubelet, log("kubelet"), needs=[str(files.socket)]),
        Service("kube-proxy", proxy, log("kube-proxy")),
    ]


def start(paths: Paths, layout: Layout, node: Node, spec: Path) -> processes.Process:
    """Make the node's namespace, route and control group, and start it."""
    plan = node.plan
    namespace = fabric.attach(paths, plan.role, address=plan.internal_cidr, gateway=VPC_GATEWAY)
    fabric.add_route(paths, plan.pod_cidr, plan.internal_ip)
    cgroups.create(cgroups.node_group(paths, plan.role))
    return processes.start(
        plan.role,
        launch_command(sys.executable, spec),
        folder=layout.processes,
        log=paths.logs / f"{plan.role}.log",
        namespace=namespace,
        environment=minimal_environment(),
    )


def wait_ready(paths: Paths, client: ApiClient, node: Node, machine: processes.Process) -> None:
    """Give the Node what GKE's own controllers give it, and return once it is Ready (and shows its GPUs).

    Raises StartFailed when that takes too long or the machine has ended.
    """
    path = f"/api/v1/nodes/{node.spec.name}"
    deadline = time.monotonic() + READY_TIMEOUT
    completed = False
    last = "it has not registered"
    while machine.alive() and time.monotonic() < deadline:
        try:
            found = client.get(path)
            if found is not None and not completed:
                found = _complete(client, path, node, found)
                completed = True
            if found is not None:
                if is_ready(found, node.spec.gpus):
                    return
                last = _not_ready_reason(found)
        except requests.RequestException as error:
            last = str(error)
        time.sleep(0.1)
    why = f"is not Ready: {last}" if machine.alive() else "ended while starting"
    logs = [paths.logs / f"{node.plan.role}{suffix}.log" for suffix in ("-kubelet", "-containerd", "")]
    raise StartFailed(f"node {node.spec.name} {why}.\n{tail(logs)}")


def _complete(client: ApiClient, path: str, node: Node, found: dict[str, Any]) -> dict[str, Any]:
    metadata = {"labels": labels(node.spec)}
    patch: dict[str, Any] = {"metadata": metadata}
    if not found["spec"].get("podCIDR"):
        patch["spec"] = {"podCIDR": node.plan.pod_cidr, "podCIDRs": [node.plan.pod_cidr]}
    found = client.merge(path, patch)
    if node.spec.gpus > 0:
        # The documented way to advertise an extended resource without a device plugin; the kubelet keeps it.
        count = str(node.spec.gpus)
        found = client.merge(f"{path}/status", {"status": {"capacity": {GPU: count}, "allocatable": {GPU: count}}})
    return found


def is_ready(found: dict[str, Any], gpus: int) -> bool:
    """Whether a Node object says Ready and, for a GPU node, allocatable GPUs."""
    status = found.get("status", {})
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions", []))
    return ready and (gpus == 0 or status.get("allocatable", {}).get(GPU) == str(gpus))


def _not_ready_reason(found: dict[str, Any]) -> str:
    for item in found.get("status", {}).get("conditions", []):
        if item["type"] == "Ready":
            return str(item.get("message", item["status"]))
    return "it has not reported its status"


def snapshotter(folder: Path) -> str:
    """containerd's snapshotter for a state folder: overlayfs cannot lie on overlayfs (a sandbox in a container)."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    return "native" if filesystem_of(str(folder), mounts) == "overlay" else "overlayfs"


def filesystem_of(path: str, mounts: str) -> str:
    """Type of the filesystem that ``path`` lies on, from the text of /proc/mounts."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        prefix = fields[1].rstrip("/")
        if (path == prefix or path.startswith(prefix + "/")) and len(prefix) >= len(best):
            best, kind = prefix, fields[2]
    return kind
