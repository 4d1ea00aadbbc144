"""Cloud Monitoring's dashboard by our module, on an emulated project; the emulator checks each request's shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
FILE = Path(__file__).resolve().parents[3] / "roles/monitoring/files/dashboards/grafana.json"


@pytest.fixture
def wanted(module: Module) -> dict[str, Any]:
    assert module("gcp_services", services=["monitoring"])["changed"]
    return {"deployment": "pattern1", "grafana": json.loads(FILE.read_text(encoding="utf-8"))}


def only(emulated: Any) -> dict[str, Any]:
    (dashboard,) = emulated.control("snapshot")["dashboards"].values()
    return dict(dashboard)


def queries(dashboard: dict[str, Any]) -> list[str]:
    tiles = dashboard["mosaicLayout"]["tiles"]
    sets = [one for tile in tiles for one in tile["widget"]["xyChart"]["dataSets"]]
    return [one["timeSeriesQuery"]["prometheusQuery"] for one in sets]


def test_made_once_with_grafanas_questions_and_removed(emulated: Any, module: Module, wanted: dict[str, Any]) -> None:
    assert module("gcp_dashboard", check=True, **wanted)["changed"] is True
    assert emulated.control("snapshot")["dashboards"] == {}
    made = module("gcp_dashboard", **wanted)
    assert "error" not in made, made["error"]
    assert made["changed"] is True
    dashboard = only(emulated)
    assert dashboard["name"] == made["name"]
    asked = [target["expr"] for panel in wanted["grafana"]["panels"] for target in panel["targets"]]
    assert queries(dashboard) == [expression.replace("$namespace", "llm-d") for expression in asked]
    assert module("gcp_dashboard", **wanted)["changed"] is False
    assert module("gcp_dashboard", deployment="pattern1", state="absent", check=True)["changed"] is True
    assert module("gcp_dashboard", deployment="pattern1", state="absent")["changed"] is True
    assert emulated.control("snapshot")["dashboards"] == {}
    assert module("gcp_dashboard", deployment="pattern1", state="absent")["changed"] is False


def test_what_a_person_changed_is_put_right_and_other_deployments_are_left_alone(
    emulated: Any, module: Module, wanted: dict[str, Any]
) -> None:
    other = module("gcp_dashboard", **{**wanted, "deployment": "other"})
    made = module("gcp_dashboard", **wanted, title="As it was")
    again = module("gcp_dashboard", **wanted, title="As it shall be")
    assert "error" not in again, again["error"]
    assert (again["changed"], again["name"]) == (True, made["name"])
    left = emulated.control("snapshot")["dashboards"]
    assert left[made["name"]]["displayName"] == "As it shall be"
    assert left[other["name"]]["displayName"] == "llm-d other"
    assert again["api_calls"] == {"monitoring.projects.dashboards.list": 1, "monitoring.projects.dashboards.patch": 1}


def test_bad_input_and_a_disabled_api_are_named(emulated: Any, module: Module, wanted: dict[str, Any]) -> None:
    bad = module("gcp_dashboard", deployment="pattern1", grafana={"title": "no panels"})
    assert (bad["failed"], bad["error"]["code"]) == (True, "DASHBOARD_INVALID")
    emulated.control("services", {"disable": ["monitoring.googleapis.com"]})
    assert module("gcp_dashboard", **wanted)["error"]["code"] == "API_DISABLED"
    assert module("gcp_dashboard", deployment="pattern1", state="absent")["changed"] is False
