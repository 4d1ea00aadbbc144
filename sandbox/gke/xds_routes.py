"""HTTPRoute rules as Envoy routes. Pure; xds.py puts them into listeners and files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.gke.model import Backend, Extension, Listener, Match, Rule
from sandbox.gke.routes import intersect

Json = dict[str, Any]

TYPE = "type.googleapis.com/envoy."
EXT_PROC = "envoy.filters.http.ext_proc"
ROUTING = "routing-extension"  # name of the second ext_proc filter, which runs before a route is chosen for good
FAULT = "envoy.filters.http.fault"


def cluster_name(owner: str, key: tuple[str, str, int]) -> str:
    """Envoy's name for one backend service of one cluster's Gateways."""
    return "|".join((owner, *map(str, key)))


def picker_name(owner: str, backend: Backend) -> str:
    """Envoy's name for the picker of a backend."""
    return cluster_name(owner, backend.key) + "|picker"


def extension_name(owner: str, extension: Extension) -> str:
    """Envoy's name for the pods of a routing extension."""
    return cluster_name(owner, (extension.namespace, extension.service, extension.port)) + "|extension"


def route_configuration(
    owner: str, name: str, port: int, listeners: Iterable[Listener], extension: Extension | None = None
) -> Json:
    """Virtual hosts by hostname; each ends in a route that aborts with 404 ``fault filter abort``.

    A host's own rules come first, then those of wider hostnames, as the Gateway API orders them. ``extension`` is
    asked for every request, whichever route it would take.
    """
    bound = [
        (hostname, rule)
        for item in listeners
        for rule in item.rules
        for hostname in intersect(item.hostname, rule.hostnames)
    ]
    hosts = sorted({hostname for hostname, _rule in bound} | {"*"})
    virtual_hosts = []
    for host in hosts:
        entries = [
            (host_rank(hostname), *precedence(rule, match), rule, match)
            for hostname, rule in bound
            if hostname == "*" or hostname == host or (hostname.startswith("*.") and host.endswith(hostname[1:]))
            for match in rule.matches
        ]
        entries.sort(key=lambda entry: entry[:-2])
        found = [route(owner, entry[-2], entry[-1]) for entry in entries]
        domains = [host] if host == "*" else [host, f"{host}:{port}"]
        virtual_hosts.append({"name": host, "domains": domains, "routes": [*found, nowhere()]})
    asked = {} if extension is None else {"typed_per_filter_config": {ROUTING: extension_override(owner, extension)}}
    return {"name": name, "virtual_hosts": virtual_hosts, **asked}


def host_rank(hostname: str) -> tuple[int, int]:
    """Sorts exact hostnames before wildcards, longer ones first."""
    return (hostname.startswith("*"), -len(hostname))


def precedence(rule: Rule, match: Match) -> tuple[Any, ...]:
    """Sorts matches in the Gateway API's order: exact path, longest prefix, method, headers, query, age, name."""
    kinds = {"Exact": 0, "PathPrefix": 1, "RegularExpression": 2}
    return (
        kinds.get(match.path_kind, 3),
        -len(match.path),
        not match.method,
        -len(match.headers),
        -len(match.query),
        rule.created,
        rule.route,
        rule.index,
    )


def nowhere() -> Json:
    """The answer where nothing matches: 404 with the body ``fault filter abort``."""
    abort = {"http_status": 404, "percentage": {"numerator": 100}}
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404},
        "typed_per_filter_config": {
            FAULT: {"@type": f"{TYPE}extensions.filters.http.fault.v3.HTTPFault", "abort": abort}
        },
    }


def route(owner: str, rule: Rule, match: Match) -> Json:
    """One Envoy route."""
    base: Json = {"match": route_match(match)}
    action: Json = {}
    for item in json.loads(rule.filters):
        _add_filter(base, action, item, match)
    if "redirect" in base:
        return base
    used = [(backend, weight) for backend, weight in rule.backends if weight > 0]
    if not used:  # Gateway API: no usable backend is a 500
        return {**base, "direct_response": {"status": 500}}
    action["timeout"] = f"{max(backend.timeout for backend, _weight in used)}s"
    if len(used) == 1:
        backend = used[0][0]
        action["cluster"] = cluster_name(owner, backend.key)
        base.update(_per_filter(owner, backend))
    else:
        action["weighted_clusters"] = {
            "clusters": [
                {"name": cluster_name(owner, backend.key), "weight": weight, **_per_filter(owner, backend)}
                for backend, weight in used
            ]
        }
    return {**base, "route": action}


def _per_filter(owner: str, backend: Backend) -> Json:
    return {"typed_per_filter_config": {EXT_PROC: picker_override(owner, backend)}} if backend.picker else {}


def route_match(match: Match) -> Json:
    """Translate a match: path, method, headers and query parameters must all agree."""
    found: Json = {}
    if match.path_kind == "Exact":
        found["path"] = match.path
    elif match.path_kind == "RegularExpression":
        found["safe_regex"] = {"regex": match.path}
    elif match.path.rstrip("/"):
        found["path_separated_prefix"] = match.path.rstrip("/")
    else:
        found["prefix"] = "/"
    headers = [{"name": name.lower(), "string_match": _string(kind, value)} for kind, name, value in match.headers]
    if match.method:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    if headers:
        found["headers"] = headers
    if match.query:
        found["query_parameters"] = [
            {"name": name, "string_match": _string(kind, value)} for kind, name, value in match.query
        ]
    return found


def _string(kind: str, value: str) -> Json:
    return {"safe_regex": {"regex": value}} if kind == "RegularExpression" else {"exact": value}


def _add_filter(base: Json, action: Json, item: Mapping[str, Any], match: Match) -> None:
    kind = item.get("type")
    if kind == "RequestHeaderModifier":
        _headers(base, "request", item.get("requestHeaderModifier") or {})
    elif kind == "ResponseHeaderModifier":
        _headers(base, "response", item.get("responseHeaderModifier") or {})
    elif kind == "RequestRedirect":
        base["redirect"] = _redirect(item.get("requestRedirect") or {})
    elif kind == "URLRewrite":
        _rewrite(action, item.get("urlRewrite") or {}, match)


def _headers(base: Json, side: str, change: Mapping[str, Any]) -> None:
    added = [
        {"header": {"key": each["name"], "value": each["value"]}, "append_action": how}
        for word, how in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
        for each in change.get(word) or []
    ]
    if added:
        base[f"{side}_headers_to_add"] = added
    if change.get("remove"):
        base[f"{side}_headers_to_remove"] = list(change["remove"])


def _redirect(change: Mapping[str, Any]) -> Json:
    codes = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT"}
    found: Json = {"response_code": codes.get(int(change.get("statusCode") or 302), "PERMANENT_REDIRECT")}
    for ours, theirs in (("scheme", "scheme_redirect"), ("hostname", "host_redirect"), ("port", "port_redirect")):
        if change.get(ours):
            found[theirs] = change[ours]
    path = change.get("path") or {}
    if path.get("replaceFullPath"):
        found["path_redirect"] = path["replaceFullPath"]
    elif path.get("replacePrefixMatch"):
        found["prefix_rewrite"] = path["replacePrefixMatch"]
    return found


def _rewrite(action: Json, change: Mapping[str, Any], match: Match) -> None:
    if change.get("hostname"):
        action["host_rewrite_literal"] = change["hostname"]
    path = change.get("path") or {}
    if path.get("replaceFullPath"):
        action["regex_rewrite"] = {"pattern": {"regex": "^/.*$"}, "substitution": path["replaceFullPath"]}
    elif path.get("replacePrefixMatch") is not None and match.path.rstrip("/"):
        prefix = path["replacePrefixMatch"].rstrip("/")
        if prefix:
            action["prefix_rewrite"] = prefix
        else:  # /old/x becomes /x: the slash after the prefix must not be doubled
            pattern = f"^{re.escape(match.path.rstrip('/'))}/*"
            action["regex_rewrite"] = {"pattern": {"regex": pattern}, "substitution": "/"}


def picker_override(owner: str, backend: Backend) -> Json:
    """Per-route settings that make the ext_proc filter ask this backend's picker."""
    picker = backend.picker
    assert picker is not None
    authority = f"{picker.service}.{picker.namespace}:{picker.port}"
    return {
        "@type": f"{TYPE}extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
        "overrides": {
            "grpc_service": {"envoy_grpc": {"cluster_name": picker_name(owner, backend), "authority": authority}},
            "failure_mode_allow": picker.fail_open,
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_trailer_mode": "SEND",
            },
        },
    }


def extension_override(owner: str, extension: Extension) -> Json:
    """Settings that make the first ext_proc filter ask a routing extension. It never sees answers."""
    modes = {"": "NONE", "Streamed": "STREAMED", "FullDuplexStreamed": "FULL_DUPLEX_STREAMED"}
    envoy = {"cluster_name": extension_name(owner, extension), "authority": extension.authority}
    return {
        "@type": f"{TYPE}extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
        "overrides": {
            "grpc_service": {"envoy_grpc": envoy},
            "failure_mode_allow": extension.fail_open,
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SKIP",
                "request_body_mode": modes[extension.body],
                "response_body_mode": "NONE",
                "request_trailer_mode": "SEND" if extension.trailers else "SKIP",
                "response_trailer_mode": "SKIP",
            },
        },
    }
