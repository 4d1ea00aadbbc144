from __future__ import annotations

from ansible_collections.llmd.gke.plugins.module_utils.llmd.manifests import changes, masked, prune, readable

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: '1'\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ndata:\n  token: aGZfc2VjcmV0\n"


def test_order_comments_and_a_spelled_out_namespace_are_no_difference() -> None:
    before = f"---\n# Source: x\n{CONFIG}---\n{SECRET}"
    spelled = CONFIG.replace("  name: c\n", "  name: c\n  namespace: llm-d\n  annotations:\n")
    assert changes(before, f"---\n{SECRET}---\n{spelled}", "llm-d") == []


def test_what_differs_is_said() -> None:
    after = CONFIG.replace("'1'", "'2'") + "---\napiVersion: v1\nkind: Service\nmetadata: {name: new}\n"
    assert changes(CONFIG + "---\n" + SECRET, after, "llm-d") == [
        "Secret s removed",
        "Service new added",
        "ConfigMap c changed",
    ]


def test_secrets_are_hidden_but_a_change_still_shows() -> None:
    shown = readable(SECRET, "llm-d")
    assert "aGZfc2VjcmV0" not in shown
    assert "(hidden, " in shown
    assert readable(SECRET, "llm-d") == shown
    assert readable(SECRET.replace("aGZfc2VjcmV0", "b3RoZXI="), "llm-d") != shown
    assert masked({"kind": "ConfigMap", "data": {"a": "b"}})["data"] == {"a": "b"}


def test_empty_leaves_are_no_difference() -> None:
    assert prune({"a": None, "b": [{"c": None}], "d": 0}) == {"b": [{}], "d": 0}
