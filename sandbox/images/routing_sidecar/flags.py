"""The sidecar's flags: those of v0.4.0, and what v0.7.1 has besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox.images.endpoint_picker import generation
from sandbox.images.endpoint_picker.flags import FlagError, Flags, read

CONNECTORS = ("nixlv2", "lmcache", "sglang", "shared-storage")
DEFAULTS: dict[str, Any] = {
    "port": "8000",
    "vllm-port": "8001",
    "connector": "nixlv2",
    "data-parallel-size": 1,
    "secure-proxy": True,
    "prefiller-use-tls": False,
    "decoder-use-tls": False,
    "prefiller-tls-insecure-skip-verify": False,
    "decoder-tls-insecure-skip-verify": False,
    "cert-path": "",
    "enable-ssrf-protection": False,
    "enable-prefiller-sampling": False,
    "inference-pool-namespace": "",
    "inference-pool-name": "",
    "v": 0,
    "zap-devel": False,
    "zap-encoder": "json",
    "zap-log-level": "",
    "zap-stacktrace-level": "",
    "zap-time-encoding": "",
}
_LATER: dict[str, Any] = {
    "kv-connector": "nixlv2",
    "ec-connector": "",
    "enable-tls": "",
    "tls-insecure-skip-verify": "",
    "inference-pool": "",
    "pool-group": "inference.networking.k8s.io",
    "configuration": "",
    "configuration-file": "",
}


def parse(arguments: Sequence[str]) -> Flags:
    """Raises FlagError, also for what the stand-in does not model."""
    defaults = {**DEFAULTS, **(_LATER if generation.later() else {})}
    flags = read(arguments, defaults)
    connector = flags.text("connector")
    if connector not in CONNECTORS:
        raise FlagError(f"Error: --connector must be one of: {', '.join(CONNECTORS)}")
    if connector != "nixlv2":
        raise FlagError(f"sandbox stand-in of the routing sidecar: connector {connector} is not modelled")
    if flags.number("data-parallel-size") != 1:
        raise FlagError("sandbox stand-in of the routing sidecar: --data-parallel-size is not modelled")
    return flags
