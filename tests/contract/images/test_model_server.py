"""The model server over HTTP, against what was recorded of the real parts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import MODEL, REPOSITORY, SERVE, ModelServer, http


@pytest.fixture
def server(model_servers: list[ModelServer]) -> ModelServer:
    return model_servers[0]


def series(text: str) -> dict[str, tuple[str, set[str]]]:
    """Metric name (as TYPE names it) to its type and label names."""
    found: dict[str, tuple[str, set[str]]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            found[name] = (kind, set())
        elif line and not line.startswith("#"):
            match = re.match(r"([^{ ]+)(?:\{(.*)\})? ", line)
            assert match
            base = match[1] if match[1] in found else re.sub(r"_(sum|count|bucket)$", "", match[1])
            labels = set(re.findall(r'(\w+)="', match[2] or "")) - {"le"}
            found[base][1].update(labels)
    return found


def test_metrics_have_the_recorded_names_types_and_labels(server: ModelServer, reference: Path) -> None:
    http(server.url + "/v1/completions", {"model": MODEL, "prompt": "To be or not", "max_tokens": 4})
    ours = series(http(server.url + "/metrics").body.decode())
    theirs = series((reference / "model-server" / "metrics.txt").read_text(encoding="utf-8"))
    assert {name: ours.get(name) for name in theirs} == theirs


def events(body: bytes) -> list[str]:
    return [block.removeprefix("data: ") for block in body.decode().split("\n\n") if block]


def test_stream_has_the_recorded_shape(server: ModelServer, reference: Path) -> None:
    asked = {"model": MODEL, "prompt": "hello there", "max_tokens": 5, "stream": True}
    answer = http(server.url + "/v1/completions", {**asked, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    ours, theirs = events(answer.body), events((reference / "model-server" / "stream.txt").read_bytes())
    assert ours[-1] == theirs[-1] == "[DONE]"
    for mine, other in ((ours[0], theirs[0]), (ours[-3], theirs[-3]), (ours[-2], theirs[-2])):
        chunk, recorded = json.loads(mine), json.loads(other)
        assert set(recorded) - {"kv_transfer_params"} <= set(chunk)
        assert chunk["object"] == recorded["object"] == "text_completion"
        assert bool(chunk["choices"]) == bool(recorded["choices"])
        if chunk["choices"]:
            assert set(recorded["choices"][0]) <= set(chunk["choices"][0])
    assert json.loads(ours[0])["choices"][0]["finish_reason"] is None
    assert json.loads(ours[-3])["choices"][0]["finish_reason"] == "length"
    usage = json.loads(ours[-2])["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (2, 5, 7)


def test_stream_and_whole_say_the_same(server: ModelServer) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "What is a pod?"}], "max_tokens": 20}
    whole = http(server.url + "/v1/chat/completions", asked).json()
    chunks = events(http(server.url + "/v1/chat/completions", {**asked, "stream": True}).body)[:-1]
    parsed = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert parsed[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"]["content"] for choice in parsed) == whole["choices"][0]["message"]["content"]
    assert whole["object"] == "chat.completion"
    assert whole["usage"]["completion_tokens"] == len(parsed) - 1


def test_models_and_health(server: ModelServer) -> None:
    entry = http(server.url + "/v1/models").json()["data"][0]
    assert (entry["id"], entry["max_model_len"], entry["owned_by"]) == (MODEL, 2048, "vllm")
    health = http(server.url + "/health")
    assert (health.status, health.body) == (200, b"")
    assert health.headers["x-llmd-sandbox-pod"] == server.pod


def test_several_prompts_answers_stop_and_echo(server: ModelServer) -> None:
    body = {"model": MODEL, "prompt": ["one", "two"], "n": 2, "max_tokens": 3, "echo": True, "ignore_eos": True}
    answer = http(server.url + "/v1/completions", body).json()
    texts = [choice["text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [text[:3] for text in texts] == ["one", "one", "two", "two"]
    assert texts[0] != texts[1]
    assert answer["usage"] == {
        "prompt_tokens": 2, "completion_tokens": 12, "total_tokens": 14, "prompt_tokens_details": None,
    }  # fmt: skip
    word = texts[0][3:].split()[1]
    stopped = http(server.url + "/v1/completions", {**body, "prompt": "one", "n": 1, "echo": False, "stop": word})
    choice = stopped.json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert word not in choice["text"]


CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SYSTEM = [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "words"),
    [
        (COMPLETIONS, {"model": "nope", "prompt": "x"}, 404, "NotFoundError", "The model `nope` does not exist."),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 5000}, 400, "BadRequestError", "maximum context length is 2048"),
        (COMPLETIONS, {"model": MODEL}, 400, "Bad Request", "'loc': ('body', 'prompt'), 'msg': 'Field required'"),
        (COMPLETIONS, b"{", 400, "Bad Request", "json_invalid"),
        (COMPLETIONS, b"", 400, "Bad Request", "Field required"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 0}, 400, "BadRequestError", "max_tokens must be at least 1, got 0"),
        (CHAT, {"model": MODEL, "messages": SYSTEM}, 400, "BadRequestError", "System role not supported"),
        (CHAT, {"messages": [SYSTEM[1], SYSTEM[1]]}, 400, "BadRequestError", "Conversation roles must alternate"),
    ],
)
def test_refusals(server: ModelServer, path: str, body: Any, status: int, kind: str, words: str) -> None:
    answer = http(server.url + path, body)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["type"]) == (status, status, kind)
    assert words in error["message"]


def test_wrong_routes(server: ModelServer) -> None:
    assert http(server.url + "/nope").json() == {"detail": "Not Found"}
    wrong = http(server.url + COMPLETIONS)
    assert (wrong.status, wrong.json()) == (405, {"detail": "Method Not Allowed"})


def run(hub: str, *arguments: str, token: str = "hf_sandbox") -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**kept, "PYTHONPATH": str(REPOSITORY), "HF_ENDPOINT": hub, "HF_TOKEN": token}
    environment["LLMD_SANDBOX_STARTUP_SECONDS"] = "0"
    command = [sys.executable, "-P", "-m", "sandbox.images.model_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=environment)


@pytest.mark.parametrize(
    ("token", "status", "words"),
    [
        ("", "401 Client Error.", "You must have access to it and be authenticated to access it. Please log in."),
        ("hf_not_accepted", "403 Client Error.", "is restricted and you are not in the authorized list."),
        ("hf_wrong", "401 Client Error.", "Invalid credentials in Authorization header"),
    ],
)
def test_hub_refusals_end_the_start(hub: str, token: str, status: str, words: str) -> None:
    ended = run(hub, *SERVE, "--port", "1", token=token)
    assert ended.returncode == 1
    assert status in ended.stderr
    assert words in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-model-len", "4096"), "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 500.00 MiB. GPU 0 "
         "has a total capacity of 14.58 GiB of which 471.56 MiB is free."),
        (("--dtype", "bfloat16"), "Bfloat16 is only supported on GPUs with compute capability of at least 8.0"),
        (("--max-model-len", "9000"), "User-specified max_model_len (9000) is greater than the derived max_model_len"),
        (("-tp", "2"), "World size (2) is larger than the number of available GPUs (1)"),
    ],
)  # fmt: skip
def test_settings_that_do_not_start(hub: str, arguments: tuple[str, ...], words: str) -> None:
    ended = run(hub, "serve", MODEL, *arguments)
    assert ended.returncode == 1
    assert words in ended.stderr


def test_unknown_option_exits_2(hub: str) -> None:
    ended = run(hub, *SERVE, "--no-such-option")
    assert ended.returncode == 2
    assert "vllm: error: unrecognized arguments: --no-such-option" in ended.stderr
