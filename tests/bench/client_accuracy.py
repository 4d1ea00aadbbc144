"""Accuracy of load generators against a server of known latency: measured, printed, never a pass or a fail.

    python tests/bench/client_accuracy.py [--quick] [--install]

Ours first, at several loads; then, at 64 at once, guidellm and inference-perf beside it on the same mock server, where
they are: in $LLMD_BENCH_ENGINES/NAME (default: engines/NAME in the tool cache); --install makes them there (gigabytes).
Aims at 64 at once: TTFT p50 within 1 %, p99 within 1.5 %, ITL within 0.2 %, counts exact, at most a tenth of guidellm's
processor time, 64 MB; 1,000 streams and 20,000 tokens/s on one core; start-up below 0.5 s.
Every client is read in the same definitions and held against the server's own stamps. Mock and client share the
machine, and what the mock loses between stamp and socket counts as the client's error: an upper bound, for quiet
machines.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "playbooks/collections"
CACHE = Path(os.environ.get("LLMD_SANDBOX_CACHE") or "/var/cache/llmd-gke")
ENGINES = Path(os.environ.get("LLMD_BENCH_ENGINES") or CACHE / "engines")
# at once, requests, seconds to the first token, seconds between tokens, tokens
CASES = [(1, 20, 0.2, 0.02, 50), (10, 100, 0.2, 0.02, 50), (64, 600, 0.2, 0.02, 50), (1000, 4000, 0.5, 0.05, 100)]
PEERS = ("guidellm", "inference-perf")
HEAD = (
    "client          at once  requests   TTFT p50     p90     p99   ITL p50  tokens/s    (rate)  counts   cpu s    MB"
    "  wall s  start s"
)


def row(name: str, level: int, requests: int, figures: dict[str, Any]) -> str:
    """One line of the table. Errors are relative to the server's own percentiles."""
    errors = "".join(f" {figures[key]:+7.2%}" for key in ("p50", "p90", "p99"))
    return (
        f"{name:<15} {level:7d} {requests:9d}   {errors}  {figures['itl']:+7.2%}  {figures['rate']:+7.2%} "
        f"{figures['tokens']:9.0f}  {'exact' if figures['exact'] else 'WRONG':>6} {figures['cpu']:7.2f} "
        f"{figures['memory']:5.0f} {figures['wall']:7.1f} {figures['start']:8.2f}"
    )


def ours(level: int, requests: int, ttft: float, itl: float, tokens: int) -> dict[str, Any]:
    """Our client, in this process, so that memory and start-up are its own."""
    start = time.perf_counter()
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark import calibration, mock_server

    begun = time.perf_counter() - start
    calibration.LEAST = 1
    settings = mock_server.Settings(ttft=ttft, itl=itl, jitter=0.1)
    wall = time.perf_counter()
    found = calibration.calibrate(level, settings=settings, tokens=tokens, requests=requests, seconds=30)
    first, between, rate = found["errors"]["ttft"], found["errors"]["itl"], found["output_tokens_per_second"]
    return {
        **{key: first[key]["relative"] for key in ("p50", "p90", "p99")},
        "itl": between["p50"]["relative"], "rate": rate["relative"], "tokens": rate["measured"],
        "exact": found["counts_exact"], "cpu": found["cpu_seconds"], "wall": time.perf_counter() - wall, "start": begun,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def peer(name: str, level: int, requests: int, ttft: float, itl: float, tokens: int, install: bool) -> dict[str, Any]:
    """Another engine on the same mock server, by the role's own adapter. Raises LlmdError where there is none."""
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark import mock_server
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Target
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import Length, Spec
    from ansible_collections.llmd.gke.plugins.module_utils.engines import local
    from ansible_collections.llmd.gke.plugins.module_utils.engines.job import ENGINES as ADAPTERS
    from ansible_collections.llmd.gke.plugins.module_utils.engines.order import Order
    from ansible_collections.llmd.gke.plugins.module_utils.waiting import SystemClock

    engine = ADAPTERS[name]
    python = next((found for name in ("python3.12", "python3.13") if (found := shutil.which(name))), "")
    place = local.Place(str(ENGINES / name), python=python, install=install)
    program = local.provide(engine, place, print)
    settings = mock_server.Settings(ttft=ttft, itl=itl, jitter=0.1)
    with tempfile.TemporaryDirectory() as folder, mock_server.running(settings) as port:
        target = Target.parse(f"http://{mock_server.ADDRESS}:{port}", name)
        load = Load(level=level, requests=requests, duration=600)
        spec = Spec("mock", prompt=Length(8), output=Length(tokens))
        order = Order(target, spec, load, "bench", tokenizer(Path(folder)))
        wall = time.perf_counter()
        texts = local.run(
            engine, program, engine.recipe(order), f"{folder}/work", timeout=600, clock=SystemClock(),
            progress=lambda text: None,
        )  # fmt: skip
        wall = time.perf_counter() - wall
        with urllib.request.urlopen(f"{target.url}/truth", timeout=30) as answer:
            truth = [entry for entry in json.load(answer) if entry.get("tokens") == tokens]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = [record for record in engine.read(texts, order).records if record.ok]
    return {
        **against(found, truth), "exact": len(found) == len(truth) == requests, "wall": wall,
        "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1024, "start": float("nan"),
    }  # fmt: skip


def against(found: list[Any], truth: list[dict[str, Any]]) -> dict[str, Any]:
    """Percentiles of the client's records against those of the server's stamps."""
    from ansible_collections.llmd.gke.plugins.module_utils.benchmark.statistics import percentile

    def error(ours: list[float], theirs: list[float], share: float) -> float:
        return percentile(sorted(ours), share) / percentile(sorted(theirs), share) - 1

    first = [record.ttft for record in found], [entry["first"] - entry["received"] for entry in truth]
    gaps = [(entry["last"] - entry["first"]) / (entry["tokens"] - 1) for entry in truth]
    tokens = sum(record.output_tokens for record in found)
    rate = tokens / (max(record.last for record in found) - min(record.sent for record in found))
    window = max(entry["last"] for entry in truth) - min(entry["received"] for entry in truth)
    return {
        **{f"p{percent}": error(*first, percent / 100) for percent in (50, 90, 99)},
        "itl": error([record.itl for record in found], gaps, 0.5), "tokens": rate,
        "rate": rate / (sum(entry["tokens"] for entry in truth) / window) - 1,
    }  # fmt: skip


def tokenizer(folder: Path) -> str:
    """A tokenizer of a few hundred words, for inference-perf: nothing is fetched."""
    words = {word: number for number, word in enumerate(["[UNK]", *(f"w{number}" for number in range(500))])}
    content: dict[str, Any] = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    content |= {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}}
    content["model"] = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    where = folder / "tokenizer"
    where.mkdir()
    (where / "tokenizer.json").write_text(json.dumps(content))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (where / "tokenizer_config.json").write_text(json.dumps(config))
    return str(where)


def one(name: str, case: list[str], install: bool) -> None:
    """A case in this process, as a line."""
    level, requests, ttft, itl, tokens = int(case[0]), int(case[1]), float(case[2]), float(case[3]), int(case[4])
    if name == "ours":
        figures = ours(level, requests, ttft, itl, tokens)
    else:
        from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError

        try:
            figures = peer(name, level, requests, ttft, itl, tokens, install)
        except LlmdError as error:
            print(f"{name:<15} not measured: {error.code}: {error.what}", flush=True)
            return
    print(row(name, level, requests, figures), flush=True)


def main() -> None:
    """Every case in a process of its own."""
    install, quick = "--install" in sys.argv, "--quick" in sys.argv
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    if words:
        one(words[0], words[1:], install)
        return
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n{HEAD}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    cases = [("ours", case) for case in CASES[: 2 if quick else None]]
    cases += [] if quick else [(name, CASES[2]) for name in PEERS]
    for name, case in cases:
        command = [sys.executable, __file__, name, *map(str, case), *(["--install"] if install else [])]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
