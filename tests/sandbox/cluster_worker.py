"""Runs in the fabric's namespace, with the sandbox's Python: one real cluster from creation to deletion.

Started by test_cluster_backend.py. Prints one JSON object; with ``hold`` it prints when all is up and then waits for
its killer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sandbox import paths as layout
from sandbox.gcp.backend import ClusterAdmin, NodeSpec
from sandbox.kubernetes.api import ApiClient, wait_for
from sandbox.kubernetes.manager import ClusterManager

KEY = "llmd-sandbox/us-central1-a/backend-test"
IMAGE = "ghcr.io/llmd-test/web:v1"
PATHS = layout.current()
NODES = [
    NodeSpec("gke-backend-cpu-0", "cpu", "us-central1-a", "n1-standard-4"),
    NodeSpec("gke-backend-gpu-0", "gpu", "us-central1-a", "n1-standard-4", gpus=1),
]
# kube-proxy and CoreDNS learn of a ready pod a moment after the API server.
PROBE = """
import socket, time, urllib.request
for attempt in range(40):
    try:
        answer = urllib.request.urlopen("http://web", timeout=5).status
        print(socket.gethostbyname("web.default.svc.cluster.local"), answer)
        break
    except OSError as error:
        print(error)
        time.sleep(0.25)
"""


def pod(labels: dict[str, str], image: str, **container: Any) -> dict[str, Any]:
    first = {"name": "web", "image": image, "imagePullPolicy": "Always", "args": ["8000"], **container}
    return {"metadata": {"labels": labels}, "spec": {"containers": [first]}}


def deployment(name: str, replicas: int, template: dict[str, Any]) -> dict[str, Any]:
    selector = {"matchLabels": template["metadata"]["labels"]}
    spec = {"replicas": replicas, "selector": selector, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def objects() -> list[tuple[str, dict[str, Any]]]:
    probe = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    web = pod({"app": "web"}, IMAGE, readinessProbe=probe)
    gpu = pod({"app": "gpu"}, IMAGE, resources={"limits": {"nvidia.com/gpu": "1"}})
    ports = [{"port": 80, "targetPort": 8000}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    core, apps = "/api/v1/namespaces/default", "/apis/apps/v1/namespaces/default/deployments"
    bad = {**pod({"app": "bad"}, "ghcr.io/nobody/nothing:v1")}
    bad["metadata"] = {"name": "bad"}
    return [
        (f"{core}/services", service),
        (apps, deployment("web", 1, web)),
        (apps, deployment("gpu", 2, gpu)),
        (f"{core}/pods", bad),
    ]


def pods(client: ApiClient, app: str) -> list[dict[str, Any]]:
    found = client.call("GET", f"/api/v1/namespaces/default/pods?labelSelector=app%3D{app}")
    items: list[dict[str, Any]] = found["items"]
    return items


def pod_ready(item: dict[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def waiting_reason(client: ApiClient, name: str) -> str:
    found = client.get(f"/api/v1/namespaces/default/pods/{name}") or {}
    statuses = found.get("status", {}).get("containerStatuses", [{}])
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))


def kubectl(admin: ClusterAdmin, *words: str) -> str:
    command = [str(PATHS.bin / "kubectl"), "--kubeconfig", str(admin.kubeconfig), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def start(manager: ClusterManager) -> dict[str, Any]:
    begun = time.monotonic()
    endpoint = manager.create_cluster(KEY, version="1.36", gateway_api=True)
    with ThreadPoolExecutor(2) as pool:
        addresses = list(pool.map(lambda spec: manager.add_node(KEY, spec), NODES))
    seconds = round(time.monotonic() - begun, 1)
    return {"host": endpoint.host, "seconds": seconds, "addresses": [vars(item) for item in addresses]}


def observe(manager: ClusterManager) -> dict[str, Any]:
    admin = manager.admin(KEY)
    client = ApiClient(admin.server, admin.ca_file, admin.cert_file, admin.key_file)
    for collection, body in objects():
        client.create(collection, body)
    node = client.call("GET", f"/api/v1/nodes/{NODES[1].name}")
    rolled_out = wait_for(lambda: any(map(pod_ready, pods(client, "web"))), timeout=60)
    name = pods(client, "web")[0]["metadata"]["name"]
    gpu_placed = wait_for(lambda: sum(map(pod_ready, pods(client, "gpu"))) == 1, timeout=60)
    refused = wait_for(lambda: waiting_reason(client, "bad") in ("ErrImagePull", "ImagePullBackOff"), timeout=30)
    found = {
        "node": {"labels": node["metadata"]["labels"], "spec": node["spec"], "status": node["status"]["allocatable"]},
        "rolled_out": rolled_out,
        "gpu_pods": [item["spec"].get("nodeName") for item in pods(client, "gpu")] if gpu_placed else None,
        "unknown_image_refused": refused,
        "exec": kubectl(admin, "exec", name, "--", "/usr/bin/python3", "-c", PROBE),
        "logs": kubectl(admin, "logs", name),
        "developer": kubectl(
            admin, "auth", "can-i", "create", "clusterroles", "--as=x", "--as-group=gke:roles/container.developer"
        ),
    }
    manager.remove_node(KEY, NODES[0].name)
    found["nodes_left"] = [item["metadata"]["name"] for item in client.call("GET", "/api/v1/nodes")["items"]]
    return found


def main() -> None:
    manager = ClusterManager(PATHS)
    result = start(manager)
    if "hold" in sys.argv:
        print(json.dumps(result), flush=True)
        time.sleep(3600)
    result.update(observe(manager))
    manager.delete_cluster(KEY)
    manager.delete_cluster(KEY)
    manager.stop()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
