"""``vllm bench serve`` of the stand-in: what our Job runs in the image, run here, and read as the Job's is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Spec
from ansible_collections.llmd.gke.plugins.module_utils.engines import vllm_bench
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import Order, placed

from .conftest import MODEL, ModelServer, start

MODULE = "sandbox.images.model_server"


def bench(folder: Path, order: Order) -> tuple[int, str, dict[str, str]]:
    """Exit status, log and outputs of the recipe's command."""
    recipe = vllm_bench.recipe(order)
    for name, text in recipe.files.items():
        (folder / name).write_text(text)
    quick = {vllm_bench.READY: "0.5"}
    words = tuple(quick.get(word, placed(word, str(folder), str(folder))) for word in recipe.command[1:])
    log = folder / "log"
    code = start(MODULE, words, log).process.wait(timeout=120)
    outputs = {label: Path(placed(path, str(folder), str(folder))) for label, path in recipe.outputs.items()}
    return code, log.read_text(), {label: path.read_text() for label, path in outputs.items() if path.exists()}


@pytest.mark.parametrize(("api", "mode"), [("completions", "closed"), ("chat", "closed"), ("completions", "open")])
def test_its_result_is_read_in_our_definitions(
    model_servers: list[ModelServer], tmp_path: Path, api: str, mode: str
) -> None:
    load = Load(mode=mode, level=20 if mode == "open" else 3, requests=12)
    spec = Spec(MODEL, api=api, prompt=Length(12), output=Length(8))
    order = Order(Target.parse(model_servers[0].url, "t"), spec, load)
    code, log, texts = bench(tmp_path, order)
    assert code == 0, log
    found = vllm_bench.read(texts, order)
    assert [record.cause for record in found.records] == [""] * 12, log
    assert {record.output_tokens for record in found.records} == {8}
    for record in found.records:
        assert record.ttft is not None
        assert record.e2e is not None
        assert 0 < record.ttft <= record.e2e <= found.window
    assert (found.own["output_tokens_per_second"] or 0) == pytest.approx(12 * 8 / found.window)
    assert json.loads(texts["result"])["completed"] == 12


def test_a_model_that_does_not_exist_ends_it_with_vllms_words(model_servers: list[ModelServer], tmp_path: Path) -> None:
    order = Order(Target.parse(model_servers[0].url, "t"), Spec("no/such-model"), Load(level=1, requests=1))
    recipe = vllm_bench.recipe(order)
    assert "--ready-check-timeout-sec" in recipe.command
    code, log, texts = bench(tmp_path, order)
    assert (code, texts) == (1, {})
    assert "Initial test run failed" in log
    assert "Not Found" in log


def test_an_option_that_it_does_not_know(tmp_path: Path) -> None:
    program = start(MODULE, ("bench", "serve", "--no-such-option"), tmp_path / "log")
    assert program.process.wait(timeout=60) == 2
    assert "vllm bench serve: error:" in (tmp_path / "log").read_text()
