"""The picker behind a real Envoy, set up as the gateway controller sets it up: the answers a client sees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import paths

from .conftest import MODEL, FakeApi, ModelServer, Picker, add_pods, free_port, http, wait_for, wait_for_pods
from .test_model_server import series

PASSED = "x-went-into-resp-headers"


def cluster(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "connect_timeout": "5s", **more}


def bootstrap(port: int, picker_port: int) -> dict[str, Any]:
    """The load balancer in one listener: ext_proc to the picker, then the pod that its header names."""
    types = "type.googleapis.com/envoy.extensions"
    modes = {
        "request_header_mode": "SEND", "response_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED", "response_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND", "response_trailer_mode": "SEND",
    }  # fmt: skip
    processor = {
        "@type": f"{types}.filters.http.ext_proc.v3.ExternalProcessor",
        "failure_mode_allow": False,
        "grpc_service": {"envoy_grpc": {"cluster_name": "picker", "authority": "picker:9002"}, "timeout": "10s"},
        "processing_mode": modes,
        "message_timeout": "1000s",
    }
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "pool"}}]}
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.ext_proc", "typed_config": processor},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}},
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": picker_port}}
    picker = cluster(
        "picker",
        type="STATIC",
        transport_socket={
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{types}.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"validation_context": {}},
            },
        },
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{types}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        load_assignment={
            "cluster_name": "picker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    )
    header = {"use_http_header": True, "http_header_name": "x-gateway-destination-endpoint"}
    pool = cluster("pool", type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED", original_dst_lb_config=header)
    network = "envoy.filters.network.http_connection_manager"
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [{"name": network, "typed_config": manager}]}],
                }
            ],
            "clusters": [pool, picker],
        }
    }


@contextmanager
def envoy(picker: Picker, folder: Path) -> Iterator[str]:
    """A gateway in front of a picker; its URL."""
    built = paths.current().venvs / "envoy" / "bin" / "envoy"
    program = str(built) if built.exists() else shutil.which("envoy")
    if not program:
        pytest.skip("no Envoy")
    port = free_port()
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(bootstrap(port, picker.port)), encoding="utf-8")
    with (folder / "envoy.log").open("wb") as log:
        command = [program, "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: http(url + "/health").status == 200, "Envoy did not start")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def gateway(shared_picker: Picker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with envoy(shared_picker, tmp_path_factory.mktemp("envoy")) as url:
        yield url


@dataclass
class Recorded:
    status: int
    headers: dict[str, str]
    body: str


def recorded(reference: Path) -> dict[str, Recorded]:
    """The sections of answers.md by title."""
    text = (reference / "endpoint-picker" / "answers.md").read_text(encoding="utf-8")
    found = {}
    for section in text.split("\n## ")[1:]:
        title, _, rest = section.partition("\n")
        head, _, body = rest.partition("\n\n")
        first, *lines = head.splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines)
        found[title.strip()] = Recorded(int(first.split()[1]), headers, body.strip())
    return found


HI = [{"role": "user", "content": "hi"}]
CASES: dict[str, tuple[str, Any]] = {
    "GET /v1/models": ("/v1/models", None),
    "GET /health": ("/health", None),
    "POST completion": ("/v1/completions", {"model": MODEL, "prompt": "To be or not"}),
    "POST chat": ("/v1/chat/completions", {"model": MODEL, "messages": HI, "max_tokens": 5}),
    "no model in body": ("/v1/completions", {"prompt": "x"}),
    "body is not JSON": ("/v1/completions", b"not json"),
    "unknown model": ("/v1/completions", {"model": "nope", "prompt": "x"}),
    "empty body": ("/v1/completions", b""),
    "prompt+max_tokens beyond max_model_len": (
        "/v1/completions", {"model": MODEL, "prompt": "x", "max_tokens": 5000},
    ),
}  # fmt: skip


def test_answers_as_recorded(gateway: str, reference: Path) -> None:
    answers = recorded(reference)
    for title, (path, body) in CASES.items():
        ours, theirs = http(gateway + path, body), answers[title]
        assert ours.status == theirs.status, title
        for name in (PASSED, "content-type"):
            expected = theirs.headers.get(name)
            assert (ours.headers.get(name) or "").split(";")[0] == (expected or ""), (title, name)
        if not theirs.body.startswith("{"):
            assert ours.body.decode() == theirs.body, title
            continue
        mine, other = ours.json(), json.loads(theirs.body)
        if title == "empty body":  # recorded of another simulator; ours speaks as vLLM's request validation does
            assert mine["error"]["code"] == other["error"]["code"]
        elif "error" in other:
            assert mine == other, title
        else:
            assert set(other) <= set(mine), title
            assert mine["object"] == other["object"]


def test_answers_without_pods_and_without_picker(
    api: FakeApi, start_picker: Callable[..., Picker], model_servers: list[ModelServer], reference: Path, tmp_path: Path
) -> None:
    answers = recorded(reference)
    add_pods(api, model_servers)
    picker = start_picker()
    wait_for_pods(picker)
    post = {"model": MODEL, "prompt": "x"}
    with envoy(picker, tmp_path) as url:
        for server in model_servers:
            api.set_pod(server.pod, server.address, ready=False)
        wait_for(lambda: http(url + "/v1/models").status == 500, "the picker still knows a pod")
        for title, body in (("no model server pod: POST", post), ("no model server pod: GET", None)):
            ours = http(url + "/v1/completions", body)
            assert (ours.status, ours.body.decode()) == (answers[title].status, answers[title].body)
            assert ours.headers["content-type"] == "text/plain"
        assert picker.program.stop() == 0
        gone = http(url + "/v1/completions", post)
    theirs = answers["picker gone: POST (Envoy failure_mode_allow false)"]
    assert (gone.status, gone.body.decode()) == (theirs.status, theirs.body)


def test_metrics_after_traffic(gateway: str, shared_picker: Picker, reference: Path) -> None:
    picker = shared_picker
    labels = f'{{model_name="{MODEL}",target_model_name="{MODEL}"}}'
    before = picker.value("inference_objective_request_total" + labels)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    http(gateway + "/v1/completions", {"model": MODEL, "prompt": "To be or not"})
    answer = http(gateway + "/v1/completions", {"model": MODEL, "prompt": "x", "max_tokens": 8, **usage})
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.headers[PASSED] == "true"
    done = "inference_objective_request_duration_seconds_count"
    wait_for(lambda: picker.value(done + labels) >= before + 2, "no durations")
    text = picker.metrics()
    file = (reference / "endpoint-picker" / "metrics.txt").read_text(encoding="utf-8")
    ours, theirs = series(text), series(file)
    assert {name: ours.get(name) for name in theirs} == theirs
    for line in file.splitlines():
        if line.startswith("inference_extension_plugin_duration_seconds_count"):
            assert line.rsplit(" ", 1)[0] in text
    assert picker.value("inference_objective_request_total" + labels) == before + 2
    assert picker.value(f'inference_objective_running_requests{{model_name="{MODEL}"}}') == 0


def test_prefix_and_pod_header(gateway: str, model_servers: list[ModelServer]) -> None:
    """The same long beginning comes back to the same pod, whose prefix cache then answers for most of it."""
    beginning = "You are a careful assistant for a team that runs clusters. " * 8
    body = {"model": MODEL, "max_tokens": 2}
    pods = {
        http(gateway + "/v1/completions", {**body, "prompt": f"{beginning}{number}"}).headers["x-llmd-sandbox-pod"]
        for number in range(6)
    }
    assert len(pods) == 1
    home = next(server for server in model_servers if server.pod in pods)
    text = http(home.url + "/metrics").body.decode()
    hits, queries = (
        float(match[1])
        for name in ("hits", "queries")
        if (match := re.search(rf"vllm:prefix_cache_{name}_total\{{.*\}} (\S+)", text))
    )
    assert hits / queries > 0.3
