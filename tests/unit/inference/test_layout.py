"""Groups that serve as one, and prefill apart from decode: shown where it is so, and not where it is not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.layout import Apart, Groups, Names, Plan

NAMES = Names("finished", "role", "group", "set", "transfers", "failed", "decisions")
PLAN = Plan("m", requests=6, concurrency=1, run="r")


def pod(name: str, node: str, **labels: str) -> dict[str, Any]:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    metadata = {"name": name, "uid": f"uid-{name}", "labels": labels}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": ready}


class FakeCluster:
    """Pods with metrics, and a LeaderWorkerSet."""

    def __init__(self, pods: list[dict[str, Any]], size: int = 2, groups: int = 1) -> None:
        self.pods = pods
        self.metrics: dict[str, dict[str, float]] = {item["metadata"]["name"]: {} for item in pods}
        status = {"readyReplicas": groups, "updatedReplicas": groups, "replicas": groups}
        available = [{"type": "Available", "status": "True"}]
        self.set: dict[str, Any] | None = {
            "metadata": {"name": "ms"},
            "spec": {"replicas": groups, "leaderWorkerTemplate": {"size": size}},
            "status": {**status, "conditions": available},
        }
        self.replaced = 0

    def objects(self, _kind: Any, _namespace: str, labels: str = "") -> list[dict[str, Any]]:
        wanted = dict(part.split("=") for part in labels.split(","))
        return [item for item in self.pods if wanted.items() <= item["metadata"]["labels"].items()]

    def get(self, _kind: Any, _name: str, _namespace: str) -> dict[str, Any] | None:
        return self.set

    def pod_get(self, name: str, _namespace: str, _port: int, _path: str) -> str:
        return "".join(f"{metric} {value}\n" for metric, value in self.metrics[name].items())

    def add(self, name: str, metric: str, by: float = 1) -> None:
        self.metrics[name][metric] = self.metrics[name].get(metric, 0) + by

    def delete(self, _kind: Any, name: str, _namespace: str) -> None:
        """The whole group of a deleted pod is replaced, as LeaderWorkerSet does."""
        group = next(item for item in self.pods if item["metadata"]["name"] == name)["metadata"]["labels"]["group"]
        for item in self.pods:
            if item["metadata"]["labels"]["group"] == group and self.replaced >= 0:
                item["metadata"]["uid"] += "-new"


def two_nodes() -> list[dict[str, Any]]:
    return [pod(f"ms-{number}", f"node-{number}", set="ms", group="0") for number in range(2)]


def groups(cluster: FakeCluster, idle: str = "", status: int = 200) -> Groups:
    asked: list[str] = []

    def send(*_words: Any, **_more: Any) -> Answer:
        name = cluster.pods[len(asked) % len(cluster.pods)]["metadata"]["name"]
        asked.append(name)
        if name != idle:
            cluster.add(name, "finished")
        return Answer(status, body=b"{}")

    return Groups(send, cluster, "ns", PLAN, NAMES)  # type: ignore[arg-type]


def test_a_whole_group_that_serves_is_shown() -> None:
    claims = groups(FakeCluster(two_nodes())).run("ms")
    assert [claim.name for claim in claims] == ["groups_whole", "answered", "every_pod_serves"]
    assert all(claim.ok for claim in claims)
    assert claims[2].numbers == {"ms-0": 3, "ms-1": 3}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda cluster: cluster.pods.pop(), "GROUP_NOT_WHOLE"),
        (lambda cluster: cluster.pods[0]["spec"].update(nodeName="node-1"), "GROUP_NOT_WHOLE"),
        (lambda cluster: cluster.set["status"].update(readyReplicas=0), "GROUP_NOT_WHOLE"),
    ],
)
def test_a_group_that_is_not_whole_is_named(change: Any, code: str) -> None:
    cluster = FakeCluster(two_nodes())
    change(cluster)
    first = groups(cluster).run("ms")[0]
    assert (first.ok, first.code) == (False, code)


def test_a_pod_that_answers_nothing_and_requests_that_fail_are_named() -> None:
    claims = {claim.name: claim for claim in groups(FakeCluster(two_nodes()), idle="ms-1").run("ms")}
    assert not claims["every_pod_serves"].ok
    claims = {claim.name: claim for claim in groups(FakeCluster(two_nodes()), status=503).run("ms")}
    assert not claims["answered"].ok


def test_no_group_at_all_is_an_error() -> None:
    cluster = FakeCluster([])
    cluster.set = None
    with pytest.raises(InferenceError, match="GROUP_MISSING"):
        groups(cluster).run("ms")


def test_a_group_restarts_as_one_or_not_at_all(clock: Any) -> None:
    cluster = FakeCluster(two_nodes())
    assert groups(cluster).restart("ms", 60, clock).ok
    cluster.replaced = -1  # nothing is replaced
    claim = groups(cluster).restart("ms", 60, clock)
    assert (claim.ok, claim.code) == (False, "GROUP_NOT_BACK")


class FakePicker:
    def __init__(self) -> None:
        self.pairs = 0

    def metrics(self) -> list[str]:
        return [
            f'decisions{{decision_type="prefill-decode"}} {self.pairs}\ndecisions{{decision_type="decode-only"}} 9\n'
        ]


def apart(*, pairs: bool = True, reads: bool = True, failed: float = 0) -> dict[str, Any]:
    cluster = FakeCluster([pod("p", "n1", model="m", role="prefill"), pod("d", "n2", model="m", role="decode")])
    picker = FakePicker()

    def send(*_words: Any, **_more: Any) -> Answer:
        picker.pairs += pairs
        cluster.add("p", "finished", float(reads))
        cluster.add("d", "transfers", float(reads))
        cluster.add("d", "failed", failed)
        return Answer(200, body=b"{}")

    proof = Apart(send, cluster, "ns", PLAN, NAMES)  # type: ignore[arg-type]
    claims = proof.run({"model": "m"}, picker, lambda _text: None)  # type: ignore[arg-type]
    return {claim.name: claim for claim in claims}


def test_prefill_apart_from_decode_is_shown() -> None:
    claims = apart()
    assert all(claim.ok for claim in claims.values())
    assert "6 of 6" in claims["decided_apart"].detail


def test_a_picker_that_chooses_no_pair_and_caches_that_do_not_travel_are_named() -> None:
    claims = apart(pairs=False, reads=False)
    assert {name for name, claim in claims.items() if not claim.ok} == {
        "decided_apart",
        "prefill_reads",
        "cache_travels",
    }
    assert apart(failed=1)["cache_travels"].code == "KV_TRANSFER_FAILED"
