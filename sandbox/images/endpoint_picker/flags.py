"""Command line of the picker: the flags of the Gateway API inference extension v1.2.0, parsed as Go's pflag does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.images.endpoint_picker import generation

SECOND = 10**9
MILLISECOND = 10**6

# name -> default; the type of the default is the type of the flag. Durations are nanoseconds, as the log shows them.
DEFAULTS: dict[str, Any] = {
    "cache-info-metric": "vllm:cache_config_info",
    "cert-path": "",
    "config-file": "",
    "config-text": "",
    "enable-pprof": True,
    "endpoint-selector": "",
    "endpoint-target-ports": "",
    "grpc-health-port": 9003,
    "grpc-port": 9002,
    "ha-enable-leader-election": False,
    "health-checking": False,
    "kubeconfig": "",
    "kv-cache-usage-percentage-metric": "vllm:gpu_cache_usage_perc",
    "lora-info-metric": "vllm:lora_requests_info",
    "metrics-endpoint-auth": True,
    "metrics-port": 9090,
    "metrics-staleness-threshold": 2 * SECOND,
    "model-server-metrics-https-insecure-skip-verify": True,
    "model-server-metrics-path": "/metrics",
    "model-server-metrics-port": 0,
    "model-server-metrics-scheme": "http",
    "pool-group": "inference.networking.k8s.io",
    "pool-name": "",
    "pool-namespace": "",
    "refresh-metrics-interval": 50 * MILLISECOND,
    "refresh-prometheus-metrics-interval": 5 * SECOND,
    "secure-serving": True,
    "total-queued-requests-metric": "vllm:num_requests_waiting",
    "tracing": True,
    "v": 2,
    "zap-devel": True,
    "zap-encoder": "console",
    "zap-log-level": "",
    "zap-stacktrace-level": "",
    "zap-time-encoding": "",
}
_DURATIONS = {"metrics-staleness-threshold", "refresh-metrics-interval", "refresh-prometheus-metrics-interval"}
_OPAQUE = {"zap-encoder", "zap-log-level", "zap-stacktrace-level", "zap-time-encoding"}
_UNITS = {"ns": 1, "us": 10**3, "ms": MILLISECOND, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}


class FlagError(Exception):
    """A wrong command line; the text is pflag's."""


@dataclass(frozen=True)
class Flags:
    """Every flag's value by name."""

    values: dict[str, Any]

    def text(self, name: str) -> str:
        return str(self.values[name])

    def number(self, name: str) -> int:
        return int(self.values[name])

    def switch(self, name: str) -> bool:
        return bool(self.values[name])

    def seconds(self, name: str) -> float:
        return int(self.values[name]) / SECOND

    def shown(self) -> dict[str, Any]:
        """The flags as the start-up log prints them (zap's own ones are opaque structs there)."""
        return {name: {} if name in _OPAQUE else value for name, value in sorted(self.values.items())}


def parse(arguments: Sequence[str]) -> Flags:
    """The picker's flags. Raises FlagError."""
    later = {"kv-cache-usage-percentage-metric": "vllm:kv_cache_usage_perc"} if generation.later() else {}
    return read(arguments, {**DEFAULTS, **later})


def read(arguments: Sequence[str], defaults: Mapping[str, Any]) -> Flags:
    """``--name value`` or ``--name=value``; a switch may stand alone. Raises FlagError."""
    values = dict(defaults)
    words = iter(arguments)
    for word in words:
        match = re.fullmatch(r"--?([A-Za-z][A-Za-z0-9-]*)(?:=(.*))?", word, re.DOTALL)
        if match is None:
            continue  # a positional word: the real program ignores it
        name, value = match[1], match[2]
        if name not in defaults:
            raise FlagError(f"unknown flag: --{name}")
        if value is None:
            value = "true" if isinstance(defaults[name], bool) else next(words, None)
        if value is None:
            raise FlagError(f"flag needs an argument: --{name}")
        values[name] = _value(name, value, defaults[name])
    return Flags(values)


def _value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("true", "t", "1"):
            return True
        if text.lower() in ("false", "f", "0"):
            return False
        kind = "ParseBool"
    elif name in _DURATIONS:
        parts = re.findall(r"([0-9.]+)(ns|us|ms|s|m|h)", text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return int(sum(float(number) * _UNITS[unit] for number, unit in parts))
        kind = "ParseDuration"
    elif isinstance(default, int):
        if re.fullmatch(r"-?[0-9]+", text):
            return int(text)
        kind = "ParseInt"
    else:
        return text
    raise FlagError(f'invalid argument "{text}" for "--{name}" flag: strconv.{kind}: parsing "{text}": invalid syntax')
