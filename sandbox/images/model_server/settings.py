"""How fast and how large the pretended model server is: ``LLMD_SANDBOX_*`` environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "LLMD_SANDBOX_"
DEFAULT_HUB = "http://192.0.2.11"
TCP_FACTOR = 10  # how much slower KV blocks go over TCP than by RDMA
_RDMA = {"rc", "rc_x", "rc_mlx5", "dc", "dc_x", "ud", "ib", "rdmacm", "gga", "srd"}


@dataclass(frozen=True)
class Settings:
    """Times in seconds; ``transfer`` and ``side``: KV transfer and its side channel.

    ``kv_blocks`` caps the KV cache so that ordinary traffic visibly fills it (0: no cap). ``startup`` and ``weights``
    None: as the hub stand-in says (the sandbox's speed), else short.
    """

    startup: float | None = None
    weights: float | None = None
    ttft: float = 0.01
    prefill_per_token: float = 0.0002
    inter_token: float = 0.002
    transfer: float = 0.002
    transfer_per_token: float = 0.000002
    transfer_keep: float = 480.0
    side_host: str = "localhost"
    side_port: int = 5600
    drain: float = 1.0
    kv_blocks: int = 1024
    output_tokens: int = 0  # 0: a length that follows from the prompt
    gpu: str = "nvidia-tesla-t4"
    gpus: int = 1
    hub: str = DEFAULT_HUB
    token: str = ""
    offline: bool = False
    pod: str = ""
    load_adapters: bool = False
    hash_seed: str = ""


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (default: this process's).

    Raises ValueError naming the variable where a number is not one or is negative.
    """
    values = os.environ if environment is None else environment
    defaults = Settings()

    def number(name: str, default: float) -> float:
        text = values.get(PREFIX + name)
        if text is None or text == "":
            return default
        try:
            parsed = float(text)
        except ValueError:
            raise ValueError(f"{PREFIX}{name}={text!r} is not a number") from None
        if parsed < 0:
            raise ValueError(f"{PREFIX}{name}={text!r} is negative")
        return parsed

    slow = _over_tcp(values.get("UCX_TLS", ""))
    per_token = defaults.transfer_per_token * (TCP_FACTOR if slow else 1)
    return Settings(
        startup=None if not values.get(PREFIX + "STARTUP_SECONDS") else number("STARTUP_SECONDS", 0),
        weights=None if not values.get(PREFIX + "WEIGHTS_SECONDS") else number("WEIGHTS_SECONDS", 0),
        ttft=number("TTFT_SECONDS", defaults.ttft),
        prefill_per_token=number("PREFILL_SECONDS_PER_TOKEN", defaults.prefill_per_token),
        inter_token=number("INTER_TOKEN_SECONDS", defaults.inter_token),
        transfer=number("KV_TRANSFER_SECONDS", defaults.transfer),
        transfer_per_token=number("KV_TRANSFER_SECONDS_PER_TOKEN", per_token),
        transfer_keep=float(values.get("VLLM_NIXL_ABORT_REQUEST_TIMEOUT") or defaults.transfer_keep),
        side_host=values.get("VLLM_NIXL_SIDE_CHANNEL_HOST") or defaults.side_host,
        side_port=int(values.get("VLLM_NIXL_SIDE_CHANNEL_PORT") or defaults.side_port),
        drain=number("DRAIN_SECONDS", defaults.drain),
        kv_blocks=int(number("KV_BLOCKS", defaults.kv_blocks)),
        output_tokens=int(number("OUTPUT_TOKENS", defaults.output_tokens)),
        gpu=values.get(PREFIX + "GPU") or defaults.gpu,
        gpus=int(number("GPUS", defaults.gpus)),
        hub=(values.get("HF_ENDPOINT") or defaults.hub).rstrip("/"),
        token=(values.get("HF_TOKEN") or values.get("HUGGING_FACE_HUB_TOKEN") or "").strip(),
        offline=values.get("HF_HUB_OFFLINE", "") in ("1", "true", "True", "ON", "YES"),
        hash_seed=values.get("PYTHONHASHSEED", ""),
        load_adapters=values.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "") in ("1", "true", "True"),
        pod=values.get("POD_NAME") or values.get("HOSTNAME") or "",
    )


def _over_tcp(transports: str) -> bool:
    """Whether UCX is told to use TCP and nothing that goes by RDMA. Nothing said: the fastest there is."""
    listed = {word.strip() for word in transports.split(",") if word.strip()}
    return "tcp" in listed and not listed & _RDMA
