"""IAM policies are changed without losing what others wrote; service accounts are ours only by their mark."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import policies, service_accounts
from ansible_collections.llmd.gke.plugins.module_utils.gcp.service_accounts import ServiceAccount

ME = "serviceAccount:n@p.iam.gserviceaccount.com"
CONDITION = {"title": "t", "expression": "true"}
POLICY: dict[str, Any] = {
    "version": 1,
    "etag": "e1",
    "auditConfigs": [{"service": "allServices"}],
    "bindings": [
        {"role": "roles/a", "members": ["user:x"]},
        {"role": "roles/b", "members": [ME], "condition": CONDITION},
        {"role": "roles/c", "members": [ME]},
    ],
}


def test_a_conditional_role_is_not_held_for_good() -> None:
    assert policies.roles_of(POLICY, ME) == {"roles/c"}
    assert policies.mentions(POLICY, ME)


def test_roles_are_added_to_plain_bindings_only() -> None:
    changed = policies.with_roles(POLICY, ME, ["roles/a", "roles/b", "roles/c"])
    assert policies.roles_of(changed, ME) == {"roles/a", "roles/b", "roles/c"}
    assert changed["version"] == 3
    assert {"role": "roles/b", "members": [ME], "condition": CONDITION} in changed["bindings"]
    assert {"role": "roles/b", "members": [ME]} in changed["bindings"]
    assert changed["bindings"][0]["members"] == ["user:x", ME]
    assert changed["etag"] == "e1"
    assert POLICY["bindings"][0]["members"] == ["user:x"], "what was read stays as it was"


def test_a_member_goes_from_everywhere_and_empty_bindings_with_it() -> None:
    changed = policies.without_member(POLICY, ME)
    assert changed["bindings"] == [{"role": "roles/a", "members": ["user:x"]}]
    assert not policies.mentions(changed, ME)


def test_a_race_is_given_up_after_a_minute(google: Any, error_reply: Any) -> None:
    google.on("POST", ":getIamPolicy", POLICY)
    google.on("POST", ":setIamPolicy", error_reply(409, "There were concurrent policy changes.", canonical="ABORTED"))
    with pytest.raises(GoogleApiError) as caught:
        policies.change(google.session(), lambda policy: policy)
    assert caught.value.code == "CONCURRENT_CHANGE"
    assert policies.RACE_SECONDS - 2 * policies.LONGEST_WAIT <= sum(google.clock.slept) <= policies.RACE_SECONDS


def test_another_refusal_is_not_repeated(google: Any, error_reply: Any) -> None:
    google.on("POST", ":getIamPolicy", POLICY)
    google.on(
        "POST",
        ":setIamPolicy",
        error_reply(400, "Service account other@x does not exist.", canonical="INVALID_ARGUMENT"),
    )
    with pytest.raises(GoogleApiError):
        policies.change(google.session(), lambda policy: policy, new_member="n@p.iam.gserviceaccount.com")
    assert google.clock.slept == []


@pytest.mark.parametrize(
    ("project", "email"),
    [("p", "n@p.iam.gserviceaccount.com"), ("example.com:p", "n@p.example.com.iam.gserviceaccount.com")],
)
def test_addresses(project: str, email: str) -> None:
    assert service_accounts.email_of("n", project) == email


def test_the_mark_survives_a_long_description() -> None:
    body = service_accounts.request_body(ServiceAccount("d-nodes", description="ä" * 300, deployment="pattern1"))
    text = body["serviceAccount"]["description"]
    assert len(text.encode()) <= 256
    assert text.endswith("(managed-by=llmd-gke llmd-deployment=pattern1)")
