"""The real gcloud, where it is installed, doing the runbook's commands against the emulator on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox.gcp.credentials import gcloud_environment
from sandbox.gcp.testing import Cloud, seed_backend

GCLOUD = shutil.which("gcloud")
pytestmark = [pytest.mark.gcloud, pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed")]


class Gcloud:
    """Runs gcloud with a configuration of its own."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        token = folder / "token"
        token.write_text(cloud.token)
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "CLOUDSDK_PYTHON") if key in os.environ}
        settings = gcloud_environment(cloud.world, token, folder / "gcloud", cloud.server.url)
        kubeconfig = {"KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder)}
        self.environment = keep | settings | kubeconfig | {"no_proxy": "*"}

    def __call__(self, command: str) -> str:
        done = subprocess.run(
            [str(GCLOUD), *command.split()],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # Lists exit 0 with a warning when a request failed, so the text counts too.
        assert done.returncode == 0, done.stderr
        assert "did not succeed" not in done.stderr, done.stderr
        return done.stdout

    def json(self, command: str) -> Any:
        return json.loads(self(f"{command} --format=json"))


def test_gcloud_does_the_runbook(fresh: Cloud, tmp_path: Path) -> None:
    gcloud = Gcloud(fresh, tmp_path)
    gcloud("services enable container.googleapis.com compute.googleapis.com networkservices.googleapis.com")
    gcloud(
        "compute networks subnets create proxy-only-subnet --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE "
        "--region=us-central1 --network=default --range=192.168.0.0/23"
    )
    subnet = gcloud.json("compute networks subnets describe proxy-only-subnet --region=us-central1")
    assert (subnet["purpose"], subnet["role"], subnet["state"]) == ("REGIONAL_MANAGED_PROXY", "ACTIVE", "READY")
    listed = gcloud.json("compute networks subnets list --network=default --regions=us-central1")
    assert {one["name"] for one in listed} == {"default", "proxy-only-subnet"}
    gcloud(
        "container clusters create llm-d --zone=us-central1-a --machine-type=n1-standard-4 --num-nodes=2 "
        "--gateway-api=standard"
    )
    cluster = gcloud.json("container clusters describe llm-d --zone=us-central1-a")
    assert cluster["status"] == "RUNNING"
    assert cluster["networkConfig"]["gatewayApiConfig"]["channel"] == "CHANNEL_STANDARD"
    gcloud("container clusters get-credentials llm-d --zone=us-central1-a")
    assert f"server: https://{cluster['endpoint']}" in (tmp_path / "kubeconfig").read_text()


def test_gcloud_resizes_looks_at_health_and_deletes(cloud: Cloud, tmp_path: Path) -> None:
    gcloud = Gcloud(cloud, tmp_path)
    cloud.run("POST", f"{cloud.container}/clusters", cloud.cluster_body())
    gcloud("container clusters resize llm-d-cluster --node-pool=gpu-pool --num-nodes=2 --zone=us-central1-a")
    assert len(cloud.ok("GET", f"{cloud.compute}/zones/us-central1-a/instances")["items"]) == 4
    service = seed_backend(cloud)
    health = gcloud.json(f"compute backend-services get-health {service} --region=us-central1")
    assert [entry["healthState"] for one in health for entry in one["status"]["healthStatus"]] == ["HEALTHY"]
    gcloud("container clusters delete llm-d-cluster --zone=us-central1-a")
    assert gcloud.json("container clusters list") == []
    assert gcloud.json("compute instances list") == []
