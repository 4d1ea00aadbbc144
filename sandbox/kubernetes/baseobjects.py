"""What a new GKE cluster holds besides what Kubernetes itself makes: IAM roles as RBAC, DNS, Google's namespaces.

The groups are those that the emulated token review gives: ``gke:<IAM role>``. On GKE the IAM authorizer decides beside
RBAC; here RBAC plays both.
"""

from __future__ import annotations

from typing import Any

from sandbox import paths as layout
from sandbox.kubernetes.addresses import ClusterPlan

DNS_USER = "system:coredns"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_ALL = ["*"]
_READ = ["get", "list", "watch"]
_LABELS = {"addonmanager.kubernetes.io/mode": "Reconcile"}

# API groups whose objects roles/container.developer may write ("thirdPartyObjects" on GKE: any custom resource).
_DEVELOPER_GROUPS = [
    "",
    "apps",
    "autoscaling",
    "batch",
    "discovery.k8s.io",
    "events.k8s.io",
    "networking.k8s.io",
    "policy",
    "storage.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "apiextensions.k8s.io",
    "autoscaling.x-k8s.io",
    "cloud.google.com",
    "gateway.networking.k8s.io",
    "inference.networking.k8s.io",
    "inference.networking.x-k8s.io",
    "jobset.x-k8s.io",
    "kueue.x-k8s.io",
    "leaderworkerset.x-k8s.io",
    "llm-d.ai",
    "metrics.k8s.io",
    "monitoring.coreos.com",
    "monitoring.googleapis.com",
    "networking.gke.io",
]

Item = tuple[str, dict[str, Any]]  # collection path, object


def objects(plan: ClusterPlan) -> list[Item]:
    """Collection paths and objects, in the order in which they must be created."""
    return [*_namespaces(), *_roles(), *_dns(plan)]


def _namespaces() -> list[Item]:
    found: list[Item] = [
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name in ("gmp-system", "gke-managed-system")
    ]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "collector"}}
    found.append(("/api/v1/namespaces/gmp-system/serviceaccounts", account))
    return found


def _roles() -> list[Item]:
    developer = [
        {"apiGroups": _DEVELOPER_GROUPS, "resources": _ALL, "verbs": _ALL},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": _ALL, "verbs": _READ},
    ]
    reader = [
        {"apiGroups": [""], "resources": ["nodes", "persistentvolumes", "namespaces"], "verbs": _READ},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": _READ},
    ]
    dns = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return [
        _cluster_role("gke:container.developer", developer),
        _cluster_role("gke:container.viewer", reader),
        _cluster_role("system:coredns", dns),
        _binding("gke:container.admin", "cluster-admin", "Group", "gke:roles/container.admin"),
        _binding("gke:container.developer", "gke:container.developer", "Group", "gke:roles/container.developer"),
        _binding("gke:container.viewer", "view", "Group", "gke:roles/container.viewer"),
        _binding("gke:container.viewer-cluster", "gke:container.viewer", "Group", "gke:roles/container.viewer"),
        _binding("system:coredns", "system:coredns", "User", DNS_USER),
    ]


def _dns(plan: ClusterPlan) -> list[Item]:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    labels = {**_LABELS, "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "labels": labels},
        "spec": {"clusterIP": layout.CLUSTER_DNS, "ports": ports},
    }
    names = {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "sandbox"}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns-sandbox", "labels": {**_LABELS, **names}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plan.endpoint], "conditions": {"ready": True}}],
        "ports": ports,
    }
    return [
        ("/api/v1/namespaces/kube-system/services", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", endpoints),
    ]


def _cluster_role(name: str, rules: list[dict[str, list[str]]]) -> Item:
    metadata = {"name": name, "labels": _LABELS}
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}
    return f"{_RBAC}/clusterroles", body


def _binding(name: str, role: str, kind: str, subject: str) -> Item:
    body = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": _LABELS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": subject}],
    }
    return f"{_RBAC}/clusterrolebindings", body
