from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Endpoint
from ansible_collections.llmd.gke.plugins.module_utils.inference.picker import Picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.probe import CHECKS, Plan, Probe

MODEL = "google/gemma-2b-it"
POD = "/api/v1/namespaces/llm-d/pods/gaie-epp-1"
COUNTER = "inference_objective_request_total"
NAMES = {"counter": COUNTER, "header": "x-went-into-resp-headers"}
SCORERS = {"prefix-cache-scorer": 3.0, "kv-cache-utilization-scorer": 2.0, "queue-scorer": 2.0}
OPTIONS = {
    "picker_selector": "inferencepool=gaie-epp",
    "picker_metrics_port": 9090,
    "request_counter": COUNTER,
    "response_header": NAMES["header"],
    "scorers": SCORERS,
}
LOG = json.dumps(
    {
        "msg": "parsed config",
        "scheduler-config": "Scorers: [queue-scorer/queue-scorer: 2, kv-cache-utilization-scorer/"
        "kv-cache-utilization-scorer: 2, prefix-cache-scorer/prefix-cache-scorer: 3]",
    }
)


class World:
    """An endpoint and its picker: ``trouble`` is answered first; ``bypass`` leaves the picker out."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.trouble: list[Answer] = []
        self.bypass = False
        self.stripped = False  # a load balancer that does not pass the picker's header on
        self.model = MODEL
        self.asked: list[str] = []
        api.put(
            POD,
            {
                "metadata": {"labels": {"inferencepool": "gaie-epp"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
        )
        api.texts[f"{POD}/log"] = LOG
        self.count(0)

    def count(self, number: int) -> None:
        self.counted = number
        series = f'{COUNTER}{{model_name="{MODEL}",target_model_name="{MODEL}"}} {number}\n' if number else ""
        self.api.texts[f"{POD}:9090/proxy/metrics"] = "# TYPE x counter\n" + series

    def send(self, method: str, path: str, document: dict[str, Any] | None = None, *, timeout: float = 60) -> Answer:
        self.asked.append(f"{method} {path}")
        if self.trouble:
            return self.trouble.pop(0)
        headers = {} if self.bypass or self.stripped else {"x-went-into-resp-headers": "true"}
        if path == "/health":
            return Answer(200, headers)
        if path == "/v1/models":
            return Answer(200, headers, json.dumps({"data": [{"id": self.model}]}).encode())
        if not self.bypass:
            self.count(self.counted + 1)
        choice = {"text": " a system"} if path == "/v1/completions" else {"message": {"content": "a system"}}
        return Answer(200, headers, json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}}).encode())


@pytest.fixture
def world(api: Any) -> World:
    return World(api)


def probe(world: World, client: Any, clock: Any, **options: Any) -> dict[str, Any]:
    plan = Plan(MODEL, **NAMES, scorers=SCORERS, **options)
    run = Probe(
        world.send, plan, Picker(client, "llm-d", "inferencepool=gaie-epp", 9090), clock, progress=lambda words: None
    )
    return {result.name: result for result in run.run()}


def test_all_is_well(world: World, client: Any, clock: Any) -> None:
    results = probe(world, client, clock)
    assert list(results) == list(CHECKS)
    assert all(result.ok for result in results.values()), results
    assert results["picker_counter"].detail == f"{COUNTER} moved by 2 with 2 POSTs"
    assert clock.now() == 1000.0


def test_a_load_balancer_that_comes_up_is_waited_for(world: World, client: Any, clock: Any) -> None:
    abort = Answer(404, body=b"fault filter abort")
    world.trouble = [abort, abort, Answer(503, body=b"no healthy upstream"), Answer(0, error="refused")]
    results = probe(world, client, clock)
    assert all(result.ok for result in results.values())
    assert clock.now() == 1008.0


def test_time_is_up_once_for_all_checks(world: World, client: Any, clock: Any) -> None:
    world.trouble = [Answer(404, body=b"fault filter abort")] * 500
    results = probe(world, client, clock, timeout=60)
    assert results["health"].code == "NO_ROUTE_YET"
    assert "HTTPRoute" in results["health"].remedy
    assert clock.now() - 1000 <= 61


def test_a_refusal_is_not_repeated(world: World, client: Any, clock: Any) -> None:
    world.trouble = [Answer(200), Answer(404, body=b"The model `x` does not exist")]
    results = probe(world, client, clock, checks=("health", "models"))
    assert results["models"].code == "MODEL_UNKNOWN"
    assert len(world.asked) == 2


def test_answers_that_bypass_the_picker_are_found_out(world: World, client: Any, clock: Any) -> None:
    """failureMode FailOpen: every request is answered, and no request was routed."""
    world.bypass = True
    results = probe(world, client, clock)
    assert results["completions"].ok
    assert results["picker_header"].code == "PICKER_BYPASSED"
    assert results["picker_counter"].code == "PICKER_COUNTER_STILL"


def test_a_header_that_does_not_survive_is_no_failure_where_the_picker_counted(
    world: World, client: Any, clock: Any
) -> None:
    world.stripped = True
    results = probe(world, client, clock)
    assert all(result.ok for result in results.values()), results
    assert "counter shows 2 POSTs instead" in results["picker_header"].detail


def test_another_model_is_named(world: World, client: Any, clock: Any) -> None:
    world.model = "other/model"
    result = probe(world, client, clock)["models"]
    assert not result.ok
    assert "other/model" in result.detail


def test_wrong_weights_are_named(world: World, client: Any, clock: Any) -> None:
    world.api.texts[f"{POD}/log"] = LOG.replace("queue-scorer/queue-scorer: 2", "queue-scorer/queue-scorer: 9", 1)
    result = probe(world, client, clock)["scorers"]
    assert result.code == "SCORERS_WRONG"
    assert "9 instead of 2" in result.detail


def test_a_picker_that_is_not_there_is_named(world: World, client: Any, clock: Any) -> None:
    del world.api.objects[POD]
    results = probe(world, client, clock)
    assert results["picker_counter"].code == "PICKER_NOT_READY"
    assert results["scorers"].code == "PICKER_NOT_READY"
    assert results["completions"].ok


def test_metrics_that_are_refused_are_named(world: World, client: Any, clock: Any) -> None:
    world.bypass = True  # the fake writes new metrics when it counts
    del world.api.texts[f"{POD}:9090/proxy/metrics"]
    assert probe(world, client, clock)["picker_counter"].code == "PICKER_UNREADABLE"


def test_picker_checks_without_a_picker_are_refused(world: World) -> None:
    with pytest.raises(ConfigurationError):
        Probe(world.send, Plan(MODEL))


@pytest.fixture
def server(world: World) -> Iterator[str]:
    """The same endpoint over real HTTP on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            document = json.loads(self.rfile.read(size)) if size else None
            answer = world.send(self.command, self.path, document)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _reply

        def log_message(self, *_arguments: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def test_the_module_says_it_in_json(
    world: World, server: str, client: Any, fakes: Any, capfd: Any, monkeypatch: Any
) -> None:
    from ansible_collections.llmd.gke.plugins.modules import inference_probe

    monkeypatch.setattr(inference_probe, "client_from_params", lambda params: client)
    params = {"base_url": server, "model": MODEL, "namespace": "llm-d", **OPTIONS, "timeout": 0}
    result = fakes.run_module("inference_probe", capfd, params)
    assert result["passed"]
    assert result["changed"] is False
    world.bypass = True
    result = fakes.run_module("inference_probe", capfd, params)
    assert result["failed"]
    assert result["error"]["code"] == "PICKER_BYPASSED"
    assert len(result["results"]) == 7
    assert not fakes.run_module("inference_probe", capfd, {**params, "fail": False}).get("failed")
    nowhere = fakes.run_module("inference_probe", capfd, {**params, "base_url": "http://"}, check_mode=True)
    assert nowhere["skipped"]
    partial = fakes.run_module("inference_probe", capfd, {**params, "response_header": None, "scorers": {}})
    assert partial["error"]["code"] == "PROBE_OPTIONS_MISSING"
    assert partial["error"]["why"] == "picker_header: response_header; scorers: scorers"
    assert (
        fakes.run_module("inference_probe", capfd, {**params, "base_url": "nowhere"})["error"]["code"]
        == "BASE_URL_INVALID"
    )


def test_no_listener_is_an_answer_too() -> None:
    answer = Endpoint.parse("http://127.0.0.1:1").send("GET", "/health", timeout=1)
    assert answer.status == 0
    assert "refused" in answer.error.lower()
