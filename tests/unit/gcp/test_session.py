"""Patience, endpoints, pages, counting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import (
    RetryPolicy,
    resolve_endpoints,
    segment,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.transport import ConnectionTrouble, Reply

GET = ("compute.projects.get", "GET", "projects/my-project")


@pytest.mark.parametrize(
    "trouble",
    [
        ConnectionTrouble("connection reset by peer"),
        Reply(503, "<html>Service Unavailable</html>"),
        Reply(
            429,
            '{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED",'
            ' "errors": [{"reason": "rateLimitExceeded"}]}}',
        ),
        Reply(
            403,
            '{"error": {"code": 403, "message": "Quota exceeded for quota metric \'Queries\' and limit'
            ' \'Queries per minute\'", "errors": [{"reason": "rateLimitExceeded"}]}}',
        ),
        Reply(400, '{"error": {"code": 400, "message": "not ready", "errors": [{"reason": "resourceNotReady"}]}}'),
    ],
)
def test_passing_trouble_is_sat_out(google: Any, trouble: Any) -> None:
    google.on("GET", "projects/my-project", trouble, trouble, {"name": "my-project"})
    session = google.session()
    assert session.call(*GET) == {"name": "my-project"}
    assert google.clock.slept == [1.0, 2.0]
    assert session.calls == {"compute.projects.get": 3}


def test_jitter_shortens_the_wait_to_half_at_most(google: Any) -> None:
    google.on("GET", "projects", Reply(500, ""), {"name": "p"})
    google.session(jitter=lambda: 0.0).call(*GET)
    assert google.clock.slept == [0.5]


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (Reply(503, "", {"retry-after": "9"}), 9.0),
        (
            Reply(
                429,
                '{"error": {"code": 429, "message": "x", "errors": [{"reason": "rateLimitExceeded"}], "details":'
                ' [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]}}',
            ),
            7.0,
        ),
    ],
)
def test_the_servers_wish_is_honoured(google: Any, reply: Reply, seconds: float) -> None:
    google.on("GET", "projects", reply, {})
    google.session().call(*GET)
    assert google.clock.slept == [seconds]


def test_patience_ends(google: Any) -> None:
    google.on("GET", "projects", Reply(503, "down"))
    with pytest.raises(GoogleApiError) as caught:
        google.session(policy=RetryPolicy(transient=30)).call(*GET)
    assert caught.value.code == "GOOGLE_UNAVAILABLE"
    assert sum(google.clock.slept) <= 30
    assert "tried" in caught.value.what


def test_the_deadline_bounds_everything(google: Any) -> None:
    google.on("GET", "projects", ConnectionTrouble("reset"))
    with pytest.raises(GoogleApiError, match="CONNECTION_FAILED"):
        google.session(deadline=5).call(*GET)
    assert sum(google.clock.slept) <= 5


def test_a_busy_cluster_is_waited_for_until_the_deadline(google: Any, error_reply: Callable[..., Reply]) -> None:
    busy = error_reply(400, "Cluster is running incompatible operation operation-1.", canonical="FAILED_PRECONDITION")
    google.on("PUT", "clusters/c", *[busy] * 20, {"name": "operation-2"})
    answer = google.session(deadline=1800).call("container.projects.locations.clusters.update", "PUT", "clusters/c")
    assert answer == {"name": "operation-2"}
    assert sum(google.clock.slept) > 120  # longer than other troubles get


def test_what_will_not_pass_is_not_repeated(google: Any, error_reply: Callable[..., Reply]) -> None:
    google.on("GET", "projects", error_reply(403, "Required 'compute.projects.get' permission for 'projects/p'"))
    with pytest.raises(GoogleApiError):
        google.session(deadline=600).call(*GET)
    assert len(google.requests) == 1


def test_a_disabled_api_is_asked_again_only_when_told_so(google: Any, disabled_reply: Callable[..., Reply]) -> None:
    google.on("GET", "projects", disabled_reply(), disabled_reply(), {"name": "p"})
    with pytest.raises(GoogleApiError, match="API_DISABLED"):
        google.session().call(*GET)
    assert google.session(policy=RetryPolicy(propagation=300)).call(*GET) == {"name": "p"}


def test_pages(google: Any) -> None:
    google.on("GET", "pageToken=two", {"items": [2]})
    google.on("GET", "subnetworks$", {"items": [1], "nextPageToken": "two"})
    pages = list(google.session().pages("compute.subnetworks.list", "projects/p/regions/r/subnetworks"))
    assert [page["items"] for page in pages] == [[1], [2]]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(200, "<html>login</html>", {"content-type": "text/html"}), "MALFORMED_ANSWER"),
        (Reply(200, '{"items": ['), "TRUNCATED_ANSWER"),
        (Reply(200, "[]", {"content-type": "application/json"}), "MALFORMED_ANSWER"),
        (Reply(404, "<html>no such page</html>", {"content-type": "text/html"}), "MALFORMED_ANSWER"),
        (Reply(200, "[]"), "MALFORMED_ANSWER"),
        (Reply(302, "", {"location": "http://portal"}), "MALFORMED_ANSWER"),
    ],
)
def test_answers_that_google_never_sends(google: Any, reply: Reply, code: str) -> None:
    google.on("GET", "projects", reply)
    with pytest.raises(GoogleApiError) as caught:
        google.session().call(*GET)
    assert caught.value.code == code


def test_endpoints_option_before_environment_before_google() -> None:
    environ = {
        "LLMD_GKE_API_ENDPOINT_COMPUTE": "http://env/compute.googleapis.com",
        "LLMD_GKE_API_ENDPOINT_CONTAINER": "http://env/c/",
    }
    found = resolve_endpoints({"compute": "https://option/"}, environ)
    assert found["compute"] == "https://option/"
    assert found["container"] == "http://env/c/"
    assert found["serviceusage"] == "https://serviceusage.googleapis.com/"


def test_urls_carry_the_version_path(google: Any) -> None:
    google.on("GET", "", {})
    session = google.session(endpoints=resolve_endpoints({"compute": "http://e/compute.googleapis.com"}, {}))
    session.call("compute.projects.get", "GET", "projects/p", params={"b": True, "names": ["x", "y"]})
    assert google.requests[0].url == "http://e/compute.googleapis.com/compute/v1/projects/p?b=true&names=x&names=y"


@pytest.mark.parametrize("overrides", [{"storage": "https://x"}, {"compute": "ftp://x"}, {"compute": "x"}])
def test_bad_endpoints_are_refused(overrides: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="ENDPOINT_INVALID"):
        resolve_endpoints(overrides, {})


def test_a_name_cannot_leave_its_path_segment() -> None:
    assert segment("a/../b?c") == "a%2F..%2Fb%3Fc"
    with pytest.raises(ConfigurationError):
        segment("..")


def test_a_compute_write_keeps_its_request_id_over_all_tries(google: Any) -> None:
    google.on("POST", "addresses", ConnectionTrouble("reset"), Reply(503, ""), {"name": "operation-1"})
    session = google.session()
    session.call("compute.addresses.insert", "POST", "projects/p/regions/r/addresses", body={})
    session.call("compute.addresses.insert", "POST", "projects/p/regions/r/addresses", body={})
    ids = [request.url.split("requestId=")[1] for request in google.requests]
    assert len(set(ids[:3])) == 1
    assert ids[3] != ids[0]


@pytest.mark.parametrize("verb", ["wait", "getHealth", "testIamPermissions"])
def test_what_only_reads_carries_none(google: Any, verb: str) -> None:
    google.on("POST", "x", {})
    google.session().call(f"compute.things.{verb}", "POST", "x", body={})
    assert "requestId" not in google.requests[0].url


def test_a_cut_answer_is_asked_for_again(google: Any) -> None:
    google.on("GET", "projects", Reply(200, '{"name": "p'), {"name": "p"})
    assert google.session().call(*GET) == {"name": "p"}


def test_no_exchange_outlives_the_deadline_by_much(google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(google, "send", lambda *_args, timeout, **_unused: seen.append(timeout) or Reply(200, "{}"))
    session = google.session(deadline=20)
    session.call(*GET)
    google.clock.sleep(30)
    session.call(*GET)
    assert seen == [20, 5]
