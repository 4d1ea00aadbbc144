# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Will the model server start on that GPU? Two memory tests that fail differently, and the rules about types. Pure.

Budget: utilisation x memory - weights - activations must hold the KV cache of one longest request. Warm-up: what lies
*outside* the budget must hold the sampler's trial run, which grows with sequences x vocabulary. The constants are
fitted to vLLM 0.11 on a T4 (gemma-2b: 0.90 with 256 sequences runs out of memory, 0.85 starts); one of the published
cases (Qwen2.5-3B at 0.80) is not foreseen by them. Hence a margin and never a bare yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GIB = 2**30
FIT, TIGHT, NO = "FIT", "TIGHT", "NO"
SAMPLER_BYTES = 26  # bytes for each sequence and vocabulary entry at the sampler's peak; observed between 18 and 29.5
OUTSIDE_BUDGET = 0.39  # GiB taken beside the budget: CUDA graphs, context, fragmentation
LEAST_ACTIVATION = 0.4  # GiB
TIGHT_MARGIN = 0.3  # GiB; less than this is within what the constants can be wrong by
BYTES_OF_DTYPE = {"half": 2, "float16": 2, "bfloat16": 2, "float": 4, "float32": 4}
BYTES_OF_STORED = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
OLDEST_BFLOAT16 = (8, 0)
NO_FLOAT16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})  # numerically unsafe in float16, refused


@dataclass(frozen=True)
class Gpu:
    """``gib``: memory as the driver reports it."""

    name: str
    gib: float
    capability: tuple[int, int]


@dataclass(frozen=True)
class Model:
    """The sizes of a model that decide about memory."""

    name: str
    family: str
    weight_bytes: int  # at two bytes a parameter, unless quantised
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int
    dtype: str


@dataclass(frozen=True)
class Serving:
    """The model server's arguments. ``graphs_gib``: CUDA graphs, where the server counts them (vLLM from 0.21)."""

    dtype: str = "auto"
    utilization: float = 0.9
    max_num_seqs: int = 256
    max_model_len: int = 0
    tensor_parallel: int = 1
    graphs_gib: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """FIT, TIGHT or NO; ``margin`` in GiB of the nearer limit; why; and what helps, the cheapest first."""

    verdict: str
    margin: float
    why: str
    remedies: tuple[str, ...] = ()
    code: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


class UnknownShape(ValueError):
    """config.json lacks what the formula needs."""


def gpu_of(catalogue: Mapping[str, Mapping[str, Any]], accelerator: str) -> Gpu | None:
    """A GPU of the catalogue (plugin_utils/gpus.yml), None where it is not listed."""
    entry = catalogue.get(accelerator)
    if entry is None:
        return None
    major, _unused, minor = str(entry["capability"]).partition(".")
    return Gpu(str(entry["title"]), float(entry["gib"]), (int(major), int(minor or 0)))


def model_of(name: str, config: Mapping[str, Any], parameters: Mapping[str, int]) -> Model:
    """A model from its config.json and its parameters by stored type. Raises UnknownShape."""
    inner = config.get("text_config")
    text: Mapping[str, Any] = inner if isinstance(inner, dict) else config  # multimodal ones nest it
    try:
        heads = int(text["num_attention_heads"])
        size = sum(int(count) * min(2, BYTES_OF_STORED.get(kind, 2)) for kind, count in parameters.items())
        return Model(
            name=name,
            family=str(text.get("model_type", "")),
            weight_bytes=size,
            layers=int(text["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or int(text["hidden_size"]) // heads),
            vocabulary=int(text["vocab_size"]),
            positions=int(text.get("max_position_embeddings") or 0),
            dtype=str(text.get("torch_dtype") or text.get("dtype") or "float16"),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UnknownShape(f"{type(error).__name__}: {error}") from error


def _effective_dtype(model: Model, gpu: Gpu, asked: str) -> str:
    """What ``auto`` becomes: the model's own type, float16 in place of a bfloat16 that the GPU does not have."""
    own = "float16" if model.dtype == "float32" else model.dtype
    chosen = own if asked in ("", "auto") else {"half": "float16", "float": "float32"}.get(asked, asked)
    automatic = asked in ("", "auto")
    return "float16" if automatic and chosen == "bfloat16" and gpu.capability < OLDEST_BFLOAT16 else chosen


def _rules(model: Model, gpu: Gpu, serving: Serving) -> Verdict | None:
    """What no amount of memory helps against."""
    dtype = _effective_dtype(model, gpu, serving.dtype)
    capability = ".".join(str(part) for part in gpu.capability)
    if dtype == "bfloat16" and gpu.capability < OLDEST_BFLOAT16:
        why = f"{gpu.name} (compute capability {capability}) has no bfloat16"
        return Verdict(NO, 0.0, why, ("llmd_dtype: half", "a GPU from L4 or A100 on"), "DTYPE_UNSUPPORTED")
    if dtype == "float16" and model.family in NO_FLOAT16:
        why = f"{model.family} models are refused in float16, and {gpu.name} has compute capability {capability}"
        cure = "llmd_dtype: bfloat16" if gpu.capability >= OLDEST_BFLOAT16 else "a GPU with bfloat16 (L4, A100, H100)"
        return Verdict(NO, 0.0, why, (cure, "another model"), "DTYPE_UNSUPPORTED")
    if model.heads % serving.tensor_parallel:
        why = f"{model.heads} attention heads cannot be split over {serving.tensor_parallel} GPUs"
        return Verdict(NO, 0.0, why, ("a number of GPUs that divides the heads",), "MODEL_DOES_NOT_FIT")
    if model.positions and serving.max_model_len > model.positions:
        why = f"the model knows {model.positions} positions, {serving.max_model_len} are asked"
        return Verdict(NO, 0.0, why, (f"llmd_max_model_len: {model.positions}",), "MODEL_LENGTH")
    return None


def judge(model: Model, gpu: Gpu, serving: Serving) -> Verdict:
    """The verdict on one configuration."""
    refused = _rules(model, gpu, serving)
    if refused is not None:
        return refused
    width = 2 if BYTES_OF_DTYPE.get(_effective_dtype(model, gpu, serving.dtype), 2) == 2 else 4
    split = serving.tensor_parallel
    weights = model.weight_bytes * width / 2 / GIB / split
    sampler = SAMPLER_BYTES * serving.max_num_seqs * model.vocabulary / GIB
    other = (0.6 if split > 1 else 0.15) + serving.graphs_gib
    pool = serving.utilization * gpu.gib - weights - max(sampler, LEAST_ACTIVATION) - other
    heads = max(1, model.kv_heads // split)
    length = serving.max_model_len or model.positions
    request = 2 * model.layers * heads * model.head_dim * width * length / GIB
    outside = (1 - serving.utilization) * gpu.gib - OUTSIDE_BUDGET
    budget_margin, warm_up_margin = pool - request, outside - sampler
    margin = min(budget_margin, warm_up_margin)
    numbers = {
        "weights": weights,
        "kv_pool": pool,
        "kv_one_request": request,
        "outside_budget": outside,
        "sampler": sampler,
        "usable": gpu.gib,
    }
    rounded = {key: round(value, 2) for key, value in numbers.items()}
    if budget_margin <= warm_up_margin:
        why = f"KV cache {pool:.2f} GiB, one request of {length} tokens takes {request:.2f} GiB"
    else:
        why = (
            f"{outside:.2f} GiB outside the budget, the warm-up of {serving.max_num_seqs} sequences takes {sampler:.2f}"
        )
    verdict = NO if margin < 0 else TIGHT if margin < TIGHT_MARGIN else FIT
    code = "MODEL_DOES_NOT_FIT" if verdict == NO else "MODEL_FIT_TIGHT" if verdict == TIGHT else ""
    remedies = () if verdict == FIT else _remedies(serving, weights, gpu, warm_up=warm_up_margin < budget_margin)
    return Verdict(verdict, round(margin, 2), why, remedies, code, rounded)


def _remedies(serving: Serving, weights: float, gpu: Gpu, *, warm_up: bool) -> tuple[str, ...]:
    """What helps, the cheapest first. Weights that do not fit by themselves leave only the last two."""
    last = ("a quantised model (AWQ, GPTQ)", "a bigger GPU (llmd_gpu)")
    if weights > gpu.gib * 0.95:
        return last
    fewer = f"llmd_max_num_seqs: {max(8, serving.max_num_seqs // 4)}"
    if warm_up:
        lower = f"llmd_gpu_memory_utilization: {max(0.5, round(serving.utilization - 0.05, 2)):g}"
        return (fewer, lower, "enforce-eager", *last)
    return (fewer, f"llmd_max_model_len: {max(512, serving.max_model_len // 2)}", "enforce-eager", *last)
