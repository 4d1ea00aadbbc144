# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the module benchmark_engine, and what they mean to the benchmark's own planner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.benchmark.arguments import ARGUMENTS, plan_from
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.job import Plan
from ansible_collections.llmd.gke.plugins.module_utils.engines.in_cluster import Room
from ansible_collections.llmd.gke.plugins.module_utils.engines.job import ENGINES
from ansible_collections.llmd.gke.plugins.module_utils.engines.local import Place
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import unfit

# Options that mean the same as the built-in engine's.
SHARED = (
    "base_url", "label", "model", "api", "api_key", "concurrency", "rate", "arrivals", "max_in_flight", "requests",
    "duration", "request_timeout", "workload", "seed", "slo", "expectations", "gate", "artifacts_dir", "history",
    "baseline",
)  # fmt: skip
# What no engine is told: the planner asks for it all the same.
FIXED: dict[str, Any] = {
    "headers": {},
    "validate_certs": True,
    "ca_file": None,
    "host_header": "",
    "against": None,
    "groups": 5,
    "warmup": 0,
    "error_budget": 1.0,
    "first_token_timeout": 60.0,
    "stall_timeout": 30.0,
    "calibrate": False,
    "tolerance": 0.05,
}
RESOURCES = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}
OWN: dict[str, Any] = {
    "engine": {"type": "str", "required": True, "choices": sorted(ENGINES)},
    "where": {"type": "str", "choices": ["local", "cluster"], "default": "local"},
    "timeout": {"type": "float", "default": 900},
    "tokenizer": {"type": "str", "default": "", "no_log": False},
    "venv": {"type": "path"},
    "install": {"type": "bool", "default": False},
    "python": {"type": "str", "default": ""},
    "requirement": {"type": "str", "default": ""},
    "pip_arguments": {"type": "list", "elements": "str", "default": []},
    "namespace": {"type": "str", "default": "llm-d"},
    "name": {"type": "str", "default": "benchmark-engine"},
    "image": {"type": "str", "default": ""},
    "labels": {"type": "dict", "default": {}},
    "resources": {"type": "dict", "default": RESOURCES},
    "node_selector": {"type": "dict", "default": {}},
    "service_account": {"type": "str", "default": ""},
    "hf_secret": {"type": "str", "default": "", "no_log": False},
    "hf_secret_key": {"type": "str", "default": "HF_TOKEN", "no_log": False},
}


def spec() -> dict[str, Any]:
    """The argument spec, without the options for access to a cluster."""
    return {**{name: dict(ARGUMENTS[name]) for name in SHARED}, **OWN}


def plan_of(params: Mapping[str, Any]) -> Plan:
    """The checked plan; the label says which engine, so that its history is its own. Raises ConfigurationError."""
    plan = plan_from({**FIXED, **{name: params[name] for name in SHARED}})
    plan.target = replace(plan.target, label=f"{plan.target.label} ({params['engine']})")
    plan.check()
    if params["where"] == "local" and params["engine"] == "vllm":
        raise unfit("vllm", "it lies in the model server's image", "Run it in the cluster (where: cluster).")
    if params["where"] == "cluster" and not params["image"]:
        raise unfit(params["engine"], "no image is named", "Name an image that holds it (image).")
    if params["where"] == "local" and not params["venv"]:
        raise unfit(params["engine"], "no environment is named", "Name the folder of its environment (venv).")
    return plan


def place_of(params: Mapping[str, Any]) -> Place:
    """Where it runs on the control node."""
    return Place(
        params["venv"], params["python"], params["install"], params["requirement"], tuple(params["pip_arguments"])
    )


def room_of(params: Mapping[str, Any]) -> Room:
    """Where it runs in the cluster."""
    secret = {"name": params["hf_secret"], "key": params["hf_secret_key"], "optional": True}
    environment = [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}] if params["hf_secret"] else []
    labels = {"app.kubernetes.io/managed-by": "llmd-gke", "app.kubernetes.io/component": "benchmark-engine"}
    return Room(
        namespace=params["namespace"],
        name=params["name"],
        image=params["image"],
        labels={**params["labels"], **labels},
        resources=params["resources"],
        environment=environment,
        node_selector=params["node_selector"],
        service_account=params["service_account"],
        timeout=params["timeout"],
    )
