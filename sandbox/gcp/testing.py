"""A whole emulated Google Cloud on loopback for tests: real server, no clusters behind it, no modelled time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from sandbox.gcp.backend import NullBackend
from sandbox.gcp.discovery import Router
from sandbox.gcp.emulator import Emulator
from sandbox.gcp.server import Server, serve
from sandbox.gcp.world import OPERATOR, World
from sandbox.timing import Timing

Json = dict[str, Any]
ROUTER = Router()  # documents are read once for all clouds of a process
PROJECT = "llmd-sandbox"
ZONE = "us-central1-a"
COMPUTE = f"compute.googleapis.com/compute/v1/projects/{PROJECT}"
CONTAINER = f"container.googleapis.com/v1/projects/{PROJECT}/locations/{ZONE}"
SERVICES = ["compute.googleapis.com", "container.googleapis.com", "networkservices.googleapis.com"]


@dataclass
class Cloud:
    """The emulator and a client of it."""

    emulator: Emulator
    backend: NullBackend
    server: Server
    token: str
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def world(self) -> World:
        return self.emulator.world

    compute = COMPUTE
    container = CONTAINER

    @staticmethod
    def cluster_body(**more: Any) -> Json:
        """Body of a clusters.create as our module sends it; ``more`` replaces fields of the cluster."""
        return cluster_body(**more)

    def send(
        self, verb: str, path: str, body: Any = None, *, token: str | None = None, **more: Any
    ) -> requests.Response:
        """One request by path prefix; ``token`` "" sends none."""
        bearer = self.token if token is None else token
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        headers |= more.pop("headers", {})
        return self.session.request(verb, f"{self.server.url}/{path}", json=body, headers=headers, timeout=20, **more)

    def ok(self, verb: str, path: str, body: Any = None, **more: Any) -> Json:
        answer = self.send(verb, path, body, **more)
        assert answer.status_code == 200, answer.text
        result: Json = answer.json()
        return result

    def fails(self, status: int, verb: str, path: str, body: Any = None, **more: Any) -> Json:
        answer = self.send(verb, path, body, **more)
        assert answer.status_code == status, answer.text
        error: Json = answer.json()["error"]
        return error

    def done(self, operation: Json) -> Json:
        """The finished form of an operation of any API."""
        if operation.get("kind") == "compute#operation":
            path = operation["selfLink"].partition("/compute/v1/")[2]
            return self.ok("POST", f"compute.googleapis.com/compute/v1/{path}/wait")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if "targetLink" in operation:
                operation = self.ok("GET", f"{operation['selfLink'].removeprefix('https://')}")
                if operation["status"] == "DONE":
                    return operation
            else:
                if operation.get("done"):
                    return operation
                operation = self.ok("GET", f"serviceusage.googleapis.com/v1/{operation['name']}")
            time.sleep(0.005)
        raise AssertionError(operation)

    def run(self, verb: str, path: str, body: Any = None, **more: Any) -> Json:
        """Send a mutation and see it through."""
        return self.done(self.ok(verb, path, body, **more))

    def token_of(self, *roles: str, email: str = "person@example.com") -> str:
        """Token of a person who has exactly these roles."""
        self.world.accounts.add(email, human=True)
        bindings = [one for one in self.world.policy["bindings"] if f"user:{email}" not in one["members"]]
        bindings += [{"role": role, "members": [f"user:{email}"]} for role in roles]
        self.world.set_policy({"bindings": bindings})
        return self.world.accounts.issue(email)


def make_cloud(folder: Path, *, enabled: list[str] | None = None) -> Cloud:
    world, backend = World(), NullBackend()
    world.enable(SERVICES if enabled is None else enabled)
    emulator = Emulator(world, backend, Timing(0), router=ROUTER)
    server = serve(emulator, "127.0.0.1", 0, logs=folder)
    emulator.base_url = server.url
    return Cloud(emulator, backend, server, world.accounts.issue(world.email(OPERATOR)))


def cluster_body(**more: Any) -> Json:
    """What our gke_cluster module sends: everything in one call."""
    pools = [
        {"name": "cpu-pool", "initialNodeCount": 2, "config": {"machineType": "n1-standard-4"}},
        {
            "name": "gpu-pool",
            "initialNodeCount": 1,
            "config": {
                "machineType": "n1-standard-4",
                "accelerators": [{"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": 1}],
            },
            "autoscaling": {"enabled": True, "minNodeCount": 0, "maxNodeCount": 3},
        },
    ]
    body: Json = {
        "name": "llm-d-cluster",
        "nodePools": pools,
        "ipAllocationPolicy": {"useIpAliases": True},
        "networkConfig": {"gatewayApiConfig": {"channel": "CHANNEL_STANDARD"}},
        "resourceLabels": {"managed-by": "llmd-gke"},
    }
    return {"cluster": body | more}


def seed_backend(cloud: Cloud, name: str = "gkegw1-test-llm-d-gaie-pattern1") -> str:
    """A regional backend service with one NEG of one healthy endpoint, as the Gateway controller makes it."""
    store = cloud.world.compute
    endpoint = {"ipAddress": "10.4.2.6", "port": 8000}
    with cloud.world.mutate():
        group = store.insert(
            "networkEndpointGroups",
            f"zones/{ZONE}",
            {"name": f"{name}-neg", "networkEndpointType": "GCE_VM_IP_PORT", "network": "global/networks/default"},
        )
        store.set_endpoints(f"zones/{ZONE}", f"{name}-neg", [endpoint])
        store.insert(
            "regionBackendServices",
            "regions/us-central1",
            {
                "name": name,
                "protocol": "HTTP",
                "loadBalancingScheme": "EXTERNAL_MANAGED",
                "backends": [{"group": group["selfLink"], "balancingMode": "RATE", "maxRatePerEndpoint": 100000000}],
            },
        )
    cloud.world.group_health = lambda service, group: [{**endpoint, "healthState": "HEALTHY"}]
    return name
