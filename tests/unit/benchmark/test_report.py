"""Files for programs and people: self-contained, escaped, and nothing lost."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import job, metrics, plots, report, slo, verdict
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, LoadResult, Record, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Spec
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError

Make = Callable[..., Record]


def outcome(record: Make, *, label: str = "gate<way", failures: int = 1) -> job.Outcome:
    plan = job.Plan(Target.parse("http://127.0.0.1:1", label), Spec("m&m"), [Load(level=2)])
    found = job.Outcome(job.head(plan))
    records = [record(intended=number * 0.3, first=number * 0.3 + 0.1 + number / 1000) for number in range(50)]
    records += [record(cause="unavailable", detail="HTTP 503: <full>", first=None, last=None)] * failures
    result = LoadResult(plan.loads[0], label, records, ended=15.3)
    found.results.append(result)
    found.report["results"].append(metrics.summarise(result))
    found.report["stop_reason"] = "count"
    expectations = [{"metric": "ttft.p50", "at_most": 0.01, "supported": "yes", "why": "because"}]
    found.report["gate"] = slo.gate(found.report["results"], expectations, "supported")
    return found


def test_the_page_is_self_contained_and_escaped(record: Make) -> None:
    page = report.page(outcome(record))
    assert "<script" not in page
    assert not re.search(r"""(src|href)=|url\(|@import""", page)
    assert "gate&lt;way" in page
    assert "<full>" not in page
    assert "m&amp;m" in page
    assert "Expectations: failed: ttft.p50" in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        ET.fromstring(drawing)
    assert page.count("<svg") == 4


def test_files_are_written_whole(record: Make, tmp_path: Path) -> None:
    paths = report.write(outcome(record), str(tmp_path / "new"))
    content = json.loads(Path(paths["json"]).read_text(encoding="utf-8"))
    assert content["schema"] == "llmd.gke/benchmark/1"
    assert content["definitions"]["itl"].startswith("inter-token latency")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["benchmark.html", "benchmark.json"]
    assert report.write(outcome(record), "") == {}


def test_a_folder_that_cannot_be_written_is_told(record: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(LlmdError) as caught:
        report.write(outcome(record), str(tmp_path / "file" / "below"))
    assert caught.value.code == "ARTIFACT_NOT_WRITTEN"


def test_the_verdict_in_words(record: Make) -> None:
    found = outcome(record)
    lines = verdict.lines_of({**found.report, "since_last": []})
    assert "gate<way, 2 at once; 50 of 51 complete" in lines[0]
    assert "p99 not told" in lines[0]
    error = verdict.failure_of(found.report)
    assert error is not None
    assert error.code == "BENCHMARK_EXPECTATION_MISSED"
    assert "ttft.p50 missed (wanted <= 0.01" in error.why
    for reason, code in (("interrupted", "BENCHMARK_INTERRUPTED"), ("error_budget", "BENCHMARK_ERROR_BUDGET_SPENT")):
        ended = verdict.failure_of({**found.report, "stop_reason": reason})
        assert ended is not None
        assert ended.code == code
    found.report["gate"]["passed"] = True
    assert verdict.failure_of(found.report) is None
    found.report["results"][0]["requests"]["ok"] = 0
    nothing = verdict.failure_of(found.report)
    assert nothing is not None
    assert nothing.code == "BENCHMARK_NO_ANSWER"


def test_plots() -> None:
    assert plots.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert plots.ticks(0, 0.9) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert plots.ticks(3, 3) == [3]
    assert plots.cumulative([3.0, 1.0]) == [(1.0, 0.5), (3.0, 1.0)]
    assert len(plots.thin([(float(n), 0.0) for n in range(100_000)])) == plots.MOST_POINTS
    assert "nothing was measured" in plots.chart("a<b", "x", "y", [plots.Series("s", [])])
    one = plots.chart("t", "x", "y", [plots.Series("s", [(1.0, 2.0)], [(1.5, 2.5)], style="both")])
    ET.fromstring(f"<figure>{one}</figure>")
    drawn = plots.forest("t", [("ttft", 5.0, 3.0, 7.0), ("itl", 0.0, -1.0, 1.0)], "ms")
    ET.fromstring(f"<figure>{drawn}</figure>")
    assert drawn.count("<rect") == 2


def test_a_target_as_written() -> None:
    target = Target.parse("https://[2001:db8::1]:8443/prefix/v1/", "t")
    assert (target.host, target.port, target.prefix) == ("2001:db8::1", 8443, "/prefix")
    assert target.url == "https://[2001:db8::1]:8443/prefix"
    assert target.authority == "[2001:db8::1]:8443"
    assert Target.parse("http://203.0.113.7", "t").authority == "203.0.113.7"
    assert Target.parse("http://203.0.113.7", "t", host_header="a.example").authority == "a.example"
    bad: Any
    for bad in ("", "203.0.113.7", "ftp://x", "http://", "http://x:99999", "http://[::1"):
        with pytest.raises(LlmdError) as caught:
            Target.parse(bad, "t")
        assert caught.value.code == "BASE_URL_INVALID"
