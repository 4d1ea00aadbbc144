"""What a deployment left in a cluster that stays: everything of ours found, nothing of anybody else's touched."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube import leftovers

OURS = {"labels": {"app.kubernetes.io/managed-by": "llmd-gke", "app.kubernetes.io/instance": "pattern1"}}
HELMS = {"annotations": {"meta.helm.sh/release-name": "gaie-pattern1", "meta.helm.sh/release-namespace": "llm-d"}}
RECORD = {"labels": {"owner": "helm", "name": "ms-pattern1-gemma"}}
MINE = {
    "/api/v1/secrets": [("huggingface-token", "llm-d", OURS), ("sh.helm.release.v1.x", "llm-d", RECORD)],
    "/apis/rbac.authorization.k8s.io/v1/clusterroles": [("epp", "", HELMS)],
    "/apis/rbac.authorization.k8s.io/v1/rolebindings": [("epp", "llm-d", HELMS)],
    "/api/v1/persistentvolumeclaims": [("models", "llm-d", OURS)],
}
OTHERS = {
    "/api/v1/secrets": [
        ("theirs", "llm-d", {"labels": {**OURS["labels"], "app.kubernetes.io/instance": "pattern2"}}),
        ("pattern1", "llm-d", {}),
        ("record", "llm-d", {"labels": {"owner": "helm", "name": "ms-pattern10"}}),
        ("record", "other", RECORD),
        ("child", "llm-d", {**OURS, "ownerReferences": [{"kind": "Gateway"}]}),
        ("going", "llm-d", {**OURS, "deletionTimestamp": "2026-11-27T19:00:00Z"}),
    ],
    "/apis/rbac.authorization.k8s.io/v1/clusterroles": [
        ("other", "", {"annotations": {**HELMS["annotations"], "meta.helm.sh/release-namespace": "other"}}),
    ],
}
WHO = {"deployment": "pattern1", "namespace": "llm-d", "family": "pattern1"}


class Lists:
    """A transport that answers lists of metadata and takes deletions."""

    def __init__(self, refuse: dict[str, int] | None = None) -> None:
        self.refuse = refuse or {}
        self.deleted: list[str] = []

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any:

        where = path.partition("?")[0]
        for word, status in self.refuse.items():
            if f"{method} {where}".startswith(word):
                problem = RuntimeError("no")
                problem.status = status  # type: ignore[attr-defined]
                raise problem
        if method == "delete":
            self.deleted.append(where)
            return type("Reply", (), {"data": b"{}"})
        found = [*MINE.get(where, []), *OTHERS.get(where, [])]
        items = [{"metadata": {"name": name, "namespace": space, **more}} for name, space, more in found]
        return type("Reply", (), {"data": json.dumps({"items": items}).encode()})


def client_of(lists: Lists) -> Any:
    from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient

    return KubeClient(lists)


def test_everything_of_ours_is_found_and_only_that() -> None:
    found = leftovers.scan(client_of(Lists()), **WHO)
    names = {(one["kind"], one["scope"], one["name"]) for one in found.left}
    assert names == {
        ("Secret", "namespaces/llm-d", "huggingface-token"),
        ("Secret", "namespaces/llm-d", "sh.helm.release.v1.x"),
        ("ClusterRole", "cluster", "epp"),
        ("RoleBinding", "namespaces/llm-d", "epp"),
        ("PersistentVolumeClaim", "namespaces/llm-d", "models"),
    }
    assert found.unread == []


def test_it_is_deleted_in_an_order_in_which_it_can_go() -> None:
    lists = Lists()
    found = leftovers.scan(client_of(lists), **WHO)
    leftovers.delete(client_of(lists), found)
    assert [path.rsplit("/", 2)[-2] for path in lists.deleted] == [
        "rolebindings", "clusterroles", "secrets", "secrets", "persistentvolumeclaims",
    ]  # fmt: skip
    assert (found.left, len(found.deleted)) == ([], 5)


def test_what_may_not_be_read_or_deleted_is_named_and_the_rest_goes_on() -> None:
    lists = Lists({"get /api/v1/persistentvolumeclaims": 403, "delete /apis/rbac": 403, "get /apis/leader": 404})
    found = leftovers.scan(client_of(lists), **WHO)
    assert [(one["kind"], one["code"]) for one in found.unread] == [("PersistentVolumeClaim", "KUBERNETES_FORBIDDEN")]
    leftovers.delete(client_of(lists), found)
    assert (
        {one["kind"] for one in found.refused} == {one["kind"] for one in found.left} == {"ClusterRole", "RoleBinding"}
    )
    assert {one["kind"] for one in found.deleted} == {"Secret"}
