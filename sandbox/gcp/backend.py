"""What the emulated container API needs from whoever really runs clusters, and a stand-in that runs none.

``ClusterBackend`` is the whole border between the Google side (sandbox/gcp) and the Kubernetes side
(sandbox/kubernetes). All calls block until the thing they ask for is true and raise an exception whose text can be
shown to a user when it cannot become true.
"""

from __future__ import annotations

import datetime
import ipaddress
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class NodeSpec:
    """One node to be. ``taints`` are Kubernetes taints: ``{"key", "value", "effect": "NoSchedule"|...}``."""

    name: str
    pool: str
    zone: str
    machine_type: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    gpus: int = 0  # extended resource nvidia.com/gpu


@dataclass(frozen=True)
class NodeAddresses:
    """Where a node and its pods live, for example ``10.128.0.10`` and ``10.4.0.0/24``."""

    internal_ip: str
    pod_cidr: str


@dataclass(frozen=True)
class ClusterEndpoint:
    """API server of a cluster: a bare IPv4 address (port 443) or ``host:port``, and its CA certificate in PEM."""

    host: str
    ca_pem: bytes


@dataclass(frozen=True)
class ClusterAdmin:
    """A ``system:masters`` client certificate, for the controllers that Google runs beside a cluster."""

    server: str
    ca_file: Path
    cert_file: Path
    key_file: Path
    kubeconfig: Path


class ClusterBackend(Protocol):
    """Runs clusters. ``key`` is ``<project>/<location>/<name>``."""

    def create_cluster(self, key: str, *, version: str, gateway_api: bool) -> ClusterEndpoint:
        """Start a control plane; returns once its /readyz answers ok."""

    def set_gateway_api(self, key: str, enabled: bool) -> None:
        """Install (or leave alone) what GKE's managed Gateway API brings."""

    def add_node(self, key: str, node: NodeSpec) -> NodeAddresses:
        """Start a node; returns once it is Ready. Called from several threads at once."""

    def remove_node(self, key: str, name: str) -> None:
        """Delete the Node object and everything that ran as it. An unknown name is no error."""

    def delete_cluster(self, key: str) -> None:
        """End nodes and control plane. An unknown key is no error."""

    def admin(self, key: str) -> ClusterAdmin:
        """Credentials of the cluster's own administrators. KeyError for an unknown key."""


@dataclass
class _NullCluster:
    endpoint: ClusterEndpoint
    gateway_api: bool
    index: int
    nodes: dict[str, NodeSpec] = field(default_factory=dict)
    folder: Path = Path()
    added: int = 0


class NullBackend:
    """Runs nothing, at once: an endpoint that nobody listens on and a CA made for it. For tests of the API side.

    ``calls`` records every call as ``(method, key, ...)``; ``failures[method]`` is raised by the next call of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clusters: dict[str, _NullCluster] = {}
        self.calls: list[tuple[str, ...]] = []
        self.failures: dict[str, Exception] = {}

    def _called(self, method: str, *rest: str) -> None:
        with self._lock:
            self.calls.append((method, *rest))
            failure = self.failures.pop(method, None)
        if failure is not None:
            raise failure

    def create_cluster(self, key: str, *, version: str, gateway_api: bool) -> ClusterEndpoint:
        self._called("create_cluster", key, version)
        with self._lock:
            index = 1
            while index in {cluster.index for cluster in self.clusters.values()}:
                index += 1
            endpoint = ClusterEndpoint(f"172.16.{index}.2", certificate_authority(f"null-{index}")[0])
            self.clusters[key] = _NullCluster(endpoint, gateway_api, index)
        return endpoint

    def set_gateway_api(self, key: str, enabled: bool) -> None:
        self._called("set_gateway_api", key, str(enabled))
        with self._lock:
            self.clusters[key].gateway_api = enabled

    def add_node(self, key: str, node: NodeSpec) -> NodeAddresses:
        self._called("add_node", key, node.name)
        with self._lock:
            cluster = self.clusters[key]
            cluster.nodes[node.name] = node
            number = cluster.added
            cluster.added += 1
        internal = ipaddress.IPv4Address("10.128.0.10") + 256 * (cluster.index - 1) + number
        return NodeAddresses(str(internal), f"10.{4 * cluster.index}.{number}.0/24")

    def remove_node(self, key: str, name: str) -> None:
        self._called("remove_node", key, name)
        with self._lock:
            self.clusters[key].nodes.pop(name, None)

    def delete_cluster(self, key: str) -> None:
        self._called("delete_cluster", key)
        with self._lock:
            self.clusters.pop(key, None)

    def admin(self, key: str) -> ClusterAdmin:
        with self._lock:
            cluster = self.clusters[key]
            if cluster.folder == Path():
                cluster.folder = Path(tempfile.mkdtemp(prefix="llmd-null-"))
        folder, server = cluster.folder, f"https://{cluster.endpoint.host}"
        files = [folder / name for name in ("ca.pem", "admin.pem", "admin-key.pem", "kubeconfig")]
        for path in files:
            path.touch(mode=0o600)
        files[0].write_bytes(cluster.endpoint.ca_pem)
        return ClusterAdmin(server, *files)


def certificate_authority(name: str) -> tuple[bytes, bytes]:
    """A self-signed CA certificate and its private key, both PEM, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
