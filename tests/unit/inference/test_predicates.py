"""Whether load is seen, a pool is whole again, a picker is back: what the disruptive proofs wait for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import Proof
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_disruption import Disruption
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_load import Load


def disruption(clock: Any, **parts: Any) -> Disruption:
    given: dict[str, Any] = {"send": None, "plan": None, "pool": None, "picker": None, **parts}
    return Disruption(header="", timeout=10.0, clock=clock, progress=lambda text: None, **given)


@pytest.mark.parametrize(("ready", "whole"), [([["a"], ["a", "b"]], True), ([["a"]], False)])
def test_a_pool_is_whole_when_as_many_are_ready_as_before(clock: Any, ready: list[list[str]], whole: bool) -> None:
    looks = list(ready)
    pool = SimpleNamespace(ready_pods=lambda: looks.pop(0) if len(looks) > 1 else looks[0])
    assert disruption(clock, pool=pool)._wait_ready(2) is whole
    assert clock.now() > 0  # one ready pod of two was not enough


def test_a_picker_is_back_when_it_has_a_pod() -> None:
    def none_found() -> list[str]:
        raise InferenceError("no pod", code="PICKER_MISSING")

    for pods, back in ((lambda: ["p"], True), (list, False), (none_found, False)):
        assert disruption(None, picker=SimpleNamespace(pods=pods))._picker_ready() is back


@pytest.mark.parametrize(("in_work", "visible"), [(1, True), (0, False)])
def test_load_is_seen_by_what_the_pod_says(in_work: int, visible: bool) -> None:
    load: Any = Load.__new__(Load)
    load._pool, load._pod = SimpleNamespace(in_work=lambda pod: in_work), "a"
    assert load.visible() is visible


def test_a_wait_for_load_ends_when_the_load_is_dead(clock: Any) -> None:
    proof: Any = Proof.__new__(Proof)
    proof.plan = SimpleNamespace(load=SimpleNamespace(seconds=30.0))
    proof.clock, proof.progress = clock, lambda text: None
    started = clock.now()
    dead: Any = SimpleNamespace(visible=lambda: False, alive=False)
    assert proof._visible(dead) is False
    assert clock.now() == started
    looks = iter([False, False, True])
    alive: Any = SimpleNamespace(visible=lambda: next(looks), alive=True)
    assert proof._visible(alive) is True
    assert clock.now() > started
