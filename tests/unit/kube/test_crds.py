from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.kube.crd_apply import WantedCrd, ensure_crds
from ansible_collections.llmd.gke.plugins.module_utils.kube.crds import decide, prepare, version_key

NAME = "inferencepools.inference.networking.k8s.io"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
CLASS = "/apis/gateway.networking.k8s.io/v1/gatewayclasses/gke-l7-rilb"


def definition(bundle: str = "v1.2.0", served: tuple[str, ...] = ("v1",)) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "annotations": {"inference.networking.k8s.io/bundle-version": bundle}},
        "spec": {
            "group": "inference.networking.k8s.io",
            "x-bundle": bundle,
            "versions": [{"name": name, "served": True} for name in served],
        },
    }


def live(bundle: str = "v1.2.0", ours: bool = False, served: tuple[str, ...] = ("v1",)) -> dict[str, Any]:
    found = prepare(definition(bundle, served)) if ours else definition(bundle, served)
    found["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    return found


@pytest.mark.parametrize(
    ("found", "wanted", "action", "owner", "code"),
    [
        (None, definition(), "create", "nobody", ""),
        (None, None, "keep", "nobody", "CRD_MISSING"),
        (live("v1.0.0"), definition("v1.2.0"), "keep", "others", ""),
        (live("v1.4.0"), definition("v1.2.0"), "keep", "others", ""),
        (live("v1.0.0", served=("v1alpha2",)), definition(), "keep", "others", "CRD_VERSION_NOT_SERVED"),
        (live(ours=True), definition(), "keep", "us", ""),
        (live("v1.0.1", ours=True), definition("v1.2.0"), "update", "us", ""),
        (live("v1.4.0", ours=True), definition("v1.2.0"), "keep", "us", ""),
    ],
)
def test_only_what_is_missing_or_ours_and_older_is_touched(
    found: dict[str, Any] | None, wanted: dict[str, Any] | None, action: str, owner: str, code: str
) -> None:
    decision = decide(NAME, found, wanted, "v1")
    assert (decision.action, decision.owner) == (action, owner)
    assert (decision.problem.code if decision.problem else "") == code


def test_a_release_candidate_is_older_than_its_release() -> None:
    assert version_key("v1.2.0-rc.1") < version_key("v1.2.0") < version_key("v1.10.0")


def establish(api: Any) -> None:
    def react(where: str, _type: str, _document: dict[str, Any]) -> None:
        api.objects[where]["status"] = {"conditions": [{"type": "Established", "status": "True"}]}

    api.on_write = react


def test_what_is_missing_is_applied_and_a_second_run_does_nothing(api: Any, client: Any, clock: Any) -> None:
    establish(api)
    wanted = [WantedCrd(NAME, "v1", definition())]
    first = ensure_crds(client, wanted, clock=clock)
    assert first.changed
    assert first.before[NAME] == "absent"
    assert first.after[NAME] == "serves v1 (bundle v1.2.0)"
    assert api.objects[CRDS + NAME]["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "llmd-gke"
    second = ensure_crds(client, wanted, clock=clock)
    assert not second.changed
    assert len(api.writes()) == 1


def test_check_mode_stores_nothing(api: Any, client: Any, clock: Any) -> None:
    outcome = ensure_crds(client, [WantedCrd(NAME, "v1", definition())], check_mode=True, clock=clock)
    assert outcome.changed
    assert api.objects == {}
    assert "dryRun=All" in api.writes()[0][1]


def test_the_class_is_awaited_before_anything_is_decided(api: Any, client: Any, clock: Any) -> None:
    """GKE brings classes and managed CRDs together: what is about to come must not be taken for missing."""

    def gke_arrives() -> None:
        api.put(
            CLASS,
            {
                "spec": {"controllerName": "networking.gke.io/gateway"},
                "status": {"conditions": [{"type": "Accepted", "status": "True"}]},
            },
        )
        api.put(CRDS + NAME, live())

    clock.at(120, gke_arrives)
    outcome = ensure_crds(client, [WantedCrd(NAME, "v1", definition())], gateway_class="gke-l7-rilb", clock=clock)
    assert not outcome.changed
    assert outcome.crds[0]["owner"] == "others"
    assert outcome.gateway_class == {"name": "gke-l7-rilb", "accepted": True}


@pytest.mark.parametrize(
    ("prepare_api", "wanted", "code"),
    [
        (False, WantedCrd(NAME, "v1", None), "CRD_MISSING"),
        (True, WantedCrd(NAME, "v2", definition()), "CRD_VERSION_NOT_SERVED"),
    ],
)
def test_what_cannot_work_is_named(
    api: Any, client: Any, clock: Any, prepare_api: bool, wanted: WantedCrd, code: str
) -> None:
    if prepare_api:
        api.put(CRDS + NAME, live())
    with pytest.raises(LlmdError) as caught:
        ensure_crds(client, [wanted], timeout=20, clock=clock)
    assert caught.value.code == code
    assert api.writes() == []


def test_a_class_that_never_comes_is_named(client: Any, clock: Any) -> None:
    with pytest.raises(LlmdError) as caught:
        ensure_crds(client, [], gateway_class="gke-l7-rilb", timeout=20, clock=clock)
    assert caught.value.code == "GATEWAY_CLASS_MISSING"
    assert "--gateway-api=standard" in caught.value.remedy


def test_the_module_says_it_in_json(api: Any, fakes: Any, client: Any, capfd: Any, monkeypatch: Any) -> None:
    from ansible_collections.llmd.gke.plugins.modules import gateway_crds

    establish(api)
    monkeypatch.setattr(gateway_crds, "client_from_params", lambda params: client)
    params = {"manifests": [{"name": NAME, "version": "v1", "definition": definition()}]}
    assert fakes.run_module("gateway_crds", capfd, params, check_mode=True)["changed"] is True
    result = fakes.run_module("gateway_crds", capfd, params)
    assert result["changed"] is True
    assert result["diff"]["before"] == {NAME: "absent"}
    assert fakes.run_module("gateway_crds", capfd, params)["changed"] is False
    wrong = {"manifests": [{"name": "other", "definition": definition()}]}
    assert fakes.run_module("gateway_crds", capfd, wrong)["error"]["code"] == "CRD_DEFINITION_WRONG"
