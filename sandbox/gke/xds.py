"""Envoy configuration from the load balancer's model. Pure: plain dictionaries in, plain dictionaries out.

One listener for each address and port, its routes by file (RDS) so that a change of routes keeps connections. The
endpoint picker is one ext_proc filter: silent by itself, pointed at a pool's picker by the route's own settings, so
that any number of pools can stand behind one listener. The routing extension is another one before it, pointed at its
service by the settings of the whole route configuration: it comes and goes without a new listener.

What is asked (pickers, routing extensions) has its addresses in a file of its own (EDS): a cluster that CDS changes is
a new cluster, which would end the streams to the old one, and with them the requests they decide about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.gke import names
from sandbox.gke.model import Backend, Extension, Listener
from sandbox.gke.xds_routes import (
    EXT_PROC,
    FAULT,
    ROUTING,
    TYPE,
    cluster_name,
    extension_name,
    picker_name,
    route_configuration,
)

Json = dict[str, Any]
Address = tuple[str, int]

DESTINATION = "x-gateway-destination-endpoint"
NO_PICKER = "no-picker"
_PICKER_SECONDS = "1000s"


@dataclass(frozen=True)
class Frontend:
    """One address and port, and what it serves. No listeners: it answers 404 to everything (not yet programmed)."""

    address: str
    port: int
    listeners: tuple[Listener, ...] = ()
    extension: Extension | None = None

    @property
    def name(self) -> str:
        return f"{self.address}_{self.port}"


@dataclass(frozen=True)
class Origin:
    """Where a backend's requests can go now: healthy endpoints, and the addresses of its picker."""

    backend: Backend
    endpoints: tuple[Address, ...] = ()
    pickers: tuple[Address, ...] = ()


@dataclass(frozen=True)
class Callout:
    """A routing extension and the addresses of its pods."""

    extension: Extension
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True)
class Site:
    """All that one cluster's Gateways put into Envoy. ``owner`` is the cluster's key."""

    owner: str
    frontends: tuple[Frontend, ...] = ()
    origins: tuple[Origin, ...] = field(default=())
    callouts: tuple[Callout, ...] = ()


def bootstrap(folder: Path, admin: Address) -> Json:
    """Static part: an admin port and the two files that say the rest."""

    def source(name: str) -> Json:
        return {**file_source(folder, name), "initial_fetch_timeout": "0s"}

    return {
        "node": {"id": "gateway", "cluster": "gateway"},
        "admin": {"address": _socket(*admin)},
        "dynamic_resources": {"lds_config": source("lds.json"), "cds_config": source("cds.json")},
    }


def file_source(folder: Path, name: str) -> Json:
    """A config source that is a file of ``folder``, replaced by renaming."""
    return {
        "path_config_source": {"path": str(folder / name), "watched_directory": {"path": str(folder)}},
        "resource_api_version": "V3",
    }


def files(sites: Iterable[Site], folder: Path) -> dict[str, str]:
    """Every xDS file by name, in the order of writing: endpoints, clusters, routes, listeners."""
    ordered = sorted(sites, key=lambda site: site.owner)
    clusters = [_static_cluster(NO_PICKER, ())]
    endpoints: dict[str, Json] = {}
    routes: dict[str, Json] = {}
    listeners = []
    for site in ordered:
        endpoints.update({eds_file(name): _assignment(name, found) for name, found in asked(site).items()})
        clusters += site_clusters(site, folder)
        for frontend in site.frontends:
            name = f"rds-{frontend.name}.json"
            routes[name] = _routes(site.owner, frontend)
            listeners.append(listener(frontend, file_source(folder, name)))
    kinds = f"{TYPE}config."
    load = f"{kinds}endpoint.v3.ClusterLoadAssignment"
    result = {name: _discovery(load, [assignment]) for name, assignment in endpoints.items()}
    result["cds.json"] = _discovery(f"{kinds}cluster.v3.Cluster", clusters)
    for name, route in routes.items():
        result[name] = _discovery(f"{kinds}route.v3.RouteConfiguration", [route])
    result["lds.json"] = _discovery(f"{kinds}listener.v3.Listener", listeners)
    return result


def _discovery(kind: str, resources: Sequence[Json]) -> str:
    body = {"resources": [{"@type": kind, **item} for item in resources]}
    text = json.dumps(body, sort_keys=True)
    return json.dumps({"version_info": names.hexadecimal(text, 12), **body}, sort_keys=True, indent=1) + "\n"


def static_config(sites: Iterable[Site], admin: Address) -> Json:
    """The same configuration in one piece, for ``envoy --mode validate`` (which does not read xDS files)."""
    clusters = [_static_cluster(NO_PICKER, ())]
    listeners = []
    for site in sites:
        clusters += site_clusters(site)
        for frontend in site.frontends:
            listeners.append(listener(frontend, None, _routes(site.owner, frontend)))
    return {
        "node": {"id": "gateway", "cluster": "gateway"},
        "admin": {"address": _socket(*admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _routes(owner: str, frontend: Frontend) -> Json:
    return route_configuration(owner, frontend.name, frontend.port, frontend.listeners, frontend.extension)


# --- clusters ----------------------------------------------------------------------------------------------------


def asked(site: Site) -> dict[str, tuple[Address, ...]]:
    """Addresses of what a site's load balancers ask, by cluster: the pickers and the routing extensions."""
    found = {}
    for origin in sorted(site.origins, key=lambda item: item.backend.key):
        if origin.backend.picker is not None:
            found[picker_name(site.owner, origin.backend)] = origin.pickers
    for callout in sorted(site.callouts, key=lambda item: item.extension.name):
        found[extension_name(site.owner, callout.extension)] = callout.addresses
    return found


def site_clusters(site: Site, folder: Path | None = None) -> list[Json]:
    """Clusters of a site's backends and of what it asks. ``folder`` None: all addresses are in the clusters."""
    found = []
    for origin in sorted(site.origins, key=lambda item: item.backend.key):
        found.append(backend_cluster(cluster_name(site.owner, origin.backend.key), origin))
    for name, addresses in asked(site).items():
        found.append(asked_cluster(name, addresses, folder))
    return found


def eds_file(name: str) -> str:
    """File with the addresses of one cluster (Envoy takes one cluster's from a file)."""
    return f"eds-{names.hexadecimal(name, 16)}.json"


def backend_cluster(name: str, origin: Origin) -> Json:
    """Where a backend's requests go.

    A pool goes where its picker said (header). With FailOpen a request may come without the picker's word, so the
    header only overrides a round robin over the endpoints. Without a healthy endpoint Envoy itself answers
    503 ``no healthy upstream``.
    """
    picker = origin.backend.picker
    if picker is None or not origin.endpoints:
        return _static_cluster(name, origin.endpoints)
    if not picker.fail_open:
        return {
            "name": name,
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "connect_timeout": "5s",
            "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION},
        }
    policies = "extensions.load_balancing_policies."
    round_robin = {"@type": f"{TYPE}{policies}round_robin.v3.RoundRobin"}
    fallback = {"name": "envoy.load_balancing_policies.round_robin", "typed_config": round_robin}
    override = {
        "@type": f"{TYPE}{policies}override_host.v3.OverrideHost",
        "override_host_sources": [{"header": DESTINATION}],
        "fallback_policy": {"policies": [{"typed_extension_config": fallback}]},
    }
    policy = {"name": "envoy.load_balancing_policies.override_host", "typed_config": override}
    return {
        **_static_cluster(name, origin.endpoints),
        "load_balancing_policy": {"policies": [{"typed_extension_config": policy}]},
    }


def asked_cluster(name: str, addresses: Sequence[Address], folder: Path | None) -> Json:
    """The pods of a picker or of a routing extension: gRPC over TLS with whatever certificate they show."""
    options = "extensions.upstreams.http.v3.HttpProtocolOptions"
    base = _static_cluster(name, addresses)
    if folder is not None:
        del base["load_assignment"]
        base |= {"type": "EDS", "eds_cluster_config": {"eds_config": file_source(folder, eds_file(name))}}
    return {
        **base,
        "connect_timeout": "2s",
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{TYPE}extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"validation_context": {}},
            },
        },
        "typed_extension_protocol_options": {
            f"envoy.{options.rpartition('.')[0]}.HttpProtocolOptions": {
                "@type": f"{TYPE}{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def _static_cluster(name: str, addresses: Sequence[Address]) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": _assignment(name, addresses),
    }


def _assignment(name: str, addresses: Sequence[Address]) -> Json:
    endpoints = [{"endpoint": {"address": _socket(*address)}} for address in sorted(addresses)]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}] if endpoints else []}


def _socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


# --- listeners ---------------------------------------------------------------------------------------------------


def listener(frontend: Frontend, source: Json | None, inline: Json | None = None) -> Json:
    """One listener, HTTP or HTTPS; its routes come from ``source``, or are given ``inline``."""
    manager = _manager(frontend)
    if inline is not None:
        manager["route_config"] = inline
    else:
        manager["rds"] = {"route_config_name": frontend.name, "config_source": source}
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    found: Json = {"name": frontend.name, "address": _socket(frontend.address, frontend.port)}
    if not any(item.https for item in frontend.listeners):
        return {**found, "filter_chains": [{"filters": filters}]}
    inspector = f"{TYPE}extensions.filters.listener.tls_inspector.v3.TlsInspector"
    return {
        **found,
        "listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": inspector}}],
        "filter_chains": _secure_chains(frontend, filters),
    }


def _secure_chains(frontend: Frontend, filters: list[Json]) -> list[Json]:
    """One chain a hostname with its own certificates; who asks for another name is shown the first listener's."""
    chains = []
    for item in frontend.listeners:
        if item.hostname:
            match = {"filter_chain_match": {"server_names": [item.hostname]}}
            chains.append({**match, "filters": filters, "transport_socket": _tls(item)})
    unnamed = next((item for item in frontend.listeners if not item.hostname), frontend.listeners[0])
    return [*chains, {"filters": filters, "transport_socket": _tls(unnamed)}]


def _tls(item: Listener) -> Json:
    shown = [
        {"certificate_chain": {"inline_string": each.chain}, "private_key": {"inline_string": each.key}}
        for each in item.certificates
    ]
    context = {"tls_certificates": shown, "alpn_protocols": ["h2", "http/1.1"]}
    kind = f"{TYPE}extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": kind, "common_tls_context": context},
    }


def _manager(frontend: Frontend) -> Json:
    return {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": frontend.name,
        "server_name": "",
        "server_header_transformation": "PASS_THROUGH",
        "via": "1.1 google",
        "use_remote_address": True,
        "stream_idle_timeout": "0s",
        "early_header_mutation_extensions": [_drop_destination()],
        "http_filters": [ask_filter(ROUTING, "1s"), fault_filter(), ask_filter(EXT_PROC, _PICKER_SECONDS), _router()],
    }


def _drop_destination() -> Json:
    """Clients must not choose their own pod."""
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{TYPE}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove": DESTINATION}],
        },
    }


def fault_filter() -> Json:
    """Does nothing by itself; routes that lead nowhere abort through it."""
    return {"name": FAULT, "typed_config": {"@type": f"{TYPE}extensions.filters.http.fault.v3.HTTPFault"}}


def ask_filter(name: str, message_timeout: str) -> Json:
    """ext_proc that sends nothing by itself; routes override whom it asks, the mode and the failure mode."""
    return {
        "name": name,
        "typed_config": {
            "@type": f"{TYPE}extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": NO_PICKER}},
            "failure_mode_allow": True,
            "message_timeout": message_timeout,
            "processing_mode": {
                "request_header_mode": "SKIP",
                "response_header_mode": "SKIP",
                "request_body_mode": "NONE",
                "response_body_mode": "NONE",
                "request_trailer_mode": "SKIP",
                "response_trailer_mode": "SKIP",
            },
        },
    }


def _router() -> Json:
    kind = f"{TYPE}extensions.filters.http.router.v3.Router"
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": kind, "suppress_envoy_headers": True}}
