"""Day-2 drift, told apart by who holds the other opinion."""

from __future__ import annotations

from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.llmd import differences as drift


def release(*reasons: str, **more: Any) -> dict[str, Any]:
    return {"name": "ms-pattern1", "changed": True, "action": "upgrade", "reasons": list(reasons), **more}


def test_nothing_differs_where_nothing_would_change() -> None:
    assert drift.of_releases([{"name": "ms-pattern1", "changed": False, "reasons": [], "action": "none"}]) == []
    assert drift.table([])[0].startswith("no drift")


def test_a_foreign_upgrade_is_helms_and_what_follows_from_it_is_not_told_twice() -> None:
    (found,) = drift.of_releases([release("values differ (decode.replicas)", "Deployment ms-decode changed")])
    assert (found.layer, found.what) == ("helm", "release ms-pattern1")
    assert found.found == "values differ (decode.replicas)"


def test_what_was_scaled_edited_or_deleted_is_the_clusters() -> None:
    found = drift.of_releases(
        [release("Deployment llm-d/ms-decode was changed by hand (spec.replicas)", "Service llm-d/epp is gone")]
    )
    assert [(entry.layer, entry.what, entry.found) for entry in found] == [
        ("cluster", "Deployment llm-d/ms-decode", "changed: spec.replicas"),
        ("cluster", "Service llm-d/epp", "not there"),
    ]


def test_a_release_that_is_broken_or_missing_is_helms() -> None:
    assert drift.of_releases([release("not installed")])[0].found == "not installed"
    (found,) = drift.of_releases([release(action="repair", healed="")])
    assert found.layer == "helm"


def test_trees_are_compared_leaf_by_leaf() -> None:
    before = {"gateway_api": "disabled", "node_pools": [{"name": "a", "autoscaling": {"max": 5}}]}
    after = {"gateway_api": "standard", "node_pools": [{"name": "a", "autoscaling": {"max": 3}}]}
    found = drift.of_tree("google", "cluster", {"changed": True, "diff": {"before": before, "after": after}})
    assert [(entry.what, entry.wanted, entry.found) for entry in found] == [
        ("cluster gateway_api", "standard", "disabled"),
        ("cluster node_pools[0].autoscaling.max", "3", "5"),
    ]
    assert drift.of_tree("google", "cluster", {"changed": False, "diff": {"before": before, "after": after}}) == []


def test_what_is_not_there_is_said_so() -> None:
    gone = {"changed": True, "diff": {"before": "", "after": {"kind": "HTTPRoute"}}}
    assert drift.of_tree("cluster", "HTTPRoute x", gone)[0].found == "not there"
    assert drift.of_tree("cluster", "HTTPRoute x", {"changed": True})[0].found == "not there"
    text = {"changed": True, "diff": [{"before": "a", "after": "b"}]}
    assert drift.of_tree("cluster", "files", text)[0].found == "different"


def test_sizes_within_an_autoscalers_limits_are_its_own_business() -> None:
    pools = [
        {"name": "cpu", "node_count": 2},
        {"name": "gpu", "node_count": 1, "autoscaling": {"min": 0, "max": 3}},
        {"name": "unknown", "node_count": 1},
    ]
    assert drift.of_sizes(pools, {"cpu": 2, "gpu": 3}) == []
    found = drift.of_sizes(pools, {"cpu": 1, "gpu": 4})
    assert [(entry.what, entry.wanted, entry.found) for entry in found] == [
        ("node pool cpu size", "2", "1"),
        ("node pool gpu size", "0 to 3", "4"),
    ]


def test_labels_that_make_the_cluster_ours_are_looked_at() -> None:
    wanted = {"managed-by": "llmd-gke", "llmd-deployment": "pattern1"}
    assert drift.of_labels({**wanted, "team": "x"}, wanted) == []
    (found,) = drift.of_labels({"llmd-deployment": "pattern1"}, wanted)
    assert (found.what, found.found) == ("cluster label managed-by", "nothing")
    assert "Google Cloud:" in drift.table([found])
