# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of a diagnosis, for whoever has to look further: everything that was read, without secrets. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.events import brief
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.redact import redact
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Finding, Json, Observation

LOG_CHARACTERS = 20_000
EVENTS = 100
_ENDS_OF_INTEREST = ("vllm:", "inference_pool", "inference_objective_request", "inference_extension_info")


def bundle(seen: Observation, findings: list[Finding]) -> Json:
    """A JSON document: findings, observation, what was not read."""
    google, cluster = seen.google, seen.cluster
    document: dict[str, Any] = {
        "scope": asdict(seen.scope),
        "seconds": round(seen.seconds, 2),
        "findings": [finding.as_dict() for finding in findings],
        "unread": {part: error.as_result() for part, error in seen.unread.items()},
        "google_cloud": {
            "services": google.services,
            "subnets": google.subnets,
            "cluster": google.cluster,
            "missing_permissions": google.missing_permissions,
            "pool_sizes": google.pool_sizes,
            "backends": None if google.backends is None else [entry.as_result() for entry in google.backends],
        },
        "kubernetes": {
            **{
                name: getattr(cluster, name)
                for name in ("namespace", "pods", "workloads", "services", "secret_keys", "releases", "scorers")
            },
            **{name: getattr(cluster, name) for name in ("gateway", "gateway_class", "routes", "pools")},
            **{name: getattr(cluster, name) for name in ("health_policies", "backend_policies", "foreign_gpu_pods")},
            "nodes": [_node(node) for node in cluster.nodes or []],
            "crds": {name: (crd.get("status") or {}).get("conditions") for name, crd in (cluster.crds or {}).items()},
            "events": _events(cluster.events or []),
            "logs": {pod: text[-LOG_CHARACTERS:] for pod, text in cluster.logs.items()},
            "metrics": {pod: _short(text) for pod, text in cluster.metrics.items()},
        },
        "answers": {
            request: {"status": answer.status, "text": answer.text[:2000], "error": answer.error}
            for request, answer in seen.answers.items()
        },
    }
    cleaned: Json = redact(document)
    return cleaned


def _node(node: Json) -> Json:
    metadata, status = node.get("metadata") or {}, node.get("status") or {}
    return {
        "name": metadata.get("name"),
        "labels": metadata.get("labels"),
        "taints": (node.get("spec") or {}).get("taints"),
        "allocatable": status.get("allocatable"),
        "conditions": status.get("conditions"),
    }


def _events(events: list[Json]) -> list[Json]:
    return [
        {**said, "about": "{kind}/{name}".format(**{"kind": "", "name": "", **(event.get("involvedObject") or {})})}
        for event, said in zip(events[:EVENTS], brief(events, EVENTS), strict=True)
    ]


def _short(text: str) -> list[str]:
    """Metrics without histograms' buckets."""
    return [line for line in text.splitlines() if line.startswith(_ENDS_OF_INTEREST) and "_bucket{" not in line]
