"""The report's page: whole, self-contained, small, safe against what names may hold."""

from __future__ import annotations

import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.filter.cost_estimate import cost_estimate
from ansible_collections.llmd.gke.plugins.filter.hourly_cost import hourly_cost
from ansible_collections.llmd.gke.plugins.filter.report_page import report_page
from ansible_collections.llmd.gke.plugins.filter.run_stages import run_stages
from ansible_collections.llmd.gke.plugins.plugin_utils import report_drawing

_PATH = Path(__file__).with_name("report_document.py")  # by its path: ansible-test has packages of its own
_SPEC = importlib.util.spec_from_file_location("llmd_gke_report_document", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
backend, document = _MODULE.backend, _MODULE.document

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_everything_is_on_the_page() -> None:
    page = Page(report_page(document()))
    for text in (
        "pattern1", "verified", "2 of 2", "Gateway programmed", "PASS", "12m 34s", "6m 52s", "gke_gpu_cluster",
        "node pool nvidia-t4-pool", "Forgotten for a month", "A million output tokens", "not looked up",
        "27 November 2026, 23:00 UTC",
        "gaie-pattern1-epp", "10.4.1.1:8000", "autoscaler 0 to 3", "inferencepool v1.2.0", "report.json",
    ):  # fmt: skip
        assert text in page.words, text


def test_it_needs_nothing_from_elsewhere_and_is_small() -> None:
    text = report_page(document())
    assert len(text.encode()) < 300_000
    assert Page(text).tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not re.search(r"url\((?!#)|@import|src=", text)
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text


def test_a_large_deployment_is_small_too() -> None:
    pools = [{"name": f"gaie-m{number}", "model": f"owner/model-{number}", "replicas": 40} for number in range(20)]
    backends = [backend(f"gkegw1-x-llm-d-gaie-m{number}-ips-54321-y", 8000, ["HEALTHY"] * 40) for number in range(20)]
    topology = {**document()["topology"], "pools": pools, "backends": backends}
    text = report_page(document(topology=topology))
    assert len(text.encode()) < 300_000
    assert "and 32 more" in Page(text).words


def test_names_are_only_text() -> None:
    evil = "<script>alert(1)</script>\"'&"
    changed = document(
        deployment=evil, model=evil, project=evil, lines=[evil], outcome=evil, json_name=evil,
        findings=[{"code": evil, "severity": evil, "what": evil, "remedy": evil, "follows_from": evil}],
        failure={"task": evil, "message": evil}, facts=[{"name": evil, "value": evil}], versions={evil: evil},
        checks=[{"name": evil, "ok": False, "detail": evil}], commands=[{"name": evil, "command": evil}],
        stages=[{"name": evil, "seconds": 1, "kind": evil}],
    )  # fmt: skip
    changed["topology"]["pools"] = [{"name": evil, "model": evil}]
    changed["topology"]["gateway"] = {"name": evil, "class": evil, "address": evil}
    page = Page(report_page(changed))
    assert "script" not in page.tags
    assert evil in page.words


@pytest.mark.parametrize("run", ["pause", "teardown"])
def test_a_run_without_verification_or_cost_leaves_them_out(run: str) -> None:
    bare = {"deployment": "d", "run": run, "outcome": "done", "at": "", "lines": ["0 left, 0.00 USD/h"], "stages": []}
    page = Page(report_page(bare))
    assert "0 left, 0.00 USD/h" in page.words
    assert "Verification" not in page.words
    assert "Topology" not in page.words


def test_a_failed_run_says_why_and_what_was_found() -> None:
    finding = {"code": "PROXY_ONLY_SUBNET_MISSING", "severity": "error", "what": "none there", "remedy": "make one"}
    failure = {"task": "Bind the route", "message": "GATEWAY_NOT_PROGRAMMED: it is not"}
    page = Page(report_page(document(outcome="failed", failure=failure, findings=[finding])))
    for text in ("GATEWAY_NOT_PROGRAMMED", "Bind the route", "PROXY_ONLY_SUBNET_MISSING", "make one"):
        assert text in page.words


def test_an_unknown_price_is_a_question_mark_and_named() -> None:
    unknown = [{"name": "p", "machine_type": "z9-huge", "node_count": 1}]
    page = Page(report_page(document(cost=hourly_cost(unknown), estimate=cost_estimate(unknown))))
    assert "COST_INCOMPLETE" in page.words
    assert "?" in page.words


def test_pools_take_their_own_backends() -> None:
    topology = {
        "pools": [{"name": "gaie-a"}, {"name": "gaie-b"}],
        "backends": [
            backend("gkegw1-x-llm-d-gaie-a-ips-1-y", 8000, ["HEALTHY", "UNHEALTHY"]),
            backend("gkegw1-x-llm-d-gaie-b-epp-9002-z", 9002, ["HEALTHY"]),
        ],
    }
    first, second = report_drawing.rows_of(topology)
    assert (first.pool.state, len(first.servers), first.picker.state) == ("bad", 2, "unknown")
    assert (second.picker.state, second.servers[0].title) == ("good", "Model servers")  # nothing was read of them
    empty = {"pools": [{"name": "gaie-a"}], "backends": [backend("x-gaie-a-ips-1-y", 8000, [])]}
    assert report_drawing.rows_of(empty)[0].servers[0].title == "no model server"


def test_stages_lie_between_marks() -> None:
    marks = [{"name": "start", "at": "10"}, {"name": "a", "at": 12.5}, {"name": "b", "at": 13}]
    assert run_stages(marks) == [
        {"name": "a", "seconds": 2.5, "begin": 0.0},
        {"name": "b", "seconds": 0.5, "begin": 2.5},
    ]
    assert run_stages([]) == []
