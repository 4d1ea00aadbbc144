"""Five hundred load-balancer resources in one project, thirty of them a vanished cluster's; the rest look alike."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]
Key = tuple[str, str, str]
PROJECT = "llmd-sandbox"
ROOT = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
REGION, ZONE = "regions/us-central1", "zones/us-central1-a"
NETWORK = f"{ROOT}/global/networks/default"
REGIONAL = {
    kind: "region" + kind[0].upper() + kind[1:]
    for kind in ("healthChecks", "backendServices", "urlMaps", "targetHttpProxies", "targetHttpsProxies")
}
GLOBAL = {"addresses": "globalAddresses", "forwardingRules": "globalForwardingRules"}
MINE = {
    "deployment": "pattern1",
    "location": "us-central1-a",
    "cluster": "llm-d-cluster",
    "namespace": "llm-d",
    "gateway": "infra-pattern1-inference-gateway",
    "pool": "gaie-pattern1",
    "network": "default",
}


def about(place: str, *, cluster: str = "llm-d-cluster", location: str = "us-central1-a") -> str:
    """A description as GKE's controllers write it."""
    text = {"k8sCluster": f"/projects/{PROJECT}/locations/{location}/clusters/{cluster}"}
    return json.dumps({"k8sResource": place, **text} if place else text)


class Zoo:
    """Collects resources, in an order in which they could be made."""

    def __init__(self) -> None:
        self.resources: list[Json] = []

    def add(self, kind: str, scope: str, name: str, **body: Any) -> Key:
        table = GLOBAL if scope == "global" else REGIONAL if scope.startswith("regions/") else {}
        item = {"collection": table.get(kind, kind), "scope": scope, "body": {"name": name, **body}}
        self.resources.append(item)
        return kind, scope, name

    @staticmethod
    def link(key: Key) -> str:
        return f"{ROOT}/{key[1]}/{key[0]}/{key[2]}"

    def balancer(
        self, prefix: str, suffix: str, scope: str, gateway: str, service: str, *, https: bool = False
    ) -> list[Key]:
        """One Gateway's parts: 8 resources, each referring to the one before."""
        neg_prefix = "k8s1-" + prefix.removeprefix("gkegw1-") * 2
        check = self.add("healthChecks", scope, f"{prefix}-svc-{suffix}", description=service, type="HTTP")
        neg = self.add(
            "networkEndpointGroups", ZONE, f"{neg_prefix}-svc-{suffix}",
            description=service, networkEndpointType="GCE_VM_IP_PORT", network=NETWORK,
        )  # fmt: skip
        backend = self.add(
            "backendServices", scope, f"{prefix}-svc-{suffix}", description=service, protocol="HTTP",
            healthChecks=[self.link(check)], backends=[{"group": self.link(neg)}],
        )  # fmt: skip
        urls = self.add(
            "urlMaps", scope, f"{prefix}-gw-{suffix}", description=gateway, defaultService=self.link(backend)
        )
        kind = "targetHttpsProxies" if https else "targetHttpProxies"
        proxy = self.add(kind, scope, f"{prefix}-gw-{suffix}", description=gateway, urlMap=self.link(urls))
        address = self.add(
            "addresses", scope, f"{prefix}-ip-{suffix}", description=gateway, address="203.0.113.77", status="IN_USE"
        )
        rule = self.add(
            "forwardingRules", scope, f"{prefix}-fr-{suffix}", description=gateway, IPAddress="203.0.113.77",
            target=self.link(proxy),
        )  # fmt: skip
        return [check, neg, backend, urls, proxy, address, rule]


def ours(zoo: Zoo) -> list[Key]:
    """Thirty leftovers of every kind in region, zone and global scope."""
    gateway = about("/namespaces/llm-d/gateways/infra-pattern1-inference-gateway")
    pool = about("/namespaces/llm-d/services/gaie-pattern1-ips-0a1b2c3d")
    picker = about("/namespaces/llm-d/services/gaie-pattern1-epp")
    made = zoo.balancer("gkegw1-ab12", "one", REGION, gateway, pool)
    made += zoo.balancer("gkegw1-ab12", "two", REGION, gateway, picker, https=True)
    made += zoo.balancer("gkegw1-ab12", "all", "global", gateway, pool)
    made.append(
        zoo.add("firewalls", "global", "gkegw1-ab12-l7-default-us-central1", description=about(""), network=NETWORK)
    )
    for role in ("vms", "inkubelet", "exkubelet"):
        made.append(zoo.add("firewalls", "global", f"gke-llm-d-cluster-0a1b2c3d-{role}", network=NETWORK))
    made.append(zoo.add("healthChecks", REGION, "gkegw1-ab12-bare", type="TCP"))  # no description: known by its family
    made.append(zoo.add("instanceGroupManagers", ZONE, "gke-llm-d-cluster-gpu-0a1b2c3d-grp", baseInstanceName="g"))
    made.append(zoo.add("instanceGroups", "zones/us-central1-b", "gke-llm-d-cluster-gpu-0a1b2c3d-grp"))
    labels = {"managed-by": "llmd-gke", "llmd-deployment": "pattern1"}
    made.append(
        zoo.add("disks", ZONE, "pvc-0001", sizeGb="50", type=f"{ROOT}/{ZONE}/diskTypes/pd-balanced", labels=labels)
    )
    labels = {"goog-k8s-cluster-name": "llm-d-cluster", "goog-k8s-cluster-location": "us-central1-a"}
    made.append(zoo.add("disks", "zones/us-central1-b", "pvc-0002", sizeGb="10", labels=labels))
    return made


def others(zoo: Zoo, number: int) -> None:
    """What must never be touched: another cluster's, another deployment's, people's own; some with names like ours."""
    start = len(zoo.resources)
    zoo.add("firewalls", "global", "gke-llm-d-cluster-2-0a1b2c3d-vms", network=NETWORK)
    zoo.add("firewalls", "global", "gke-llm-d-cluster-by-hand", network=NETWORK)
    zoo.add("firewalls", "global", "gkegw1-ab12-elsewhere", network=f"{ROOT}/global/networks/other")
    zoo.add("addresses", REGION, "reserved-by-a-person", address="203.0.113.200", status="RESERVED")
    zoo.add("addresses", REGION, "gkegw1-ab12x-reserved", address="203.0.113.201", status="RESERVED")
    foreign = about("/namespaces/llm-d/services/gaie-pattern1-epp", location="us-central1-b")
    zoo.add("healthChecks", REGION, "gkegw1-ab12-twin", description=foreign, type="TCP")
    labels = {"managed-by": "llmd-gke", "llmd-deployment": "pattern2"}
    zoo.add("disks", ZONE, "pvc-0003", sizeGb="10", labels=labels)
    zoo.add("disks", ZONE, "pvc-0004", sizeGb="10", labels={"goog-k8s-cluster-name": "llm-d-cluster-2"})
    zoo.add("disks", ZONE, "pvc-0005", sizeGb="10", description="somebody's data")
    zoo.add("instanceGroupManagers", ZONE, "gke-llm-d-cluster-2-gpu-xyz-grp", baseInstanceName="h")
    zoo.add("healthChecks", "global", "by-hand", description="gkegw1-ab12 llm-d-cluster pattern1", type="TCP")
    places = [REGION, "global", "regions/europe-west4"]
    for index in range(number):
        if len(zoo.resources) - start + 7 > number:
            break
        cluster = about("/namespaces/llm-d/gateways/infra-pattern1-inference-gateway", cluster=f"other-{index}")
        zoo.balancer(f"gkegw1-x{index:03d}", "n", places[index % 3], cluster, cluster, https=index % 2 == 0)
    for index in range(number - (len(zoo.resources) - start)):
        zoo.add("healthChecks", "global", f"filler-{index}", type="TCP")
