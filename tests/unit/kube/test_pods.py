from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import crashed_container, explain_pod, progress_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import rollout

OOM = """\
INFO 11-23 10:00:00 [model_runner.py:1110] Starting to load model google/gemma-2b-it...
Traceback (most recent call last):
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 500.00 MiB. GPU 0 has a total capacity of 14.58 GiB of
which 471.56 MiB is free.
"""
GATED = "huggingface_hub.errors.GatedRepoError: 403 Client Error.\nCannot access gated repo for url https://huggingface.co/..."
FORBIDDEN = (
    'E1123 reflector.go:205] "Failed to watch" err="failed to list *v1.Pod: pods is forbidden: User '
    '\\"system:serviceaccount:llm-d:gaie-pattern1-epp\\" cannot list resource \\"pods\\" in API group"'
)


def pod(
    *, waiting: str = "", message: str = "", restarts: int = 0, scheduled: str = "True", why: str = ""
) -> dict[str, Any]:
    status: dict[str, Any] = {
        "name": "vllm",
        "image": "ghcr.io/x:1",
        "ready": False,
        "restartCount": restarts,
        "state": {},
    }
    if waiting:
        status["state"] = {"waiting": {"reason": waiting, "message": message}}
    if restarts:
        status["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
    return {
        "metadata": {"name": "ms-1", "namespace": "llm-d"},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": scheduled, "reason": "Unschedulable", "message": why}],
            "containerStatuses": [status],
        },
    }


@pytest.mark.parametrize(
    ("found", "log", "code", "in_remedy"),
    [
        (pod(waiting="CrashLoopBackOff", restarts=3), OOM, "GPU_OUT_OF_MEMORY", "llmd_max_num_seqs"),
        (pod(waiting="CrashLoopBackOff", restarts=3), GATED, "HF_MODEL_GATED", "licence"),
        (pod(restarts=3), GATED, "HF_MODEL_GATED", "licence"),
        (pod(waiting="CrashLoopBackOff", restarts=431), FORBIDDEN, "PICKER_RBAC_FORBIDDEN", "roles/container.admin"),
        (pod(waiting="CrashLoopBackOff", restarts=2), "boom", "POD_CRASHES", ""),
        (
            pod(
                waiting="CreateContainerConfigError",
                message="couldn't find key HF_TOKEN in Secret llm-d/huggingface-token",
            ),
            "",
            "HF_SECRET_KEY_WRONG",
            "HF_TOKEN",
        ),
        (
            pod(waiting="CreateContainerConfigError", message='secret "huggingface-token" not found'),
            "",
            "HF_SECRET_MISSING",
            "llmd_hf_token",
        ),
        (pod(waiting="ImagePullBackOff", message="Back-off pulling image"), "", "IMAGE_PULL_FAILED", "tag"),
        (
            pod(scheduled="False", why="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            "",
            "GPU_UNAVAILABLE",
            "llmd_gpu",
        ),
        (pod(scheduled="False", why="0/3 nodes are available: 3 Insufficient cpu."), "", "POD_UNSCHEDULABLE", "nodes"),
    ],
)
def test_a_pods_own_reason_is_named(found: dict[str, Any], log: str, code: str, in_remedy: str) -> None:
    problem = explain_pod(found, [], log)
    assert problem is not None
    assert problem.code == code
    assert problem.fatal
    assert in_remedy in problem.remedy
    assert "llm-d/ms-1" in problem.where


def test_the_line_that_tells_is_quoted() -> None:
    problem = explain_pod(pod(waiting="CrashLoopBackOff", restarts=1), [], OOM)
    assert problem is not None
    assert problem.why.startswith("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 500.00 MiB")


def test_the_registrys_words_are_in_the_event(fakes: Any) -> None:
    pull = fakes.event("ms-1", 'Failed to pull image "x": 403 Forbidden', kind="Pod", reason="Failed")
    problem = explain_pod(pod(waiting="ImagePullBackOff", message="Back-off"), [pull])
    assert problem is not None
    assert "403 Forbidden" in problem.why
    assert "imagePullSecrets" in problem.remedy


def test_an_autoscaler_at_work_is_given_time(fakes: Any) -> None:
    waiting = pod(scheduled="False", why="3 Insufficient nvidia.com/gpu")
    growing = fakes.event("ms-1", "pod triggered scale-up", kind="Pod", type_="Normal", reason="TriggeredScaleUp")
    problem = explain_pod(waiting, [growing])
    assert problem is not None
    assert not problem.fatal
    assert "scale-up" in problem.why


def test_a_pod_on_its_way_has_no_problem() -> None:
    starting = pod(waiting="ContainerCreating")
    assert explain_pod(starting, []) is None
    assert progress_of(starting) == "ContainerCreating"
    assert crashed_container(starting) is None


def deployment(replicas: int = 1, **status: int) -> dict[str, Any]:
    status.setdefault("observedGeneration", 2)
    return {"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": replicas}, "status": status}


@pytest.mark.parametrize(
    ("workload", "done"),
    [
        (deployment(replicas=1, updatedReplicas=1, availableReplicas=1), True),
        (deployment(1, replicas_=0), False),
        (deployment(0), True),
        (deployment(1, observedGeneration=1, updatedReplicas=1, availableReplicas=1), False),
        ({"kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 2},
          "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "currentRevision": "a", "updateRevision": "a"}}, True),  # noqa: E501
        ({"kind": "LeaderWorkerSet", "metadata": {"generation": 1}, "spec": {"replicas": 1},
          "status": {"readyReplicas": 1, "updatedReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]}}, True),  # noqa: E501
    ],
)  # fmt: skip
def test_rollouts(workload: dict[str, Any], done: bool) -> None:
    assert rollout(workload).done is done


def test_an_old_pod_that_still_serves_is_not_the_new_one() -> None:
    """The one-GPU deadlock: the new pod waits for the GPU that the old one keeps."""
    stuck = deployment(1)
    stuck["status"] = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}
    assert not rollout(stuck).done
    assert rollout(stuck).say() == "0 of 1 ready"
