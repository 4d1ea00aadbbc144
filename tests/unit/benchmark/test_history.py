"""The history file, and what changed since the last run like this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import history


def line(value: float, half: float, key: str = "k", when: str = "then") -> dict[str, Any]:
    figure = {"value": value, "low": value - half, "high": value + half}
    summary = {"target": "t", "level": 4, "latency": {"ttft": {"p50": figure}}, "success": {"value": 1.0}}
    return history.line_of(summary, when=when, run="r", key=key)


@pytest.mark.parametrize(
    ("now", "half", "verdict"),
    [(0.30, 0.01, "worse"), (0.10, 0.01, "better"), (0.201, 0.0001, "same"), (0.30, 0.2, "same")],
)
def test_changes(now: float, half: float, verdict: str) -> None:
    change = history.against_last(line(now, half), [line(9.0, 0.1, when="long ago"), line(0.2, half)])
    assert change is not None
    assert change["since"] == "then"
    found = {one["metric"]: one["verdict"] for one in change["figures"]}
    assert found == {"ttft.p50": verdict, "success": "same"}


def test_only_like_runs_are_compared() -> None:
    assert history.against_last(line(0.2, 0.1), [line(0.2, 0.1, key="other")]) is None
    assert history.fingerprint({"a": 1, "b": 2}) == history.fingerprint({"b": 2, "a": 1})
    assert history.fingerprint({"a": 1}) != history.fingerprint({"a": 2})


def test_the_file_survives_a_write_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history.jsonl"
    assert history.read(str(path)) == []
    history.append(str(path), [line(0.1, 0.01)])
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"key": "k", "figu\n[]\n')
    history.append(str(path), [line(0.2, 0.01)])
    assert [one["figures"]["ttft.p50"]["value"] for one in history.read(str(path))] == [0.1, 0.2]
