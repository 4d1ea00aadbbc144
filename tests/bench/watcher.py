"""Runs inside the sandbox beside a playbook: notes when each condition that modules wait for came true.

    watcher.py NAMESPACE REGION ZONE

Looks ten times a second at the APIs themselves, past every module of the collection. Prints one JSON line whenever one
changes: {"time": seconds, "what": condition, "true": whether it holds}. Ends with its standard input.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

GOOGLE = "http://192.0.2.10/"
PROJECT = "llmd-sandbox"
PERIOD = 0.1


def google(method: str, path: str, body: Any = None) -> Any:
    token = Path(os.environ["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(GOOGLE + path, method=method, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


class Cluster:
    """The API server, with the sandbox's own kubeconfig as soon as there is one."""

    def __init__(self) -> None:
        self.server = ""

    def get(self, path: str) -> Any:
        if not self.server:
            config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
            cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
            self.context = ssl.create_default_context()
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
            self.token = str(user.get("token") or "")
            if user.get("client-certificate-data"):
                with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pair:
                    for part in ("client-certificate-data", "client-key-data"):
                        pair.write(base64.b64decode(user[part]) + b"\n")
                    pair.flush()
                    self.context.load_cert_chain(pair.name)
            elif user.get("client-certificate"):
                self.context.load_cert_chain(user["client-certificate"], user["client-key"])
            self.server = str(cluster["server"])
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.server + path, headers=headers)
        with urllib.request.urlopen(request, timeout=5, context=self.context) as answer:
            return json.load(answer)


def true(conditions: list[dict[str, Any]], *types: str) -> bool:
    states = {entry["type"]: entry["status"] for entry in conditions}
    return all(states.get(type_) == "True" for type_ in types)


def conditions(space: str, region: str, zone: str) -> dict[str, Callable[[], bool]]:
    """What is waited for, by name, each as a look at the truth."""
    cluster = Cluster()
    apps, gateways = "/apis/apps/v1", "/apis/gateway.networking.k8s.io/v1"

    def workloads() -> bool:
        items = cluster.get(f"{apps}/namespaces/{space}/deployments")["items"]
        return len(items) > 1 and all(
            item.get("status", {}).get("availableReplicas", 0) >= item["spec"].get("replicas", 1) for item in items
        )

    def gateway() -> bool:
        found = cluster.get(f"{gateways}/namespaces/{space}/gateways")["items"]
        routes = cluster.get(f"{gateways}/namespaces/{space}/httproutes")["items"]
        parents = [parent for route in routes for parent in route.get("status", {}).get("parents") or [{}]]
        healthy = "networking.gke.io/GatewayHealthy"
        return (
            bool(found)
            and bool(parents)
            and all(true(item.get("status", {}).get("conditions", []), "Programmed", healthy) for item in found)
            and all(true(parent.get("conditions", []), "Accepted", "ResolvedRefs", "Reconciled") for parent in parents)
        )

    def backends() -> bool:
        where = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/regions/{region}/backendServices"
        services = [item for item in google("GET", where).get("items", []) if "serve404" not in item["name"]]
        states = [
            [
                entry["healthState"]
                for entry in google("POST", f"{where}/{item['name']}/getHealth", group).get("healthStatus", [])
            ]
            for item in services
            for group in [{"group": backend["group"]} for backend in item.get("backends", [])]
        ]
        return bool(states) and all(found and set(found) == {"HEALTHY"} for found in states)

    def made() -> bool:
        where = f"container.googleapis.com/v1/projects/{PROJECT}/locations/{zone}/operations"
        found = [
            item for item in google("GET", where).get("operations", []) if item["operationType"] == "CREATE_CLUSTER"
        ]
        return bool(found) and all(item["status"] == "DONE" for item in found)

    def subnet() -> bool:
        where = f"compute.googleapis.com/compute/v1/projects/{PROJECT}/regions/{region}/subnetworks"
        found = [
            item for item in google("GET", where).get("items", []) if item.get("purpose", "").startswith("REGIONAL")
        ]
        return bool(found) and all(item.get("state", "READY") == "READY" for item in found)

    def classes() -> bool:
        items = cluster.get(f"{gateways}/gatewayclasses")["items"]
        return bool(items) and all(true(item.get("status", {}).get("conditions", []), "Accepted") for item in items)

    return {
        "Creation of cluster": made,
        "Creation of subnet": subnet,
        "GatewayClass": classes,
        "Workloads ready": workloads,
        "Gateway ": gateway,
        "Backends HEALTHY": backends,
    }


def main() -> None:
    looks = conditions(*sys.argv[1:4])
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    held: dict[str, bool] = {}
    while not done.wait(PERIOD):
        for what, look in looks.items():
            try:
                holds = look()
            except (OSError, KeyError, ValueError, TypeError):  # not there yet, or going away
                holds = False
            if held.get(what) != holds:
                held[what] = holds
                print(json.dumps({"time": time.time(), "what": what, "true": holds}), flush=True)


if __name__ == "__main__":
    main()
