"""The endpoint picker as a process: its log, health, metrics, and its side of the exchange with Envoy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import MODEL, POOL, FakeApi, ModelServer, Picker, wait_for, wait_for_pods

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("envoy.service.ext_proc.v3.external_processor_pb2")

SECURE = False
LONG = "A gateway that knows which pod has seen a prompt can send the next one there. " * 6


class Stream:
    """One exchange, message by message, over gRPC without TLS."""

    def __init__(self, port: int) -> None:
        from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as rpc

        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = rpc.ExternalProcessorStub(self.channel)

    def exchange(self, *messages: Any) -> list[Any]:
        answers = list(self.stub.Process(iter(messages), timeout=60))
        self.channel.close()
        return answers


def headers(*pairs: tuple[str, str], end: bool = False) -> Any:
    from envoy.config.core.v3 import base_pb2

    found = [base_pb2.HeaderValue(key=key, raw_value=value.encode()) for key, value in pairs]
    return pb.ProcessingRequest(
        request_headers=pb.HttpHeaders(headers=base_pb2.HeaderMap(headers=found), end_of_stream=end)
    )


def body(data: bytes, *, end: bool) -> Any:
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=data, end_of_stream=end))


@pytest.fixture
def open_stream(shared_picker: Picker) -> Callable[[], Stream]:
    return lambda: Stream(shared_picker.port)


def destination(answer: Any) -> str:
    mutation = answer.request_headers.response.header_mutation
    found: dict[str, str] = {entry.header.key: entry.header.raw_value.decode() for entry in mutation.set_headers}
    assert (
        answer.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"] == found["x-gateway-destination-endpoint"]
    )
    return found["x-gateway-destination-endpoint"]


def test_log_begins_as_recorded(shared_picker: Picker, reference: Path) -> None:
    def lines(texts: list[str]) -> list[tuple[str, str]]:
        parsed = [json.loads(text) for text in texts]
        return [(line.get("logger", ""), line["msg"]) for line in parsed if line["level"] == "info"]

    recorded = (reference / "endpoint-picker" / "startup.log").read_text(encoding="utf-8").splitlines()
    written = shared_picker.program.lines()
    ours, theirs = lines(written), lines(recorded)
    assert Counter(theirs) == Counter(ours)
    assert ours[:9] == theirs[:9]
    for message, field in (
        ("parsed config", "scheduler-config"),
        ("Loaded configuration", "config"),
        ("Configuration with defaults set", "config"),
    ):
        wanted = next(json.loads(line)[field] for line in recorded if f'"{message}"' in line)
        assert wanted == next(json.loads(line)[field] for line in written if f'"{message}"' in line)


def test_log_shows_the_recorded_flags(shared_picker: Picker, reference: Path) -> None:
    def flags(lines: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = next(json.loads(line)["flags"] for line in lines if '"Flags processed"' in line)
        return found

    ours = flags(shared_picker.program.lines())
    theirs = flags((reference / "endpoint-picker" / "startup.log").read_text(encoding="utf-8").splitlines())
    here = {"config-file", "secure-serving", "grpc-port", "grpc-health-port", "metrics-port"}
    assert {key: value for key, value in ours.items() if key not in here} == {
        key: value for key, value in theirs.items() if key not in here
    }
    assert set(ours) == set(theirs)


def test_health_follows_the_pool(
    api: FakeApi, model_servers: list[ModelServer], start_picker: Callable[..., Picker]
) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    picker = start_picker()
    with grpc.insecure_channel(f"127.0.0.1:{picker.health_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def state(service: str) -> int:
            request = health_pb2.HealthCheckRequest(service=service)
            found: int = stub.Check(request, timeout=60, wait_for_ready=True).status
            return found

        assert state("inference-extension") == health_pb2.HealthCheckResponse.NOT_SERVING
        api.set_pool(model_servers[0].port)
        serving = health_pb2.HealthCheckResponse.SERVING
        wait_for(lambda: state("inference-extension") == serving and state("") == serving, "never SERVING")


@pytest.mark.parametrize("resource", ["inferencepools", "pods"])
def test_missing_rights_end_it(api: FakeApi, start_picker: Callable[..., Picker], resource: str) -> None:
    api.forbidden.add(resource)
    picker = start_picker(LLMD_SANDBOX_PICKER_SYNC_SECONDS="0.5")
    assert picker.program.process.wait(timeout=60) == 1
    text = picker.program.log.read_text(encoding="utf-8")
    assert "failed to list *v1." in text
    assert f'cannot list resource \\"{resource}\\" in API group' in text
    assert "failed to wait for caches to sync" in text


def test_missing_objective_crd_ends_it(api: FakeApi, start_picker: Callable[..., Picker]) -> None:
    api.missing.add("inferenceobjectives")
    picker = start_picker(LLMD_SANDBOX_PICKER_SYNC_SECONDS="0.5")
    assert picker.program.process.wait(timeout=60) == 1
    assert "*v1alpha2.InferenceObjective" in picker.program.log.read_text(encoding="utf-8")


def test_body_is_answered_only_when_it_is_whole(open_stream: Callable[[], Stream]) -> None:
    text = json.dumps({"model": MODEL, "prompt": "x" * 150_000}).encode()
    half = len(text) // 2
    first = headers((":method", "POST"), (":path", "/v1/completions"))
    answers = open_stream().exchange(first, body(text[:half], end=False), body(text[half:], end=True))
    kinds = [answer.WhichOneof("response") for answer in answers]
    assert kinds == ["request_headers", "request_body", "request_body", "request_body"]
    assert destination(answers[0]).startswith("127.0.0.")
    pieces = [answer.request_body.response.body_mutation.streamed_response for answer in answers[1:]]
    assert json.loads(b"".join(piece.body for piece in pieces)) == json.loads(text)
    assert [piece.end_of_stream for piece in pieces] == [False, False, True]
    assert answers[0].request_headers.response.clear_route_cache
    assert open_stream().exchange(first, body(text[:half], end=False)) == []


def test_get_goes_to_any_pod_at_once(open_stream: Callable[[], Stream], model_servers: list[ModelServer]) -> None:
    seen = set()
    for _ in range(30):
        (answer,) = open_stream().exchange(headers((":method", "GET"), (":path", "/v1/models"), end=True))
        seen.add(destination(answer))
    assert seen == {f"{server.address}:{server.port}" for server in model_servers}


def test_same_prefix_goes_to_the_same_pod(open_stream: Callable[[], Stream]) -> None:
    def send(prompt: str) -> str:
        text = json.dumps({"model": MODEL, "prompt": prompt}).encode()
        first = headers((":method", "POST"), (":path", "/v1/completions"))
        return destination(open_stream().exchange(first, body(text, end=True))[0])

    home = send(LONG + "first")
    assert {send(f"{LONG} number {number}") for number in range(8)} == {home}


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (b'{"prompt": "x"}', 400, "inference gateway: BadRequest - model not found in request body"),
        (b"{", 400, "inference gateway: BadRequest - Error unmarshaling request body"),
    ],
)
def test_refusals_are_immediate(open_stream: Callable[[], Stream], text: bytes, status: int, words: str) -> None:
    (answer,) = open_stream().exchange(headers((":path", "/v1/completions")), body(text, end=True))
    assert (answer.immediate_response.status.code, answer.immediate_response.body.decode()) == (status, words)


def test_full_pool_sheds_what_may_be_shed(
    api: FakeApi, start_picker: Callable[..., Picker], model_servers: list[ModelServer]
) -> None:
    api.put("objectives", "batch", {"spec": {"priority": -1, "poolRef": {"name": POOL}}})
    api.set_pool(model_servers[0].port)
    api.set_pod("silent", "127.0.0.9")  # nobody listens there: no metrics, so no known room
    picker = start_picker(secure=False)
    wait_for_pods(picker, 1)
    text = json.dumps({"model": MODEL, "prompt": "x"}).encode()

    def answer(*more: tuple[str, str]) -> Any:
        path = (":path", "/v1/completions")
        return Stream(picker.port).exchange(headers(path, *more), body(text, end=True))[0]

    shed = answer(("x-gateway-inference-objective", "batch")).immediate_response
    words = "inference gateway: InferencePoolResourceExhausted - system saturated, sheddable request dropped"
    assert (shed.status.code, shed.body.decode()) == (429, words)
    assert destination(answer()) == f"127.0.0.9:{model_servers[0].port}"
