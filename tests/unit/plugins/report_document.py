"""A report as role report writes it, for the tests of its page."""

from __future__ import annotations

from typing import Any

from ansible_collections.llmd.gke.plugins.filter.cost_estimate import cost_estimate
from ansible_collections.llmd.gke.plugins.filter.hourly_cost import hourly_cost
from ansible_collections.llmd.gke.plugins.filter.run_stages import run_stages

POOLS = [
    {"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 2},
    {
        "name": "nvidia-t4-pool",
        "machine_type": "n1-standard-4",
        "node_count": 1,
        "accelerator": {"type": "nvidia-tesla-t4", "count": 1},
        "autoscaling": {"min": 0, "max": 3},
    },
]
STAGES = [("preflight", 6.1), ("gcp_network", 31), ("gke_gpu_cluster", 412), ("llmd_helmfile", 301), ("verify", 4)]


def backend(name: str, port: int, states: list[str]) -> dict[str, Any]:
    endpoints = [
        {"ip": f"10.4.1.{number}", "port": port, "state": state, "instance": f"gke-llm-d-cluster-nvidia-{number}"}
        for number, state in enumerate(states)
    ]
    return {"name": name, "endpoints": endpoints, "healthy": states.count("HEALTHY"), "total": len(states)}


def document(**changes: Any) -> dict[str, Any]:
    """A report as role report writes it."""
    marks, at = [{"name": "start", "at": 1000.0}], 1000.0
    for name, seconds in STAGES:
        at += seconds
        marks.append({"name": name, "at": at})
    report = {
        "deployment": "pattern1",
        "run": "deploy",
        "at": "2026-11-27T19:00:00+00:00",
        "outcome": "passed",
        "project": "my-project",
        "cluster": "llm-d-cluster",
        "location": "us-central1-a",
        "endpoint": "http://203.0.113.7",
        "model": "google/gemma-2b-it",
        "passed": True,
        "checks": [
            {"name": "Gateway programmed", "ok": True, "detail": "infra-pattern1-inference-gateway at 203.0.113.7"},
            {"name": "backends healthy", "ok": True, "detail": "3 of 3 endpoints HEALTHY in 2 backend services"},
        ],
        "stages": run_stages(marks),
        "cost": hourly_cost(POOLS),
        "estimate": cost_estimate(POOLS, output_tokens_per_second=350.0),
        "topology": {
            "cluster": "llm-d-cluster",
            "location": "us-central1-a",
            "gateway": {
                "name": "infra-pattern1-inference-gateway",
                "class": "gke-l7-regional-external-managed",
                "address": "http://203.0.113.7",
                "ok": True,
            },
            "pools": [{"name": "gaie-pattern1", "model": "google/gemma-2b-it", "replicas": 2}],
            "backends": [
                backend("gkegw1-on7z-llm-d-gaie-pattern1-epp-9002-abc", 9002, ["HEALTHY"]),
                backend("gkegw1-on7z-llm-d-gaie-pattern1-ips-54321-x", 8000, ["HEALTHY", "HEALTHY"]),
            ],
            "node_pools": POOLS,
        },
        "lease": {
            "state": "running",
            "until": "2026-11-27T23:00:00+00:00",
            "text": "leased until 2026-11-27T23:00:00+00:00, 4.0 h left",
            "expired": False,
        },
        "findings": [],
        "failure": {},
        "facts": [],
        "lines": [],
        "versions": {"profile": "llm-d-0.4", "charts": "llm-d-infra v1.3.6, inferencepool v1.2.0"},
        "commands": [{"name": "pause", "command": "ansible-playbook playbooks/pause.yml"}],
        "json_name": "report.json",
    }
    return {**report, **changes}
