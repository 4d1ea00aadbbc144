"""The rendered configuration in a real Envoy, on loopback addresses of our own."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox import paths as layout
from sandbox.gke import xds
from sandbox.gke.envoy import EnvoyFleet, binary
from sandbox.gke.model import Backend, Certificate, Listener, Match, Picker, Rule, canonical
from sandbox.gke.xds import Frontend, Origin, Site
from sandbox.paths import Paths
from sandbox.timing import Timing
from tests.authority import Authority

from .rig import free_port, picker_module, pod_servers, until

CACHE = layout.current().cache
ENVOY = binary(Paths("contract", CACHE, Path("/nonexistent")))
pytestmark = pytest.mark.skipif(not ENVOY.exists(), reason="no envoy virtual environment")

POOL = Backend("InferencePool", "llm-d", "p", "p-ips-1", 54321, 300, picker=Picker("llm-d", "epp", 9002))
OTHER = Backend("InferencePool", "llm-d", "o", "o-ips-1", 54321, 300, picker=Picker("llm-d", "o-epp", 9002))
OPEN = Backend("InferencePool", "llm-d", "f", "f-ips-1", 54321, picker=Picker("llm-d", "f-epp", 9002, True))
WEB = Backend("Service", "web", "web", "web", 80, 5)


def rule(match: Match, *backends: tuple[Backend, int], filters: Any = (), hosts: tuple[str, ...] = ()) -> Rule:
    return Rule("llm-d/r", "t", 0, hosts, (match,), backends, canonical(list(filters)))


EVERYTHING = (
    rule(Match("Exact", "/x", "POST", (("Exact", "A", "b"), ("RegularExpression", "c", ".*"))), (POOL, 9), (OPEN, 1)),
    rule(Match("PathPrefix", "/web", query=(("Exact", "q", "1"),)), (WEB, 1), hosts=("a.example.com", "*.b.org")),
    rule(Match("RegularExpression", "/r.*"), (POOL, 1)),
    rule(
        Match("PathPrefix", "/old"),
        (WEB, 1),
        filters=[
            {
                "type": "URLRewrite",
                "urlRewrite": {"hostname": "h", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
            },
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {
                    "set": [{"name": "a", "value": "b"}],
                    "add": [{"name": "c", "value": "d"}],
                    "remove": ["e"],
                },
            },
        ],
    ),
    rule(
        Match("PathPrefix", "/moved"),
        filters=[
            {
                "type": "RequestRedirect",
                "requestRedirect": {
                    "hostname": "z",
                    "port": 8443,
                    "path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"},
                },
            }
        ],
    ),
    rule(Match("PathPrefix", "/none")),
)


def test_envoy_accepts_everything_we_can_render(tmp_path: Path) -> None:
    frontend = Frontend("127.77.0.1", 8080, (Listener("default", 8080, "", EVERYTHING),))
    pods = (("10.4.0.2", 8000),)
    origins = (Origin(POOL, pods, (("10.4.0.3", 9002),)), Origin(OPEN, pods), Origin(OTHER), Origin(WEB, pods))
    site = Site("p/z/c", (frontend, Frontend("127.77.0.1", 8081)), origins)
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(xds.static_config([site], ("127.0.0.1", 0))), encoding="utf-8")
    command = [str(ENVOY), "--mode", "validate", "-c", str(path), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# --- end to end --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pods() -> Iterator[list[tuple[str, int]]]:
    """Two servers on loopback addresses, one port."""
    with pod_servers("127.77.1.1", "127.77.1.2") as found:
        yield found


@pytest.fixture(scope="module")
def picker(pods: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """A picker that always takes the second pod."""
    pytest.importorskip("grpc")
    pytest.importorskip("envoy.service.ext_proc.v3.external_processor_pb2")
    port = free_port("127.77.2.1")
    server = picker_module().serve("127.77.2.1", port, [f"{pods[1][0]}:{pods[1][1]}"])
    yield "127.77.2.1", port
    server.stop(None)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyFleet]:
    state = tmp_path_factory.mktemp("envoy")
    made = EnvoyFleet(Paths("contract", CACHE, state), Timing(0), namespace=None, admin=("127.77.0.9", 19000))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def get(fleet: EnvoyFleet) -> Callable[..., requests.Response]:
    port = free_port("127.77.0.1")

    def ask(path: str, **more: Any) -> requests.Response:
        return requests.request(more.pop("method", "GET"), f"http://127.77.0.1:{port}{path}", timeout=10, **more)

    ask.port = port  # type: ignore[attr-defined]
    return ask


def serve(fleet: EnvoyFleet, port: int, rules: tuple[Rule, ...], *origins: Origin, marker: str) -> Callable[[], bool]:
    """Set a site whose response header ``marker`` shows that Envoy has taken it over."""
    probe = rule(Match("Exact", f"/{marker}"))
    listener = Listener("default", port, "", (*rules, probe))
    fleet.set_site(Site("p/z/c", (Frontend("127.77.0.1", port, (listener,)),), origins))

    def taken() -> bool:
        try:
            return requests.get(f"http://127.77.0.1:{port}/{marker}", timeout=5).status_code == 500
        except requests.ConnectionError:
            return False

    return taken


def test_the_way_of_a_request(
    fleet: EnvoyFleet,
    get: Callable[..., requests.Response],
    pods: list[tuple[str, int]],
    picker: tuple[str, int],
) -> None:
    port: int = get.port  # type: ignore[attr-defined]

    def answers() -> bool:
        try:
            return get("/").status_code == 404
        except requests.ConnectionError:
            return False

    # nothing programmed
    fleet.set_site(Site("p/z/c", (Frontend("127.77.0.1", port),)))
    until(answers)
    assert get("/v1/models").text == "fault filter abort"

    # a pool, a second one behind a header, and a plain Service
    rules = (
        rule(Match("PathPrefix", "/v1"), (POOL, 1)),
        rule(Match("PathPrefix", "/v1", headers=(("Exact", "X-Model", "other"),)), (OTHER, 1)),
        rule(Match("PathPrefix", "/web"), (WEB, 1)),
    )
    origins = (Origin(POOL, tuple(pods), (picker,)), Origin(OTHER, tuple(pods)), Origin(WEB, (pods[0],)))
    until(serve(fleet, port, rules, *origins, marker="one"))
    until(lambda: get("/v1/models").status_code == get("/web/x").status_code == 200)  # clusters come by their own file
    answer = get("/v1/models")
    assert (answer.status_code, answer.json()["pod"]) == (200, pods[1][0])
    assert answer.headers["x-went-into-resp-headers"] == "true"
    answer = get("/v1/completions", method="POST", json={"a": "b" * 100_000})
    assert json.loads(answer.json()["body"]) == {"a": "b" * 100_000}
    assert answer.headers["x-went-into-resp-headers"] == "true"
    # a client cannot choose its pod
    chosen = {"x-gateway-destination-endpoint": f"{pods[0][0]}:{pods[0][1]}"}
    assert get("/v1/models", headers=chosen).json()["pod"] == pods[1][0]
    # the other pool's picker is not there: FailClose
    until(lambda: get("/v1/models", headers={"X-Model": "other"}).status_code == 500)
    answer = get("/v1/models", headers={"X-Model": "other"})
    assert (answer.status_code, answer.content) == (500, b"")
    answer = get("/web/x")
    assert answer.json() == {"pod": pods[0][0], "path": "/web/x", "body": "", "model": None}
    assert "x-went-into-resp-headers" not in answer.headers
    assert get("/elsewhere").text == "fault filter abort"

    # no endpoint is healthy
    until(serve(fleet, port, rules, Origin(POOL, (), (picker,)), *origins[1:], marker="two"))
    until(lambda: get("/v1/models").status_code == 503)
    assert get("/v1/models").text == "no healthy upstream"


def test_fail_open_serves_without_its_picker(
    fleet: EnvoyFleet, get: Callable[..., requests.Response], pods: list[tuple[str, int]], picker: tuple[str, int]
) -> None:
    port: int = get.port  # type: ignore[attr-defined]
    rules = (rule(Match("PathPrefix", "/v1"), (OPEN, 1)),)
    until(serve(fleet, port, rules, Origin(OPEN, tuple(pods)), marker="three"))
    until(lambda: get("/v1/models").status_code == 200)
    assert {get("/v1/models").json()["pod"] for _ in range(20)} == {pods[0][0], pods[1][0]}
    until(serve(fleet, port, rules, Origin(OPEN, tuple(pods), (picker,)), marker="four"))
    until(lambda: {get("/v1/models").json()["pod"] for _ in range(10)} == {pods[1][0]})


def test_https_with_the_listeners_own_certificates(
    fleet: EnvoyFleet, pods: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Two names, two certificates; a stranger's name gets the first one; port 80 leads over."""
    authority = Authority()
    trusted = tmp_path / "ca.pem"
    trusted.write_text(authority.pem)
    plain, secure = free_port("127.77.0.2"), free_port("127.77.0.2")
    names = ("a.example.com", "b.example.com")

    def shown(name: str) -> Certificate:
        pair = authority.sign(name)
        return Certificate(name, name, True, pair.certificate, pair.key)

    change = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    redirect = rule(Match(), filters=[change])
    serving = rule(Match(), (WEB, 1))
    listeners = tuple(Listener(name, secure, name, (serving,), True, (shown(name),)) for name in names)
    frontends = (
        Frontend("127.77.0.2", plain, (Listener("default", plain, "", (redirect,)),)),
        Frontend("127.77.0.2", secure, listeners),
    )
    fleet.set_site(Site("p/z/tls", frontends, (Origin(WEB, (pods[0],)),)))
    assert (fleet._xds / "lds.json").stat().st_mode & 0o077 == 0

    def ask(name: str) -> tuple[int, set[str]]:
        context = ssl.create_default_context(cafile=str(trusted))
        context.check_hostname = False
        with (
            socket.create_connection(("127.77.0.2", secure), 5) as raw,
            context.wrap_socket(raw, server_hostname=name) as wrapped,
        ):
            wrapped.sendall(f"GET /web HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            status = int(wrapped.recv(4096).split()[1])
            found = wrapped.getpeercert() or {}
            return status, {value for kind, value in found["subjectAltName"] if kind == "DNS"}

    def answers() -> bool:
        try:
            return ask(names[0])[0] == 200
        except (OSError, IndexError):
            return False

    until(answers)
    assert ask(names[1]) == (200, {names[1]})
    assert ask("stranger.example.com")[1] == {names[0]}
    moved = requests.get(f"http://127.77.0.2:{plain}/v1/models", allow_redirects=False, timeout=5)
    assert moved.status_code == 301
    assert moved.headers["Location"].startswith("https://127.77.0.2")
    fleet.remove_site("p/z/tls")


def test_a_dead_envoy_is_started_again(fleet: EnvoyFleet, get: Callable[..., requests.Response]) -> None:
    process = fleet._process()
    assert process is not None
    fleet.stop()
    fleet.ensure_running()
    port: int = get.port  # type: ignore[attr-defined]
    until(lambda: socket.socket().connect_ex(("127.77.0.1", port)) == 0)
    again = fleet._process()
    assert again is not None
    assert again.pid != process.pid


def test_the_same_site_again_writes_nothing(fleet: EnvoyFleet, get: Callable[..., requests.Response]) -> None:
    site = fleet._sites["p/z/c"]
    before = {path.name: path.stat().st_mtime_ns for path in fleet._xds.iterdir()}
    fleet.set_site(replace(site))
    assert {path.name: path.stat().st_mtime_ns for path in fleet._xds.iterdir()} == before
    fleet.remove_site("p/z/c")
    assert sorted(path.name for path in fleet._xds.iterdir()) == ["cds.json", "lds.json"]
