"""Waiting: immediate first look, no real sleep, the last word on expiry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Verdict, report_progress, wait_until


class FakeClock:
    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def test_a_true_condition_never_sleeps() -> None:
    clock = FakeClock()
    assert wait_until(lambda: 5, lambda seen: Verdict(seen == 5), what="five", timeout=10, clock=clock) == 5
    assert clock.slept == []


def test_looks_again_until_true_and_reports_each_new_detail_once() -> None:
    clock, said = FakeClock(), []
    values = iter([1, 1, 2, 3])
    seen = wait_until(
        lambda: next(values),
        lambda value: Verdict(value == 3, f"{value} of 3"),
        what="three",
        timeout=60,
        interval=2,
        clock=clock,
        progress=said.append,
    )
    assert seen == 3
    assert clock.slept == [2, 2, 2]
    assert said == ["three: 1 of 3 (0 s)", "three: 2 of 3 (4 s)", "three: done (6 s)"]


def test_the_last_look_happens_at_the_deadline() -> None:
    clock = FakeClock()
    looks: list[float] = []
    with pytest.raises(WaitTimeout) as caught:
        wait_until(
            lambda: looks.append(clock.now()),
            lambda _unused: Verdict(False, "no"),
            what="never",
            timeout=5,
            interval=2,
            clock=clock,
            progress=lambda _unused: None,
        )
    assert looks == [0, 2, 4, 5]
    assert caught.value.code == "WAIT_TIMEOUT"
    assert "within 5 s" in str(caught.value)
    assert "What now" in str(caught.value)


def test_explain_makes_the_error_from_what_was_last_seen() -> None:
    with pytest.raises(WaitTimeout, match="GATEWAY_NOT_PROGRAMMED: saw 7"):
        wait_until(
            lambda: 7,
            lambda _unused: Verdict(False),
            what="x",
            timeout=0,
            clock=FakeClock(),
            explain=lambda seen: WaitTimeout(f"saw {seen}", code="GATEWAY_NOT_PROGRAMMED"),
            progress=lambda _unused: None,
        )


def test_a_judge_may_end_early() -> None:
    def judge(_unused: int) -> Verdict:
        raise LlmdError("hopeless", code="X")

    clock = FakeClock()
    with pytest.raises(LlmdError, match="X: hopeless"):
        wait_until(lambda: 1, judge, what="x", timeout=60, clock=clock)
    assert clock.slept == []


def test_progress_lines_are_json_and_a_missing_listener_is_no_error(tmp_path: Path) -> None:
    target = tmp_path / "progress"
    report_progress("hello", path=str(target))
    assert json.loads(target.read_text())["message"] == "hello"
    report_progress("nobody listens", path=str(tmp_path / "no" / "such" / "folder"))
