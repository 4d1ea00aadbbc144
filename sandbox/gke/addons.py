"""What GKE installs into a cluster when its Gateway API channel is on: CRDs and GatewayClasses, and their status."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from sandbox.gke import conditions
from sandbox.gke.conditions import condition
from sandbox.gke.kubeapi import Admin, ApiError, Client, Object, Resource
from sandbox.gke.model import CLASSES, CONTROLLER, GatewayClass
from sandbox.gke.snapshot import GATEWAY_CLASS, GATEWAY_GROUP, MANAGED

CRD = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
FOLDER = Path(__file__).resolve().parent.parent / "crds"
ENV_GENERATION = "LLMD_SANDBOX_GATEWAY_CRDS"  # "older" (default) or "newer": generation of HealthCheckPolicy
_MANAGER = "gke-addon-manager"
GENERATIONS = ("older", "newer")


def manifests(generation: str = "older", folder: Path = FOLDER / "managed") -> list[Object]:
    """The managed CRDs. ``generation`` chooses the HealthCheckPolicy (files NAME.older.yaml and NAME.newer.yaml)."""
    if generation not in GENERATIONS:
        raise ValueError(f"{ENV_GENERATION}={generation!r}: one of {', '.join(GENERATIONS)}")
    other = GENERATIONS[1 - GENERATIONS.index(generation)]
    found: list[Object] = []
    for path in sorted(folder.glob("*.yaml")):
        if not path.name.endswith(f".{other}.yaml"):
            found += [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]
    return found


def gateway_class(klass: GatewayClass) -> Object:
    """A GatewayClass object as GKE makes it."""
    return {
        "apiVersion": f"{GATEWAY_GROUP}/v1",
        "kind": "GatewayClass",
        "metadata": {"name": klass.name},
        "spec": {"controllerName": CONTROLLER, "description": klass.description},
    }


class Addons:
    """Installs the add-on. Applying twice changes nothing."""

    def __init__(self, generation: str | None = None) -> None:
        self._generation = generation or os.environ.get(ENV_GENERATION) or "older"

    def enable_gateway_api(self, admin: Admin, *, timeout: float = 60.0) -> None:
        """Install CRDs, wait until the API server serves them, then the classes with Accepted=True.

        Raises ApiError or requests' errors where the API server refuses or does not answer, TimeoutError where the
        CRDs are not served within ``timeout`` seconds.
        """
        client = Client(admin)
        for item in manifests(self._generation):
            client.apply(CRD, item, manager=_MANAGER)
        _wait(lambda: all(_served(client, resource) for resource in MANAGED), timeout)
        for klass in CLASSES.values():
            found = client.apply(GATEWAY_CLASS, gateway_class(klass), manager=_MANAGER)
            accept(client, found)


def accept(client: Client, item: Object) -> None:
    """Give a GatewayClass its Accepted condition, where it has not got it."""
    have = (item.get("status") or {}).get("conditions") or []
    if conditions.status_of(have, "Accepted") == "True":
        return
    seen = int(item["metadata"].get("generation", 1))
    wanted: list[dict[str, Any]] = conditions.merge(have, [condition("Accepted", True, "Accepted", "", seen)])
    client.patch(GATEWAY_CLASS, item["metadata"]["name"], None, {"status": {"conditions": wanted}}, "status")


def _served(client: Client, resource: Resource) -> bool:
    try:
        client.list(resource)
    except ApiError as error:
        if error.code in (404, 503, 429):
            return False
        raise
    return True


def _wait(ready: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the API server did not serve the Gateway API CRDs within {timeout:.0f} s")
        time.sleep(0.2)
