"""LoRA adapters on one server, and several servers that are one: as processes on loopback."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import MODEL, SERVE, FakeApi, Picker, Program, free_port, http, start, wait_for, wait_for_pods
from .test_picker import Stream, body, destination, headers

LORA_PLUGINS = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: lora-affinity-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: lora-affinity-scorer, weight: 1}
"""


def server(hub: str, folder: Path, address: str, port: int, *more: str, **environment: str) -> Program:
    arguments = (*SERVE, "--host", address, "--port", str(port), *more)
    log = folder / f"{address}.log"
    given = {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_sandbox", "HOSTNAME": address, "LLMD_SANDBOX_STARTUP_SECONDS": "0"}
    return start("sandbox.images.model_server", arguments, log, **{**given, **environment})


def up(address: str, port: int) -> Callable[[], bool]:
    return lambda: http(f"http://{address}:{port}/health").status == 200


@pytest.fixture(scope="module")
def adapters(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], int]]:
    """Two servers with two adapters each, of which one at a time has a place."""
    folder, port = tmp_path_factory.mktemp("adapters"), free_port("127.0.0.20")
    addresses = ["127.0.0.20", "127.0.0.21"]
    lora = ("--enable-lora", "--max-loras", "1", "--lora-modules", "poet=/adapters/poet", "cook=/adapters/cook")
    slow = {"LLMD_SANDBOX_INTER_TOKEN_SECONDS": "0.05", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    programs = [server(hub, folder, address, port, *lora, **slow) for address in addresses]
    try:
        for address in addresses:
            wait_for(up(address, port), "a server did not start")
        yield addresses, port
    finally:
        for program in programs:
            program.stop()


def complete(url: str, model: str, **more: Any) -> Any:
    return http(url + "/v1/completions", {"model": model, "prompt": "x", "max_tokens": 2, **more})


@contextmanager
def answering(url: str, model: str) -> Iterator[Callable[[], None]]:
    """A long answer under way; the given function leaves it, as a client that went away."""
    text = json.dumps({"model": model, "prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True}).encode()
    request = urllib.request.Request(url + "/v1/completions", data=text, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        yield answer.close


def test_adapters_are_models_of_their_own(adapters: tuple[list[str], int]) -> None:
    (address, _), port = adapters
    url = f"http://{address}:{port}"
    listed = {entry["id"]: entry for entry in http(url + "/v1/models").json()["data"]}
    assert list(listed) == [MODEL, "poet", "cook"]
    assert (listed["poet"]["parent"], listed["poet"]["root"]) == (MODEL, "/adapters/poet")
    assert listed[MODEL]["parent"] is None
    answer = complete(url, "poet")
    assert (answer.status, answer.json()["model"]) == (200, "poet")
    refused = complete(url, "painter")
    assert (refused.status, refused.json()["error"]["message"]) == (404, "The model `painter` does not exist.")


def test_adapters_come_and_go(adapters: tuple[list[str], int]) -> None:
    (_, address), port = adapters
    url = f"http://{address}:{port}"
    loaded = http(url + "/v1/load_lora_adapter", {"lora_name": "painter", "lora_path": "/adapters/painter"})
    assert (loaded.status, loaded.body) == (200, b"Success: LoRA adapter 'painter' added successfully.")
    assert complete(url, "painter").status == 200
    assert http(url + "/v1/load_lora_adapter", {"lora_name": "painter", "lora_path": "x"}).status == 400
    assert http(url + "/v1/unload_lora_adapter", {"lora_name": "painter"}).status == 200
    assert complete(url, "painter").status == 404


def test_the_picker_prefers_where_an_adapter_runs(
    adapters: tuple[list[str], int], api: FakeApi, start_picker: Callable[..., Picker]
) -> None:
    pytest.importorskip("grpc")
    addresses, port = adapters
    api.set_pool(port)
    for address in addresses:
        api.set_pod(f"pod-{address}", address)
    picker = start_picker(secure=False, plugins=LORA_PLUGINS)
    wait_for_pods(picker)

    def choose(model: str) -> str:
        text = json.dumps({"model": model, "prompt": "x"}).encode()
        return destination(Stream(picker.port).exchange(headers((":path", "/v1/completions")), body(text, end=True))[0])

    def running(address: str) -> str:
        text = http(f"http://{address}:{port}/metrics").body.decode()
        return next(line for line in text.splitlines() if line.startswith("vllm:lora_requests_info{"))

    first, second = (f"http://{address}:{port}" for address in addresses)
    with answering(first, "poet") as leave, answering(second, "cook"):
        wait_for(lambda: 'running_lora_adapters="poet"' in running(addresses[0]), "the poet does not run")
        wait_for(lambda: 'running_lora_adapters="cook"' in running(addresses[1]), "the cook does not run")
        wait_for(lambda: {choose("poet") for _ in range(8)} == {f"{addresses[0]}:{port}"}, "not where the poet runs")
        assert {choose("cook") for _ in range(8)} == {f"{addresses[1]}:{port}"}
        with ThreadPoolExecutor(1) as clients:  # a second adapter waits for the one place; the model itself does not
            asked = clients.submit(complete, first, "cook")
            wait_for(lambda: 'waiting_lora_adapters="cook"' in running(addresses[0]), "the cook does not wait")
            assert complete(first, MODEL).status == 200
            assert not asked.done()
            leave()
            assert asked.result().status == 200
    wait_for(lambda: 'running_lora_adapters=""' in running(addresses[0]), "an adapter runs for nobody")


def test_adapters_need_their_switch(hub: str, tmp_path: Path) -> None:
    program = server(hub, tmp_path, "127.0.0.22", free_port("127.0.0.22"), "--lora-modules", "a=/b")
    assert program.process.wait(timeout=60) == 1
    assert "LoRA is not enabled" in program.log.read_text(encoding="utf-8")


def member(hub: str, folder: Path, rank: int, port: int, rpc: int, *more: str) -> Program:
    group = (
        "--data-parallel-size", "3", "--data-parallel-size-local", "1", "--data-parallel-start-rank", str(rank),
        "--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc), "--data-parallel-hybrid-lb",
    )  # fmt: skip
    return server(hub, folder, f"127.0.0.{23 + rank}", port, *group, *more)


def answers(address: str, port: int) -> bool:
    try:
        return http(f"http://{address}:{port}/health").status == 200
    except OSError:
        return False


def test_a_group_serves_only_when_it_is_complete(hub: str, tmp_path: Path) -> None:
    port, rpc = free_port("127.0.0.23"), free_port()
    addresses = ["127.0.0.23", "127.0.0.24"]
    programs = [member(hub, tmp_path, rank, port, rpc) for rank in (1, 0)]
    try:
        log = tmp_path / "127.0.0.23.log"
        wait_for(lambda: "Ranks 1 to 1 joined: 2 of 3" in log.read_text(encoding="utf-8"), "the first did not come")
        assert not any(answers(address, port) for address in addresses)
        programs.append(member(hub, tmp_path, 2, port, rpc, "--headless"))
        for address in addresses:
            wait_for(up(address, port), "the group does not serve")
        assert not answers("127.0.0.25", port)  # headless: no server of its own
        assert complete(f"http://{addresses[1]}:{port}", MODEL).status == 200
        # one is lost: all of them end, for their controller to begin anew
        programs[-1].process.kill()
        assert [program.process.wait(timeout=60) for program in programs[:2]] == [1, 1]
        assert "EngineDeadError" in log.read_text(encoding="utf-8")
        assert "data-parallel ranks 2 to 2 are gone" in log.read_text(encoding="utf-8")
    finally:
        for program in programs:
            program.stop()


def test_more_ranks_than_accelerators(hub: str, tmp_path: Path) -> None:
    """The chart's arguments alone want all ranks in every pod."""
    program = server(hub, tmp_path, "127.0.0.26", free_port("127.0.0.26"), "--data-parallel-size", "2")
    assert program.process.wait(timeout=60) == 1
    assert "invalid device ordinal" in program.log.read_text(encoding="utf-8")
