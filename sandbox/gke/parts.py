"""The parts of a Gateway's load balancer in the compute API as they should be: a pure function of the configuration.

Every part carries a description with ``k8sResource`` and ``k8sCluster``, as GKE's do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sandbox.gke.compute import Json, Place
from sandbox.gke.model import Backend, Configuration, HealthCheck
from sandbox.gke.names import Namer, base36

# Order of making; deleting goes the other way, so that nothing is deleted that something else refers to.
ORDER = (
    "firewalls",
    "healthChecks",
    "networkEndpointGroups",
    "backendServices",
    "urlMaps",
    "sslCertificates",
    "targetHttpProxies",
    "targetHttpsProxies",
    "addresses",
    "forwardingRules",
)
_REGIONAL = {
    "healthChecks": "regionHealthChecks",
    "backendServices": "regionBackendServices",
    "urlMaps": "regionUrlMaps",
    "sslCertificates": "regionSslCertificates",
    "targetHttpProxies": "regionTargetHttpProxies",
    "targetHttpsProxies": "regionTargetHttpsProxies",
}
_GLOBAL = {"addresses": "globalAddresses", "forwardingRules": "globalForwardingRules"}
# Annotation of the Gateway for each family; the others are always there and empty.
ANNOTATIONS = {
    "addresses": "addresses",
    "backendServices": "backend-services",
    "firewalls": "firewalls",
    "forwardingRules": "forwarding-rules",
    "healthChecks": "health-checks",
    "sslCertificates": "ssl-certificates",
    "targetHttpProxies": "target-http-proxies",
    "targetHttpsProxies": "target-https-proxies",
    "urlMaps": "url-maps",
}
_EMPTY = ("lb-route-extensions", "lb-traffic-extensions")
PREFIX = "networking.gke.io/"
PROBE_RANGES = ["130.211.0.0/22", "35.191.0.0/16"]  # Google's health checkers
SERVE404 = "gw-serve404"
_SERVE404_PORT = 80
CALLOUT = "Callout"  # kind of a backend that the load balancer asks (picker, routing extension)

_PROXY = {False: "proxy", True: "https-proxy"}  # role in the names of a protocol's URL map and target proxy

Key = tuple[str, str, str]  # family, scope, name


@dataclass(frozen=True)
class Part:
    """One compute resource. ``family`` is its plural in URLs, ``scope`` as in ``ComputeStore``."""

    family: str
    scope: str
    name: str
    body: Json

    @property
    def key(self) -> Key:
        return self.family, self.scope, self.name


def collection(family: str, scope: str) -> str:
    """Discovery name of a family in a scope: ``urlMaps`` -> ``regionUrlMaps``."""
    table = _GLOBAL if scope == "global" else _REGIONAL if scope.startswith("regions/") else {}
    return table.get(family, family)


class Planner:
    """Works out the parts of one cluster's Gateways."""

    def __init__(self, place: Place, namer: Namer) -> None:
        self.place = place
        self.namer = namer

    def scope(self, config: Configuration) -> str:
        return f"regions/{self.place.region}" if config.klass.regional else "global"

    def parts(
        self, config: Configuration, zones: Iterable[str], *, address: str = "", proxy_range: str = ""
    ) -> list[Part]:
        """Every part in order of making. Without ``address``: only what comes before the forwarding rule."""
        used = config.backends()
        default = Backend("Service", config.namespace, SERVE404, SERVE404, _SERVE404_PORT)
        distinct = {backend.key: backend for backend in [default, *used, *callout_backends(config)]}
        found = [self._firewall(config, proxy_range)]
        for backend in distinct.values():
            found += self._backend(config, backend, zones if backend is not default else ())
        for https in sorted({listener.https for listener in config.listeners} or {False}):
            found += [self._url_map(config, default, https), *self._proxy(config, https)]
        if address:
            found += self._front(config, address)
        return sorted(found, key=lambda part: ORDER.index(part.family))

    def backend_name(self, config: Configuration, backend: Backend) -> str:
        return self.namer.backend_service(config.klass.name, *backend.key)

    def gateway_name(self, config: Configuration, role: str) -> str:
        return self.namer.gateway(config.klass.name, config.namespace, config.name, role)

    def neg_name(self, backend: Backend) -> str:
        return self.namer.network_endpoint_group(*backend.key)

    def address_key(self, config: Configuration) -> Key:
        name = config.named_address or self.gateway_name(config, "address")
        return "addresses", self.scope(config), name

    def _url(self, key: Key) -> str:
        family, scope, name = key
        return self.place.url(family, scope, name)

    def _description(self, kind: str, namespace: str, name: str) -> str:
        resource = f"/namespaces/{namespace}/{kind}/{name}"
        return json.dumps({"k8sResource": resource, "k8sCluster": self.place.cluster_path}, separators=(",", ":"))

    def _gateway_description(self, config: Configuration) -> str:
        return self._description("gateways", config.namespace, config.name)

    @property
    def _network(self) -> str:
        return self.place.url("networks", "global", self.place.network)

    @property
    def _subnetwork(self) -> str:
        return self.place.url("subnetworks", f"regions/{self.place.region}", self.place.subnetwork)

    def _firewall(self, config: Configuration, proxy_range: str) -> Part:
        where = self.place.region if config.klass.regional else "global"
        sources = sorted({*PROBE_RANGES, *([proxy_range] if proxy_range else [])})
        body = {
            "description": json.dumps({"k8sCluster": self.place.cluster_path}, separators=(",", ":")),
            "network": self._network,
            "direction": "INGRESS",
            "priority": 1000,
            "sourceRanges": sources,
            "allowed": [{"IPProtocol": "tcp"}],
            "disabled": False,
            "logConfig": {"enable": False},
        }
        return Part("firewalls", "global", self.namer.firewall(self.place.network, where), body)

    def _backend(self, config: Configuration, backend: Backend, zones: Iterable[str]) -> list[Part]:
        scope, name = self.scope(config), self.backend_name(config, backend)
        description = self._description("services", backend.namespace, backend.service)
        check = Part("healthChecks", scope, name, {"description": description, **health_body(backend.health)})
        groups = [self._neg(backend, zone, description) for zone in sorted(set(zones))]
        body: Json = {
            "description": description,
            "protocol": "HTTP2" if backend.kind == CALLOUT else "HTTP",
            "loadBalancingScheme": config.klass.scheme,
            "timeoutSec": backend.timeout,
            "sessionAffinity": "NONE",
            "connectionDraining": {"drainingTimeoutSec": 0},
            "logConfig": {"enable": backend.logging},
            "healthChecks": [self._url(check.key)],
            "backends": [
                {
                    "group": self._url(part.key),
                    "balancingMode": "RATE",
                    "maxRatePerEndpoint": 100000000,
                    "capacityScaler": 1,
                }
                for part in groups
            ],
        }
        return [check, *groups, Part("backendServices", scope, name, body)]

    def _neg(self, backend: Backend, zone: str, description: str) -> Part:
        body = {
            "description": description,
            "networkEndpointType": "GCE_VM_IP_PORT",
            "network": self._network,
            "subnetwork": self._subnetwork,
        }
        return Part("networkEndpointGroups", f"zones/{zone}", self.neg_name(backend), body)

    def _url_map(self, config: Configuration, default: Backend, https: bool) -> Part:
        scope = self.scope(config)
        fallback = self._url(("backendServices", scope, self.backend_name(config, default)))
        rules = [rule for listener in config.listeners if listener.https == https for rule in listener.rules]
        hosts = sorted({host for rule in rules for host in rule.hostnames or ("*",)})
        matchers = []
        for host in hosts:
            mine = [rule for rule in rules if host in (rule.hostnames or ("*",))]
            pairs = [(rule, match) for rule in mine for match in rule.matches]
            matchers.append(
                {
                    "name": "host" + base36(host, 32),
                    "defaultService": fallback,
                    "routeRules": [
                        {
                            "priority": number,
                            "matchRules": [url_match(match)],
                            **self._action(config, rule.backends, fallback),
                        }
                        for number, (rule, match) in enumerate(pairs, 1)
                    ],
                }
            )
        body: Json = {"description": self._gateway_description(config), "defaultService": fallback}
        if matchers:
            pairs_of = zip(hosts, matchers, strict=True)
            body["hostRules"] = [{"hosts": [host], "pathMatcher": item["name"]} for host, item in pairs_of]
            body["pathMatchers"] = matchers
        return Part("urlMaps", scope, self.gateway_name(config, _PROXY[https]), body)

    def _action(self, config: Configuration, backends: Iterable[tuple[Backend, int]], fallback: str) -> Json:
        weighted = []
        for backend, weight in backends:
            key = "backendServices", self.scope(config), self.backend_name(config, backend)
            weighted.append({"backendService": self._url(key), "weight": weight})
        if not weighted:
            return {"service": fallback}
        if len(weighted) == 1:
            return {"service": weighted[0]["backendService"]}
        return {"routeAction": {"weightedBackendServices": weighted}}

    def _proxy(self, config: Configuration, https: bool) -> list[Part]:
        """The target proxy of a protocol; for HTTPS with the certificates that come from Secrets."""
        scope = self.scope(config)
        name = self.gateway_name(config, _PROXY[https])
        description = self._gateway_description(config)
        body: Json = {"description": description, "urlMap": self._url(("urlMaps", scope, name))}
        if not https:
            return [Part("targetHttpProxies", scope, name, body)]
        shown = {item.name: item for listener in config.listeners for item in listener.certificates}
        found, urls = [], []
        for item in shown.values():
            role = f"certificate/{item.name}/{item.fingerprint}"
            own = self.gateway_name(config, role) if item.made_here else item.name
            urls.append(self._url(("sslCertificates", scope, own)))
            if item.made_here:  # another key makes another resource: certificates cannot be changed
                made = {"description": description, "type": "SELF_MANAGED", "certificate": item.chain}
                found.append(Part("sslCertificates", scope, own, made))
        return [*found, Part("targetHttpsProxies", scope, name, {**body, "sslCertificates": urls})]

    def _front(self, config: Configuration, address: str) -> list[Part]:
        scope = self.scope(config)
        description = self._gateway_description(config)
        secure = {listener.port for listener in config.listeners if listener.https}
        tier = {} if config.klass.internal else {"networkTier": "PREMIUM"}
        inside = {"subnetwork": self._subnetwork} if config.klass.internal else {}
        found = []
        if not config.named_address:
            purpose = {"purpose": "SHARED_LOADBALANCER_VIP"} if config.klass.internal else {}
            kind = "INTERNAL" if config.klass.internal else "EXTERNAL"
            body = {"description": description, "address": address, "addressType": kind, "status": "IN_USE"}
            found.append(Part(*self.address_key(config), {**body, **tier, **inside, **purpose}))
        ports = sorted({listener.port for listener in config.listeners})
        for port in ports:
            role = "rule" if port == ports[0] else f"rule-{port}"
            family = "targetHttpsProxies" if port in secure else "targetHttpProxies"
            proxy = self.gateway_name(config, _PROXY[port in secure])
            body = {
                "description": description,
                "IPAddress": address,
                "IPProtocol": "TCP",
                "portRange": f"{port}-{port}",
                "loadBalancingScheme": config.klass.scheme,
                "target": self._url((family, scope, proxy)),
                **tier,
                **inside,
                **({"network": self._network} if config.klass.regional else {}),
            }
            found.append(Part("forwardingRules", scope, self.gateway_name(config, role), body))
        return found


def _picker_backend(backend: Backend) -> Backend:
    """The picker of a pool as a backend service of its own: ext-proc callouts go through one."""
    picker = backend.picker
    assert picker is not None
    check = HealthCheck(kind="TCP")
    return Backend(CALLOUT, picker.namespace, picker.service, picker.service, picker.port, health=check)


def callout_backends(config: Configuration) -> list[Backend]:
    """What the load balancer asks, each as a backend: the pickers of the pools, and the routing extension."""
    found = [_picker_backend(backend) for backend in config.backends() if backend.picker]
    asked = config.extension
    if asked is not None:
        found.append(Backend(CALLOUT, asked.namespace, asked.service, asked.service, asked.port, health=asked.health))
    return found


def health_body(check: HealthCheck) -> Json:
    """A HealthCheck resource's fields."""
    detail: Json = (
        {"portSpecification": "USE_SERVING_PORT"}
        if check.port is None
        else {"portSpecification": "USE_FIXED_PORT", "port": check.port}
    )
    if check.kind in ("HTTP", "HTTPS", "HTTP2"):
        detail["requestPath"] = check.path
        if check.host:
            detail["host"] = check.host
    words = {"HTTP": "http", "HTTPS": "https", "HTTP2": "http2", "GRPC": "grpc", "TCP": "tcp"}
    return {
        "type": check.kind,
        "checkIntervalSec": check.interval,
        "timeoutSec": check.timeout,
        "healthyThreshold": check.healthy,
        "unhealthyThreshold": check.unhealthy,
        f"{words.get(check.kind, 'tcp')}HealthCheck": detail,
    }


def url_match(match: Any) -> Json:
    """One HttpRouteRuleMatch of a URL map."""
    word = {"Exact": "fullPathMatch", "RegularExpression": "regexMatch"}.get(match.path_kind, "prefixMatch")
    found: Json = {word: match.path}

    def test(kind: str, value: str) -> Json:
        return {"regexMatch": value} if kind == "RegularExpression" else {"exactMatch": value}

    headers = [{"headerName": name, **test(kind, value)} for kind, name, value in match.headers]
    if match.method:
        headers.append({"headerName": ":method", "exactMatch": match.method})
    if headers:
        found["headerMatches"] = headers
    if match.query:
        found["queryParameterMatches"] = [{"name": name, **test(kind, value)} for kind, name, value in match.query]
    return found


def annotation_values(
    place: Place, parts: Iterable[Part], pools: Iterable[str] = (), routing: Iterable[str] = ()
) -> dict[str, str]:
    """The Gateway's annotations that name its parts. ``pools``, ``routing``: its traffic and route extensions."""
    listed: dict[str, list[str]] = {word: [] for word in [*ANNOTATIONS.values(), *_EMPTY]}
    for part in parts:
        if part.family in ANNOTATIONS:
            path = f"/projects/{place.number}/{part.scope}/{part.family}/{part.name}"
            listed[ANNOTATIONS[part.family]].append(path)
    where = f"/projects/{place.number}/locations/{place.region}"
    listed["lb-traffic-extensions"] += [f"{where}/lbTrafficExtensions/{name}" for name in pools]
    listed["lb-route-extensions"] += [f"{where}/lbRouteExtensions/{name}" for name in routing]
    return {PREFIX + word: ", ".join(sorted(values)) for word, values in sorted(listed.items())}


def named(annotations_: Json) -> set[Key]:
    """Parts that a Gateway's annotations name."""
    found = set()
    for family, word in ANNOTATIONS.items():
        for path in str(annotations_.get(PREFIX + word) or "").split(","):
            segments = path.strip().strip("/").split("/")
            if len(segments) >= 5:
                found.add((family, "/".join(segments[2:-2]), segments[-1]))
    return found
