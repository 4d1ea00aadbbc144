from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.drift import Drift
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import ReleaseState, parse_time
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm_errors import explain_helm, own_words
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Release, plan_release, waves

MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n"
RELEASE = Release("ms-pattern1", "llm-d-modelservice", "v0.3.17", "llm-d", {"a": 1})
STATE = ReleaseState("ms-pattern1", "llm-d", "deployed", 3, "llm-d-modelservice-v0.3.17", None, {"a": 1}, MANIFEST)


def three() -> list[Release]:
    return [
        Release("ms", "c", "1.0.0", "n", needs=("infra", "gaie")),
        Release("gaie", "c", "1.0.0", "n", needs=("infra",)),
        Release("infra", "c", "1.0.0", "n"),
    ]


def test_needs_give_the_order_and_what_goes_side_by_side() -> None:
    assert [[release.name for release in wave] for wave in waves(three())] == [["infra"], ["gaie"], ["ms"]]
    free = [Release("a", "c", "1", "n"), Release("b", "c", "1", "n")]
    assert [[release.name for release in wave] for wave in waves(free)] == [["a", "b"]]


@pytest.mark.parametrize(
    "releases",
    [
        [Release("a", "c", "1", "n", needs=("b",)), Release("b", "c", "1", "n", needs=("a",))],
        [Release("a", "c", "1", "n", needs=("nobody",))],
        [Release("a", "c", "1", "n"), Release("a", "c", "1", "n")],
    ],
)
def test_orders_that_cannot_be(releases: list[Release]) -> None:
    with pytest.raises(ConfigurationError):
        waves(releases)


def test_a_namespace_before_a_need_is_understood() -> None:
    assert Release.from_params({"name": "b", "needs": ["llm-d/a"]}, "llm-d").needs == ("a",)


@pytest.mark.parametrize(
    ("state", "manifest", "action", "reason"),
    [
        (None, MANIFEST, "install", "not installed"),
        (STATE, MANIFEST, "none", ""),
        (replace(STATE, chart="llm-d-modelservice-v0.3.8"), MANIFEST, "upgrade", "chart llm-d-modelservice-v0.3.8 ->"),
        (replace(STATE, chart="llm-d-modelservice-0.3.17"), MANIFEST, "none", ""),
        (replace(STATE, values={"a": 2}), MANIFEST, "upgrade", "values differ"),
        (replace(STATE, values={"a": 1, "b": None}), MANIFEST, "none", ""),
        (STATE, MANIFEST.replace("name: c", "name: d"), "upgrade", "ConfigMap c removed"),
    ],
)
def test_plans(state: ReleaseState | None, manifest: str, action: str, reason: str) -> None:
    plan = plan_release(RELEASE, state, manifest, list)
    assert plan.action == action
    assert reason in " ".join(plan.reasons)
    assert plan.changed is (action != "none")


def revision(number: int, status: str) -> dict[str, Any]:
    return {"revision": number, "status": status}


@pytest.mark.parametrize(
    ("status", "history", "action", "to"),
    [
        ("failed", [revision(1, "failed")], "replace", 0),
        ("failed", [revision(1, "superseded"), revision(2, "failed")], "upgrade", 0),
        ("pending-install", [revision(1, "pending-install")], "replace", 0),
        ("pending-upgrade", [revision(2, "deployed"), revision(3, "pending-upgrade")], "restore", 2),
        (
            "pending-rollback",
            [revision(1, "superseded"), revision(2, "deployed"), revision(3, "pending-rollback")],
            "restore",
            2,
        ),
        ("uninstalling", [], "replace", 0),
    ],
)
def test_broken_releases_are_healed_and_it_is_said(
    status: str, history: list[dict[str, Any]], action: str, to: int
) -> None:
    plan = plan_release(RELEASE, replace(STATE, status=status), MANIFEST, lambda: history)
    assert (plan.action, plan.revision) == (action, to)
    assert plan.healed.startswith(f"was {status} at revision 3")


def test_objects_that_have_disappeared_are_brought_back() -> None:
    plan = plan_release(RELEASE, STATE, MANIFEST, list, Drift(gone=["Deployment llm-d/x"]))
    assert plan.action == "upgrade"
    assert plan.reasons == ("Deployment llm-d/x is gone",)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-23 11:10:54.008935541 +0000 UTC", datetime(2026, 11, 23, 11, 10, 54, tzinfo=UTC)),
        ("2026-11-23 12:10:54.0 +0100 CET", datetime(2026, 11, 23, 11, 10, 54, tzinfo=UTC)),
        ("2026-11-23T11:10:54.008Z", datetime(2026, 11, 23, 11, 10, 54, tzinfo=UTC)),
        ("", None),
    ],
)
def test_helms_times(text: str, wanted: datetime | None) -> None:
    assert parse_time(text) == wanted


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        (
            'Error: INSTALLATION FAILED: clusterroles.rbac.authorization.k8s.io is forbidden: User "you@example.com" cannot'  # noqa: E501
            ' create resource "clusterroles" in API group "rbac.authorization.k8s.io" at the cluster scope',
            "HELM_RBAC_DENIED",
        ),
        (
            "Error: values don't meet the specifications of the schema(s) in the following chart(s):\ninfra:\n"
            "- at '': additional properties 'b' not allowed",
            "HELM_SCHEMA_REFUSED",
        ),
        ("Error: non-absolute URLs should be in form of repo_name/path_to_chart, got: nope.tgz", "HELM_CHART_NOT_FOUND"),  # noqa: E501
        ('Error: unable to build kubernetes objects: no matches for kind "InferencePool" in version "x/v1"', "HELM_CRD_MISSING"),  # noqa: E501
        ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", "HELM_RELEASE_LOCKED"),
        ('Error: create: failed to create: namespaces "nope" not found', "NAMESPACE_MISSING"),
        ("Error: INSTALLATION FAILED: context deadline exceeded", "HELM_TIMEOUT"),
        ('Error: Kubernetes cluster unreachable: Get "https://x/version": dial tcp: connect: connection refused', "CLUSTER_UNREACHABLE"),  # noqa: E501
        (
            "Error: HealthCheckPolicy.networking.gke.io is invalid: port and portName must be unset for portSpecification"  # noqa: E501
            " being USE_SERVING_PORT",
            "HEALTH_CHECK_POLICY_REFUSED",
        ),
        ('Error: UPGRADE FAILED: cannot patch "x": Deployment.apps "x" is invalid: field is immutable', "HELM_IMMUTABLE_FIELD"),  # noqa: E501
        ("Error: rendered manifests contain a resource that already exists ... invalid ownership metadata", "HELM_FOREIGN_OBJECT"),  # noqa: E501
        ("Error: execution error at (x/templates/d.yaml:3:4): image of container is required", "HELM_TEMPLATE_FAILED"),
        ("Error: something new", "HELM_FAILED"),
    ],
)  # fmt: skip
def test_helms_own_words_get_a_code(stderr: str, code: str) -> None:
    error = explain_helm("helm upgrade of x", 1, "WARNING: Kubernetes configuration file is group-readable\n" + stderr)
    assert error.code == code
    assert error.why.startswith("Error: ")
    assert error.remedy


def test_warnings_are_not_helms_words() -> None:
    assert own_words("WARNING: x\nnoise\nError: y\nmore") == "Error: y\nmore"
