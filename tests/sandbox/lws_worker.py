"""Runs in the fabric's namespace, with the sandbox's Python: LeaderWorkerSets on a real cluster.

Started by test_lws.py. The controller comes by its chart, as a container, with its webhooks. Prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster_worker import KEY, NODES, PATHS

from sandbox.kubernetes.api import ApiClient, wait_for
from sandbox.kubernetes.manager import ClusterManager

NAME = "ms-moe-llm-d-modelservice-decode"
IMAGE = "ghcr.io/llmd-test/web:v1"
SETS = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets"
PODS = "/api/v1/namespaces/default/pods"
STATEFUL = "/apis/apps/v1/namespaces/default/statefulsets"
LOOK_UP = "import os, socket; print(socket.gethostbyname(os.environ['LWS_LEADER_ADDRESS']))"


def leader_worker_set() -> dict[str, Any]:
    """The one that the real controller was given when its answers were recorded, but for the containers' programs."""
    probe = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    web = {"name": "vllm", "image": IMAGE, "args": ["8000"]}
    leader = {**web, "ports": [{"containerPort": 8000}], "readinessProbe": probe}
    # A stand-in's server ends on SIGTERM; python's needs none of the 30 seconds either, being killed.
    spec = {"terminationGracePeriodSeconds": 1}
    template = {
        "size": 3,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": {"metadata": {"labels": {"role": "leader"}}, "spec": {**spec, "containers": [leader]}},
        "workerTemplate": {"spec": {**spec, "containers": [web]}},
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {"replicas": 1, "leaderWorkerTemplate": template},
    }


class Bench:
    """The cluster and what is asked of it."""

    def __init__(self, manager: ClusterManager) -> None:
        admin = manager.admin(KEY)
        self.kubeconfig = str(admin.kubeconfig)
        self.client = ApiClient(admin.server, admin.ca_file, admin.cert_file, admin.key_file)

    def run(self, program: str, *words: str) -> str:
        command = [str(PATHS.bin / program), "--kubeconfig", self.kubeconfig, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        if done.returncode != 0 and program == "helm":
            raise SystemExit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def set(self) -> dict[str, Any]:
        return self.client.get(f"{SETS}/{NAME}") or {}

    def pods(self) -> dict[str, dict[str, Any]]:
        items = self.client.call("GET", PODS)["items"]
        return {item["metadata"]["name"]: item for item in items}

    def available(self) -> bool:
        item = self.set()
        status = item.get("status") or {}
        states = {each["type"]: each["status"] for each in status.get("conditions") or []}
        current = status.get("observedGeneration") == item["metadata"]["generation"]
        return current and states.get("Available") == "True" and states.get("Progressing") == "False"

    def until(self, check: Callable[[], bool], what: str) -> None:
        if not wait_for(check, timeout=120):
            state = self.run("kubectl", "get", "pods,statefulsets,lws,events", "-A", "-o", "wide")
            logs = self.run("kubectl", "logs", "-n", "lws-system", "deploy/lws-controller-manager")
            raise SystemExit(f"{what}\n{state}\n{logs}")


def made(bench: Bench, found: dict[str, Any]) -> None:
    """A group from nothing."""
    bench.client.create(SETS, leader_worker_set())
    bench.until(bench.available, "the group did not become available")
    found["set"] = bench.set()
    found["statefulsets"] = {item["metadata"]["name"]: item for item in bench.client.call("GET", STATEFUL)["items"]}
    found["service"] = bench.client.get(f"/api/v1/namespaces/default/services/{NAME}")
    found["pods"] = bench.pods()
    found["leader_ip"] = found["pods"][f"{NAME}-0"]["status"]["podIP"]

    def resolved() -> bool:
        found["resolved"] = bench.run("kubectl", "exec", f"{NAME}-0-2", "--", "/usr/bin/python3", "-c", LOOK_UP).strip()
        return bool(found["resolved"] == found["leader_ip"])

    bench.until(resolved, "the leader's address does not resolve")


def restarted(bench: Bench, found: dict[str, Any]) -> None:
    """One worker deleted: the whole group goes and comes again."""
    before = {name: item["metadata"]["uid"] for name, item in bench.pods().items()}
    bench.client.call("DELETE", f"{PODS}/{NAME}-0-1")

    def again() -> bool:
        now = bench.pods()
        fresh = now.keys() == before.keys() and all(now[name]["metadata"]["uid"] != uid for name, uid in before.items())
        return fresh and bench.available()

    bench.until(again, "the group was not made anew")
    found["restarted"] = True


def updated(bench: Bench, found: dict[str, Any]) -> None:
    """Two groups, then another template: one group after the other gets it."""
    bench.client.merge(f"{SETS}/{NAME}", {"spec": {"replicas": 2}})
    bench.until(lambda: bench.set()["status"]["readyReplicas"] == 2 and bench.available(), "no second group")
    change = leader_worker_set()["spec"]["leaderWorkerTemplate"]
    for template in ("leaderTemplate", "workerTemplate"):
        change[template]["spec"]["containers"][0]["env"] = [{"name": "WHO", "value": "$(LWS_WORKER_INDEX)"}]
    least: list[int] = []

    def rolled() -> bool:
        least.append(int(bench.set()["status"].get("readyReplicas") or 0))
        pods = bench.pods()
        fresh = [any(each["name"] == "WHO" for each in pod["spec"]["containers"][0]["env"]) for pod in pods.values()]
        return len(fresh) == 6 and all(fresh) and bench.available()

    bench.client.merge(f"{SETS}/{NAME}", {"spec": {"leaderWorkerTemplate": change}})
    bench.until(rolled, "the update did not come through")
    found["least_ready"] = min(least)
    found["after_update"] = bench.set()["status"]
    words = ("exec", f"{NAME}-1-2", "--", "/usr/bin/python3", "-c", "import os; print(os.environ['WHO'])")
    found["who"] = bench.run("kubectl", *words).strip()


def refused(bench: Bench) -> str:
    wrong = leader_worker_set()
    rolling = {"type": "RollingUpdate", "rollingUpdateConfiguration": {"maxUnavailable": 0, "maxSurge": 0}}
    wrong["metadata"]["name"] = "wrong"
    wrong["spec"]["rolloutStrategy"] = rolling
    file = PATHS.state / "wrong.json"
    file.write_text(json.dumps(wrong), encoding="utf-8")
    return bench.run("kubectl", "create", "-f", str(file))


def main() -> None:
    manager = ClusterManager(PATHS)
    manager.create_cluster(KEY, version="1.36", gateway_api=True)
    manager.add_node(KEY, NODES[0])
    bench = Bench(manager)
    found: dict[str, Any] = {}
    chart = Path(sys.argv[1])
    install = ("upgrade", "--install", "lws", str(chart), "--namespace", "lws-system", "--create-namespace")
    bench.run("helm", *install, "--wait", "--timeout", "150s")
    made(bench, found)
    found["refused"] = refused(bench)
    restarted(bench, found)
    updated(bench, found)
    bench.client.call("DELETE", f"{SETS}/{NAME}")
    bench.until(lambda: not bench.pods(), "pods were left behind")
    bench.run("helm", *install)  # a second time: what the controller wrote into the chart's objects stays
    found["still_trusted"] = refused(bench)
    bench.run("helm", "uninstall", "lws", "--namespace", "lws-system", "--wait")
    manager.delete_cluster(KEY)
    manager.stop()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
