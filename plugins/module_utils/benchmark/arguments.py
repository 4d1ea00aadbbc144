# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to a checked plan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark import baseline, dataset
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.job import Plan
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Target
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.slo import GATES
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.workload import KINDS, Length, Spec
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import endpoint_header

WORKLOAD: dict[str, Any] = {
    "kind": {"type": "str", "choices": list(KINDS), "default": "synthetic"},
    "prompt": {"type": "raw", "default": 64},
    "output": {"type": "raw", "default": 64},
    "prefix_words": {"type": "int", "default": 256},
    "prefix_groups": {"type": "int", "default": 4},
    "turns": {"type": "int", "default": 4},
    "dataset": {"type": "path"},
    "unique": {"type": "bool", "default": True},
    "ignore_eos": {"type": "bool", "default": True},
    "temperature": {"type": "float", "default": 0},
    "extra": {"type": "dict", "default": {}},
}
AGAINST: dict[str, Any] = {
    "base_url": {"type": "str", "required": True},
    "label": {"type": "str", "default": "other"},
    "host_header": {"type": "str", "default": ""},
    "model": {"type": "str"},
}
ARGUMENTS: dict[str, Any] = {
    "base_url": {"type": "str", "required": True},
    "label": {"type": "str", "default": "endpoint"},
    "model": {"type": "str", "required": True},
    "api": {"type": "str", "choices": ["completions", "chat"], "default": "completions"},
    "api_key": {"type": "str", "no_log": True},
    "host_header": {"type": "str", "default": ""},
    "headers": {"type": "dict", "default": {}},
    "validate_certs": {"type": "bool", "default": True},
    "ca_file": {"type": "path"},
    "against": {"type": "dict", "options": AGAINST},
    "groups": {"type": "int", "default": 5},
    "concurrency": {"type": "list", "elements": "int", "default": [4]},
    "rate": {"type": "list", "elements": "float", "default": []},
    "arrivals": {"type": "str", "choices": ["poisson", "constant"], "default": "poisson"},
    "max_in_flight": {"type": "int", "default": 256},
    "requests": {"type": "int", "default": 100},
    "duration": {"type": "float", "default": 120},
    "warmup": {"type": "int", "default": 8},
    "error_budget": {"type": "float", "default": 0.2},
    "request_timeout": {"type": "float", "default": 120},
    "first_token_timeout": {"type": "float", "default": 60},
    "stall_timeout": {"type": "float", "default": 30},
    "workload": {"type": "dict", "options": WORKLOAD, "apply_defaults": True},
    "seed": {"type": "int", "default": 1},
    "slo": {
        "type": "dict",
        "options": {name: {"type": "float"} for name in ("ttft", "itl", "e2e")},
    },
    "expectations": {"type": "list", "elements": "dict", "default": []},
    "gate": {"type": "str", "choices": list(GATES), "default": "supported"},
    "calibrate": {"type": "bool", "default": True},
    "tolerance": {"type": "float", "default": 0.05},
    "artifacts_dir": {"type": "path"},
    "history": {"type": "path"},
    "baseline": {"type": "path"},
}


def plan_from(params: Mapping[str, Any]) -> Plan:
    """The plan for the module's parameters. Raises ConfigurationError."""
    headers = endpoint_header(os.environ)
    headers |= {str(name): str(value) for name, value in (params["headers"] or {}).items()}
    if params["api_key"]:
        headers["Authorization"] = f"Bearer {params['api_key']}"
    for name, value in headers.items():
        if any(character in name + value for character in "\r\n"):
            raise ConfigurationError(f"Header {name!r} holds a line break.", code="LOAD_INVALID", remedy="Take it out.")
    shared = {
        "headers": tuple(headers.items()),
        "verify": params["validate_certs"],
        "ca_file": params["ca_file"] or "",
    }
    target = Target.parse(params["base_url"], params["label"], host_header=params["host_header"], **shared)
    other = None
    if params["against"]:
        second = params["against"]
        other = Target.parse(second["base_url"], second["label"], host_header=second["host_header"], **shared)
    spec = _spec(params)
    return Plan(
        target=target,
        against=other,
        spec=spec,
        against_spec=replace(spec, model=params["against"]["model"] or spec.model) if other else None,
        loads=_loads(params),
        groups=params["groups"],
        slo={name: limit for name, limit in (params["slo"] or {}).items() if limit is not None},
        expectations=params["expectations"],
        gate=params["gate"],
        calibrate=params["calibrate"],
        tolerance=params["tolerance"],
        directory=params["artifacts_dir"] or "",
        history=params["history"] or "",
        baseline=baseline.load(params["baseline"]) if params["baseline"] else None,
    )


def _loads(params: Mapping[str, Any]) -> list[Load]:
    levels = params["rate"] or params["concurrency"]
    names = ("requests", "duration", "warmup", "arrivals", "error_budget", "max_in_flight", "seed")
    timeouts = ("request_timeout", "first_token_timeout", "stall_timeout")
    common = {name: params[name] for name in (*names, *timeouts)}
    return [Load(mode="open" if params["rate"] else "closed", level=level, **common) for level in levels]


def _spec(params: Mapping[str, Any]) -> Spec:
    workload = params["workload"]
    output = Length.parse(workload["output"], "output")
    sessions = []
    if workload["kind"] == "dataset":
        if not workload["dataset"]:
            raise ConfigurationError(
                "workload.kind is dataset, but no file is named.",
                code="WORKLOAD_INVALID",
                remedy="Set workload.dataset to a file of JSON lines.",
            )
        sessions = dataset.read(workload["dataset"], output=round(output.mean), turns=workload["turns"])
    for name in ("prefix_words", "prefix_groups", "turns"):
        if workload[name] < 1:
            raise ConfigurationError(f"workload.{name} is below 1.", code="WORKLOAD_INVALID", remedy="Give 1 or more.")
    same = ("kind", "prefix_words", "prefix_groups", "turns", "unique", "ignore_eos", "temperature", "extra")
    return Spec(
        model=params["model"],
        api=params["api"],
        prompt=Length.parse(workload["prompt"], "prompt"),
        output=output,
        seed=params["seed"],
        dataset=sessions,
        **{name: workload[name] for name in same},
    )
