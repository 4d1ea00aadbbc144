"""The orphan scan against the emulator: everything of ours found and deleted in order, nothing of anybody else's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .orphan_zoo import MINE, REGION, ZONE, Zoo, about, others, ours

Module = Callable[..., dict[str, Any]]
SERVICES = {"services": ["compute", "container", "networkservices"]}
CLUSTER = {"location": "us-central1-a", "name": "llm-d-cluster", "deployment": "pattern1",
           "node_pools": [{"name": "default-pool", "machine_type": "n1-standard-4", "node_count": 1}]}  # fmt: skip


def keys(found: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(one["kind"], one["scope"], one["name"]) for one in found}


@pytest.fixture
def ready(module: Module) -> Module:
    assert module("gcp_services", **SERVICES)["changed"] is True
    return module


def existing(emulated: Any) -> set[tuple[str, str, str]]:
    found = set()
    for kind, items in emulated.control("snapshot")["compute"].items():
        found |= {(kind, *path.rsplit("/", 1)) for path in items}
    return found


def test_thirty_of_five_hundred(emulated: Any, ready: Module, record_property: Callable[[str, object], None]) -> None:
    zoo = Zoo()
    mine = set(ours(zoo))
    others(zoo, 470)
    assert (len(mine), len(zoo.resources)) == (30, 500)
    emulated.control("seed", {"resources": zoo.resources})
    before = existing(emulated)

    started = time.monotonic()
    found = ready("orphan_scan", **MINE)
    seconds = time.monotonic() - started
    assert keys(found["leftovers"]) == mine
    assert found["changed"] is found["proven"] is False
    assert not keys(found["foreign"]) & mine
    assert existing(emulated) == before

    wished = {**MINE, "delete": True, "confirm": "pattern1"}
    predicted = ready("orphan_scan", check=True, **wished)
    assert (predicted["changed"], predicted["left"], keys(predicted["deleted"])) == (True, 0, mine)
    assert existing(emulated) == before

    started = time.monotonic()
    done = ready("orphan_scan", **wished)
    deleting = time.monotonic() - started
    assert done["refused"] == []
    assert (keys(done["deleted"]), done["left"], done["proven"]) == (mine, 0, True)
    assert before - existing(emulated) == mine
    again = ready("orphan_scan", **wished)
    assert (again["changed"], again["left"], again["proven"]) == (False, 0, True)
    percent = 100 * len(keys(found["leftovers"]) & mine) // len(mine)
    touched = len(before - existing(emulated) - mine)
    print(
        f"\norphan scan: {found['scanned']} resources, {len(mine)} ours, found {percent} %, foreign touched {touched}"
    )
    print(f"scan {seconds:.2f} s, deletion {deleting:.2f} s")
    record_property("scan_seconds", seconds)


def test_nothing_is_deleted_without_the_name(emulated: Any, ready: Module) -> None:
    zoo = Zoo()
    ours(zoo)
    emulated.control("seed", {"resources": zoo.resources})
    before = existing(emulated)
    for confirm in ("", "pattern2"):
        result = ready("orphan_scan", **MINE, delete=True, confirm=confirm)
        assert result["error"]["code"] == "CONFIRM_WRONG"
    assert existing(emulated) == before


def test_a_foreign_user_keeps_a_leftover_and_is_named(emulated: Any, ready: Module) -> None:
    zoo = Zoo()
    mine = ours(zoo)
    proxy = next(key for key in mine if key[0] == "targetHttpProxies" and key[1] == REGION)
    zoo.add("forwardingRules", REGION, "by-hand", target=zoo.link(proxy), IPAddress="203.0.113.9")
    emulated.control("seed", {"resources": zoo.resources})
    done = ready("orphan_scan", **MINE, delete=True, confirm="pattern1")
    failed = {one["kind"]: one for one in done["refused"]}
    assert failed["targetHttpProxies"]["code"] == "ORPHAN_IN_USE"
    assert "by-hand" in failed["targetHttpProxies"]["why"]
    assert {"urlMaps", "backendServices", "healthChecks"} <= set(failed)  # what it needs stays with it
    assert ("forwardingRules", REGION, "by-hand") in existing(emulated)
    assert done["left"] == len(done["refused"]) > 0


def test_parts_of_a_living_cluster_are_no_leftovers(emulated: Any, ready: Module) -> None:
    ready("gke_cluster", **CLUSTER)
    zoo = Zoo()
    mine = ours(zoo)
    emulated.control("seed", {"resources": zoo.resources})
    before = existing(emulated)
    done = ready("orphan_scan", **MINE, delete=True, confirm="pattern1")
    assert (done["left"], done["changed"], done["cluster_exists"]) == (0, False, True)
    assert set(mine) - keys(done["live"]) == set()
    assert existing(emulated) == before
    noted = done["record"]
    assert noted["made"] is True

    ready("gke_cluster", **CLUSTER, state="absent")
    after = ready("orphan_scan", **{**MINE, "namespace": "", "gateway": "", "pool": ""}, record=noted)
    assert set(mine) <= keys(after["leftovers"])


def test_the_release_scope_leaves_what_the_clusters_other_gateways_use(emulated: Any, ready: Module) -> None:
    zoo = Zoo()
    mine = zoo.balancer(
        "gkegw1-ab12", "one", REGION, about("/namespaces/llm-d/gateways/infra-pattern1-inference-gateway"),
        about("/namespaces/llm-d/services/gaie-pattern1-epp"),
    )  # fmt: skip
    zoo.balancer(
        "gkegw1-ab12", "two", REGION, about("/namespaces/llm-d/gateways/infra-pattern2-inference-gateway"),
        about("/namespaces/llm-d/services/gaie-pattern2-epp"),
    )  # fmt: skip
    zoo.add("firewalls", "global", "gkegw1-ab12-l7-default-us-central1", description=about(""))
    emulated.control("seed", {"resources": zoo.resources})
    ready("gke_cluster", **CLUSTER)
    done = ready("orphan_scan", **MINE, scope="release", delete=True, confirm="pattern1")
    assert (keys(done["deleted"]), done["left"], done["refused"]) == (set(mine), 0, [])
    assert ("firewalls", "global", "gkegw1-ab12-l7-default-us-central1") in existing(emulated)


def test_the_same_name_in_another_zone_makes_names_worthless(emulated: Any, ready: Module) -> None:
    zoo = Zoo()
    mine = set(ours(zoo))
    emulated.control("seed", {"resources": zoo.resources})
    ready("gke_cluster", **{**CLUSTER, "location": "us-central1-b"})
    found = ready("orphan_scan", **MINE)
    missing = mine - keys(found["leftovers"])
    assert {kind for kind, _scope, _name in missing} == {"firewalls", "instanceGroupManagers", "instanceGroups"}
    assert all(name.startswith("gke-llm-d-cluster-") for _kind, _scope, name in missing)


def test_a_kind_that_may_not_be_read_or_deleted_is_named_and_the_rest_goes_on(emulated: Any, ready: Module) -> None:
    zoo = Zoo()
    mine = set(ours(zoo))
    emulated.control("seed", {"resources": zoo.resources})
    for method in ("compute.disks.aggregatedList", "compute.firewalls.delete"):
        words = f"Required '{method}' permission for 'projects/llmd-sandbox'"
        emulated.plant(method=method, http=403, message=words, times=100)
    done = ready("orphan_scan", **MINE, delete=True, confirm="pattern1")
    assert [one["kind"] for one in done["unread"]] == ["disks"]
    assert {one["kind"] for one in done["refused"]} == {"firewalls"}
    assert all(one["code"] == "PERMISSION_DENIED" for one in done["refused"])
    assert done["proven"] is False
    left = {key for key in mine if key in existing(emulated)}
    assert {kind for kind, _scope, _name in left} == {"disks", "firewalls"}


def test_a_disk_with_a_user_and_a_kind_to_keep_stay(emulated: Any, ready: Module) -> None:
    zoo = Zoo()
    ours(zoo)
    for item in zoo.resources:
        if item["body"]["name"] == "pvc-0001":
            item["body"]["users"] = [f"https://www.googleapis.com/compute/v1/projects/llmd-sandbox/{ZONE}/instances/vm"]
    emulated.control("seed", {"resources": zoo.resources})
    done = ready("orphan_scan", **MINE, delete=True, confirm="pattern1")
    assert [(one["name"], one["code"]) for one in done["refused"]] == [("pvc-0001", "ORPHAN_IN_USE")]


def test_a_record_of_another_deployment_is_refused(ready: Module) -> None:
    noted = ready("orphan_scan", **MINE)["record"]
    assert "error" not in ready("orphan_scan", **MINE, record=noted)
    for field in ("project", "deployment", "location", "cluster"):
        result = ready("orphan_scan", **MINE, record={**noted, field: "another"})
        assert result["error"]["code"] == "RECORD_FOREIGN"


def test_an_account_that_outlived_its_cluster_goes_last_and_with_its_bindings(emulated: Any, ready: Module) -> None:
    for name, deployment in (("first-nodes", "pattern1"), ("second-nodes", "pattern2")):
        assert ready("gcp_service_account", name=name, deployment=deployment)["changed"] is True
    zoo = Zoo()
    account = ("serviceAccounts", "global", "first-nodes@llmd-sandbox.iam.gserviceaccount.com")
    mine = {*ours(zoo), account}
    emulated.control("seed", {"resources": zoo.resources})
    ready("gke_cluster", **CLUSTER)
    living = ready("orphan_scan", **MINE)
    assert mine <= keys(living["live"])  # the nodes run as it
    ready("gke_cluster", **CLUSTER, state="absent")
    found = ready("orphan_scan", **MINE, record=living["record"])
    assert keys(found["leftovers"]) == mine
    assert found["foreign_counts"]["serviceAccounts"] == 1
    kept = ready("orphan_scan", **MINE, delete=True, confirm="pattern1", keep=["serviceAccounts"])
    assert [one["kind"] for one in kept["leftovers"]] == ["serviceAccounts"]
    done = ready("orphan_scan", **MINE, delete=True, confirm="pattern1")
    assert (keys(done["deleted"]), done["left"], done["proven"]) == ({account}, 0, True)
    after = emulated.control("snapshot")
    assert [email for email in after["serviceAccounts"] if "-nodes@" in email] == [
        "second-nodes@llmd-sandbox.iam.gserviceaccount.com"
    ]
    assert "first-nodes" not in str(after["policy"])


def test_accounts_that_may_not_be_listed_are_named(emulated: Any, ready: Module) -> None:
    words = "Permission 'iam.serviceAccounts.list' denied on resource (or it may not exist)."
    emulated.plant(method="iam.projects.serviceAccounts.list", http=403, message=words, times=1)
    found = ready("orphan_scan", **MINE)
    assert [(one["kind"], one["code"]) for one in found["unread"]] == [("serviceAccounts", "PERMISSION_DENIED")]
    assert found["proven"] is False
