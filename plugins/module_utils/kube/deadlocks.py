# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An update that waits for itself: the new pod needs the GPU that the old pod of the same Deployment keeps. Pure.

A rolling update with one replica may neither go below one ready pod (25 % of one, rounded down, is none) nor start the
new pod without a second GPU. helm waits until its time is up, the old version goes on serving, and nothing says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import message_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import is_ready, name_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem

GPU = "nvidia.com/gpu"
CODE = "GPU_UPGRADE_DEADLOCK"
REVISION = "pod-template-hash"
DEFAULT_UNAVAILABLE = "25%"


def may_be_missing(deployment: dict[str, Any]) -> int:
    """How many ready pods a Deployment may lack during an update (Kubernetes rounds a share down)."""
    spec = deployment.get("spec") or {}
    replicas = 1 if spec.get("replicas") is None else int(spec["replicas"])
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return replicas
    wanted = str((strategy.get("rollingUpdate") or {}).get("maxUnavailable", DEFAULT_UNAVAILABLE))
    return replicas * int(wanted[:-1]) // 100 if wanted.endswith("%") else int(wanted)


def asks_for_gpu(pod: dict[str, Any]) -> bool:
    """Whether any container of a pod has a GPU of its own."""
    containers = (pod.get("spec") or {}).get("containers") or []
    return any(GPU in ((entry.get("resources") or {}).get("limits") or {}) for entry in containers)


def revision_of(pod: dict[str, Any]) -> str:
    """By what a Deployment's pods of one revision are told from those of another."""
    return str(((pod.get("metadata") or {}).get("labels") or {}).get(REVISION) or "")


def waits_for_gpu(pod: dict[str, Any]) -> str:
    """The scheduler's words over a pod that finds no free GPU; "" for any other pod."""
    scheduled = of_object(pod, "PodScheduled")
    return scheduled.message if scheduled.status == "False" and GPU in scheduled.message else ""


def upgrade_deadlock(
    deployment: dict[str, Any], pods: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]] = ()
) -> Problem | None:
    """The deadlock of a Deployment, None if there is none. pods: all of its pods; events: those about waiting ones."""
    if deployment.get("kind") not in (None, "Deployment"):
        return None
    spec = deployment.get("spec") or {}
    replicas = 1 if spec.get("replicas") is None else int(spec["replicas"])
    ready = [pod for pod in pods if is_ready(pod)]
    waiting = [pod for pod in pods if waits_for_gpu(pod)]
    old = [pod for pod in ready if asks_for_gpu(pod) and any(revision_of(pod) != revision_of(new) for new in waiting)]
    # a ready pod too many can be taken away, and its GPU with it: then the update goes on by itself
    if not waiting or not old or len(ready) > replicas - may_be_missing(deployment):
        return None
    growing = next((event for event in events if event.get("reason") == "TriggeredScaleUp"), None)
    held = ", ".join(name_of(pod) for pod in old[:3])
    why = f"{name_of(waiting[0])} waits: {waits_for_gpu(waiting[0])} The older {held} keeps its GPU and serves."
    metadata = deployment.get("metadata") or {}
    return Problem(
        CODE,
        "An update waits for a GPU that the old pod of the same Deployment keeps.",
        f"{why} Autoscaler: {message_of(growing)}" if growing else why,
        "Let the old pod go first (nothing is served until the new one is Ready): playbooks/upgrade.yml does so, and"
        " goes back where the new one fails. Or give the update one more GPU for a moment (llmd_gpu.max, quota).",
        f"Deployment {metadata.get('namespace', '')}/{metadata.get('name', '')}",
        fatal=growing is None,  # an autoscaler that is buying a node deserves the whole timeout
        evidence={"waiting": [name_of(pod) for pod in waiting], "serving": [name_of(pod) for pod in old]},
    )
