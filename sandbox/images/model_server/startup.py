"""What happens before the first request: hub, licence, type, memory. Failures end as vLLM's do: stderr, exit 1."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.images.model_server.arguments import Arguments
from sandbox.images.model_server.fit import GPUS, Fit, Gpu, Shape, fit
from sandbox.images.model_server.settings import Settings

WEIGHTS_HEADER = "X-Llmd-Sandbox-Weights-Seconds"  # the hub stand-in's, which knows the sandbox's speed
STARTUP_HEADER = "X-Llmd-Sandbox-Startup-Seconds"

# Their activations overflow in half precision; vLLM refuses rather than answer nonsense.
_NO_HALF = ("gemma2", "gemma3", "gemma3_text", "plamo2", "glm4")


class StartupError(Exception):
    """The server cannot start. ``str()`` is the end of the traceback that vLLM would print."""


@dataclass(frozen=True)
class Ready:
    """What start-up found out."""

    family: str
    max_model_len: int
    memory: Fit
    dtype: str
    notes: tuple[str, ...]  # warnings for the log
    weights_seconds: float
    startup_seconds: float


def prepare(arguments: Arguments, settings: Settings) -> Ready:
    """Read the model's files from the hub and judge whether the server would start. Raises StartupError."""
    config, said = _fetch(arguments.model, "config.json", settings)
    index, _ = _fetch(arguments.model, "model.safetensors.index.json", settings)
    gpu = GPUS.get(settings.gpu)
    if gpu is None:
        raise StartupError(f"RuntimeError: Failed to infer device type (unknown accelerator {settings.gpu!r})")
    wanted = arguments.tensor_parallel * arguments.pipeline_parallel
    ranks = arguments.group.local if arguments.group else arguments.data_parallel
    if wanted <= settings.gpus < wanted * ranks:
        raise StartupError(
            "torch.AcceleratorError: CUDA error: invalid device ordinal\n"
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
            f"{{'EngineCore_DP{settings.gpus // wanted}': 1}}"
        )
    if arguments.adapters and not arguments.lora:
        raise StartupError("ValueError: LoRA is not enabled. Use --enable-lora to enable LoRA.")
    if wanted > settings.gpus:
        raise StartupError(
            f"ValueError: World size ({wanted}) is larger than the number of available GPUs ({settings.gpus}) in this "
            "node. If this is intentional and you are using: - ray, set '--distributed-executor-backend ray'."
        )
    family = str(config.get("model_type", ""))
    dtype, notes = _dtype(arguments.dtype, str(config.get("torch_dtype", "float32")), family, gpu)
    length = _length(arguments.max_model_len, int(config["max_position_embeddings"]))
    shape = Shape(
        weight_bytes=int(index["metadata"]["total_size"]) * (2 if dtype == "float32" else 1),
        layers=int(config["num_hidden_layers"]),
        kv_heads=int(config["num_key_value_heads"]),
        head_dim=int(config["head_dim"]),
        vocabulary=int(config["vocab_size"]),
    )
    memory = fit(
        shape,
        gpu,
        utilization=arguments.memory_utilization,
        max_num_seqs=arguments.max_num_seqs,
        max_model_len=length,
        tensor_parallel=arguments.tensor_parallel,
    )
    weights = _pause(settings.weights, said.get(WEIGHTS_HEADER), 0.0)
    startup = _pause(settings.startup, said.get(STARTUP_HEADER), 0.5)
    return Ready(family, length, memory, dtype, notes, weights, startup)


def _pause(given: float | None, said: str | None, default: float) -> float:
    """Seconds to pretend: the environment's word, else the hub's, else a short one."""
    if given is not None:
        return given
    try:
        return max(0.0, float(said)) if said else default
    except ValueError:
        return default


def _dtype(asked: str, stored: str, family: str, gpu: Gpu) -> tuple[str, tuple[str, ...]]:
    """The type to compute in and a warning if vLLM gives one. bfloat16 needs compute capability 8.0."""
    old = gpu.capability < (8, 0)
    capability = ".".join(map(str, gpu.capability))
    if asked == "auto":
        chosen, notes = (stored, ()) if stored != "float32" else ("float16", ())
        if chosen == "bfloat16" and old and family not in _NO_HALF:
            return "float16", (
                f"Your device '{gpu.name}' (with compute capability {capability}) doesn't support torch.bfloat16. "
                "Falling back to torch.float16 for compatibility.",
            )
    else:
        chosen, notes = {"half": "float16", "float": "float32"}.get(asked, asked), ()
    if chosen == "bfloat16" and old:
        raise StartupError(
            "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. "
            f"Your {gpu.name} GPU has compute capability {capability}. You can use float16 instead by explicitly "
            "setting the `dtype` flag in CLI, for example: --dtype=half."
        )
    if chosen == "float16" and family in _NO_HALF:
        raise StartupError(
            f"ValueError: The model type '{family}' does not support float16. Reason: Numerical instability. "
            "Please use bfloat16 or float32 instead."
        )
    return chosen, notes


def _length(asked: int | None, own: int) -> int:
    if asked is None:
        return own
    if asked > own:
        raise StartupError(
            f"ValueError: User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"(max_position_embeddings={own} or model_max_length=None in model's config.json). "
            "To allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."
        )
    if asked < 1:
        raise StartupError(f"ValueError: max_model_len must be positive, got {asked}")
    return asked


def _fetch(model: str, file: str, settings: Settings) -> tuple[dict[str, Any], Mapping[str, str]]:
    """One JSON file of the model's repository, and the answer's headers."""
    url = f"{settings.hub}/{model}/resolve/main/{file}"
    request = urllib.request.Request(url, headers={"User-Agent": "hf_hub/0.36.0; vllm"})
    if settings.token:
        request.add_header("Authorization", f"Bearer {settings.token}")
    if settings.offline:
        raise StartupError(_unreachable(file))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found, headers = json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        raise StartupError(_refused(error, model, url)) from None
    except OSError:
        raise StartupError(_unreachable(file)) from None
    assert isinstance(found, dict)
    return found, headers


def _unreachable(file: str) -> str:
    return (
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
        f"cached files.\nCheck your internet connection or see how to run the library in offline mode at "
        f"'https://huggingface.co/docs/transformers/installation#offline-mode'. (wanted: {file})"
    )


def _refused(error: urllib.error.HTTPError, model: str, url: str) -> str:
    """The hub's refusal as huggingface_hub and transformers word it (the public address, as on a real machine)."""
    code = error.headers.get("X-Error-Code", "")
    message = error.headers.get("X-Error-Message", "") or error.reason
    public = "https://huggingface.co" + url[url.index(f"/{model}/") :]
    identity = error.headers.get("X-Request-Id") or f"Root=1-{uuid.uuid4().hex}"
    head = f"{error.code} {'Client' if error.code < 500 else 'Server'} Error. (Request ID: {identity})"
    if code == "GatedRepo":
        return (
            "OSError: You are trying to access a gated repo.\n"
            f"Make sure to have access to it at https://huggingface.co/{model}.\n"
            f"{head}\n\nCannot access gated repo for url {public}.\n{message}"
        )
    if error.code in (401, 404):
        return (
            f"OSError: {model} is not a local folder and is not a valid model identifier listed on "
            "'https://huggingface.co/models'\nIf this is a private repository, make sure to pass a token having "
            "permission to this repo either by logging in with `hf auth login` or by passing `token=<your_token>`\n"
            f"{head}\n\nRepository Not Found for url: {public}.\n{message}"
        )
    return f"huggingface_hub.errors.HfHubHTTPError: {error.code} Server Error: {error.reason} for url: {public}"
