"""The module as Ansible runs it, against the mock: figures, files, comparison, history, and a signal in the middle."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import calibration, mock_server

ROOT = Path(__file__).resolve().parents[3]
START = """
import json, sys
from ansible.module_utils.testing import patch_module_args
import importlib
with patch_module_args(json.load(sys.stdin)):
    importlib.import_module("ansible_collections.llmd.gke.plugins.modules.benchmark").main()
"""


def start(options: dict[str, Any]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "playbooks/collections")}
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(json.dumps(options))
    process.stdin.close()
    process.stdin = None
    return process


def run(**options: Any) -> dict[str, Any]:
    """The module in this process; what it would print."""
    given = {"model": "m", "workload": {"output": 8, "prompt": 5}, "calibrate": False, "warmup": 2, **options}
    printed = io.StringIO()
    main = importlib.import_module("ansible_collections.llmd.gke.plugins.modules.benchmark").main
    with patch_module_args(given), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        main()
    return dict(json.loads(printed.getvalue()))


def test_a_benchmark_from_end_to_end(url: str, tmp_path: Path) -> None:
    options = {
        "base_url": url, "artifacts_dir": str(tmp_path), "history": str(tmp_path / "history.jsonl"),
        "concurrency": [2, 6], "requests": 12, "slo": {"ttft": 0.5},
        "expectations": [{"metric": "success", "at_least": 0.5, "better": "higher"}],
    }  # fmt: skip
    first = run(**options)
    assert not first.get("failed"), first.get("msg")
    assert first["changed"] is False
    assert first["passed"] is True
    results = first["benchmark"]["results"]
    assert [one["requests"]["ok"] for one in results] == [12, 12]
    assert 0.03 < results[0]["latency"]["ttft"]["p50"]["value"] < results[0]["latency"]["e2e"]["p50"]["value"]
    assert results[1]["output_tokens_per_second"]["value"] > results[0]["output_tokens_per_second"]["value"]
    assert results[0]["goodput"]["kept"] == 12
    lines = (tmp_path / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 28
    assert json.loads(lines[-1])["itl"] > 0
    assert "<svg" in (tmp_path / "benchmark.html").read_text(encoding="utf-8")
    again = run(**options)
    assert again["benchmark"]["since_last"][0]["run"] == first["benchmark"]["run"]


def test_two_endpoints_in_turns(url: str, tmp_path: Path) -> None:
    slower = mock_server.Settings(ttft=0.3, itl=0.004, jitter=0.1)
    with mock_server.running(slower) as port:
        said = run(
            base_url=f"http://127.0.0.1:{port}", label="gateway", against={"base_url": url, "label": "direct"},
            requests=40, concurrency=[4], groups=5, artifacts_dir=str(tmp_path),
        )  # fmt: skip
    assert not said.get("failed"), said.get("msg")
    found = {one["metric"]: one for one in said["benchmark"]["comparisons"]}
    assert 0 < found["ttft"]["low"] <= found["ttft"]["value"] <= found["ttft"]["high"]
    assert found["ttft"]["verdict"] == "slower"
    assert found["itl"]["counts"] == [40, 40]
    assert any("gateway delivers the first token" in line for line in said["summary"])


def test_zero_requests_end_with_a_report(url: str, tmp_path: Path) -> None:
    said = run(base_url=url, requests=0, warmup=0, artifacts_dir=str(tmp_path))
    assert said["error"]["code"] == "BENCHMARK_NO_ANSWER"
    assert "requests is 0" in said["error"]["why"]
    assert json.loads((tmp_path / "benchmark.json").read_text())["results"][0]["requests"]["finished"] == 0


def test_against_a_run_that_was_kept(url: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"requests": 40, "concurrency": [4]}
    slower = mock_server.Settings(ttft=0.4, itl=0.004, jitter=0.1)
    with mock_server.running(slower) as port:
        run(base_url=f"http://127.0.0.1:{port}", artifacts_dir=str(tmp_path / "before"), **options)
    said = run(base_url=url, artifacts_dir=str(tmp_path / "after"), baseline=str(tmp_path / "before"), **options)
    assert not said.get("failed"), said.get("msg")
    stored = said["benchmark"]["baseline"]
    found = {one["metric"]: one for one in stored["changes"]}
    assert found["ttft"]["verdict"] == "faster"
    assert found["ttft"]["low"] <= found["ttft"]["value"] <= found["ttft"]["high"] < 0
    assert "not a proof" in stored["sentence"]
    assert "Change since the run kept" in (tmp_path / "after/benchmark.html").read_text(encoding="utf-8")
    other = run(base_url=url, baseline=str(tmp_path / "before"), **{**options, "workload": {"output": 9, "prompt": 5}})
    assert other["benchmark"]["baseline"]["changes"] == []
    assert "workload was" in other["benchmark"]["baseline"]["sentence"]
    nothing = run(base_url=url, baseline=str(tmp_path / "nowhere"), **options)
    assert nothing["error"]["code"] == "BASELINE_INVALID"


def test_another_model_behind_the_second_endpoint(url: str) -> None:
    said = run(
        base_url=url, against={"base_url": url, "label": "pattern2", "model": "m2"}, requests=10, concurrency=[2],
        groups=1,
    )  # fmt: skip
    assert said["benchmark"]["against"]["model"] == "m2"
    assert [one["requests"]["failed"] for one in said["benchmark"]["results"]] == [0, 0]


def test_an_open_loop(url: str) -> None:
    said = run(base_url=url, rate=[40], requests=40, duration=10)
    result = said["benchmark"]["results"][0]
    assert result["requests"]["ok"] == 40
    assert result["latency"]["ttft_intended"]["p50"]["value"] >= result["latency"]["ttft"]["p50"]["value"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"path": "/fault/503", "requests": 200}, "BENCHMARK_ERROR_BUDGET_SPENT"),
        ({"path": "/fault/redirect", "requests": 4}, "BENCHMARK_NO_ANSWER"),
        ({"expectations": [{"metric": "ttft.p50", "at_most": 0.001}], "requests": 8}, "BENCHMARK_EXPECTATION_MISSED"),
    ],
)
def test_how_it_fails(url: str, tmp_path: Path, options: dict[str, Any], code: str) -> None:
    said = run(base_url=url + options.pop("path", ""), artifacts_dir=str(tmp_path), **options)
    assert said["failed"]
    assert said["error"]["code"] == code
    assert said["files"]["json"]  # the report is there all the same
    assert (tmp_path / "benchmark.html").exists()


def test_what_was_measured_is_left(url: str, tmp_path: Path) -> None:
    """A Ctrl-C, a polite end and a killed job, side by side."""
    running = {}
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        folder = tmp_path / number.name
        options = {"base_url": url, "model": "m", "requests": 10_000, "calibrate": False, "artifacts_dir": str(folder)}
        running[number] = (start(options), folder)
    for number, (process, folder) in running.items():
        log = folder / "requests.jsonl"
        deadline = time.monotonic() + 60
        # warm-up requests are in the log too; what counts must have been measured and written
        while time.monotonic() < deadline and not (log.exists() and log.read_text().count('"phase": "measure"') > 10):
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[:-1]]
        assert len(lines) > 5
        if number == signal.SIGKILL:
            continue
        assert json.loads(out)["error"]["code"] == "BENCHMARK_INTERRUPTED", err
        report = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
        assert report["stop_reason"] == "interrupted"
        assert report["results"][0]["requests"]["ok"] > 5


def test_calibration_says_its_own_error() -> None:
    settings = mock_server.Settings(ttft=0.05, itl=0.005, jitter=0.1)
    found = calibration.calibrate(8, settings=settings, tokens=10, requests=60)
    assert found["counts_exact"]
    assert found["requests"] == 60
    # how large the error is depends on how busy the machine is; that it is told as it is does not
    for figure in found["errors"]["ttft"].values():
        assert figure["measured"] >= figure["true"] >= 0.03
        assert figure["error"] == pytest.approx(figure["measured"] - figure["true"])
        assert figure["paired"] > 0
    rate = found["output_tokens_per_second"]
    assert rate["relative"] == pytest.approx(rate["measured"] / rate["true"] - 1)
    assert "this client was wrong by" in calibration.describe(found)
