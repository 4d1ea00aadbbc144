"""Several pools behind one real Envoy: body-based routing, weights, and changes of the configuration under load."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox import paths as layout
from sandbox.gke.envoy import EnvoyFleet, binary
from sandbox.gke.model import Backend, Extension, Listener, Match, Picker, Rule
from sandbox.gke.xds import Callout, Frontend, Origin, Site
from sandbox.paths import Paths
from sandbox.timing import Timing

from .rig import Address, Router, free_port, picker_module, pod_servers, until

CACHE = layout.current().cache
ENVOY = binary(Paths("contract", CACHE, Path("/nonexistent")))
pytestmark = pytest.mark.skipif(not ENVOY.exists(), reason="no envoy virtual environment")
pytest.importorskip("grpc")
pytest.importorskip("envoy.service.ext_proc.v3.external_processor_pb2")

GEMMA, PHI = "google/gemma-2b-it", "microsoft/Phi-3-mini-4k-instruct"
HEADER = "X-Gateway-Model-Name"
ASKED = Extension("llm-d/bbr", "llm-d", "body-based-router", 9004, "myext.com", "FullDuplexStreamed", True)


def pool(name: str) -> Backend:
    return Backend(
        "InferencePool", "llm-d", name, f"{name}-ips-1", 54321, 300, picker=Picker("llm-d", f"{name}-epp", 9002)
    )


def rule(model: str, *backends: tuple[Backend, int], path: str = "/") -> Rule:
    """All requests for a model; those without one where ``model`` is empty."""
    headers = (("Exact", HEADER, model),) if model else ()
    return Rule(f"llm-d/{model or 'rest'}", "t", 0, (), (Match("PathPrefix", path, headers=headers),), backends)


@dataclass
class Bench:
    """One gateway. ``pools``: each with the pod that its picker sends everything to, and its picker's address."""

    fleet: EnvoyFleet
    port: int
    pools: dict[str, tuple[Address, Address]]
    router: Router
    marks: Iterator[int] = field(default_factory=itertools.count)

    def pod(self, name: str) -> str:
        return self.pools[name][0][0]

    def serve(self, *rules: Rule, extension: Extension | None = None, routers: bool = True) -> None:
        """Program the gateway, and wait until it has taken it over. ``routers`` False: no router pod is ready."""
        mark = f"mark-{next(self.marks)}"
        seen = Rule("llm-d/mark", "t", 0, (), (Match("Exact", f"/{mark}"),), ())
        used = {backend.name: backend for each in rules for backend, _weight in each.backends}
        pods = tuple(pod for pod, _picker in self.pools.values())
        origins = tuple(Origin(backend, pods, (self.pools[name][1],)) for name, backend in sorted(used.items()))
        listener = Listener("default", self.port, "", (*rules, seen))
        ready = (self.router.place,) if routers else ()
        callouts = (Callout(extension, ready),) if extension else ()
        self.fleet.set_site(
            Site("p/z/c", (Frontend("127.78.0.1", self.port, (listener,), extension),), origins, callouts)
        )
        until(lambda: self.status(f"/{mark}") == 500)

    def status(self, path: str) -> int:
        try:
            return self.get(path).status_code
        except requests.ConnectionError:
            return 0

    def get(self, path: str = "/v1/models") -> requests.Response:
        return requests.get(f"http://127.78.0.1:{self.port}{path}", timeout=20)

    def post(self, model: str | None, path: str = "/v1/completions", **more: Any) -> requests.Response:
        body = {"prompt": "x", **({"model": model} if model is not None else {}), **more.pop("body", {})}
        return requests.post(f"http://127.78.0.1:{self.port}{path}", json=body, timeout=20, **more)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    state = tmp_path_factory.mktemp("envoy")
    fleet = EnvoyFleet(Paths("contract", CACHE, state), Timing(0), namespace=None, admin=("127.78.0.9", 19000))
    router = Router("127.78.3.1", state / "router.log")
    servers = []
    try:
        with pod_servers("127.78.1.1", "127.78.1.2") as pods:
            pools = {}
            for number, (name, place) in enumerate(zip(("gemma", "phi"), pods, strict=True), 1):
                picker = f"127.78.2.{number}", free_port(f"127.78.2.{number}")
                servers.append(picker_module().serve(*picker, [f"{place[0]}:{place[1]}"]))
                pools[name] = place, picker
            router.start()
            yield Bench(fleet, free_port("127.78.0.1"), pools, router)
    finally:
        router.stop()
        fleet.stop()
        for server in servers:
            server.stop(None)


def test_the_body_decides_the_route(bench: Bench) -> None:
    gemma, phi = pool("gemma"), pool("phi")
    bench.serve(rule(GEMMA, (gemma, 1)), rule(PHI, (phi, 1)), rule("", (gemma, 1), path="/v1/models"), extension=ASKED)
    until(lambda: bench.post(PHI).status_code == 200)
    for model, name in ((GEMMA, "gemma"), (PHI, "phi")):
        answer = bench.post(model, body={"filler": "y" * 150_000})
        assert (answer.status_code, answer.json()["pod"], answer.json()["model"]) == (200, bench.pod(name), model)
        assert json.loads(answer.json()["body"]) == {"prompt": "x", "model": model, "filler": "y" * 150_000}
        assert answer.headers["x-went-into-resp-headers"] == "true"
    # what a client claims in the header does not count
    assert bench.post(PHI, headers={HEADER: GEMMA}).json()["pod"] == bench.pod("phi")
    # no body, no model: the rule without a header; an unknown model: no rule
    assert bench.get("/v1/models").json() == {
        "pod": bench.pod("gemma"),
        "path": "/v1/models",
        "body": "",
        "model": None,
    }
    for unknown in ("nope", None):
        answer = bench.post(unknown)
        assert (answer.status_code, answer.text) == (404, "fault filter abort")
    bad = requests.post(f"http://127.78.0.1:{bench.port}/v1/completions", data=b"not json", timeout=20)
    assert bad.status_code == 500


def test_without_the_router(bench: Bench) -> None:
    gemma, phi = pool("gemma"), pool("phi")
    rules = (rule(GEMMA, (gemma, 1)), rule(PHI, (phi, 1)), rule("", (phi, 1)))
    bench.serve(*rules, extension=ASKED)
    until(lambda: bench.post(GEMMA).status_code == 200)
    bench.router.stop()
    try:
        for answer in (bench.post(GEMMA), bench.get()):
            assert (answer.status_code, answer.content) == (500, b"")
        bench.serve(*rules, extension=ASKED, routers=False)
        assert (bench.post(GEMMA).status_code, bench.get().status_code) == (500, 500)
        bench.serve(*rules, extension=replace(ASKED, fail_open=True), routers=False)
        until(lambda: all(bench.post(GEMMA).status_code == 200 for _ in range(5)))  # addresses come by their own file
        for _ in range(10):  # nobody says the model: the rule without a header
            assert bench.post(GEMMA).json()["pod"] == bench.pod("phi")
    finally:
        bench.router.start()
    bench.serve(*rules)  # the extension is taken away
    assert bench.post(GEMMA).json()["pod"] == bench.pod("phi")


def load(bench: Bench, ask: Callable[[int], str], change: Callable[[], None]) -> list[str]:
    """Ask from eight clients, each with slow answers, while ``change`` runs; what the clients saw."""
    stop = threading.Event()
    seen: list[str] = []

    def client(number: int) -> None:
        while not stop.is_set():
            seen.append(ask(number))

    with ThreadPoolExecutor(8) as clients:
        running = [clients.submit(client, number) for number in range(8)]
        try:
            change()
        finally:
            stop.set()
        for each in running:
            each.result()
    return seen


def test_models_come_and_go_and_the_others_never_fail(bench: Bench) -> None:
    gemma, phi = pool("gemma"), pool("phi")
    alone = (rule(GEMMA, (gemma, 1)),)
    both = (*alone, rule(PHI, (phi, 1)))
    bench.serve(*alone, extension=ASKED)
    until(lambda: bench.post(GEMMA).status_code == 200)

    def ask(number: int) -> str:
        try:
            answer = bench.post(GEMMA, path="/v1/completions?slow=15")
            return f"{answer.status_code} {answer.json()['pod']}"
        except (requests.RequestException, ValueError) as error:
            return repr(error)

    def change() -> None:
        for _ in range(2):
            bench.serve(*both, extension=ASKED)
            until(lambda: bench.post(PHI).status_code == 200)
            assert bench.post(PHI).json()["pod"] == bench.pod("phi")
            bench.serve(*alone, extension=ASKED)
            assert bench.post(PHI).status_code == 404

    seen = load(bench, ask, change)
    assert Counter(seen) == {f"200 {bench.pod('gemma')}": len(seen)}
    assert len(seen) >= 8


@pytest.mark.parametrize("fail_open", [False, True])
def test_endpoints_change_under_load(bench: Bench, fail_open: bool) -> None:
    """Pods, pickers and routers come and go: what was asked before is answered."""
    gemma = pool("gemma")
    gemma = replace(gemma, picker=replace(gemma.picker, fail_open=fail_open))
    other = Router("127.78.3.2", bench.fleet.folder / "other-router.log")
    other.start()
    rules = (rule(GEMMA, (gemma, 1)),)
    place, picker = bench.pools["gemma"]
    second = "127.78.2.9", free_port("127.78.2.9")
    server = picker_module().serve(*second, [f"{place[0]}:{place[1]}"])

    def ask(number: int) -> str:
        try:
            return str(bench.post(GEMMA, path="/v1/completions?slow=15").status_code)
        except requests.RequestException as error:
            return repr(error)

    def site(pickers: tuple[Address, ...], routers: tuple[Address, ...], pods: tuple[Address, ...]) -> None:
        mark = f"mark-{next(bench.marks)}"
        seen = Rule("llm-d/mark", "t", 0, (), (Match("Exact", f"/{mark}"),), ())
        listener = Listener("default", bench.port, "", (*rules, seen))
        frontend = Frontend("127.78.0.1", bench.port, (listener,), ASKED)
        bench.fleet.set_site(Site("p/z/c", (frontend,), (Origin(gemma, pods, pickers),), (Callout(ASKED, routers),)))
        until(lambda: bench.status(f"/{mark}") == 500)

    def change() -> None:
        for _ in range(2):
            site((picker, second), (bench.router.place, other.place), (place, ("127.78.1.2", place[1])))
            site((second,), (other.place,), (place,))
            site((picker,), (bench.router.place,), (place,))

    try:
        site((picker,), (bench.router.place,), (place,))
        until(lambda: bench.post(GEMMA).status_code == 200)
        seen = load(bench, ask, change)
    finally:
        server.stop(None)
        other.stop()
    assert Counter(seen) == {"200": len(seen)}


def test_weights_split_one_model_over_two_pools(bench: Bench) -> None:
    """A canary: each pool's own picker is asked, by weight; moving the weight loses no request."""
    gemma, phi = pool("gemma"), pool("phi")

    def canary(stable: int, fresh: int) -> None:
        bench.serve(rule(GEMMA, (gemma, stable), (phi, fresh)), extension=ASKED)

    canary(75, 25)
    until(lambda: bench.post(GEMMA).status_code == 200)
    answers = [bench.post(GEMMA) for _ in range(200)]
    assert {answer.status_code for answer in answers} == {200}
    shares = Counter(answer.json()["pod"] for answer in answers)
    assert 20 <= shares[bench.pod("phi")] <= 85  # 50 expected, far beyond four standard deviations of 6
    canary(100, 0)
    assert {bench.post(GEMMA).json()["pod"] for _ in range(20)} == {bench.pod("gemma")}

    def ask(number: int) -> str:
        try:
            return str(bench.post(GEMMA, path="/v1/completions?slow=15").status_code)
        except requests.RequestException as error:
            return repr(error)

    def change() -> None:
        for fresh in (10, 50, 100, 0):
            canary(100 - fresh, fresh)

    seen = load(bench, ask, change)
    assert Counter(seen) == {"200": len(seen)}
