"""Every request body that we can build, against Google's discovery documents."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY))

from ansible_collections.llmd.gke.plugins.module_utils.gcp import (  # noqa: E402
    addresses,
    clusters,
    node_pools,
    policies,
    pool_updates,
    service_accounts,
    subnetworks,
)
from ansible_collections.llmd.gke.plugins.module_utils.gcp.cluster_settings import Window  # noqa: E402
from ansible_collections.llmd.gke.plugins.module_utils.gcp.clusters import Cluster  # noqa: E402
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Accelerator, Pool  # noqa: E402

from sandbox.gcp import schema  # noqa: E402
from sandbox.gcp.discovery import Router  # noqa: E402

FULL = Pool(
    name="gpu-pool",
    machine_type="n1-standard-4",
    node_count=1,
    accelerator=Accelerator("nvidia-tesla-t4", 1, "latest"),
    autoscaling=(0, 3),
    location_policy="any",
    locations=("us-central1-a", "us-central1-b"),
    reservation=("specific", "r"),
    upgrade=(2, 1),
    spot=True,
    labels={"a": "1"},
    taints=(("k", "v", "NoSchedule"), ("l", "", "NoExecute")),
    disk_size_gb=200,
    disk_type="pd-ssd",
    service_account="nodes@p.iam.gserviceaccount.com",
)
WANT = Cluster(
    name="c",
    location="us-central1-a",
    network="projects/host/global/networks/vpc",
    subnetwork="s",
    release_channel="REGULAR",
    version="1.34",
    labels={"team": "ai"},
    deployment="pattern1",
    private_nodes=True,
    authorized_networks=(("203.0.113.0/24", "office"),),
    maintenance_window=Window("2026-01-03T00:00:00Z", "2026-01-03T06:00:00Z", "FREQ=WEEKLY;BYDAY=SA"),
    pools=(Pool("default-pool"), FULL),
)
ADDRESS = addresses.Address("a", "us-central1", "internal", "10.0.0.7", "s", {"team": "ai"}, "pattern1")
ACCOUNT = service_accounts.ServiceAccount("d-nodes", "Nodes", "What for", deployment="d")
POLICY = {"etag": "eA==", "version": 3, "bindings": [{"role": "roles/x", "members": [], "condition": {"title": "t"}}]}
FOUND: dict[str, Any] = {
    "name": "c",
    "resourceLabels": {"managed-by": "llmd-gke"},
    "labelFingerprint": "a1b2",
    "currentMasterVersion": "1.33.1-gke.1",
    "networkConfig": {"defaultEnablePrivateNodes": True},
    "maintenancePolicy": {"resourceVersion": "x", "window": {"maintenanceExclusions": {"freeze": {}}}},
    "addonsConfig": {"httpLoadBalancing": {"disabled": True}},
}
POOL_FOUND: dict[str, Any] = {
    "name": "gpu-pool",
    "config": {
        "machineType": "n1-standard-8",
        "spot": True,
        "serviceAccount": "nodes@p.iam.gserviceaccount.com",
        "reservationAffinity": {
            "consumeReservationType": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": ["r"],
        },
        "accelerators": [
            {
                "acceleratorCount": "1",
                "acceleratorType": "nvidia-tesla-t4",
                "gpuDriverInstallationConfig": {"gpuDriverVersion": "DEFAULT"},
            }
        ],
    },
}


def bodies() -> list[tuple[str, str, dict[str, Any]]]:
    subnet = subnetworks.ProxySubnet("s", "default", "us-central1", "192.168.0.0/23", "pattern1")
    found = [
        ("compute.v1", "compute.subnetworks.insert", subnetworks.request_body(subnet, "p")),
        ("compute.v1", "compute.addresses.insert", addresses.request_body(ADDRESS, "p")),
        ("compute.v1", "compute.addresses.setLabels", {"labels": {"a": "b"}, "labelFingerprint": "eA=="}),
        ("container.v1", "container.projects.locations.operations.cancel", {}),
        ("compute.v1", "compute.regionBackendServices.getHealth", {"group": "g"}),
        ("container.v1", clusters.METHOD + "create", clusters.creation_body(WANT, "p")),
        (
            "container.v1",
            node_pools.METHOD + "create",
            {"parent": "x", "nodePool": node_pools.creation_body(FULL, deployment="pattern1")},
        ),
        ("serviceusage.v1", "serviceusage.services.enable", {}),
        ("serviceusage.v1", "serviceusage.services.batchEnable", {"serviceIds": ["x"]}),
        ("serviceusage.v1", "serviceusage.services.disable", {"disableDependentServices": False}),
        ("cloudresourcemanager.v1", "cloudresourcemanager.projects.testIamPermissions", {"permissions": ["x"]}),
        (
            "cloudresourcemanager.v1",
            "cloudresourcemanager.projects.getIamPolicy",
            {"options": {"requestedPolicyVersion": policies.VERSION}},
        ),
        (
            "cloudresourcemanager.v1",
            "cloudresourcemanager.projects.setIamPolicy",
            {"policy": policies.with_roles(POLICY, "user:a@b.c", ["roles/x", "roles/y"]), "updateMask": policies.MASK},
        ),
        ("iam.v1", service_accounts.METHOD + "create", service_accounts.request_body(ACCOUNT)),
    ]
    found += [("container.v1", u.method, {"name": "x", **u.body}) for u in clusters.updates(WANT, {**FOUND}, "p")]
    changes = [*pool_updates.changes(FULL, POOL_FOUND), pool_updates.size_change(2)]
    return found + [("container.v1", change.method, {"name": "x", **change.body}) for change in changes]


@pytest.mark.parametrize(("document", "method", "body"), bodies())
def test_google_knows_every_field(router: Router, document: str, method: str, body: dict[str, Any]) -> None:
    _normal, violations = schema.read_request(router.method(document, method), body)
    assert violations == []


def test_all_kinds_of_update_are_among_them() -> None:
    methods = {method for _document, method, _body in bodies()}
    assert clusters.METHOD + "update" in methods
    assert clusters.METHOD + "setResourceLabels" in methods
    assert clusters.METHOD + "setMaintenancePolicy" in methods
    for suffix in ("update", "setAutoscaling", "setSize"):
        assert node_pools.METHOD + suffix in methods


WRITES = re.compile(r'"(compute\.\w+\.(?:insert|delete|patch|update|set\w+))"')


def written_methods() -> set[str]:
    """Every compute write that stands in our code."""
    folder = Path(__file__).resolve().parents[3] / "plugins" / "module_utils"
    return {found for path in folder.rglob("*.py") for found in WRITES.findall(path.read_text())}


@pytest.mark.parametrize("method", sorted(written_methods()))
def test_every_compute_write_takes_a_request_id(router: Router, method: str) -> None:
    assert schema.check_query(router.method("compute.v1", method), {"requestId": ["x"]}) == []


METHOD_ID = re.compile(r"(?:compute|container|serviceusage|cloudresourcemanager|iam|cloudbilling|monitoring)(?:\.\w+)+")


def named_methods() -> set[str]:
    """Every API method that stands in our code; a constant METHOD is a prefix of the words that follow it."""
    folder = Path(__file__).resolve().parents[3] / "plugins" / "module_utils"
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls = re.findall(r'(?:session\.call|session\.pages|Update|Change)\(\s*f?"([\w.]+)"', text)
        found |= {call for call in calls if METHOD_ID.fullmatch(call) and call.count(".") >= 2}
        for prefix in re.findall(r'^METHOD = "([\w.]+\.)"$', text, re.MULTILINE):
            found |= {prefix + word for word in re.findall(r'\bMETHOD \+ "(\w+)"', text)}
    return found


@pytest.mark.parametrize("method", sorted(named_methods()))
def test_google_has_every_method_that_we_name(router: Router, method: str) -> None:
    versions = {"compute": "v1", "container": "v1", "serviceusage": "v1", "cloudresourcemanager": "v1", "iam": "v1",
                "cloudbilling": "v1", "monitoring": "v1"}  # fmt: skip
    service = method.split(".", 1)[0]
    assert router.method(f"{service}.{versions[service]}", method).id == method


def test_there_are_methods_to_look_at() -> None:
    assert len(named_methods()) > 30
