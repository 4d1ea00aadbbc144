"""Engines: told what we mean, and read in our definitions. The shapes are those that the pinned versions wrote."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.job import Plan
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Spec
from ansible_collections.llmd.gke.plugins.module_utils.engines import guidellm, inference_perf, local, vllm_bench
from ansible_collections.llmd.gke.plugins.module_utils.engines.causes import cause_of_text
from ansible_collections.llmd.gke.plugins.module_utils.engines.job import ENGINES, run
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import OUT, Engine, Order, Recipe
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.waiting import SystemClock

KEY = "sk-very-secret"


def order(url: str = "http://192.0.2.1", key: str = "", tokenizer: str = "/tok", **fields: Any) -> Order:
    """Two requests, four at once, unless told otherwise."""
    headers = (("Authorization", f"Bearer {key}"),) if key else ()
    load = Load(**{"level": 4, "requests": 2, **fields.pop("load", {})})
    spec = Spec(**{"model": "m", "prompt": Length(3), "output": Length(5), **fields})
    return Order(Target.parse(url, "t", headers=headers), spec, load, "salt", tokenizer)


def vllm_result() -> dict[str, Any]:
    return {
        "duration": 2.0, "completed": 2, "output_throughput": 5.0, "p50_ttft_ms": 250.0, "p50_tpot_ms": 25.0,
        "input_lens": [3, 3, 3], "output_lens": [5, 5, 0], "ttfts": [0.2, 0.3, 0.0],
        "itls": [[0.02] * 4, [0.03] * 4, []], "errors": ["", "", "Service Unavailable"],
    }  # fmt: skip


def guidellm_result() -> dict[str, Any]:
    def one(start: float, **timings: float) -> dict[str, Any]:
        return {
            "info": {"timings": {"request_start": start, **timings}, "error": None},
            "input_metrics": {"text_tokens": 3}, "output_metrics": {"text_tokens": 5},
        }  # fmt: skip

    good = [
        one(100.0, first_token_iteration=100.2, last_token_iteration=100.28, token_iterations=5, request_end=100.3),
        one(100.5, first_token_iteration=100.8, last_token_iteration=100.92, token_iterations=5, request_end=101.0),
    ]
    bad = one(100.1, request_end=100.15)
    bad["info"]["error"] = "Server error '503 Service Unavailable' for url"
    percentiles = {"percentiles": {"p50": 250.0}, "mean": 5.0}
    metrics = {name: {"successful": percentiles} for name in ("time_to_first_token_ms", "output_tokens_per_second")}
    requests = {"successful": good, "errored": [bad], "incomplete": []}
    return {"metadata": {"guidellm_version": "0.8.1"}, "benchmarks": [{"requests": requests, "metrics": metrics}]}


def inference_perf_result() -> list[dict[str, Any]]:
    def one(start: float, times: list[float], error: Any = None) -> dict[str, Any]:
        answer = {"output_tokens": 9, "server_usage": {"completion_tokens": 5}, "output_token_times": times}
        info = {"request_metrics": {"text": {"input_tokens": 3}}, "response_metrics": answer if times else None}
        return {"start_time": start, "end_time": (times or [start])[-1] + 0.02, "info": info, "error": error}

    failed = {"error_type": "ClientResponseError", "error_msg": "503, message='Service Unavailable'"}
    return [
        one(50.0, [50.2, 50.22, 50.24, 50.26, 50.28]),
        one(50.5, [50.8, 50.83, 50.86, 50.89, 50.92]),
        one(50.1, [], failed),
    ]


SUMMARY = {"successes": {"latency": {"time_to_first_token": {"median": 0.25}}, "throughput": {}}}
RESULTS = {
    "vllm": {"result": json.dumps(vllm_result())},
    "guidellm": {"result": json.dumps(guidellm_result())},
    "inference-perf": {"requests": json.dumps(inference_perf_result()), "summary": json.dumps(SUMMARY)},
}


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_is_read_in_the_same_definitions(name: str) -> None:
    found = ENGINES[name].read(RESULTS[name], order())
    good = [record for record in found.records if record.ok]
    assert [record.ttft for record in good] == pytest.approx([0.2, 0.3])
    assert [record.itl for record in good] == pytest.approx([0.02, 0.03])
    assert [record.e2e for record in good] == pytest.approx([0.28, 0.42])
    assert [record.output_tokens for record in good] == [5, 5]
    assert [record.cause for record in found.records if not record.ok] == ["unavailable"]
    assert found.own["ttft.p50"] == pytest.approx(0.25)


@pytest.mark.parametrize("name", sorted(ENGINES))
@pytest.mark.parametrize("text", ["", "{", "[]", '{"benchmarks": []}', '[{"start_time": 1}]'])
def test_what_is_no_result_is_told(name: str, text: str) -> None:
    if name == "inference-perf" and text == "[]":
        return  # a run without requests
    with pytest.raises(LlmdError) as caught:
        ENGINES[name].read({"result": text, "requests": text}, order())
    assert caught.value.code == "ENGINE_RESULT_INVALID"


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_a_key_is_in_no_command_line(name: str) -> None:
    recipe = ENGINES[name].recipe(order(key=KEY))
    assert KEY not in " ".join(recipe.command)
    assert KEY in recipe.secrets.values()
    assert KEY not in json.dumps(dict(recipe.environment))


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_what_an_engine_cannot_do_is_refused(name: str) -> None:
    for odd in (order(kind="multi_turn"), order(load={"requests": 0})):
        with pytest.raises(LlmdError) as caught:
            ENGINES[name].recipe(odd)
        assert caught.value.code == "ENGINE_UNFIT"
    with pytest.raises(LlmdError):
        inference_perf.recipe(order(tokenizer=""))


def test_the_same_prompts_as_our_own_client_would_send() -> None:
    one, other = vllm_bench.recipe(order()), guidellm.recipe(order())
    prompts = [[json.loads(line)["prompt"] for line in r.files["prompts.jsonl"].splitlines()] for r in (one, other)]
    assert prompts[0] == prompts[1][:2] == [text for text, _unused in order().prompts()]
    assert len(prompts[0]) == 2
    assert len(prompts[1]) > 2  # a data set that runs out ends guidellm early


def test_closed_and_open_loops() -> None:
    assert "--max-concurrency 4" in " ".join(vllm_bench.recipe(order()).command)
    opened = order(load={"mode": "open", "level": 2.5, "requests": 10})
    assert "--request-rate 2.5" in " ".join(vllm_bench.recipe(opened).command)
    profile = json.loads(guidellm.recipe(opened).files["config.json"])["spec"]["profile"]
    assert profile == {"kind": "poisson", "rate": [2.5], "max_concurrency": 256}
    load = json.loads(inference_perf.recipe(opened).files["config.yml"])["load"]
    assert (load["type"], load["stages"]) == ("poisson", [{"rate": 2.5, "duration": 4}])


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("Client error '429 Too Many Requests' for url", "rate_limited"),
        ("HTTP 401", "unauthorised"),
        ("Not Found", "not_found"),
        ("ReadTimeout", "timeout"),
        ("[Errno 111] Connection refused", "refused"),
        ("aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected", "no_answer"),
        ("TransferEncodingError: response payload is not completed", "disconnected"),
        ("This model's maximum context length is 2048 tokens", "prompt_too_long"),
        ("something new", "unrecognised"),
        ("", "unrecognised"),
    ],
)
def test_causes_in_other_peoples_words(words: str, cause: str) -> None:
    assert cause_of_text(words)[0] == cause
    assert cause_of_text(words)[1]


def test_the_report_is_ours(tmp_path: Path) -> None:
    plan = Plan(Target.parse("http://192.0.2.1", "t"), order().spec, [Load(level=4, requests=2)], calibrate=False)
    plan.directory = str(tmp_path)
    kept: list[Any] = []
    outcome = run(plan, vllm_bench.ENGINE, lambda order: RESULTS["vllm"], version="0.11.2", keep=kept.append)
    (result,) = outcome.report["results"]
    assert outcome.report["engine"] == {"name": "vllm", "version": "0.11.2", "where": ""}
    assert result["requests"]["ok"] == 2
    assert result["causes"][0]["cause"] == "unavailable"
    assert result["output_tokens_per_second"] == {"value": 5.0}  # nothing over time, so no interval
    assert any("does not say when" in note for note in result["notes"])
    assert len((tmp_path / "requests.jsonl").read_text().splitlines()) == 3
    assert len(kept) == 2


# --- on the control node: any program will do for an engine -----------------------------------------------------------

SCRIPT = """#!{python}
import os, sys, time
open("out.json", "w").write('{{"key": "' + os.environ.get("LLMD_API_KEY", "") + '"}}')
print("I was told " + os.environ.get("LLMD_API_KEY", ""))
{body}
"""


def script(folder: Path, body: str = "") -> tuple[Engine, local.Place]:
    program = folder / "venv/bin/tool"
    program.parent.mkdir(parents=True)
    program.write_text(SCRIPT.format(python=sys.executable, body=body))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    engine = Engine("tool", "tool", "tool==1", (3, 11), "", lambda order: Recipe((), {}, {}), lambda texts, order: None)  # type: ignore[arg-type, return-value]
    return engine, local.Place(str(folder / "venv"))


def start(folder: Path, body: str = "", timeout: float = 60.0) -> dict[str, str]:
    engine, place = script(folder, body)
    program = local.provide(engine, place, lambda message: None)
    recipe = Recipe(("tool",), {"in.txt": "x"}, {"out": f"{OUT}/out.json"}, secrets={"LLMD_API_KEY": KEY})
    return local.run(
        engine, program, recipe, str(folder / "work"), timeout=timeout, clock=SystemClock(), progress=lambda text: None
    )


def test_an_engine_leaves_its_outputs_and_no_secret(tmp_path: Path) -> None:
    assert json.loads(start(tmp_path)["out"]) == {"key": "********"}
    assert (tmp_path / "work/engine.log").read_text() == "I was told ********\n"
    assert stat.S_IMODE((tmp_path / "work/in.txt").stat().st_mode) == 0o600


def test_an_engine_that_fails_or_does_not_end(tmp_path: Path) -> None:
    with pytest.raises(LlmdError) as caught:
        start(tmp_path / "a", "sys.exit(3)")
    assert caught.value.code == "ENGINE_FAILED"
    assert caught.value.why == "I was told ********"
    with pytest.raises(LlmdError) as caught:
        start(tmp_path / "b", "sys.stdout.flush(); time.sleep(600)", timeout=0.5)
    assert caught.value.code == "ENGINE_TIMEOUT"


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    place = local.Place(str(tmp_path / "none"))
    with pytest.raises(LlmdError) as caught:
        local.provide(guidellm.ENGINE, place, lambda message: None)
    assert caught.value.code == "ENGINE_MISSING"
    assert "guidellm==0.8.1" in caught.value.remedy
    old = Engine("x", "x", "x==1", (9, 9), "", guidellm.recipe, guidellm.read)
    with pytest.raises(LlmdError) as caught:
        local.provide(old, local.Place(str(tmp_path / "none"), install=True), lambda message: None)
    assert caught.value.code == "ENGINE_PYTHON_TOO_OLD"


def test_installing_what_does_not_exist_says_so_and_leaves_no_mark(tmp_path: Path) -> None:
    place = local.Place(
        str(tmp_path / "v"), install=True, requirement="llmd-gke-no-such-thing==1",
        pip_arguments=("--no-index", "--find-links", str(tmp_path)),
    )  # fmt: skip
    with pytest.raises(LlmdError) as caught:
        local.provide(guidellm.ENGINE, place, lambda message: None)
    assert caught.value.code == "ENGINE_INSTALL_FAILED"
    assert not (tmp_path / "v" / local.MARK).exists()
