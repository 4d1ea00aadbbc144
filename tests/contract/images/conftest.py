"""What the image tests share: recorded references, and the stand-ins run as real processes on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY))  # a plain ``pytest`` does not put the repository there
MODEL = "google/gemma-2b-it"
POOL = "gaie-pattern1"
NAMESPACE = "llm-d"
SERVE = (
    "serve", MODEL, "--served-model-name", MODEL, "--disable-uvicorn-access-log", "--dtype", "half",
    "--max-model-len", "2048", "--gpu-memory-utilization", "0.85", "--max-num-seqs", "64",
)  # fmt: skip


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def http(url: str, body: object | bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    """GET without a body, else POST (anything but bytes as JSON)."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def wait_for(what: Callable[[], bool], message: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(message)


@dataclass
class Program:
    """A stand-in running as a process; its stderr goes to a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=60)


def start(module: str, arguments: tuple[str, ...], log: Path, **environment: str) -> Program:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "LLMD_SANDBOX_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**kept, "PYTHONPATH": str(REPOSITORY), **environment},
        )
    return Program(process, log)


@dataclass
class ModelServer:
    address: str
    port: int
    pod: str
    program: Program

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def healthy(self) -> bool:
        return http(self.url + "/health").status == 200


@pytest.fixture(scope="session")
def reference() -> Path:
    folder = REPOSITORY.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the recorded reference is not here")
    return folder


@pytest.fixture(scope="session")
def hub() -> Iterator[str]:
    from sandbox.hub import serve

    running = serve("127.0.0.1", 0)
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.stop()


@pytest.fixture(scope="session")
def model_servers(hub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ModelServer]]:
    """Two pods' worth: the same port on two loopback addresses."""
    folder = tmp_path_factory.mktemp("model-servers")
    port = free_port("127.0.0.2")
    servers = []
    for number in (2, 3):
        address, pod = f"127.0.0.{number}", f"ms-pattern1-decode-{number}"
        program = start(
            "sandbox.images.model_server",
            (*SERVE, "--host", address, "--port", str(port)),
            folder / f"{pod}.log",
            HF_ENDPOINT=hub,
            HF_TOKEN="hf_sandbox",
            HOSTNAME=pod,
            LLMD_SANDBOX_STARTUP_SECONDS="0",
        )
        servers.append(ModelServer(address, port, pod, program))
    for server in servers:
        wait_for(server.healthy, f"{server.pod} did not start")
    yield servers
    for server in servers:
        server.program.stop()


@dataclass
class FakeApi:
    """Just enough of an API server for the picker's lists and watches (``forbidden``: names of resources)."""

    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def put(self, kind: str, name: str, item: dict[str, Any]) -> None:
        with self.changed:
            item["metadata"] = {"name": name, "namespace": NAMESPACE, **item.get("metadata", {})}
            getattr(self, kind)[name] = item
            self.events.append((kind, "MODIFIED", item))
            self.changed.notify_all()

    def set_pod(self, name: str, address: str, *, ready: bool = True, **labels: str) -> None:
        self.put(
            "pods",
            name,
            {
                "metadata": {"labels": {"llm-d.ai/inferenceServing": "true", **labels}},
                "status": {"podIP": address, "conditions": [{"type": "Ready", "status": str(ready)}]},
            },
        )

    def set_pool(self, port: int) -> None:
        spec = {"selector": {"matchLabels": {"llm-d.ai/inferenceServing": "true"}}, "targetPorts": [{"number": port}]}
        self.put("pools", POOL, {"spec": spec})

    def refusal(self, path: str) -> tuple[int, str] | None:
        resource = path.rsplit("/", 1)[-1]
        if resource in self.forbidden:
            group = path.split("/")[2] if path.startswith("/apis") else ""
            full = f"{resource}.{group}" if group else resource
            return 403, (
                f'{full} is forbidden: User "system:serviceaccount:{NAMESPACE}:{POOL}-epp" cannot list resource '
                f'"{resource}" in API group "{group}" in the namespace "{NAMESPACE}"'
            )
        return (404, "the server could not find the requested resource") if resource in self.missing else None


_KINDS = {"pods": "pods", "inferencepools": "pools", "inferenceobjectives": "objectives"}


@contextmanager
def fake_api() -> Iterator[FakeApi]:
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            refused = fake.refusal(parts.path)
            if refused:
                return self._json(refused[0], {"kind": "Status", "message": refused[1]})
            kind = _KINDS[parts.path.rsplit("/", 1)[-1]]
            if "watch" not in parse_qs(parts.query):
                with fake.changed:
                    version = str(len(fake.events))
                    items = list(getattr(fake, kind).values())
                return self._json(200, {"items": items, "metadata": {"resourceVersion": version}})
            return self._watch(kind, int(parse_qs(parts.query)["resourceVersion"][0]))

        def _watch(self, kind: str, position: int) -> None:
            self.send_response(200)
            self.end_headers()
            while True:
                with fake.changed:
                    if len(fake.events) == position:
                        fake.changed.wait(timeout=1)
                    fresh = fake.events[position:]
                    position = len(fake.events)
                for changed, event, item in fresh:
                    if changed == kind:
                        self.wfile.write(json.dumps({"type": event, "object": item}).encode() + b"\n")
                self.wfile.flush()
                if stopped.is_set():
                    return

        def _json(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        stopped.set()
        with fake.changed:
            fake.changed.notify_all()
        server.shutdown()
        server.server_close()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as fake:
        yield fake


@dataclass
class Picker:
    program: Program
    port: int
    health_port: int
    metrics_port: int

    def metrics(self) -> str:
        return http(f"http://127.0.0.1:{self.metrics_port}/metrics").body.decode()

    def value(self, series: str) -> float:
        """The value of one series (0 where it is not there yet)."""
        for line in self.metrics().splitlines():
            if line.startswith(series + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


PLUGINS = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 2
  - pluginRef: prefix-cache-scorer
    weight: 3
"""


def run_picker(
    api: FakeApi, folder: Path, *, secure: bool = True, plugins: str = PLUGINS, **environment: str
) -> Picker:
    """A picker with the chart's arguments against the fake API; the caller stops it."""
    file = folder / "default-plugins.yaml"
    file.write_text(plugins, encoding="utf-8")
    ports = [free_port() for _ in range(3)]
    arguments = (
        "--pool-name", POOL, "--pool-namespace", NAMESPACE, "--pool-group", "inference.networking.k8s.io",
        "--zap-encoder", "json", "--config-file", str(file),
        "--kv-cache-usage-percentage-metric", "vllm:kv_cache_usage_perc", "--v", "1", "--tracing=false",
        "--metrics-endpoint-auth=false", "--grpc-port", str(ports[0]), "--grpc-health-port", str(ports[1]),
        "--metrics-port", str(ports[2]), *(() if secure else ("--secure-serving=false",)),
    )  # fmt: skip
    program = start(
        "sandbox.images.endpoint_picker",
        arguments,
        folder / "picker.log",
        LLMD_SANDBOX_API_SERVER=api.url,
        LLMD_SANDBOX_BIND="127.0.0.1",
        **environment,
    )
    return Picker(program, *ports)


def add_pods(api: FakeApi, servers: list[ModelServer]) -> None:
    api.set_pool(servers[0].port)
    for server in servers:
        api.set_pod(server.pod, server.address)


def wait_for_pods(picker: Picker, count: int = 2) -> None:
    """Until the picker knows its pods and has looked at their metrics."""
    ready = f'inference_pool_ready_pods{{name="{POOL}"}}'
    wait_for(lambda: picker.value(ready) == count, "the picker did not find its pods")
    time.sleep(0.1)


@pytest.fixture
def start_picker(api: FakeApi, tmp_path: Path) -> Iterator[Callable[..., Picker]]:
    """A function that starts a picker of this test's own."""
    started: list[Picker] = []

    def run(**more: Any) -> Picker:
        started.append(run_picker(api, tmp_path, **more))
        return started[-1]

    yield run
    for picker in started:
        picker.program.stop()


@pytest.fixture(scope="module")
def shared_picker(
    request: pytest.FixtureRequest, model_servers: list[ModelServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Picker]:
    """One picker for all tests of a module that only talk to it (``SECURE = False`` there: without TLS)."""
    with fake_api() as api:
        add_pods(api, model_servers)
        secure = getattr(request.module, "SECURE", True)
        picker = run_picker(api, tmp_path_factory.mktemp("picker"), secure=secure)
        try:
            wait_for_pods(picker)
            yield picker
        finally:
            picker.program.stop()
