# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GKE clusters: what is wanted, the create call that carries everything, and the fewest updates. Nothing waits here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import cluster_settings, node_pools, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.cluster_settings import Networks, Window
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Pool, Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json

METHOD = "container.projects.locations.clusters."
ADVANCED_DATAPATH = "ADVANCED_DATAPATH"  # Dataplane V2
CHANNELS = {"standard": "CHANNEL_STANDARD", "disabled": "CHANNEL_DISABLED"}


@dataclass(frozen=True)
class Cluster:
    """A wanted cluster. Empty / None: Google's default at creation, left alone afterwards. ``timeout`` in seconds."""

    name: str
    location: str
    network: str = "default"
    subnetwork: str = ""
    release_channel: str = ""
    version: str = ""
    gateway_api: str = "standard"
    workload_identity: bool | None = True
    labels: Mapping[str, str] = field(default_factory=dict)
    creation_labels: Mapping[str, str] = field(default_factory=dict)  # of the create call only, never compared
    deployment: str = ""
    pools: tuple[Pool, ...] = ()
    timeout: float = 1800.0
    private_nodes: bool | None = None
    dataplane_v2: bool | None = None
    multi_networking: bool | None = None
    authorized_networks: Networks | None = None
    maintenance_window: Window | None = None
    change_adopted: bool = False  # see adoption.py

    @property
    def where(self) -> Where:
        return Where(self.location, self.name)


def get(session: GoogleSession, where: Where) -> Json | None:
    """The cluster, None where there is none. A missing project or an impossible location is an error, not "none"."""
    try:
        return session.call(METHOD + "get", "GET", where.path(session.project))
    except GoogleApiError as error:
        if error.status == 404 and error.code == "NOT_FOUND":
            return None
        raise


def channel_of(cluster: Json) -> str:
    """``standard`` or ``disabled``."""
    config = (cluster.get("networkConfig") or {}).get("gatewayApiConfig") or {}
    return "standard" if config.get("channel") in ("CHANNEL_STANDARD", "CHANNEL_EXPERIMENTAL") else "disabled"


def view(cluster: Json | None) -> Json | None:
    """A cluster as results and diffs show it, in the words of our options. No secrets are in it."""
    if cluster is None:
        return None
    return {
        "name": cluster.get("name"),
        "location": cluster.get("location") or cluster.get("zone"),
        "status": cluster.get("status"),
        "endpoint": cluster.get("endpoint", ""),
        "version": cluster.get("currentMasterVersion", ""),
        "network": _last(cluster.get("network")),
        "subnetwork": _last(cluster.get("subnetwork")),
        "release_channel": (cluster.get("releaseChannel") or {}).get("channel", ""),
        "gateway_api": channel_of(cluster),
        "workload_identity": bool((cluster.get("workloadIdentityConfig") or {}).get("workloadPool")),
        "http_load_balancing": not ((cluster.get("addonsConfig") or {}).get("httpLoadBalancing") or {}).get(
            "disabled", False
        ),
        "private_nodes": bool((cluster.get("networkConfig") or {}).get("defaultEnablePrivateNodes"))
        or bool((cluster.get("privateClusterConfig") or {}).get("enablePrivateNodes")),
        "dataplane_v2": (cluster.get("networkConfig") or {}).get("datapathProvider") == ADVANCED_DATAPATH,
        "multi_networking": bool((cluster.get("networkConfig") or {}).get("enableMultiNetworking")),
        "authorized_networks": cluster_settings.authorized_networks_view(
            cluster.get("masterAuthorizedNetworksConfig") or {}
        ),
        "maintenance_window": cluster_settings.maintenance_view(cluster.get("maintenancePolicy") or {}),
        "labels": dict(cluster.get("resourceLabels") or {}),
        "self_link": cluster.get("selfLink", ""),
        "node_pools": [node_pools.view(pool) for pool in cluster.get("nodePools") or []],
    }


def _last(value: object) -> str:
    return str(value or "").rsplit("/", 1)[-1]


def creation_body(want: Cluster, project: str) -> Json:
    """Body of clusters.create (container v1): pools, Gateway API and labels in the one call."""
    cluster: Json = {
        "name": want.name,
        "network": want.network,
        "ipAllocationPolicy": {"useIpAliases": True},
        "networkConfig": {"gatewayApiConfig": {"channel": CHANNELS[want.gateway_api]}},
        "addonsConfig": {"httpLoadBalancing": {"disabled": False}},
        "resourceLabels": ownership.labels(want.deployment, {**want.creation_labels, **want.labels}),
        "nodePools": [
            node_pools.creation_body(pool, deployment=want.deployment, workload_identity=bool(want.workload_identity))
            for pool in want.pools
        ],
    }
    if want.subnetwork:
        cluster["subnetwork"] = want.subnetwork
    if want.release_channel:
        cluster["releaseChannel"] = {"channel": want.release_channel.upper()}
    if want.version:
        cluster["initialClusterVersion"] = want.version
    if want.workload_identity:
        cluster["workloadIdentityConfig"] = {"workloadPool": f"{project}.svc.id.goog"}
    if want.private_nodes is not None:
        cluster["networkConfig"]["defaultEnablePrivateNodes"] = want.private_nodes
    if want.dataplane_v2 is not None:
        cluster["networkConfig"]["datapathProvider"] = ADVANCED_DATAPATH if want.dataplane_v2 else "LEGACY_DATAPATH"
    if want.multi_networking is not None:
        cluster["networkConfig"]["enableMultiNetworking"] = want.multi_networking
    if want.authorized_networks is not None:
        cluster["masterAuthorizedNetworksConfig"] = cluster_settings.authorized_networks_body(want.authorized_networks)
    if want.maintenance_window is not None:
        cluster["maintenancePolicy"] = {"window": want.maintenance_window.body()}
    return {"parent": f"projects/{project}/locations/{want.location}", "cluster": cluster}


# --- differences --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """One update of an existing cluster. ``fields``: what the view will say after it."""

    what: str
    method: str
    verb: str
    suffix: str
    body: Json = field(hash=False)
    fields: Json = field(hash=False)


def updates(want: Cluster, found: Json, project: str) -> list[Update]:
    """The updates that the cluster itself needs (pools aside), in order; labels only on a cluster of ours.

    Raises ConfigurationError CLUSTER_IMMUTABLE for what GKE cannot change.
    """
    seen = view(found) or {}
    _refuse_immutable(want, seen)
    result = []

    def update(what: str, body: Json, fields: Json) -> None:
        result.append(Update(what, METHOD + "update", "PUT", "", {"update": body}, fields))

    if not seen["http_load_balancing"]:
        update(
            "HTTP load balancing add-on",
            {"desiredAddonsConfig": {"httpLoadBalancing": {"disabled": False}}},
            {"http_load_balancing": True},
        )
    if want.gateway_api != seen["gateway_api"]:
        update(
            "Gateway API",
            {"desiredGatewayApiConfig": {"channel": CHANNELS[want.gateway_api]}},
            {"gateway_api": want.gateway_api},
        )
    if want.release_channel and want.release_channel.upper() != seen["release_channel"]:
        channel = want.release_channel.upper()
        update("release channel", {"desiredReleaseChannel": {"channel": channel}}, {"release_channel": channel})
    if want.version and ownership.owned(seen["labels"]) and cluster_settings.is_newer(want.version, seen["version"]):
        update("version", {"desiredMasterVersion": want.version}, {"version": want.version})
    result += _access_updates(want, found, seen)
    if want.workload_identity and not seen["workload_identity"] and ownership.owned(seen["labels"]):
        pool = {"workloadPool": f"{project}.svc.id.goog"}
        update("workload identity", {"desiredWorkloadIdentityConfig": pool}, {"workload_identity": True})
    if ownership.owned(seen["labels"]):
        labels = {
            **seen["labels"],
            **ownership.labels(seen["labels"].get(ownership.DEPLOYMENT, want.deployment), want.labels),
        }
        if labels != seen["labels"]:
            body = {"resourceLabels": labels, "labelFingerprint": found.get("labelFingerprint", "")}
            result.append(
                Update("labels", METHOD + "setResourceLabels", "POST", ":setResourceLabels", body, {"labels": labels})
            )
    return result


def _access_updates(want: Cluster, found: Json, seen: Json) -> list[Update]:
    """Authorized networks and maintenance window."""
    result = []
    if want.authorized_networks is not None:
        networks = [{"cidr": cidr, "name": name} for cidr, name in want.authorized_networks]
        if networks != seen["authorized_networks"]:
            config = cluster_settings.authorized_networks_body(want.authorized_networks)
            body = {"update": {"desiredMasterAuthorizedNetworksConfig": config}}
            fields = {"authorized_networks": networks}
            result.append(Update("authorized networks", METHOD + "update", "PUT", "", body, fields))
    window = want.maintenance_window
    if window is not None and window.as_view() != seen["maintenance_window"]:
        policy = cluster_settings.maintenance_body(window, found.get("maintenancePolicy") or {})
        result.append(
            Update(
                "maintenance window",
                METHOD + "setMaintenancePolicy",
                "POST",
                ":setMaintenancePolicy",
                {"maintenancePolicy": policy},
                {"maintenance_window": window.as_view()},
            )
        )
    return result


def _refuse_immutable(want: Cluster, seen: Json) -> None:
    wrong = [
        f"{name} is {seen[name]}, not {_last(value)}"
        for name, value in (("network", want.network), ("subnetwork", want.subnetwork))
        if value and seen[name] and _last(value) != seen[name]
    ]
    if want.private_nodes is not None and want.private_nodes != seen["private_nodes"]:
        wrong.append(
            f"private_nodes is {seen['private_nodes']}, not {want.private_nodes}: it would take new nodes in every "
            "pool (and Cloud NAT for nodes without external addresses)"
        )
    wrong += [
        f"{name} is {seen[name]}, not {value}"
        for name, value in (("dataplane_v2", want.dataplane_v2), ("multi_networking", want.multi_networking))
        if value is not None and value != seen[name]
    ]
    if wrong:
        raise ConfigurationError(
            f"Cluster {want.name} exists and differs in what GKE cannot change",
            code="CLUSTER_IMMUTABLE",
            where=str(seen["self_link"]),
            why="; ".join(wrong),
            remedy="Ask for what is there, use another llmd_cluster_name for a new cluster, or delete this one first "
            "(gke_cluster with state: absent).",
        )
