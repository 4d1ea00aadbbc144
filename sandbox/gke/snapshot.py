"""One moment's view of a cluster: typed look-ups over the cached objects, and the kinds that are watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.gke.kubeapi import Object, Resource

GATEWAY_GROUP = "gateway.networking.k8s.io"
INFERENCE_GROUP = "inference.networking.k8s.io"
GKE_GROUP = "networking.gke.io"

GATEWAY = Resource(GATEWAY_GROUP, "v1", "gateways", "Gateway")
GATEWAY_CLASS = Resource(GATEWAY_GROUP, "v1", "gatewayclasses", "GatewayClass", namespaced=False)
HTTP_ROUTE = Resource(GATEWAY_GROUP, "v1", "httproutes", "HTTPRoute")
REFERENCE_GRANT = Resource(GATEWAY_GROUP, "v1beta1", "referencegrants", "ReferenceGrant")
POOL = Resource(INFERENCE_GROUP, "v1", "inferencepools", "InferencePool")
HEALTH_POLICY = Resource(GKE_GROUP, "v1", "healthcheckpolicies", "HealthCheckPolicy")
BACKEND_POLICY = Resource(GKE_GROUP, "v1", "gcpbackendpolicies", "GCPBackendPolicy")
ROUTING_EXTENSION = Resource(GKE_GROUP, "v1", "gcproutingextensions", "GCPRoutingExtension")
SERVICE_NEG = Resource(GKE_GROUP, "v1beta1", "servicenetworkendpointgroups", "ServiceNetworkEndpointGroup")
SERVICE = Resource("", "v1", "services", "Service")
TLS_SECRET = Resource("", "v1", "secrets", "Secret", fields="type=kubernetes.io/tls")
SLICE = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
POD = Resource("", "v1", "pods", "Pod")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
EVENT = Resource("", "v1", "events", "Event")

WATCHED = (
    GATEWAY,
    HTTP_ROUTE,
    REFERENCE_GRANT,
    POOL,
    HEALTH_POLICY,
    BACKEND_POLICY,
    ROUTING_EXTENSION,
    SERVICE_NEG,
    SERVICE,
    TLS_SECRET,
    SLICE,
    POD,
    NODE,
    NAMESPACE,
)
MANAGED = (
    GATEWAY,
    GATEWAY_CLASS,
    HTTP_ROUTE,
    REFERENCE_GRANT,
    POOL,
    HEALTH_POLICY,
    BACKEND_POLICY,
    ROUTING_EXTENSION,
    SERVICE_NEG,
)


@dataclass(frozen=True)
class Snapshot:
    """Objects by kind and (namespace, name)."""

    objects: Mapping[str, Mapping[tuple[str, str], Object]]

    def all(self, kind: str) -> list[Object]:
        """Objects of a kind, ordered by namespace and name."""
        found = self.objects.get(kind, {})
        return [found[key] for key in sorted(found)]

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        return self.objects.get(kind, {}).get((namespace, name))

    def labels(self, namespace: str) -> dict[str, str]:
        """Labels of a namespace."""
        item = self.find("Namespace", "", namespace)
        return dict((item or {}).get("metadata", {}).get("labels") or {})

    def zone(self, node: str) -> str:
        """Zone of a node, or nothing where it is not known."""
        item = self.find("Node", "", node)
        labels = (item or {}).get("metadata", {}).get("labels") or {}
        return str(labels.get("topology.kubernetes.io/zone", ""))

    def slices_of(self, namespace: str, service: str) -> list[Object]:
        """EndpointSlices of a Service."""
        return [
            item
            for item in self.all("EndpointSlice")
            if item["metadata"].get("namespace") == namespace
            and (item["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service
        ]

    def pods_of(self, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """Pods that carry all ``labels`` and have not ended. No labels select no pods."""
        return [
            pod
            for pod in self.all("Pod")
            if labels
            and pod["metadata"].get("namespace") == namespace
            and contains(pod["metadata"].get("labels") or {}, labels)
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            and not pod["metadata"].get("deletionTimestamp")
        ]

    def policy(self, kind: str, namespace: str, target_group: str, target_kind: str, target: str) -> Object | None:
        """The policy of ``kind`` that targets an object: the oldest, where there are several."""
        found = [
            item
            for item in self.all(kind)
            if item["metadata"].get("namespace") == namespace
            and (ref := item.get("spec", {}).get("targetRef") or {}).get("kind") == target_kind
            and (ref.get("group") or "") == target_group
            and ref.get("name") == target
            and not item["metadata"].get("deletionTimestamp")
        ]
        return min(found, key=age_key, default=None)


def contains(labels: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether ``labels`` has every pair of ``wanted``."""
    return all(labels.get(key) == value for key, value in wanted.items())


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Evaluate a Kubernetes label selector (matchLabels and matchExpressions)."""
    if not contains(labels, selector.get("matchLabels") or {}):
        return False
    return all(_expression(item, labels) for item in selector.get("matchExpressions") or [])


def _expression(item: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = item["key"], item["operator"], item.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return bool((key in labels) == (operator == "Exists"))


def age_key(item: Object) -> tuple[str, str, str]:
    """Sorts objects oldest first, then by name: Gateway API's rule for conflicts."""
    meta = item["metadata"]
    return str(meta.get("creationTimestamp", "")), meta.get("namespace", ""), meta["name"]


def qualified(item: Object) -> str:
    """``namespace/name``."""
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def generation(item: Object) -> int:
    return int(item["metadata"].get("generation", 1))


def ready_addresses(slices: Iterable[Object], port_name: str | None, port: int) -> list[tuple[str, int]]:
    """(address, port) of ready endpoints whose slice port has this name or, without a name, this number."""
    found: set[tuple[str, int]] = set()
    for item in slices:
        numbers = [
            entry["port"]
            for entry in item.get("ports") or []
            if (entry.get("name") or "") == port_name or (port_name is None and entry.get("port") == port)
        ]
        for endpoint in item.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                found.update((address, number) for address in endpoint.get("addresses") or [] for number in numbers)
    return sorted(found)
