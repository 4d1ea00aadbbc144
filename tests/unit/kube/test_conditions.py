from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import find_condition, of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import Mark, current_warnings, newest_first


def test_the_state_a_gateway_is_born_with_is_no_judgement() -> None:
    born = {
        "type": "Programmed",
        "status": "False",
        "reason": "NotReconciled",
        "message": "Waiting for controller",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }
    condition = find_condition([born], "Programmed", 1)
    assert condition.initial
    assert not condition.false
    assert not condition.true


@pytest.mark.parametrize(
    ("written", "initial"),
    [
        ({"lastTransitionTime": "1970-01-01T00:00:00Z"}, True),
        ({"lastTransitionTime": "2026-11-23T10:00:00Z"}, False),
        ({"message": "Waiting for controller", "reason": "Pending"}, True),
        ({"message": "Waiting for controller", "reason": "NotReconciled"}, True),
        ({"message": "Waiting for controller", "reason": "Invalid"}, False),
        ({"message": "no such port", "reason": "Pending"}, False),
        ({}, False),
    ],
)
def test_what_was_written_at_creation_is_known_by_its_time_or_by_its_words(
    written: dict[str, str], initial: bool
) -> None:
    assert find_condition([{"type": "Programmed", "status": "Unknown", **written}], "Programmed").initial is initial


@pytest.mark.parametrize(
    ("observed", "generation", "fresh"), [(2, 2, True), (1, 2, False), (3, 2, True), (0, 2, True), (None, 2, True)]
)
def test_a_condition_of_an_older_generation_is_stale(observed: int | None, generation: int, fresh: bool) -> None:
    raw: dict[str, Any] = {"type": "Accepted", "status": "True"}
    if observed is not None:
        raw["observedGeneration"] = observed
    found = of_object({"metadata": {"generation": generation}, "status": {"conditions": [raw]}}, "Accepted")
    assert found.true is fresh


def test_an_absent_condition_is_unknown() -> None:
    assert find_condition(None, "Ready").status == "Unknown"


def test_events_are_sorted_by_when_they_were_last_seen(fakes: Any) -> None:
    old = fakes.event("g", "old", kind="Gateway", at="09:00:00")
    repeated = {
        **fakes.event("g", "repeated", kind="Gateway", at="08:00:00"),
        "series": {"lastObservedTime": "2026-11-23T11:00:00Z"},
    }
    assert [entry["message"] for entry in newest_first([old, repeated])] == ["repeated", "old"]


def test_a_later_success_answers_older_warnings(fakes: Any) -> None:
    warning = fakes.event("g", "failed", kind="Gateway", at="09:00:00")
    success = fakes.event("g", "SYNC on llm-d/g was a success", kind="Gateway", type_="Normal", at="09:05:00")
    newer = fakes.event("g", "failed again", kind="Gateway", at="09:06:00")
    assert current_warnings([warning, success]) == []
    assert current_warnings([warning, success, newer]) == [newer]


def test_a_mark_tells_a_repeated_event_from_an_old_one(fakes: Any) -> None:
    warning = fakes.event("g", "failed", kind="Gateway")
    mark = Mark.of([warning])
    assert not mark.is_new(warning)
    assert mark.is_new({**warning, "count": 2, "lastTimestamp": "2026-11-23T10:05:00Z"})
