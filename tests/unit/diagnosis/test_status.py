"""The status as figures and as one screen: what is unknown stays unknown, the lease comes from the cluster's labels."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

NOW = datetime.datetime(2026, 11, 24, 8, 0, tzinfo=datetime.UTC)
NAMES = {"waiting": "w", "running": "r", "kv_cache_usage": "k", "generated": "g", "finished": "f"}
BEFORE = "w 2\nr 3\nk 0.25\ng 100\nf 7\n"
LATER = "w 1\nr 3\nk 0.5\ng 150\nf 9\n"


@pytest.fixture
def status(healthy: Callable[..., Any]) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    from ansible_collections.llmd.gke.plugins.module_utils.llmd.status import screen, status_of

    def look(labels: dict[str, str] | None = None, **changes: Any) -> tuple[dict[str, Any], list[str]]:
        seen = healthy()
        seen.cluster.metrics = {"server": BEFORE}
        if labels is not None:
            seen.google.cluster = {"name": "c", "resourceLabels": labels}
        for name, value in changes.items():
            setattr(seen.google, name, value)
        found = status_of(seen, [], {"server": LATER}, 2.0, NAMES, NOW)
        return found, screen(found)

    return look


def line(lines: list[str], name: str) -> str:
    (found,) = (text for text in lines if text.startswith(name))
    return found


def test_figures_are_of_the_second_look_and_rates_of_both(status: Any) -> None:
    found, lines = status()
    assert (found["queue"], found["running"], found["kv_cache_use"]) == (1.0, 3.0, 0.5)
    assert found["tokens_per_second"] == 25.0
    assert "25 a second over the last 2.0 s" in line(lines, "tokens")
    assert "50.0 %" in line(lines, "KV cache")


@pytest.mark.parametrize(
    ("labels", "state", "words"),
    [
        ({}, "none", "nothing takes this deployment away"),
        ({"llmd-lease-until": "20261124t104500z"}, "running", "2.8 h left"),
        ({"llmd-lease-until": "20261124t070000z"}, "expired", "OVER since 2026-11-24T07:00:00+00:00"),
        (
            {"llmd-lease-until": "20261124t104500z", "llmd-paused-since": "20261123t080000z"},
            "running",
            "paused since 2026-11-23T08:00:00+00:00",
        ),
    ],
)
def test_the_lease(status: Any, labels: dict[str, str], state: str, words: str) -> None:
    found, lines = status(labels)
    assert found["lease"]["state"] == state
    assert words in line(lines, "lease")


def test_what_could_not_be_read_is_unknown_and_no_cluster_is_told(status: Any) -> None:
    found, lines = status(cluster=None)
    assert found["lease"] is None
    assert line(lines, "lease").endswith("?")
    assert "there is no cluster" in line(status(cluster={})[1], "lease")
