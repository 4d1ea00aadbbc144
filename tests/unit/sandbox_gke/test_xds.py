from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.gke import xds, xds_routes
from sandbox.gke.model import Backend, Listener, Match, Picker, Rule, canonical
from sandbox.gke.xds import Frontend, Origin, Site

POOL = Backend("InferencePool", "llm-d", "p", "p-ips-1", 54321, 300, picker=Picker("llm-d", "epp", 9002))
OPEN = Backend("InferencePool", "llm-d", "o", "o-ips-1", 54321, picker=Picker("llm-d", "o-epp", 9002, True))
WEB = Backend("Service", "web", "web", "web", 80)
POD = ("10.4.0.2", 8000)


def rule(*matches: Match, backends: Any = ((POOL, 1),), name: str = "llm-d/r", filters: Any = (), **more: Any) -> Rule:
    return Rule(name, more.pop("created", "t"), 0, more.pop("hostnames", ()), matches, backends, canonical(filters))


def only_routes(*rules: Rule, hostname: str = "") -> list[dict[str, Any]]:
    config = xds_routes.route_configuration("c", "n", 80, [Listener("default", 80, hostname, rules)])
    return [item for host in config["virtual_hosts"] for item in host["routes"]]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), {"prefix": "/"}),
        (Match("PathPrefix", "/v1/"), {"path_separated_prefix": "/v1"}),
        (Match("Exact", "/v1"), {"path": "/v1"}),
        (Match("RegularExpression", "/v.*"), {"safe_regex": {"regex": "/v.*"}}),
        (
            Match(method="POST"),
            {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
        ),
        (
            Match(headers=(("Exact", "X-Gateway-Model-Name", "google/gemma-2b-it"),)),
            {
                "prefix": "/",
                "headers": [{"name": "x-gateway-model-name", "string_match": {"exact": "google/gemma-2b-it"}}],
            },
        ),
        (
            Match(query=(("RegularExpression", "q", "a.*"),)),
            {
                "prefix": "/",
                "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": "a.*"}}}],
            },
        ),
    ],
)
def test_matches(match: Match, expected: dict[str, Any]) -> None:
    assert xds_routes.route_match(match) == expected


def test_a_frontend_without_rules_only_aborts() -> None:
    (only,) = only_routes()
    fault = only["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert fault["abort"] == {"http_status": 404, "percentage": {"numerator": 100}}


def test_a_pool_route_asks_its_own_picker() -> None:
    found = only_routes(rule(Match()))[0]
    assert found["route"] == {"timeout": "300s", "cluster": "c|llm-d|p-ips-1|54321"}
    override = found["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"]
    assert override["grpc_service"]["envoy_grpc"]["cluster_name"] == "c|llm-d|p-ips-1|54321|picker"
    assert override["failure_mode_allow"] is False
    assert override["processing_mode"]["request_body_mode"] == "FULL_DUPLEX_STREAMED"


def test_a_plain_service_asks_no_picker() -> None:
    assert "typed_per_filter_config" not in only_routes(rule(Match(), backends=((WEB, 1),)))[0]


def test_weights_keep_a_picker_for_each_pool() -> None:
    found = only_routes(rule(Match(), backends=((POOL, 9), (OPEN, 1), (WEB, 0))))[0]["route"]
    clusters = found["weighted_clusters"]["clusters"]
    assert [(item["name"], item["weight"]) for item in clusters] == [
        ("c|llm-d|p-ips-1|54321", 9),
        ("c|llm-d|o-ips-1|54321", 1),
    ]
    modes = [
        item["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"]["failure_mode_allow"]
        for item in clusters
    ]
    assert modes == [False, True]


def test_no_backend_is_a_500() -> None:
    assert only_routes(rule(Match(), backends=((POOL, 0),)))[0]["direct_response"] == {"status": 500}


def test_precedence() -> None:
    found = only_routes(
        rule(Match(), name="llm-d/any"),
        rule(Match("PathPrefix", "/v1")),
        rule(Match("PathPrefix", "/v1", headers=(("Exact", "a", "b"),))),
        rule(Match("Exact", "/v1")),
        rule(Match("PathPrefix", "/v1", method="GET")),
        rule(Match("PathPrefix", "/v1/models")),
    )
    words = [{key: item["match"][key] for key in item["match"] if key != "headers"} for item in found[:-1]]
    assert words == [
        {"path": "/v1"},
        {"path_separated_prefix": "/v1/models"},
        {"path_separated_prefix": "/v1"},
        {"path_separated_prefix": "/v1"},
        {"path_separated_prefix": "/v1"},
        {"prefix": "/"},
    ]
    assert found[2]["match"]["headers"][0]["name"] == ":method"
    assert found[3]["match"]["headers"][0]["name"] == "a"


def test_the_older_route_wins() -> None:
    young = rule(Match(), backends=((WEB, 1),), created="2026-02-01T00:00:00Z", name="llm-d/a")
    old = rule(Match(), created="2026-01-01T00:00:00Z", name="llm-d/z")
    assert "p-ips-1" in only_routes(young, old)[0]["route"]["cluster"]


def test_a_narrow_host_falls_through_to_wider_ones() -> None:
    rules = (
        rule(Match("Exact", "/a"), hostnames=("a.example.com",)),
        rule(Match("Exact", "/b"), hostnames=("*.example.com",)),
        rule(Match()),
    )
    config = xds_routes.route_configuration("c", "n", 80, [Listener("default", 80, "", rules)])
    paths = {
        host["name"]: [item["match"].get("path") or item["match"]["prefix"] for item in host["routes"]]
        for host in config["virtual_hosts"]
    }
    assert paths == {"*": ["/", "/"], "*.example.com": ["/b", "/", "/"], "a.example.com": ["/a", "/b", "/", "/"]}
    domains = [domain for host in config["virtual_hosts"] for domain in host["domains"]]
    assert len(domains) == len(set(domains))


def test_filters() -> None:
    filters = [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["c"]}},
        {
            "type": "URLRewrite",
            "urlRewrite": {"hostname": "h", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}},
        },
    ]
    found = only_routes(rule(Match("PathPrefix", "/old"), filters=filters))[0]
    assert found["request_headers_to_add"][0]["header"] == {"key": "a", "value": "b"}
    assert found["response_headers_to_remove"] == ["c"]
    assert found["route"]["prefix_rewrite"] == "/new"
    assert found["route"]["host_rewrite_literal"] == "h"


def test_a_redirect_needs_no_backend() -> None:
    filters = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]
    found = only_routes(rule(Match(), filters=filters, backends=()))[0]
    assert found["redirect"] == {"response_code": "MOVED_PERMANENTLY", "scheme_redirect": "https"}
    assert "route" not in found


def test_a_healthy_pool_goes_where_the_picker_said() -> None:
    found = xds.backend_cluster("x", Origin(POOL, (POD,)))
    assert found["type"] == "ORIGINAL_DST"
    assert found["original_dst_lb_config"]["http_header_name"] == "x-gateway-destination-endpoint"


def test_a_pool_without_healthy_endpoint_has_no_upstream() -> None:
    found = xds.backend_cluster("x", Origin(POOL))
    assert found["type"] == "STATIC"
    assert found["load_assignment"]["endpoints"] == []


def test_fail_open_may_go_anywhere() -> None:
    found = xds.backend_cluster("x", Origin(OPEN, (POD,)))
    assert found["type"] == "STATIC"
    policy = found["load_balancing_policy"]["policies"][0]["typed_extension_config"]
    assert policy["name"] == "envoy.load_balancing_policies.override_host"


def test_files_are_stable_and_complete(tmp_path: Path) -> None:
    frontend = Frontend("203.0.113.1", 80, (Listener("default", 80, "", (rule(Match()),)),))
    site = Site("p/z/c", (frontend, Frontend("203.0.113.1", 81)), (Origin(POOL, (POD,), (("10.4.0.3", 9002),)),))
    files = xds.files([site], tmp_path)
    eds = xds.eds_file("p/z/c|llm-d|p-ips-1|54321|picker")
    assert list(files) == [eds, "cds.json", "rds-203.0.113.1_80.json", "rds-203.0.113.1_81.json", "lds.json"]
    assert files == xds.files([site], tmp_path)
    clusters = [item["name"] for item in json.loads(files["cds.json"])["resources"]]
    assert clusters == ["no-picker", "p/z/c|llm-d|p-ips-1|54321", "p/z/c|llm-d|p-ips-1|54321|picker"]
    moved = replace(site, origins=(Origin(POOL, (POD,), (("10.4.0.9", 9002),)),))
    again = xds.files([moved], tmp_path)
    assert [name for name in files if files[name] != again[name]] == [eds]  # a picker's move changes no cluster
    bootstrap = xds.bootstrap(tmp_path, ("127.0.0.1", 19000))
    source = bootstrap["dynamic_resources"]["lds_config"]["path_config_source"]
    assert source == {"path": str(tmp_path / "lds.json"), "watched_directory": {"path": str(tmp_path)}}
