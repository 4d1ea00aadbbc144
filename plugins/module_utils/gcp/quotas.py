# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute quotas and what a set of nodes will ask of them. Regional, except GPUS_ALL_REGIONS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

# compute.regions.get -> quotas[].metric (discovery document compute v1, schema Quota).
GPU_METRICS = {
    "nvidia-tesla-t4": "NVIDIA_T4_GPUS",
    "nvidia-l4": "NVIDIA_L4_GPUS",
    "nvidia-tesla-p4": "NVIDIA_P4_GPUS",
    "nvidia-tesla-p100": "NVIDIA_P100_GPUS",
    "nvidia-tesla-v100": "NVIDIA_V100_GPUS",
    "nvidia-tesla-a100": "NVIDIA_A100_GPUS",
    "nvidia-a100-80gb": "NVIDIA_A100_80GB_GPUS",
    "nvidia-h100-80gb": "NVIDIA_H100_GPUS",
}
CPU_METRICS = {
    "n2": "N2_CPUS",
    "n2d": "N2D_CPUS",
    "c2": "C2_CPUS",
    "c2d": "C2D_CPUS",
    "c3": "C3_CPUS",
    "a2": "A2_CPUS",
}


@dataclass(frozen=True)
class Nodes:
    """Nodes to be: how many, what machine (with its vCPUs), GPUs of each. No machine type: only GPUs are counted."""

    count: int
    machine_type: str
    cpus: int
    gpu_type: str = ""
    gpus_each: int = 0
    spot: bool = False
    disk_type: str = "pd-balanced"
    disk_gb: int = 100


@dataclass(frozen=True)
class Headroom:
    """One quota against one request. ``limit`` and ``usage`` are None where the project does not list the metric."""

    metric: str
    scope: str
    asked: float
    limit: float | None
    usage: float | None

    @property
    def enough(self) -> bool | None:
        """None: cannot be told."""
        if self.limit is None or self.usage is None:
            return None
        return self.limit - self.usage >= self.asked

    @property
    def detail(self) -> str:
        if self.limit is None:
            return f"{self.metric} in {self.scope}: not listed; {self.asked:g} asked"
        return f"{self.metric} in {self.scope}: limit {self.limit:g}, used {self.usage:g}, asked {self.asked:g}"

    def as_result(self) -> dict[str, object]:
        return {k: getattr(self, k) for k in ("metric", "scope", "limit", "usage", "asked")}


def demand(nodes: Iterable[Nodes]) -> tuple[Counter[str], int]:
    """(regional metric -> amount, GPUs in all) of the nodes. Spot GPUs count against the PREEMPTIBLE_ metric."""
    regional: Counter[str] = Counter()
    gpus = 0
    for group in nodes:
        if group.machine_type:
            family = group.machine_type.split("-", 1)[0]
            regional[CPU_METRICS.get(family, "CPUS")] += group.count * group.cpus
            disk = "DISKS_TOTAL_GB" if group.disk_type == "pd-standard" else "SSD_TOTAL_GB"
            regional[disk] += group.count * group.disk_gb
        if group.gpus_each:
            amount = group.count * group.gpus_each
            gpus += amount
            # A type whose metric we do not know is listed under none: then the finding says that it cannot be told.
            metric = GPU_METRICS.get(group.gpu_type, group.gpu_type)
            regional[f"PREEMPTIBLE_{metric}" if group.spot and metric != group.gpu_type else metric] += amount
    return regional, gpus


def compare(demanded: Counter[str], quotas: Iterable[Json], scope: str) -> list[Headroom]:
    """Each demanded metric against the quotas of a region or project document."""
    listed = {str(q.get("metric")): q for q in quotas}
    result = []
    for metric, asked in demanded.items():
        found = listed.get(metric)
        limit = None if found is None else float(found.get("limit") or 0)
        usage = None if found is None else float(found.get("usage") or 0)
        result.append(Headroom(metric, scope, float(asked), limit, usage))
    return result


def region_quotas(session: GoogleSession, region: str) -> list[Json]:
    path = f"projects/{segment(session.project)}/regions/{segment(region)}"
    return list(session.call("compute.regions.get", "GET", path).get("quotas") or [])


def project_quotas(session: GoogleSession) -> list[Json]:
    return list(session.call("compute.projects.get", "GET", f"projects/{segment(session.project)}").get("quotas") or [])
