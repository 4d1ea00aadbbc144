# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why is a pod not ready? Pure functions over the pod, its events (newest first) and its crashed container's log."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.crashes import explain_crash
from ansible_collections.llmd.gke.plugins.module_utils.kube.events import message_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError"})
# The cluster autoscaler's words about a pod.
AUTOSCALER_REASONS = frozenset({"TriggeredScaleUp", "NotTriggerScaleUp", "FailedScaleUp"})


def is_ready(pod: dict[str, Any]) -> bool:
    """Ready by its own condition and not on its way out."""
    return of_object(pod, "Ready").true and not (pod.get("metadata") or {}).get("deletionTimestamp")


def name_of(pod: dict[str, Any]) -> str:
    """namespace/name"""
    metadata = pod.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


def container_statuses(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Init containers first, as they run first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def crashed_container(pod: dict[str, Any]) -> dict[str, Any] | None:
    """The status of the first container that died and is not ready again; its previous log is worth reading."""
    for status in container_statuses(pod):
        if status.get("ready"):
            continue
        ended = _termination(status)
        if ended is not None and (int(ended.get("exitCode") or 0) != 0 or int(status.get("restartCount") or 0) > 0):
            return status
    return None


def _termination(status: dict[str, Any]) -> dict[str, Any] | None:
    for state in (status.get("state") or {}, status.get("lastState") or {}):
        ended = state.get("terminated")
        if isinstance(ended, dict):
            return ended
    return None


def explain_pod(pod: dict[str, Any], events: list[dict[str, Any]], log: str = "") -> Problem | None:
    """The problem of a pod that is not ready; None if it is ready or is simply still on its way."""
    if is_ready(pod):
        return None
    scheduled = of_object(pod, "PodScheduled")
    if scheduled.status == "False":
        return explain_unschedulable(scheduled.message, events, name_of(pod))
    for status in container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in IMAGE_REASONS:
            return explain_image(str(status.get("image") or ""), reason, message, events, name_of(pod))
        if reason in CONFIG_REASONS:
            return explain_config(reason, message, name_of(pod))
    crashed = crashed_container(pod)
    if crashed is not None:
        ended = _termination(crashed) or {}
        where = f"pod {name_of(pod)}, container {crashed.get('name')}, {crashed.get('restartCount', 0)} restarts"
        return explain_crash(log, int(ended.get("exitCode") or 0), str(ended.get("reason") or ""), where)
    return explain_mount(events, name_of(pod))


def explain_unschedulable(message: str, events: list[dict[str, Any]], where: str) -> Problem:
    """No node takes the pod. ``message``: the scheduler's ("0/3 nodes are available: 3 Insufficient ...")."""
    autoscaler = next((event for event in events if event.get("reason") in AUTOSCALER_REASONS), None)
    why = message or message_of(events[0] if events else None)
    if autoscaler is not None:
        why += f" Autoscaler: {message_of(autoscaler)}"
    # an autoscaler that is buying a node deserves the whole timeout; its last word counts
    fatal = autoscaler is None or autoscaler.get("reason") != "TriggeredScaleUp"
    if "nvidia.com/gpu" in message or "accelerator" in message:
        return Problem(
            "GPU_UNAVAILABLE",
            "No node has a free GPU for the pod.",
            why,
            "Add GPU nodes (llmd_gpu.count, .max) or free one; check quota and stock-outs of the zone. An update of a"
            " single-replica model needs a second GPU for a moment, because the old pod keeps its own until then.",
            f"pod {where}",
            fatal=fatal,
        )
    return Problem(
        "POD_UNSCHEDULABLE",
        "No node takes the pod.",
        why,
        "Read the scheduler's words above: more or larger nodes (llmd_cpu_pool), or fewer requests.",
        f"pod {where}",
        fatal=fatal,
    )


def explain_image(image: str, reason: str, message: str, events: list[dict[str, Any]], where: str) -> Problem:
    """The image does not come. The kubelet's event has the registry's words; the status only says "Back-off"."""
    pull = next((event for event in events if "Failed to pull image" in message_of(event)), None)
    why = message_of(pull) or message or reason
    refused = re.search(r"403|401|denied|unauthorized|forbidden", why, re.IGNORECASE)
    remedy = (
        "Make the image readable for the nodes (imagePullSecrets, or reader rights of the node service account)."
        if refused
        else "Check the image's name and tag in the profile, and the nodes' way out to the registry (Cloud NAT)."
    )
    return Problem("IMAGE_PULL_FAILED", f"The image {image} cannot be pulled.", why, remedy, f"pod {where}", fatal=True)


def explain_config(reason: str, message: str, where: str) -> Problem:
    """The kubelet cannot put the container together: nearly always a Secret or ConfigMap."""
    key = re.search(r"couldn't find key (\S+) in Secret (\S+)", message)
    if key:
        code = "HF_SECRET_KEY_WRONG" if key.group(1) == "HF_TOKEN" else "SECRET_KEY_MISSING"
        return Problem(
            code,
            f"The Secret {key.group(2)} has no key {key.group(1)}.",
            message,
            f"Store the token under the key {key.group(1)}: let the role write the Secret (llmd_hf_token), or recreate"
            " it with that key.",
            f"pod {where}",
            fatal=True,
        )
    missing = re.search(r'secrets? "?([^"\s]+)"? not found', message)
    if missing:
        return Problem(
            "HF_SECRET_MISSING",
            f"The Secret {missing.group(1)} does not exist.",
            message,
            "Set llmd_hf_token (or the environment variable HF_TOKEN) so that the role writes the Secret.",
            f"pod {where}",
            fatal=True,
        )
    return Problem(
        "CONTAINER_CONFIG_ERROR",
        "The kubelet cannot create the container.",
        f"{reason}: {message}",
        "Read the kubelet's words above; usually a Secret, ConfigMap or volume is missing.",
        f"pod {where}",
        fatal=True,
    )


def explain_mount(events: list[dict[str, Any]], where: str) -> Problem | None:
    """A volume or network that does not come up is told by events only."""
    for event in events:
        if event.get("type") == "Warning" and event.get("reason") in (
            "FailedMount",
            "FailedAttachVolume",
            "FailedCreatePodSandBox",
        ):
            return Problem(
                "POD_SANDBOX_FAILED" if event.get("reason") == "FailedCreatePodSandBox" else "POD_VOLUME_FAILED",
                "The pod cannot be set up on its node.",
                message_of(event),
                "Read the kubelet's words above.",
                f"pod {where}",
            )
    return None


def progress_of(pod: dict[str, Any]) -> str:
    """One short phrase about a pod that is on its way ("Pulling", "starting", "Pending: no node yet")."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return "ending"
    if of_object(pod, "PodScheduled").status == "False":
        return "no node yet"
    for entry in container_statuses(pod):
        waiting = (entry.get("state") or {}).get("waiting")
        if waiting:
            return str(waiting.get("reason") or "waiting")
    if is_ready(pod):
        return "ready"
    return "starting" if status.get("phase") == "Running" else str(status.get("phase") or "unknown")
