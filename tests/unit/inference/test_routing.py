"""Proof of routing: the statistics, and the whole proof against pickers that have a property or lack it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import Plan, Proof, pods_or_error
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_disruption import Disruption
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_load import Limits
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_prompts import prefix, prompt
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_statistics import (
    affinity_p,
    avoidance_p,
    binomial_at_most,
    concentration_p,
    followers,
)
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool, Witness

# --- statistics -------------------------------------------------------------------------------------------------------


def test_binomial_tail_is_exact() -> None:
    assert binomial_at_most(0, 10, 0.5) == pytest.approx(1 / 1024)
    assert binomial_at_most(1, 10, 0.5) == pytest.approx(11 / 1024)
    assert binomial_at_most(10, 10, 0.9) == 1.0


def test_concentration_is_rejected_only_by_a_spread() -> None:
    assert concentration_p(["a", "b"] * 20, 0.9) < 1e-6
    assert concentration_p(["a"] * 40, 0.9) == 1.0
    assert concentration_p(["a"] * 37 + ["b"] * 3, 0.9) > 0.1
    assert concentration_p([], 0.9) == 1.0


def test_affinity_needs_more_than_agreement() -> None:
    loyal = {str(number): ["abc"[number % 3]] * 4 for number in range(10)}
    assert affinity_p(loyal) == pytest.approx(1 / 2000)
    assert affinity_p({str(number): ["a"] * 4 for number in range(10)}) == 1.0
    assert followers(loyal) == (30, 30)


def test_affinity_has_its_stated_error_rate() -> None:
    """Of pickers that ignore the prefix no more than about alpha are believed."""
    lot = random.Random(7)
    values = [
        affinity_p({str(group): lot.choices("abc", k=4) for group in range(10)}, seed=trial, permutations=199)
        for trial in range(200)
    ]
    assert sum(value <= 0.05 for value in values) <= 20  # expected 10; more than 20 has a chance of 0.1 %


def test_avoidance_is_fishers_test() -> None:
    # the tea table: 1 of 4 and 3 of 4 is 17/70 one-sided
    assert avoidance_p(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert avoidance_p(16, 47, 0, 36) < 0.001
    assert avoidance_p(16, 47, 12, 36) > 0.3
    assert avoidance_p(0, 40, 0, 36) == 1.0


def test_prompts_share_what_they_should() -> None:
    one, other = prompt("run", 1, 300, 1), prompt("run", 1, 300, 2)
    assert one[:300] == other[:300]
    assert one != other
    assert prefix("run", 1, 300)[:64] != prefix("run", 2, 300)[:64]
    assert prefix("run", 1, 300) == prefix("run", 1, 300)
    assert len(prefix("run", 1, 1024)) == 1024


# --- the whole proof, against a pool in memory ------------------------------------------------------------------------

PODS = ["pod-a", "pod-b", "pod-c"]
BASE = "/api/v1/namespaces/llm-d/pods"


class World:
    """A pool of three pods behind a picker; ``choose`` is the picker."""

    def __init__(self, api: Any, fakes: Any, choose: Callable[[World, str], str], header: bool = True) -> None:
        self.api, self.choose, self.header = api, choose, header
        self.loaded = ""
        self.lot = random.Random(3)
        self.homes: dict[str, str] = {}
        self.done = dict.fromkeys(PODS, 0)
        self.down: set[str] = set()
        self.picked = True  # whether the picker's own header survives the way back
        self.counted = 0.0
        api.put(
            "/apis/inference.networking.k8s.io/v1/namespaces/llm-d/inferencepools/gaie",
            {
                "spec": {
                    "selector": {"matchLabels": {"app": "vllm"}},
                    "targetPorts": [{"number": 8000}],
                    "endpointPickerRef": {"name": "gaie-epp", "failureMode": "FailClose"},
                }
            },
        )
        for pod in PODS:
            ready = {"status": {"conditions": [fakes.condition("Ready", "True")]}}
            api.put(f"{BASE}/{pod}", {"metadata": {"labels": {"app": "vllm"}}, **ready})
            self.count(pod, 0)

    def count(self, pod: str, by: int = 1) -> None:
        self.done[pod] += by
        self.api.texts[f"{BASE}/{pod}:8000/proxy/metrics"] = (
            f'vllm:request_success_total{{finished_reason="stop"}} {self.done[pod]}\n'
            f"vllm:num_requests_running {16 if pod == self.loaded else 0}\n"
        )

    def send(self, method: str, path: str, document: dict[str, Any], timeout: float) -> Answer:
        pod = self.choose(self, document["prompt"])
        if not pod or pod in self.down:
            return Answer(503, {}, b"no healthy upstream")
        self.homes.setdefault(document["prompt"][:64], pod)
        self.count(pod)
        self.counted += 1
        named = {"x-pod": pod} if self.header else {}
        return Answer(200, {**({"x-went-into-resp-headers": "true"} if self.picked else {}), **named}, b"{}")


def healthy(world: World, text: str) -> str:
    quiet = [pod for pod in PODS if pod != world.loaded]
    home = world.homes.get(text[:64])
    return home if home in quiet else world.lot.choice(quiet)


def at_random(world: World, text: str) -> str:
    return world.lot.choice(PODS)


def blind_to_load(world: World, text: str) -> str:
    return world.homes.get(text[:64]) or world.lot.choice(PODS)


def always_one(world: World, text: str) -> str:
    return "pod-b"


class FakeLoad:
    """Load without threads."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self, pool: Pool, pod: str, *_unused: Any) -> FakeLoad:
        self.pod = pod
        self.alive, self.sent, self.failed, self.error = True, 16, 0, ""
        return self

    def __enter__(self) -> FakeLoad:
        self.world.loaded = self.pod
        return self

    def __exit__(self, *_unused: object) -> None:
        self.world.loaded = ""

    def visible(self) -> bool:
        return True


@pytest.fixture
def prove(api: Any, fakes: Any, client: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def run(
        choose: Callable[[World, str], str], header: bool = True, picked: bool = True, counts: bool | None = None
    ) -> tuple[dict[str, Any], Witness]:
        world = World(api, fakes, choose, header)
        world.picked = picked
        count = {None: None, True: lambda: world.counted, False: lambda: 7.0}[counts]
        monkeypatch.setattr(f"{Proof.__module__}.Load", FakeLoad(world))
        pool = Pool.read(client, "llm-d", "gaie", "vllm:request_success_total", "vllm:num_requests_running")
        pods = pods_or_error(pool)
        assert pods == PODS
        witness = Witness(pool, pods, "x-pod", clock)
        proof = Proof(
            world.send,
            Plan("m", run="fixed", header="x-went-into-resp-headers"),
            pool,
            pods,
            witness,
            clock,
            lambda _unused: None,
            count,
        )
        return {claim.name: claim for claim in proof.run()}, witness

    return run


@pytest.mark.parametrize(("counts", "believed"), [(True, True), (False, False), (None, False)])
def test_without_headers_the_pickers_counter_is_the_witness(prove: Any, counts: bool | None, believed: bool) -> None:
    """What the picker counted decides; one that counts nothing or does not tell shows nothing."""
    claims, witness = prove(healthy, header=False, picked=False, counts=counts)
    assert claims["picker"].ok is believed
    assert claims["picker"].numbers["with_header"] == 0
    assert all(claims[name].ok for name in ("spread", "affinity", "avoidance"))
    assert witness.evidence()["source"] == "counters"


def shown(claims: dict[str, Any]) -> dict[str, bool]:
    return {name: claim.ok for name, claim in claims.items()}


@pytest.mark.parametrize("header", [True, False])
def test_a_healthy_picker_is_believed(prove: Any, header: bool) -> None:
    claims, witness = prove(healthy, header)
    assert shown(claims) == {"picker": True, "spread": True, "affinity": True, "avoidance": True}
    evidence = witness.evidence()
    assert evidence["source"] == ("header" if header else "counters")
    assert evidence["counters_agree"]


@pytest.mark.parametrize(
    ("choose", "missing", "code"),
    [
        (at_random, {"affinity", "avoidance"}, "ROUTING_IGNORES_PREFIX"),
        (blind_to_load, {"avoidance"}, "ROUTING_IGNORES_LOAD"),
        (always_one, {"spread", "affinity", "avoidance"}, "ROUTING_NOT_SPREAD"),
    ],
)
def test_a_broken_picker_is_not(prove: Any, choose: Any, missing: set[str], code: str) -> None:
    claims, _unused = prove(choose)
    assert {name for name, claim in claims.items() if not claim.ok} == missing
    assert next(claim.code for claim in claims.values() if not claim.ok) == code
    assert all(claim.p_value > 0.01 for claim in claims.values() if not claim.ok)


def test_lost_answers_are_named(prove: Any) -> None:
    claims, _unused = prove(lambda world, text: "" if world.lot.random() < 0.3 else at_random(world, text))
    assert claims["answers"].code == "ROUTING_ANSWERS_MISSING"
    assert claims["answers"].numbers["lost"]["NO_HEALTHY_UPSTREAM"] > 10


def test_one_pod_gives_no_proof(api: Any, fakes: Any, client: Any) -> None:
    World(api, fakes, healthy)
    del api.objects[f"{BASE}/pod-a"], api.objects[f"{BASE}/pod-b"]
    pool = Pool.read(client, "llm-d", "gaie", "c", "g")
    with pytest.raises(InferenceError) as failure:
        pods_or_error(pool)
    assert failure.value.code == "ROUTING_TOO_FEW_PODS"


def test_a_killed_pod_is_followed_by_others(api: Any, fakes: Any, client: Any, clock: Any) -> None:
    world = World(api, fakes, healthy)
    pool = Pool.read(client, "llm-d", "gaie", "vllm:request_success_total", "vllm:num_requests_running")

    def send(method: str, path: str, document: dict[str, Any], timeout: float) -> Answer:
        gone = [pod for pod in PODS if f"{BASE}/{pod}" not in api.objects]
        if gone and not world.down:
            world.down = set(gone)
            clock.at(clock.time - 1000 + 1.0, lambda: setattr(world, "loaded", gone[0]))  # the picker learns it
            back = {
                "metadata": {"labels": {"app": "vllm"}},
                "status": {"conditions": [fakes.condition("Ready", "True")]},
            }
            clock.at(clock.time - 1000 + 20, lambda: api.put(f"{BASE}/pod-new", back))
        return world.send(method, path, document, timeout)

    disruption = Disruption(
        send,
        Plan("m", run="fixed", header="x-went-into-resp-headers"),
        pool,
        None,
        "x-pod",
        60,
        clock,
        lambda _unused: None,
    )  # type: ignore[arg-type]
    claim = disruption.kill_pod()
    assert claim.ok, claim.detail
    assert claim.numbers["errors"] == {"503 NO_HEALTHY_UPSTREAM": 5}
    assert claim.numbers["pod"] not in claim.numbers["answers"]
    assert disruption.changed


def test_disruptions_ask_for_consent(fakes: Any, capfd: Any) -> None:
    params = {"base_url": "http://203.0.113.7", "model": "m", "namespace": "llm-d", "pool": "p", "host": "http://x"}
    params |= {"response_header": "h", "success_counter": "c", "running_gauge": "g", "picker_selector": "a=b"}
    for consent in ({}, {"deployment": "one"}, {"deployment": "one", "confirm": "two"}):
        result = fakes.run_module("routing_proof", capfd, {**params, "disruptions": ["kill_pod"], **consent})
        assert result["failed"]
        assert result["error"]["code"] == "ROUTING_NOT_CONFIRMED"


def test_load_is_bounded(api: Any, fakes: Any, client: Any) -> None:
    from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_load import Load

    World(api, fakes, healthy)
    pool = Pool.read(client, "llm-d", "gaie", "c", "g")
    sent: list[dict[str, Any]] = []
    pool.client.pod_post = lambda pod, namespace, port, path, body: sent.append(body) or json.dumps({})  # type: ignore[method-assign]
    with Load(pool, "pod-a", "m", "run", Limits(concurrency=4, requests=10)) as load:
        for thread in load._threads:
            thread.join()
    assert len(sent) == 10
    assert len({body["prompt"] for body in sent}) == 10
