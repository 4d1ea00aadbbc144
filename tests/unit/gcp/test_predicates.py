"""Small judgements that playbooks lean on: whose an address is, what a question asks for, whether a policy changes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.gcp import (
    addresses,
    orphan_scan,
    ownership,
    policies,
    service_accounts,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.balancers import Query

MARK = f"{ownership.MARKER} {ownership.DEPLOYMENT}=mine"
LABELS = {"managed-by": "llmd-gke", ownership.DEPLOYMENT: "mine"}


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        ({"labels": LABELS}, True),
        ({"labels": {}, "description": MARK}, True),
        ({"labels": LABELS, "description": "something else"}, True),
        ({"labels": {}, "description": "something else"}, False),
        ({"labels": {}, "description": MARK.replace("mine", "other")}, False),
    ],
)
def test_an_address_is_ours_by_label_or_by_description(found: dict[str, Any], ours: bool) -> None:
    assert addresses._owned(found, "mine") is ours


def test_a_question_without_a_name_asks_for_everything() -> None:
    annotations = {"networking.gke.io/url-maps": "/projects/p/regions/r/urlMaps/x"}
    assert Query("r").everything
    assert not Query("r", prefix="p").everything
    assert not Query("r", address="203.0.113.1").everything
    assert not Query("r", annotations=annotations).everything


@pytest.mark.parametrize(("location", "there"), [("us-central1-a", True), ("us-central1-b", False)])
def test_a_cluster_of_the_name_elsewhere_is_another_one(google: Any, location: str, there: bool) -> None:
    google.on("GET", "/clusters", {"clusters": [{"name": "c", "location": "us-central1-a"}]})
    assert orphan_scan._exists(google.session(), orphan_scan.Wish("mine", location, "c")) is there


def test_a_policy_is_written_only_where_something_is_to_be_changed(google: Any) -> None:
    held = {"etag": "e", "bindings": [{"role": "roles/a", "members": ["serviceAccount:n@p"]}]}
    google.on("POST", ":getIamPolicy", held)
    google.on("POST", ":setIamPolicy", held)
    session = google.session()
    assert policies.change(session, lambda policy: None) is False
    assert service_accounts._bind(session, "n@p", ("roles/a",)) is False
    assert not [request for request in google.requests if request.url.endswith(":setIamPolicy")]
    assert service_accounts._bind(session, "n@p", ("roles/a", "roles/b")) is True
    written = [request.body["policy"] for request in google.requests if request.url.endswith(":setIamPolicy")]
    assert [policies.roles_of(policy, "serviceAccount:n@p") for policy in written] == [{"roles/a", "roles/b"}]
