"""Several deployments in one run: really several, and on one page whatever became of each."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.action import check_inputs
from ansible_collections.llmd.gke.plugins.module_utils.llmd.fleet import collisions
from ansible_collections.llmd.gke.plugins.plugin_utils import fleet

DEFAULTS = check_inputs.read(check_inputs.ROLES / "llmd/defaults/main.yml")
STATUS: dict[str, Any] = {
    "endpoint": "http://203.0.113.1",
    "models": ["google/gemma-2b-it"],
    "replicas": {"wanted": 1, "ready": 1},
    "lease": {"state": "none", "until": "", "paused_since": ""},
    "findings": [],
    "cost": {"usd": 1.25, "complete": True},
    "last_verify": {"passed": True, "at": "2026-11-27T20:00:00Z"},
}
PLACE = {"name": "chat-us", "project": "p", "location": "us-central1-a", "cluster": "c", "page": ""}


def names(hosts: dict[str, dict[str, Any]]) -> list[str]:
    found = collisions(hosts, DEFAULTS)
    assert {one.code for one in found} <= {"FLEET_COLLISION"}
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"llmd_project": "p"}, {"llmd_project": "q"}, []),
        ({"llmd_project": "p"}, {"llmd_project": "p"}, ["llmd_cluster_name"]),
        ({"llmd_project": "p"}, {"llmd_project": "p", "llmd_zone": "us-central1-b"}, []),
        ({"llmd_project": "p"}, {"llmd_project": "p", "llmd_region": "europe-west4"}, []),
        ({"llmd_project": "p"}, {"llmd_project": "p", "llmd_zone": "us-central1-a"}, ["llmd_cluster_name"]),
        ({"llmd_project": "p"}, {"llmd_project": "p", "llmd_cluster_name": "c"}, []),
        (
            {"llmd_project": "p", "llmd_deployment": "d"},
            {"llmd_project": "p", "llmd_deployment": "d", "llmd_cluster_name": "c"},
            ["llmd_deployment", "llmd_artifacts_dir"],
        ),
        (
            {"llmd_project": "p", "llmd_artifacts_dir": "/tmp/x"},
            {"llmd_project": "q", "llmd_artifacts_dir": "/tmp/x"},
            ["llmd_artifacts_dir"],
        ),
    ],
)
def test_two_hosts_on_one_place_are_named(one: dict[str, Any], other: dict[str, Any], expected: list[str]) -> None:
    assert names({"a": one, "b": other}) == expected
    assert names({"a": one}) == []


def test_a_collision_says_which_hosts_and_what_to_do() -> None:
    (found,) = collisions({"a": {"llmd_project": "p"}, "b": {"llmd_project": "p"}}, DEFAULTS)
    assert "hosts a and b" in found.text()
    assert "p / us-central1-a / llm-d-cluster" in found.text()
    assert "What now: give each host its own" in found.text()


@pytest.mark.parametrize(
    ("changed", "error", "state"),
    [
        ({}, "", "serving"),
        ({}, "Verify: VERIFY_FAILED", "degraded"),  # its status is known, something else about it is not
        ({"replicas": {"wanted": 1, "ready": 0}}, "Verify: VERIFY_FAILED", "broken"),
        ({"replicas": {"wanted": 3, "ready": 1}}, "", "degraded"),
        ({"replicas": {"wanted": 1, "ready": 0}}, "", "broken"),
        ({"endpoint": ""}, "", "broken"),
        ({"findings": [{"code": "X_Y", "severity": "error"}]}, "", "degraded"),
        ({"findings": [{"code": "X_Y", "severity": "warning"}]}, "", "serving"),
        ({"lease": {"state": "running", "paused_since": "2026-11-27T20:00:00Z"}}, "", "paused"),
        ({"lease": {"state": "no_cluster", "paused_since": ""}, "endpoint": ""}, "", "absent"),
        ({"lease": None}, "", "serving"),
    ],
)
def test_the_state_in_a_word(changed: dict[str, Any], error: str, state: str) -> None:
    assert fleet.row(PLACE, {**STATUS, **changed}, {}, None, error)["state"] == state


def test_without_a_status_nothing_is_known() -> None:
    assert fleet.row(PLACE, {}, {}, None, "Look: no access")["state"] == "unknown"
    assert fleet.row(PLACE, {}, {"passed": True}, None)["state"] == "unknown"


def rows() -> list[dict[str, Any]]:
    gone = {**STATUS, "lease": {"state": "no_cluster"}, "endpoint": "", "last_verify": {}}
    worse = {
        **STATUS,
        "findings": [{"code": "BACKEND_UNHEALTHY", "severity": "error"}],
        "cost": {"usd": 2.0, "complete": False},
    }
    return [
        fleet.row(PLACE, STATUS, {}, {"differences": []}),
        fleet.row({**PLACE, "name": "code-us"}, worse, {"passed": False}, {"differences": [1, 2]}),
        fleet.row({**PLACE, "name": "old"}, gone, {}, None),
        fleet.row({**PLACE, "name": "<lost>"}, {}, {}, None, "Read: PROJECT_NOT_FOUND: no project\nmore"),
    ]


def test_the_sums_are_those_of_the_rows_and_say_what_is_missing() -> None:
    document = fleet.summary(rows())
    assert [one["name"] for one in document["deployments"]] == [
        "<lost>",
        "code-us",
        "old",
        "chat-us",
    ]  # the worst first
    assert document["states"] == {"unknown": 1, "degraded": 1, "absent": 1, "serving": 1}
    assert (document["verified"], document["drifted"], document["usd"]) == (1, 1, 3.25)
    assert document["complete"] is False
    assert document["healthy"] is False
    assert fleet.summary(rows()[:1])["healthy"] is True
    assert fleet.summary(rows()[:1])["complete"] is True


def test_the_table_has_a_line_for_each_and_the_reasons_below() -> None:
    lines = fleet.table(fleet.summary(rows()))
    assert lines[0].split() == ["deployment", "state", "verified", "USD/h", "drift", "endpoint", "where"]
    assert any(line.startswith("code-us") and "2 differences" in line and "2.00+" in line for line in lines)
    assert any(line.startswith("old") and "0.00" in line and "none" in line for line in lines)
    assert "<lost>: Read: PROJECT_NOT_FOUND: no project" in lines
    assert "code-us: BACKEND_UNHEALTHY" in lines
    assert lines[-1].startswith("4 deployments: 1 unknown, 1 degraded, 1 absent, 1 serving; 1 verified, 1 drifted")
    assert lines[-1].endswith("and what is not known")


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_takes_nothing_as_markup() -> None:
    text = fleet.page(fleet.summary(rows(), "2026-11-27T20:00:00+00:00"))
    seen = Cells()
    seen.feed(text)
    assert seen.tags.count("tr") == 5
    assert "script" not in seen.tags
    assert "<lost>" in seen.text
    assert "needs a look" in seen.text
    assert "27 November 2026" in seen.text
    assert len(text) < 30_000
