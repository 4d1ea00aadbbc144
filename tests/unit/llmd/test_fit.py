"""The fit of a model on a GPU, against what was observed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.llmd.gke.plugins.module_utils.gcp.preflight_local import HubAnswer
from ansible_collections.llmd.gke.plugins.module_utils.llmd import fit, fit_checks

CATALOGUE = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "plugins/plugin_utils/gpus.yml").read_text(encoding="utf-8")
)
GEMMA = fit.Model("google/gemma-2b-it", "gemma", 2506172416 * 2, 18, 8, 1, 256, 256000, 8192, "bfloat16")
PHI = fit.Model("microsoft/Phi-3-mini-4k-instruct", "phi3", 3821079552 * 2, 32, 32, 32, 96, 32064, 4096, "bfloat16")
LLAMA = fit.Model("meta-llama/Llama-3.1-8B", "llama", 8030261248 * 2, 32, 32, 8, 128, 128256, 131072, "bfloat16")
GEMMA2 = fit.Model("google/gemma-2-2b-it", "gemma2", 2614341888 * 2, 26, 8, 4, 256, 256000, 8192, "bfloat16")


def judge(model: fit.Model, gpu: str, **serving: Any) -> fit.Verdict:
    found = fit.gpu_of(CATALOGUE, gpu)
    assert found is not None
    return fit.judge(model, found, fit.Serving(**{"dtype": "half", **serving}))


@pytest.mark.parametrize(
    ("model", "utilization", "length", "sequences", "verdict"),
    [
        (GEMMA, 0.90, 4096, 256, "NO"),  # seen: out of memory when warming up the sampler
        (GEMMA, 0.85, 2048, 256, "TIGHT"),  # seen: starts
        (GEMMA, 0.85, 2048, 64, "FIT"),
        (GEMMA, 0.90, 4096, 128, "TIGHT"),
        (GEMMA, 0.90, 8192, 64, "FIT"),
        (PHI, 0.85, 2048, 256, "FIT"),  # seen: starts
        (LLAMA, 0.90, 2048, 64, "NO"),  # its weights alone are larger than a T4
    ],
)
def test_cases_on_a_t4(model: fit.Model, utilization: float, length: int, sequences: int, verdict: str) -> None:
    found = judge(model, "nvidia-tesla-t4", utilization=utilization, max_model_len=length, max_num_seqs=sequences)
    assert found.verdict == verdict, found
    assert bool(found.remedies) is (verdict != "FIT")


def test_the_warm_up_asks_for_fewer_sequences_first() -> None:
    found = judge(GEMMA, "nvidia-tesla-t4", utilization=0.9, max_model_len=4096)
    assert found.margin < 0
    assert found.remedies[0] == "llmd_max_num_seqs: 64"
    assert found.remedies[1].startswith("llmd_gpu_memory_utilization")
    assert judge(LLAMA, "nvidia-tesla-t4", max_model_len=2048).remedies[0].startswith("a quantised")


@pytest.mark.parametrize(
    ("model", "gpu", "serving", "code"),
    [
        (GEMMA, "nvidia-tesla-t4", {"dtype": "bfloat16"}, "DTYPE_UNSUPPORTED"),
        (GEMMA, "nvidia-l4", {"dtype": "bfloat16", "max_num_seqs": 64}, ""),
        (GEMMA2, "nvidia-tesla-t4", {"dtype": "half"}, "DTYPE_UNSUPPORTED"),
        (GEMMA2, "nvidia-tesla-t4", {"dtype": "auto"}, "DTYPE_UNSUPPORTED"),
        (GEMMA2, "nvidia-l4", {"dtype": "auto", "max_num_seqs": 64, "utilization": 0.85}, ""),
        (GEMMA, "nvidia-l4", {"tensor_parallel": 3}, "MODEL_DOES_NOT_FIT"),
        (GEMMA, "nvidia-l4", {"max_model_len": 16384}, "MODEL_LENGTH"),
    ],
)
def test_rules(model: fit.Model, gpu: str, serving: dict[str, Any], code: str) -> None:
    assert judge(model, gpu, **serving).code == code


def hub(config: dict[str, Any], parameters: dict[str, int] | None) -> Any:
    def ask(url: str, token: str) -> HubAnswer:
        if url.endswith("/resolve/main/config.json"):
            return HubAnswer(200, text=json.dumps(config))
        described = {"safetensors": {"parameters": parameters}} if parameters else {}
        return HubAnswer(200, text=json.dumps(described))

    return ask


CONFIG = {
    "model_type": "gemma",
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "hidden_size": 2048,
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


def test_sizes_come_from_the_hub() -> None:
    ask = hub(CONFIG, {"BF16": 2506172416})
    assert fit_checks.read_model(GEMMA.name, "t", "http://hub", ask) == GEMMA
    nested = fit_checks.read_model(GEMMA.name, "t", "http://hub", hub({"text_config": CONFIG}, {"BF16": 2506172416}))
    assert nested == GEMMA
    for broken in (hub({}, {"BF16": 1}), hub(CONFIG, None), lambda url, token: HubAnswer(503)):
        with pytest.raises(fit.UnknownShape):
            fit_checks.read_model(GEMMA.name, "t", "", broken)


@pytest.mark.parametrize(
    ("accelerator", "serving", "volume", "codes"),
    [
        ("nvidia-tesla-t4", fit.Serving("half", 0.85, 64, 2048), "10Gi", [""]),
        (
            "nvidia-tesla-t4",
            fit.Serving("half", 0.90, 256, 4096),
            "4Gi",
            ["MODEL_DOES_NOT_FIT", "MODEL_VOLUME_TOO_SMALL"],
        ),
        ("nvidia-tesla-t4", fit.Serving("half", 0.85, 256, 2048), "", ["MODEL_FIT_TIGHT"]),
        ("made-up", fit.Serving(), "", ["MODEL_FIT_UNKNOWN"]),
    ],
)
def test_findings(accelerator: str, serving: fit.Serving, volume: str, codes: list[str]) -> None:
    found = list(fit_checks.check_fit(lambda: GEMMA, accelerator, CATALOGUE, serving, volume))
    assert [check.code for check in found] == codes


def test_what_the_hub_does_not_tell_is_no_verdict() -> None:
    def read() -> fit.Model:
        raise fit.UnknownShape("no config")

    (check,) = fit_checks.check_fit(read, "nvidia-l4", CATALOGUE, fit.Serving())
    assert (check.code, check.severity) == ("MODEL_FIT_UNKNOWN", "warning")


def test_quantities() -> None:
    assert [fit_checks.to_bytes(text) for text in ("10Gi", "1.5M", "7", "", "x")] == [
        10 * 2**30,
        1500000,
        7,
        None,
        None,
    ]
