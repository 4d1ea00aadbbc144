"""Precise prefix routing: servers tell the picker what their KV caches hold, over ZeroMQ's protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import MODEL, SERVE, FakeApi, Picker, free_port, http, start, wait_for, wait_for_pods
from .test_picker import Stream, body, destination, headers

pytest.importorskip("grpc")

LONG = "A prompt that fills some blocks of sixty-four tokens, word for word, again and again. " * 30
ADDRESSES = ("127.0.0.30", "127.0.0.31")
PLUGINS = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: precise-prefix-cache-scorer
  parameters:
    tokenProcessorConfig: {blockSize: 64, hashSeed: "42"}
    kvEventsConfig: {zmqEndpoint: "tcp://*:PORT", topicFilter: "kv@"}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: precise-prefix-cache-scorer, weight: 3}
"""


@pytest.fixture
def servers(hub: str, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two servers that tell a picker on 127.0.0.1; their port, and the picker's for events."""
    port, heard = free_port(ADDRESSES[0]), free_port()
    programs = []
    for address in ADDRESSES:
        events = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://127.0.0.1:{heard}",
            "topic": f"kv@{address}@{MODEL}",
        }
        arguments = (
            *SERVE, "--host", address, "--port", str(port), "--block-size", "64", "--num-gpu-blocks-override", "60",
            "--kv-events-config", json.dumps(events),
        )  # fmt: skip
        given = {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_sandbox", "HOSTNAME": address, "PYTHONHASHSEED": "42"}
        log = tmp_path / f"{address}.log"
        programs.append(start("sandbox.images.model_server", arguments, log, LLMD_SANDBOX_STARTUP_SECONDS="0", **given))
    try:
        for address in ADDRESSES:
            wait_for(lambda at=address: http(f"http://{at}:{port}/health").status == 200, "a server did not start")
        yield port, heard
    finally:
        for program in programs:
            program.stop()


def test_what_a_cache_holds_decides(
    servers: tuple[int, int], api: FakeApi, start_picker: Callable[..., Picker]
) -> None:
    port, heard = servers
    api.set_pool(port)
    for address in ADDRESSES:
        api.set_pod(f"pod-{address}", address)
    picker = start_picker(secure=False, plugins=PLUGINS.replace("PORT", str(heard)))
    wait_for_pods(picker)

    def choose(**asked: object) -> str:
        path = "/v1/chat/completions" if "messages" in asked else "/v1/completions"
        text = json.dumps({"model": MODEL, **asked}).encode()
        return destination(Stream(picker.port).exchange(headers((":path", path)), body(text, end=True))[0])

    def tell(address: str, **asked: object) -> None:
        path = "/v1/chat/completions" if "messages" in asked else "/v1/completions"
        answer = http(f"http://{address}:{port}{path}", {"model": MODEL, "max_tokens": 1, **asked})
        assert answer.status == 200, answer.body

    def home(address: str, **asked: object) -> Callable[[], bool]:
        return lambda: {choose(**asked) for _ in range(6)} == {f"{address}:{port}"}

    # asked behind the picker's back: only the events can tell it
    second = ADDRESSES[1]
    tell(second, prompt=LONG)
    wait_for(home(second, prompt=LONG + "and more"), "the picker did not hear of the blocks")
    chat = [{"role": "user", "content": LONG}]
    tell(ADDRESSES[0], messages=chat)
    wait_for(home(ADDRESSES[0], messages=chat), "a chat's blocks were not recognised")
    assert home(second, prompt=LONG + "and more")()
    # other prompts push the first one out: the picker hears of that, too
    for number in range(12):
        tell(second, prompt=f"{number} {LONG}")
    wait_for(lambda: len({choose(prompt=LONG) for _ in range(12)}) == 2, "the picker still believes in the blocks")
