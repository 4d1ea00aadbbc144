"""The real gcloud, where it is installed, looks at what our modules made, changes it, and our modules see that.

Both speak to the same emulated project; neither knows of the other. gcloud's list commands exit 0 with a warning when a
request failed, so what it writes to standard error counts too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GCLOUD = shutil.which("gcloud")
pytestmark = [pytest.mark.gcloud, pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed")]
Module = Callable[..., dict[str, Any]]
ZONE = {"location": "us-central1-a"}
REGION = {"region": "us-central1", "deployment": "d"}
GPU: dict[str, Any] = {
    "name": "gpu",
    "machine_type": "n1-standard-4",
    "node_count": 1,
    "accelerator": {"type": "nvidia-tesla-t4", "count": 1},
    "autoscaling": {"min": 0, "max": 3},
}
CLUSTER: dict[str, Any] = {
    **ZONE,
    "name": "c",
    "deployment": "d",
    "release_channel": "REGULAR",
    "node_pools": [{"name": "cpu", "machine_type": "n1-standard-4", "node_count": 1}, GPU],
}
GONE = {"state": "absent"}


class Gcloud:
    """gcloud with a configuration of its own."""

    def __init__(self, emulated: Any, folder: Path) -> None:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "CLOUDSDK_PYTHON") if key in os.environ}
        given = {key: value for key, value in emulated.environment.items() if key.startswith("CLOUDSDK")}
        self.kubeconfig = folder / "kubeconfig"
        own = {"HOME": str(folder), "KUBECONFIG": str(self.kubeconfig), "no_proxy": "*", "NO_PROXY": "*"}
        self.environment = {**kept, **given, **own}

    def __call__(self, command: str) -> str:
        words = [str(GCLOUD), *command.split()]
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        assert "did not succeed" not in done.stderr, done.stderr
        return done.stdout

    def json(self, command: str) -> Any:
        return json.loads(self(f"{command} --format=json"))


@pytest.fixture
def gcloud(emulated: Any, tmp_path: Path) -> Gcloud:
    return Gcloud(emulated, tmp_path)


def test_services_subnet_and_address(emulated: Any, module: Module, gcloud: Gcloud) -> None:
    module("gcp_services", services=["compute", "container"])
    enabled = {one["config"]["name"] for one in gcloud.json("services list --enabled")}
    assert {"compute.googleapis.com", "container.googleapis.com"} <= enabled
    gcloud("services enable networkservices.googleapis.com")
    assert module("gcp_services", services=["networkservices"])["changed"] is False

    made = module("gcp_proxy_subnet", **REGION, range="192.168.0.0/23")["subnetwork"]
    where = "--region=us-central1"
    seen = gcloud.json(f"compute networks subnets describe {made['name']} {where}")
    assert (seen["ipCidrRange"], seen["purpose"], seen["role"]) == (
        "192.168.0.0/23",
        "REGIONAL_MANAGED_PROXY",
        "ACTIVE",
    )
    listed = gcloud.json("compute networks subnets list --network=default --regions=us-central1")
    assert made["name"] in {one["name"] for one in listed}
    gcloud(f"compute networks subnets delete {made['name']} {where} --quiet")
    assert module("gcp_proxy_subnet", **REGION, **GONE)["changed"] is False

    address = module("gcp_address", **REGION, name="gw")["address"]
    assert gcloud.json(f"compute addresses describe gw {where}")["address"] == address["address"]
    gcloud(f"compute addresses create theirs {where}")
    theirs = module("gcp_address", **REGION, name="theirs")
    assert (theirs["changed"], theirs["adopted"]) == (False, True)
    assert {one["name"] for one in gcloud.json("compute addresses list")} == {"gw", "theirs"}


def test_cluster_and_pools(emulated: Any, module: Module, gcloud: Gcloud) -> None:
    module("gcp_services", services=["compute", "container"])
    assert module("gke_cluster", **CLUSTER)["changed"] is True
    where = "--zone=us-central1-a"
    seen = gcloud.json(f"container clusters describe c {where}")
    assert seen["status"] == "RUNNING"
    assert seen["networkConfig"]["gatewayApiConfig"]["channel"] == "CHANNEL_STANDARD"
    assert seen["resourceLabels"]["llmd-deployment"] == "d"
    pools = gcloud.json(f"container node-pools list --cluster=c {where}")
    assert {pool["name"] for pool in pools} == {"cpu", "gpu"}
    gpu = gcloud.json(f"container node-pools describe gpu --cluster=c {where}")
    assert gpu["config"]["accelerators"][0]["acceleratorType"] == "nvidia-tesla-t4"

    gcloud(f"container clusters update c --release-channel=rapid {where}")
    gcloud(f"container clusters resize c --node-pool=gpu --num-nodes=2 {where}")
    gcloud(f"container node-pools update gpu --cluster=c --enable-autoscaling --min-nodes=1 --max-nodes=2 {where}")
    gcloud(f"container node-pools create extra --cluster=c --machine-type=e2-standard-2 --num-nodes=1 {where}")
    drift = module("gke_cluster", check=True, **CLUSTER)
    assert drift["diff"]["before"]["release_channel"] == "RAPID"
    assert drift["diff"]["after"]["release_channel"] == "REGULAR"
    before = {pool["name"]: pool["autoscaling"] for pool in drift["diff"]["before"]["node_pools"]}
    assert before["gpu"] == {"min": 1, "max": 2}
    assert module("gke_node_pool", **ZONE, cluster="c", **GPU, size=2, check=True)["changed"] is True  # its limits
    module("gke_cluster", **CLUSTER)
    assert gcloud.json(f"container clusters describe c {where}")["releaseChannel"]["channel"] == "REGULAR"
    extra = module("gke_node_pool", **ZONE, cluster="c", name="extra", machine_type="e2-standard-2")
    assert extra["changed"] is False
    gcloud(f"container node-pools delete extra --cluster=c {where}")
    gcloud(f"container clusters get-credentials c {where}")
    host = module("gke_credentials", **ZONE, cluster="c")["host"]
    assert f"server: {host}" in gcloud.kubeconfig.read_text()
    gcloud(f"container clusters delete c {where}")
    assert module("gke_cluster", **ZONE, name="c", deployment="d", **GONE)["changed"] is False


def test_service_account_and_policy(emulated: Any, module: Module, gcloud: Gcloud) -> None:
    email = module("gcp_service_account", name="d-nodes", deployment="d")["service_account"]["email"]
    assert "llmd-deployment=d" in gcloud.json(f"iam service-accounts describe {email}")["description"]
    policy = gcloud.json("projects get-iam-policy llmd-sandbox")
    roles = {one["role"] for one in policy["bindings"] if f"serviceAccount:{email}" in one["members"]}
    assert roles == {"roles/container.defaultNodeServiceAccount"}
    member = f"--member=serviceAccount:{email} --role=roles/artifactregistry.reader --condition=None"
    gcloud(f"projects add-iam-policy-binding llmd-sandbox {member}")
    seen = module("gcp_service_account", name="d-nodes", deployment="d")
    assert (seen["changed"], len(seen["service_account"]["roles"])) == (False, 2)
    module("gcp_service_account", name="d-nodes", deployment="d", **GONE)
    assert email not in json.dumps(gcloud.json("projects get-iam-policy llmd-sandbox"))
