"""Configuration texts of the Kubernetes parts. Pure: values in, text out."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sandbox import paths as layout
from sandbox.kubernetes.addresses import ClusterPlan, NodePlan, service_api_address
from sandbox.kubernetes.machines import Machine, reserved_cpu_millicores, reserved_memory_mib

KUBERNETES_VERSION = "v1.36.4"  # kwokctl wants one; what really runs is what the toolchain built
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
REGISTRY_PORT = 5000
CNI_PLUGINS = "/usr/lib/cni"  # Debian's containernetworking-plugins
TOKEN_CACHE_SECONDS = 5
ACCESS_CACHE_SECONDS = 5
CERTIFICATE_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
)


def dump(document: object) -> str:
    """YAML as the configuration readers want it: in the order written, never with anchors."""
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, width=1000)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True)
class ControlPlane:
    """Everything the control plane's configuration is made of. ``home`` is kwokctl's folder of the cluster.

    ``keepers``: folder of the scripts that keep controller manager and scheduler running (``keeper``).
    """

    plan: ClusterPlan
    bin: Path
    home: Path
    keepers: Path

    @property
    def pki(self) -> Path:
        return self.home / "pki"


def kubeconfig(server: str, ca_file: Path, cert_file: Path, key_file: Path, user: str) -> str:
    """A kubeconfig with a client certificate; files by path."""
    return dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": {"server": server, "certificate-authority": str(ca_file)}}],
            "users": [{"name": user, "user": {"client-certificate": str(cert_file), "client-key": str(key_file)}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user}}],
            "current-context": "sandbox",
        }
    )


def webhook(route: str, key: str) -> str:
    """Where the API server asks the emulated Google side, one address a cluster.

    ``route``: tokenreview (who is this token?) or accessreview (does IAM let them?).
    """
    server = f"http://{layout.API_ADDRESS}:{layout.API_PORT}/kubernetes/{route}/{urllib.parse.quote(key, safe='')}"
    return dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "google", "cluster": {"server": server}}],
            "users": [{"name": "kube-apiserver", "user": {}}],
            "contexts": [{"name": "google", "context": {"cluster": "google", "user": "kube-apiserver"}}],
            "current-context": "google",
        }
    )


def keeper(program: Path) -> str:
    """A script that runs a component of the control plane, again where it gives up.

    Controller manager and scheduler end where the API server is slow to start; real ones are begun anew.
    """
    return f"""#!/bin/sh
case "$1" in --version) exec {program} "$@" ;; esac
trap 'kill "$child" 2>/dev/null; exit 0' TERM INT
while true; do
  {program} "$@" &
  child=$!
  wait "$child"
  sleep 1
done
"""


def kwokctl(control: ControlPlane, token_webhook: Path, access_webhook: Path) -> str:
    """kwokctl's configuration: binary runtime, no kwok controller (no node here is a fake one)."""
    options = {
        "runtime": "binary",
        "bindAddress": "0.0.0.0",
        "kubeVersion": KUBERNETES_VERSION,
        "securePort": True,
        "kubeApiserverPort": 443,
        "etcdPort": 2379,
        "etcdPeerPort": 2380,
        "kubeControllerManagerPort": 10257,
        "kubeSchedulerPort": 10259,
        "disable": ["kwok-controller"],
        "kubeApiserverBinary": str(control.bin / "kube-apiserver"),
        "kubeControllerManagerBinary": str(control.keepers / "kube-controller-manager"),
        "kubeSchedulerBinary": str(control.keepers / "kube-scheduler"),
        "etcdBinary": str(control.bin / "etcd"),
        "kubectlBinary": str(control.bin / "kubectl"),
    }
    server = _api_server(control, token_webhook, access_webhook)
    patches = [
        {"name": "kube-apiserver", "extraArgs": _arguments(server, _API_SERVER_OVERRIDES)},
        {"name": "kube-controller-manager", "extraArgs": _arguments(_controller_manager(control), _KCM_OVERRIDES)},
        {"name": "kube-scheduler", "extraArgs": _arguments({"leader-elect": "false"})},
        {"name": "etcd", "extraArgs": _arguments({"unsafe-no-fsync": "true"})},
    ]
    document = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokctlConfiguration",
        "options": options,
        "componentsPatches": patches,
    }
    return dump(document)


# kwokctl gives these itself, from one certificate for everything; here each use has its own.
_API_SERVER_OVERRIDES = (
    "tls-cert-file",
    "tls-private-key-file",
    "service-account-key-file",
    "service-account-signing-key-file",
    "proxy-client-cert-file",
    "proxy-client-key-file",
    "authorization-mode",
)
_KCM_OVERRIDES = ("service-account-private-key-file",)


def _api_server(control: ControlPlane, token_webhook: Path, access_webhook: Path) -> dict[str, str]:
    pki = control.pki
    return {
        "tls-cert-file": f"{pki}/apiserver.crt",
        "tls-private-key-file": f"{pki}/apiserver.key",
        "service-account-key-file": f"{pki}/service-accounts.key",
        "service-account-signing-key-file": f"{pki}/service-accounts.key",
        "proxy-client-cert-file": f"{pki}/front-proxy-client.crt",
        "proxy-client-key-file": f"{pki}/front-proxy-client.key",
        "advertise-address": control.plan.endpoint,
        "service-cluster-ip-range": layout.SERVICE_RANGE,
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-client-certificate": f"{pki}/kubelet-client.crt",
        "kubelet-client-key": f"{pki}/kubelet-client.key",
        "kubelet-certificate-authority": f"{pki}/ca.crt",
        # As on GKE: the first taints GPU pods' tolerations in, the second keeps a kubelet to its own objects.
        "enable-admission-plugins": "ExtendedResourceToleration,NodeRestriction",
        # Webhooks and extension API servers: straight to their pods, as there is no kube-proxy beside the API server.
        "enable-aggregator-routing": "true",
        "authentication-token-webhook-config-file": str(token_webhook),
        "authentication-token-webhook-version": "v1",
        "authentication-token-webhook-cache-ttl": f"{TOKEN_CACHE_SECONDS}s",
        # IAM beside RBAC, asked last: whom RBAC allows something never waits for it.
        "authorization-mode": "Node,RBAC,Webhook",
        "authorization-webhook-config-file": str(access_webhook),
        "authorization-webhook-version": "v1",
        "authorization-webhook-cache-authorized-ttl": f"{ACCESS_CACHE_SECONDS}s",
        "authorization-webhook-cache-unauthorized-ttl": f"{ACCESS_CACHE_SECONDS}s",
        "requestheader-client-ca-file": f"{pki}/ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
    }


def _controller_manager(control: ControlPlane) -> dict[str, str]:
    return {
        "service-account-private-key-file": f"{control.pki}/service-accounts.key",
        "leader-elect": "false",
        "kube-api-qps": "200",
        "kube-api-burst": "400",
        "cluster-cidr": control.plan.pod_range,
        "service-cluster-ip-range": layout.SERVICE_RANGE,
        "allocate-node-cidrs": "false",  # the sandbox gives a node its range when it makes it
    }


def _arguments(values: Mapping[str, str], overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for key, value in values.items():
        found.append({"key": key, "value": value, **({"override": True} if key in overrides else {})})
    return found


def corefile(plan: ClusterPlan, kubeconfig_file: Path) -> str:
    """CoreDNS: the cluster's own names, the model hub's name, and a quick "no such name" for the rest.

    A block for each: within one, CoreDNS would ask the template before the cluster.
    """
    return f"""cluster.local in-addr.arpa {{
    bind {plan.endpoint}
    errors
    kubernetes {{
        kubeconfig {kubeconfig_file}
        pods insecure
        ttl 5
    }}
}}
huggingface.co {{
    bind {plan.endpoint}
    hosts {{
        {layout.HUB_ADDRESS} huggingface.co
    }}
}}
. {{
    bind {plan.endpoint}
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""


@dataclass(frozen=True)
class NodeFiles:
    """Files and folders of one node, all below ``home``; what other processes see by the same path."""

    home: Path

    @property
    def socket(self) -> Path:
        return self.home / "containerd.sock"

    @property
    def cni(self) -> Path:
        return self.home / "cni"

    @property
    def pki(self) -> Path:
        return self.home / "pki"

    @property
    def ca(self) -> Path:
        return self.pki / "ca.crt"

    @property
    def kubelet_root(self) -> Path:
        return self.home / "kubelet"

    @property
    def logs(self) -> Path:
        """The node's /var/log."""
        return self.home / "log"

    def config(self, name: str) -> Path:
        return self.home / "config" / name


@dataclass(frozen=True)
class NodeConfig:
    """What a node's configuration is made of. ``cgroup`` is its control group, ``snapshotter`` containerd's."""

    plan: NodePlan
    files: NodeFiles
    name: str
    provider_id: str
    cgroup: str
    base_spec: Path
    registry_hosts: Path
    machine: Machine | None
    snapshotter: str = "overlayfs"
    taints: list[dict[str, str]] = field(default_factory=list)


def cni(plan: NodePlan) -> str:
    """A bridge a node, as GKE's routes-based networking: pod addresses are seen as they are, everywhere."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": plan.pod_cidr}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cbr0", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    plugins = [{**bridge, "ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}, indent=1)


def registry_hosts() -> str:
    """containerd's hosts.toml for every registry: the sandbox's own stand-in, and nobody else when that has it not."""
    server = f"http://{layout.API_ADDRESS}:{REGISTRY_PORT}"
    return f'server = "{server}"\n\n[host."{server}"]\n  capabilities = ["pull", "resolve"]\n'


def containerd(config: NodeConfig) -> str:
    """containerd 1.6's configuration (version 2)."""
    files = config.files
    unused = ("aufs", "btrfs", "zfs", "devmapper")
    disabled = ", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in unused)
    return f"""version = 2
root = "{files.home}/containerd"
state = "/run/containerd"
disabled_plugins = [{disabled}]
[grpc]
  address = "{files.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{files.home}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{files.cni}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{config.registry_hosts}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{config.snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "{config.base_spec}"
"""


def kubelet(config: NodeConfig) -> str:
    """KubeletConfiguration. Evictions by pressure are off: the machine below is not the one the node plays."""
    files = config.files
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": config.cgroup,
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{files.socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(files.ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(files.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(files.pki / "kubelet.key"),
        "clusterDNS": [layout.CLUSTER_DNS],
        "clusterDomain": "cluster.local",
        "address": config.plan.internal_ip,
        "healthzBindAddress": "127.0.0.1",
        "volumePluginDir": str(files.home / "plugins"),
        "resolvConf": "",
        "providerID": config.provider_id,
        "registerWithTaints": config.taints,
        "maxPods": 110,
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
    }
    if config.machine is not None:
        cpu, memory = reserved_cpu_millicores(config.machine.cpus), reserved_memory_mib(config.machine.memory_mib)
        document["kubeReserved"] = {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}
    return dump(document)


def kube_proxy(config: NodeConfig) -> str:
    """KubeProxyConfiguration, nftables mode."""
    return dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(config.files.config("kube-proxy.kubeconfig"))},
            "clusterCIDR": config.plan.cluster.pod_range,
            "hostnameOverride": config.name,
            "bindAddress": "0.0.0.0",
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
    )


def base_spec(default: Mapping[str, Any], folders: Sequence[str]) -> dict[str, Any]:
    """containerd's default OCI spec plus read-only binds of the machine's own folders, each at its own path."""
    binds = [{"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]} for path in folders]
    return {**default, "mounts": [*default.get("mounts", []), *binds]}


def api_server_names(plan: ClusterPlan) -> list[str]:
    """Names and addresses in the API server's certificate."""
    return [*CERTIFICATE_NAMES, plan.endpoint, service_api_address()]
