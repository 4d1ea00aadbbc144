"""Rules by promtool, and that rules, dashboard, alerts' documentation and event rulebook agree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import prometheus

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles/monitoring/files"
RULES = sorted((FILES / "rules").glob("*.yml"))
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian's prometheus)")


def every(kind: str) -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))


@needs_promtool
def test_alerts_fire_when_they_must_and_not_otherwise() -> None:
    promtool("test", "rules", str(Path(__file__).with_name("rules_test.yml")))


@needs_promtool
def test_promtool_accepts_the_rules_of_a_deployment(tmp_path: Path) -> None:
    for number, found in enumerate(({}, {"lease_end": 0}, {"lease_end": 0, "certificate_end": 0})):
        file = tmp_path / f"{number}.yml"
        content = prometheus.rules("deployment.yml", **found)
        assert len(content["groups"][0]["rules"]) == 3 - number
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))


def test_every_alert_is_tested_both_ways_and_told_in_the_readme() -> None:
    tests = yaml.safe_load(Path(__file__).with_name("rules_test.yml").read_text(encoding="utf-8"))["tests"]
    fired, quiet = set(), set()
    for test in tests:
        for case in test.get("alert_rule_test", []):
            (fired if case.get("exp_alerts") else quiet).add(case["alertname"])
    readme = (ROOT / "roles/monitoring/README.md").read_text(encoding="utf-8")
    names = {rule["alert"] for rule in every("alert")}
    assert fired == names
    # A second series in the same case, which must not fire, is the other way to show it.
    assert names - quiet <= {"LlmdQueueGrowing", "LlmdErrorRate"}
    assert set(re.findall(r"`(Llmd\w+)`", readme)) == names


def test_whatever_is_read_by_name_is_recorded() -> None:
    recorded = {rule["record"] for rule in every("record")}
    recorded |= {rule["record"] for rule in prometheus.rules("deployment.yml")["groups"][0]["rules"]}
    texts = [rule["expr"] for rule in every("alert")]
    dashboard = json.loads((FILES / "dashboards/grafana.json").read_text(encoding="utf-8"))
    texts += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    read = {name for text in texts for name in re.findall(r"llmd:[a-z0-9_:]+", text)}
    assert read <= recorded


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((FILES / "dashboards/grafana.json").read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_rulebook_reacts_to_every_action_with_a_playbook_that_exists() -> None:
    (ruleset,) = yaml.safe_load((ROOT / "extensions/eda/rulebooks/alerts.yml").read_text(encoding="utf-8"))
    conditions = " ".join(rule["condition"] for rule in ruleset["rules"])
    # "tell" is for a person: nothing is done by itself
    assert set(re.findall(r'labels\.action == "(\w+)"', conditions)) == {
        rule["labels"]["action"] for rule in every("alert")
    } - {"tell"}
    for rule in ruleset["rules"]:
        assert set(rule) <= {"name", "condition", "action", "throttle"}
        name = rule["action"]["run_playbook"]["name"].removeprefix("llmd.gke.")
        assert (ROOT / f"playbooks/{name}.yml").is_file(), name
