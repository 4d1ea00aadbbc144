"""Does the model start on this GPU? vLLM's two memory tests, and the words it fails with.

Budget: utilisation x memory - weights - activations must hold the KV cache of one longest request.
Warm-up: what lies *outside* the budget must hold the sampler's trial run, which grows with sequences x vocabulary.
The constants are fitted to a Tesla T4 with gemma-2b (0.90 with 256 sequences fails, 0.85 starts); see README.md.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
MIB = 2**20
SAMPLER_BYTES = 26  # bytes per sequence and vocabulary entry at the sampler's peak (between 18 and 29.5)
OUTSIDE_BUDGET = 396.43 / 1024  # GiB taken beside the budget: CUDA graphs, context, fragmentation
NON_TORCH = 0.15  # GiB; 0.6 with tensor parallelism
LEAST_ACTIVATION = 0.4  # GiB


@dataclass(frozen=True)
class Gpu:
    """An accelerator as its driver reports it."""

    name: str
    gib: float
    capability: tuple[int, int]


GPUS: dict[str, Gpu] = {
    "nvidia-tesla-t4": Gpu("Tesla T4", 14.58, (7, 5)),
    "nvidia-l4": Gpu("NVIDIA L4", 22.03, (8, 9)),
    "nvidia-tesla-v100": Gpu("Tesla V100-SXM2-16GB", 15.77, (7, 0)),
    "nvidia-tesla-a100": Gpu("NVIDIA A100-SXM4-40GB", 39.39, (8, 0)),
    "nvidia-a100-80gb": Gpu("NVIDIA A100-SXM4-80GB", 79.25, (8, 0)),
    "nvidia-h100-80gb": Gpu("NVIDIA H100 80GB HBM3", 79.19, (9, 0)),
}


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that decide about memory. ``weight_bytes`` is the sum of its safetensors files."""

    weight_bytes: int
    layers: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    def kv_bytes_per_token(self, tensor_parallel: int, element: int = 2) -> int:
        heads = max(1, self.kv_heads // tensor_parallel)
        return 2 * self.layers * heads * self.head_dim * element


@dataclass(frozen=True)
class Fit:
    """The verdict. ``error`` is None where the model starts, else the last line(s) of vLLM's traceback."""

    kv_gib: float
    kv_tokens: int
    error: str | None


def fit(
    shape: Shape, gpu: Gpu, *, utilization: float, max_num_seqs: int, max_model_len: int, tensor_parallel: int = 1
) -> Fit:
    """Judge one configuration (sizes in GiB unless said otherwise)."""
    weights = shape.weight_bytes / GIB / tensor_parallel
    sampler = SAMPLER_BYTES * max_num_seqs * shape.vocabulary / GIB
    if weights > gpu.gib - NON_TORCH:
        return Fit(0.0, 0, _out_of_memory(gpu, _mib_of_layer(shape, tensor_parallel), 0.03))
    kv = utilization * gpu.gib - weights - max(sampler, LEAST_ACTIVATION) - (0.6 if tensor_parallel > 1 else NON_TORCH)
    per_token = shape.kv_bytes_per_token(tensor_parallel)
    tokens = max(0, int(kv * GIB / per_token))
    if kv <= 0:
        return Fit(kv, 0, _NO_BLOCKS)
    needed = per_token * max_model_len / GIB
    if needed > kv:
        return Fit(kv, tokens, _too_long(max_model_len, needed, kv, tokens))
    free = (1 - utilization) * gpu.gib - OUTSIDE_BUDGET
    if free < sampler:
        return Fit(kv, tokens, _warm_up(gpu, shape.vocabulary, max_num_seqs, free))
    return Fit(kv, tokens, None)


_NO_BLOCKS = (
    "ValueError: No available memory for the cache blocks. "
    "Try increasing `gpu_memory_utilization` when initializing the engine."
)


def _too_long(length: int, needed: float, kv: float, tokens: int) -> str:
    return (
        f"ValueError: To serve at least one request with the models's max seq len ({length}), "
        f"({needed:.2f} GiB KV cache is needed, which is larger than the available KV cache memory ({kv:.2f} GiB). "
        f"Based on the available memory, the estimated maximum model length is {tokens // 16 * 16}. "
        "Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
    )


def _warm_up(gpu: Gpu, vocabulary: int, sequences: int, free: float) -> str:
    asked = sequences * vocabulary * 8 / MIB  # the int64 indices of the sort
    live = sequences * vocabulary * 10 / GIB  # logits in three forms, alive at that moment
    left = min(max(0.03, free - live), asked / 1024 * 0.95)
    reason = (
        f"RuntimeError: CUDA out of memory occurred when warming up sampler with {sequences} dummy requests. "
        "Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine."
    )
    return (
        f"{_out_of_memory(gpu, asked, left)}\n\n"
        f"The above exception was the direct cause of the following exception:\n\n{reason}"
    )


def _out_of_memory(gpu: Gpu, mib: float, free_gib: float) -> str:
    used = gpu.gib - free_gib
    return (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {_amount(mib)}. "
        f"GPU 0 has a total capacity of {gpu.gib:.2f} GiB of which {_amount(free_gib * 1024)} is free. "
        f"Including non-PyTorch memory, this process has {used:.2f} GiB memory in use. "
        f"Of the allocated memory {max(0.0, used - 0.42):.2f} GiB is allocated by PyTorch, with 42.00 MiB allocated in "
        "private pools (e.g., CUDA Graphs), and 118.51 MiB is reserved by PyTorch but unallocated. "
        "If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to "
        "avoid fragmentation.  See documentation for Memory Management  "
        "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
    )


def _amount(mib: float) -> str:
    return f"{mib:.2f} MiB" if mib < 1024 else f"{mib / 1024:.2f} GiB"


def _mib_of_layer(shape: Shape, tensor_parallel: int) -> float:
    return max(2.0, round(shape.weight_bytes / shape.layers / tensor_parallel / 3 / MIB / 2) * 2)
