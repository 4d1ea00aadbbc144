"""``ClusterManager``: clusters and nodes for the emulated container API (the protocol of sandbox/gcp/backend.py).

Runs in the fabric namespace: it talks to API servers and answers the nodes' image pulls from there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests

from sandbox import fabric, processes
from sandbox import paths as layout_of_network
from sandbox.gcp.backend import ClusterAdmin, ClusterEndpoint, NodeAddresses, NodeSpec
from sandbox.kubernetes import cgroups, cleanup, controlplane, pki, registry, render, shared
from sandbox.kubernetes import node as machines
from sandbox.kubernetes.addresses import (
    MAX_CLUSTERS,
    MAX_NODE_ADDRESSES,
    NODES_PER_CLUSTER,
    ClusterPlan,
    NodePlan,
    lowest_free,
)
from sandbox.kubernetes.api import ApiClient, ApiError
from sandbox.kubernetes.controlplane import Layout
from sandbox.paths import Paths
from sandbox.timing import Timing

SOCKET_PATH_LIMIT = 107  # bytes: sun_path of unix(7) less its final zero


@dataclass
class _Cluster:
    key: str
    plan: ClusterPlan
    layout: Layout
    authority: pki.Authority | None = None
    client: ApiClient | None = None
    nodes: dict[str, machines.Node] = field(default_factory=dict)

    @property
    def server(self) -> str:
        return f"https://{self.plan.endpoint}"

    @property
    def project(self) -> str:
        return self.key.partition("/")[0]


class ClusterManager:
    """Runs real clusters. Every method may be called from any thread; two calls for one node must not overlap."""

    def __init__(self, paths: Paths, timing: Timing | None = None) -> None:
        self._paths = paths
        self._timing = timing or Timing(0)
        self._lock = threading.Lock()
        self._clusters: dict[str, _Cluster] = {}
        self._stop_registry: Callable[[], None] | None = None
        self._clean = False

    def create_cluster(self, key: str, *, version: str, gateway_api: bool) -> ClusterEndpoint:
        """Start the control plane of ``key``; returns once /readyz is ok and the base objects exist.

        ``version`` is kept in the record only: what runs is what the toolchain built. ``gateway_api`` concerns the
        GKE side. Raises StartFailed, MissingTool, OutOfAddresses or FabricError; nothing is left then.
        """
        self._check_path_length()
        cluster = self._reserve_cluster(key)
        try:
            self._prepare_shared()
            layout, plan = cluster.layout, cluster.plan
            layout.folder.mkdir(parents=True, exist_ok=True)
            record = {"key": key, "index": plan.index, "version": version}
            layout.record.write_text(json.dumps(record), encoding="utf-8")
            cluster.authority = controlplane.write_certificates(layout, plan)
            spec = controlplane.write_configuration(self._paths, layout, plan, key)
            machine = controlplane.start(self._paths, layout, plan, spec)
            cluster.client = ApiClient(cluster.server, layout.ca, layout.admin_cert, layout.admin_key)
            controlplane.wait_ready(self._paths, plan, cluster.client, machine)
            controlplane.fill(cluster.client, plan)
        except BaseException:
            self.delete_cluster(key)
            raise
        return ClusterEndpoint(plan.endpoint, cluster.authority.pem)

    def set_gateway_api(self, key: str, enabled: bool) -> None:
        """Nothing here: the GKE side installs CRDs and GatewayClasses through the API server."""

    def add_node(self, key: str, node: NodeSpec) -> NodeAddresses:
        """Start a node; returns once it is Ready (a GPU node: with its GPUs allocatable).

        Raises KeyError for an unknown cluster, ValueError for a name that is there, and what ``create_cluster``
        raises; nothing is left then.
        """
        cluster, found = self._reserve_node(key, node)
        if cluster.authority is None or cluster.client is None:
            self._forget_node(cluster, node.name)
            raise KeyError(f"cluster {key} is still being created")
        try:
            spec = machines.write_files(self._paths, cluster.layout, found, cluster.authority, cluster.server)
            machine = machines.start(self._paths, cluster.layout, found, spec)
            machines.wait_ready(self._paths, cluster.client, found, machine)
        except BaseException:
            self.remove_node(key, node.name)
            raise
        return NodeAddresses(found.plan.internal_ip, found.plan.pod_cidr)

    def remove_node(self, key: str, name: str) -> None:
        """End a node and delete its Node object and the pods that were bound to it. Unknown names are no error."""
        with self._lock:
            cluster = self._clusters.get(key)
            found = cluster.nodes.get(name) if cluster else None
        if cluster is None or found is None:
            return
        self._end_node(cluster, found)
        if cluster.client is not None:
            _forget_in_cluster(cluster.client, name)
        self._forget_node(cluster, name)

    def delete_cluster(self, key: str) -> None:
        """End all nodes and the control plane of ``key`` and remove their files. An unknown key is no error."""
        with self._lock:
            cluster = self._clusters.get(key)
        if cluster is None:
            return
        plan, layout = cluster.plan, cluster.layout
        processes.stop_all(layout.processes, grace=5.0)
        nodes = list(cluster.nodes.values())
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(lambda found: self._end_node(cluster, found), nodes))
        fabric.detach(self._paths, plan.role)
        controlplane.unlink_logs(self._paths, plan)
        cleanup.remove_folder(layout.folder)
        with self._lock:
            self._clusters.pop(key, None)

    def admin(self, key: str) -> ClusterAdmin:
        """Files of a ``system:masters`` client certificate. KeyError for an unknown cluster."""
        with self._lock:
            cluster = self._clusters[key]
        layout = cluster.layout
        return ClusterAdmin(cluster.server, layout.ca, layout.admin_cert, layout.admin_key, layout.kubeconfig)

    def stop(self) -> None:
        """Delete every cluster and end the registry."""
        for key in list(self._clusters):
            self.delete_cluster(key)
        with self._lock:
            stop, self._stop_registry = self._stop_registry, None
        if stop is not None:
            stop()

    def _prepare_shared(self) -> None:
        with self._lock:
            if not self._clean:
                # Nobody knows the clusters of an earlier manager that was killed; their addresses are needed.
                cleanup.cleanup(self._paths)
                self._clean = True
            shared.prepare(self._paths)
            if self._stop_registry is None:
                folders = shared.image_folders(self._paths)
                address = layout_of_network.API_ADDRESS
                self._stop_registry = registry.serve(folders, address, render.REGISTRY_PORT, self._timing)

    def _check_path_length(self) -> None:
        longest = Layout(self._paths, ClusterPlan(MAX_CLUSTERS)).node(NODES_PER_CLUSTER).socket
        if len(str(longest)) + len(".ttrpc") > SOCKET_PATH_LIMIT:
            raise ValueError(
                f"the state folder {self._paths.state} is too long for Unix sockets in it: choose a shorter"
            )

    def _reserve_cluster(self, key: str) -> _Cluster:
        with self._lock:
            if key in self._clusters:
                raise ValueError(f"cluster {key} is there already")
            taken = {cluster.plan.index for cluster in self._clusters.values()}
            plan = ClusterPlan(lowest_free(taken, first=1, limit=MAX_CLUSTERS, what="cluster"))
            cluster = _Cluster(key, plan, Layout(self._paths, plan))
            self._clusters[key] = cluster
            return cluster

    def _reserve_node(self, key: str, spec: NodeSpec) -> tuple[_Cluster, machines.Node]:
        with self._lock:
            cluster = self._clusters[key]
            if spec.name in cluster.nodes:
                raise ValueError(f"node {spec.name} is there already")
            numbers = {found.plan.number for found in cluster.nodes.values()}
            slots = {found.plan.slot for other in self._clusters.values() for found in other.nodes.values()}
            number = lowest_free(numbers, first=1, limit=NODES_PER_CLUSTER, what="node of the cluster")
            slot = lowest_free(slots, first=0, limit=MAX_NODE_ADDRESSES, what="node")
            found = machines.Node(spec, NodePlan(cluster.plan, number, slot), cluster.project)
            cluster.nodes[spec.name] = found
            return cluster, found

    def _forget_node(self, cluster: _Cluster, name: str) -> None:
        with self._lock:
            cluster.nodes.pop(name, None)

    def _end_node(self, cluster: _Cluster, found: machines.Node) -> None:
        plan, folder = found.plan, cluster.layout.processes
        for process in processes.recorded(folder):
            if process.name == plan.role:
                processes.stop(process, folder, grace=5.0)
        fabric.remove_route(self._paths, plan.pod_cidr)
        fabric.detach(self._paths, plan.role)
        cgroups.remove(cgroups.node_group(self._paths, plan.role))
        cleanup.remove_folder(cluster.layout.node(plan.number).home)


def _forget_in_cluster(client: ApiClient, name: str) -> None:
    """Delete a Node and its pods: nobody is left to end them properly. An API server that is gone needs none of it."""
    try:
        client.delete(f"/api/v1/nodes/{name}")
        pods = client.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}")
        for pod in pods.get("items", []):
            metadata = pod["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            client.delete(path, {"gracePeriodSeconds": 0})
    except (requests.RequestException, ApiError):
        return
