"""Prefill and decode servers, the sidecar between them and the picker that decides, as processes on loopback."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import MODEL, SERVE, Answer, FakeApi, Picker, Program, free_port, http, start, wait_for, wait_for_pods
from .test_picker import Stream, body, destination, headers

pytest.importorskip("grpc")

LONG = "A prompt that takes its time to be computed, word for word. " * 40
HEADER = "x-prefiller-host-port"
CONNECTOR = ("--kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_both"}')
PD_PLUGINS = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: prefill-header-handler
- type: prefill-filter
- type: decode-filter
- type: prefix-cache-scorer
- type: queue-scorer
- type: max-score-picker
- type: pd-profile-handler
  parameters: {threshold: THRESHOLD, hashBlockSize: 64}
schedulingProfiles:
- name: prefill
  plugins:
  - pluginRef: prefill-filter
  - {pluginRef: queue-scorer, weight: 1}
  - {pluginRef: prefix-cache-scorer, weight: 2}
  - pluginRef: max-score-picker
- name: decode
  plugins:
  - pluginRef: decode-filter
  - {pluginRef: queue-scorer, weight: 1}
  - {pluginRef: prefix-cache-scorer, weight: 2}
  - pluginRef: max-score-picker
"""


@dataclass
class Server:
    """A model server, with the port of its sidecar in front of it where it has one."""

    address: str
    port: int
    program: Program
    front: int = 0
    sidecar: Program | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.front or self.port}"

    def value(self, series: str) -> float:
        """One series of its own metrics."""
        text = http(f"http://{self.address}:{self.port}/metrics").body.decode()
        name = f'{series}{{model_name="{MODEL}"}} '
        return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)

    def stop(self) -> None:
        for program in (self.sidecar, self.program):
            if program is not None:
                program.stop()


def model_server(hub: str, folder: Path, address: str, **environment: str) -> Server:
    port = free_port(address)
    arguments = (*SERVE, *CONNECTOR, "--host", address, "--port", str(port))
    given = {
        "HF_ENDPOINT": hub,
        "HF_TOKEN": "hf_sandbox",
        "HOSTNAME": f"pod-{address}",
        "VLLM_NIXL_SIDE_CHANNEL_HOST": address,
        "LLMD_SANDBOX_STARTUP_SECONDS": "0",
        **environment,
    }
    return Server(address, port, start("sandbox.images.model_server", arguments, folder / f"{address}.log", **given))


def with_sidecar(server: Server, folder: Path, *more: str, **environment: str) -> Server:
    server.front = free_port(server.address)
    arguments = (
        f"--port={server.front}", f"--vllm-port={server.port}", "--connector=nixlv2", "--zap-encoder=json",
        "--zap-log-level=debug", "--secure-proxy=false", *more,
    )  # fmt: skip
    log = folder / f"sidecar-{server.address}-{server.front}.log"
    module = "sandbox.images.routing_sidecar"
    server.sidecar = start(module, arguments, log, LLMD_SANDBOX_BIND=server.address, **environment)
    wait_for(lambda: http(server.url + "/health").status == 200, "the sidecar does not reach its server")
    return server


@pytest.fixture(scope="module")
def servers(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """A prefill server, and a decode server behind its sidecar."""
    folder = tmp_path_factory.mktemp("disaggregated")
    prefill, decode = (model_server(hub, folder, f"127.0.0.{number}") for number in (14, 15))
    try:
        wait_for(lambda: http(prefill.url + "/health").status == 200, "the prefill server did not start")
        yield prefill, with_sidecar(decode, folder)
    finally:
        prefill.stop()
        decode.stop()


def ask(server: Server, prompt: str, prefiller: str = "", **more: Any) -> Answer:
    given = {HEADER: prefiller} if prefiller else {}
    return http(server.url + "/v1/completions", {"model": MODEL, "prompt": prompt, "max_tokens": 8, **more}, given)


def test_a_prompt_is_computed_there_and_answered_here(servers: tuple[Server, Server]) -> None:
    prefill, decode = servers
    plain = ask(decode, LONG + "plain").json()
    assert prefill.value("vllm:prompt_tokens_total") == 0
    answer = ask(decode, LONG + "both", f"{prefill.address}:{prefill.port}")
    assert (answer.status, answer.headers["x-llmd-sandbox-pod"]) == (200, f"pod-{decode.address}")
    assert answer.json()["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"] == 8
    assert prefill.value("vllm:generation_tokens_total") == 1
    assert decode.value("vllm:nixl_xfer_time_seconds_count") == 1
    assert decode.value("vllm:nixl_num_failed_transfers_total") == 0
    assert prefill.value("vllm:kv_cache_usage_perc") == 0  # fetched, so given back
    # the same text comes either way
    again = ask(decode, LONG + "plain", f"{prefill.address}:{prefill.port}").json()
    assert again["choices"][0]["text"] == plain["choices"][0]["text"]


def test_streams_and_chats_pass(servers: tuple[Server, Server]) -> None:
    prefill, decode = servers
    to = f"{prefill.address}:{prefill.port}"
    answer = ask(decode, LONG + "stream", to, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.body.count(b'"text"') == 8
    chat = {"model": MODEL, "messages": [{"role": "user", "content": LONG}], "max_completion_tokens": 3}
    answer = http(decode.url + "/v1/chat/completions", chat, {HEADER: to})
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert [entry["id"] for entry in http(decode.url + "/v1/models").json()["data"]] == [MODEL]


def test_blocks_nobody_fetches_stay_for_a_while(servers: tuple[Server, Server]) -> None:
    prefill, _decode = servers
    nothing = {"do_remote_decode": True, "do_remote_prefill": False}
    answer = ask(prefill, LONG + "kept", kv_transfer_params=nothing).json()
    kept = answer["kv_transfer_params"]
    assert (kept["do_remote_prefill"], kept["remote_host"], kept["remote_port"]) == (True, prefill.address, 5600)
    assert prefill.value("vllm:kv_cache_usage_perc") > 0
    url = f"http://{kept['remote_host']}:{kept['remote_port']}/kv/{kept['remote_engine_id']}/{kept['remote_block_ids'][0]}"
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=5) as taken:
        assert taken.status == 200
    wait_for(lambda: prefill.value("vllm:kv_cache_usage_perc") == 0, "the blocks were not given back")


def test_a_lost_prefill_server(servers: tuple[Server, Server], tmp_path: Path) -> None:
    """v0.4.0 hands the failure on; v0.7.1 decodes alone. Refusals of the prompt itself go back either way."""
    prefill, decode = servers
    nowhere = f"127.0.0.14:{free_port('127.0.0.14')}"
    answer = ask(decode, "x", nowhere)
    assert (answer.status, answer.body) == (502, b"")
    to = f"{prefill.address}:{prefill.port}"
    assert ask(decode, "x" * 40_000, to).status == 400
    later = with_sidecar(
        Server(decode.address, decode.port, decode.program), tmp_path, LLMD_SANDBOX_PICKER_GENERATION="v1.4.0"
    )
    try:
        assert ask(later, "x", nowhere).status == 200
        assert ask(later, "x" * 40_000, to).status == 400
    finally:
        assert later.sidecar is not None
        later.sidecar.stop()


def test_a_side_channel_that_leads_nowhere(hub: str, servers: tuple[Server, Server], tmp_path: Path) -> None:
    """Without VLLM_NIXL_SIDE_CHANNEL_HOST a server calls itself localhost: nothing is transferred, all is computed."""
    _prefill, decode = servers
    lost = model_server(hub, tmp_path, "127.0.0.16", VLLM_NIXL_SIDE_CHANNEL_HOST="")
    try:
        wait_for(lambda: http(lost.url + "/health").status == 200, "the prefill server did not start")
        before = decode.value("vllm:nixl_num_failed_transfers_total")
        assert ask(decode, LONG + "lost", f"{lost.address}:{lost.port}").status == 200
        assert decode.value("vllm:nixl_num_failed_transfers_total") == before + 1
    finally:
        lost.stop()


def test_without_vllm_the_sidecar_says_502(tmp_path: Path) -> None:
    port = free_port("127.0.0.17")
    nowhere = free_port("127.0.0.17")
    arguments = (f"--port={port}", f"--vllm-port={nowhere}", "--secure-proxy=false")
    module = "sandbox.images.routing_sidecar"
    program = start(module, arguments, tmp_path / "sidecar.log", LLMD_SANDBOX_BIND="127.0.0.17")
    try:
        wait_for(lambda: http(f"http://127.0.0.17:{port}/health").status == 502, "no sidecar")
    finally:
        assert program.stop() == 0
    module_log = tmp_path / "wrong.log"
    assert start(module, ("--connector=nope",), module_log).process.wait(timeout=20) == 2
    assert "--connector must be one of" in module_log.read_text(encoding="utf-8")


def test_the_picker_names_both_servers(
    api: FakeApi, servers: tuple[Server, Server], start_picker: Callable[..., Picker]
) -> None:
    prefill, decode = servers
    role = "llm-d.ai/role"
    api.set_pool(decode.port)  # pods of a pool listen on one port; the addresses differ
    api.set_pod("prefill-0", prefill.address, **{role: "prefill"})
    api.set_pod("decode-0", decode.address, **{role: "decode"})
    picker = start_picker(secure=False, plugins=PD_PLUGINS.replace("THRESHOLD", "200"))
    wait_for_pods(picker)

    def decide(prompt: str, *more: tuple[str, str]) -> dict[str, str]:
        text = json.dumps({"model": MODEL, "prompt": prompt}).encode()
        first = headers((":method", "POST"), (":path", "/v1/completions"), *more)
        answer = Stream(picker.port).exchange(first, body(text, end=True))[0]
        assert destination(answer) == f"{decode.address}:{decode.port}"
        mutation = answer.request_headers.response.header_mutation
        return {entry.header.key: entry.header.raw_value.decode() for entry in mutation.set_headers}

    there = f"{prefill.address}:{decode.port}"
    assert decide(LONG)[HEADER] == there
    assert HEADER not in decide(LONG)  # the decode server holds it by now
    assert HEADER not in decide("short")
    assert decide("short", (HEADER, "6.6.6.6:80"))[HEADER] == ""  # a client cannot choose
    made = 'llm_d_inference_scheduler_pd_decision_total{decision_type="%s"}'
    assert (picker.value(made % "prefill-decode"), picker.value(made % "decode-only")) == (1, 3)
    # prefill pods lost: decode alone
    api.set_pod("prefill-0", prefill.address, ready=False, **{role: "prefill"})
    wait_for_pods(picker, 1)
    assert HEADER not in decide(LONG[::-1])
    # decode pods lost: nothing to be done
    api.set_pod("decode-0", decode.address, ready=False, **{role: "decode"})
    api.set_pod("prefill-0", prefill.address, **{role: "prefill"})

    def refused() -> bool:
        text = json.dumps({"model": MODEL, "prompt": "x"}).encode()
        answer = Stream(picker.port).exchange(headers((":path", "/v1/completions")), body(text, end=True))[0]
        return bool(answer.immediate_response.status.code == 429)

    wait_for(refused, "a prefill server was taken for a decode server")
