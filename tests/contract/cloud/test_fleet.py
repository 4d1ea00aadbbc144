"""Three deployments in one run, in two projects: one fails, two share a region, and none knows of the others.

The roles of the Google half against two emulators, each host a client of its own project's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bench.fleet import interpreter

from .conftest import Emulated, start

REPOSITORY = Path(__file__).resolve().parents[3]
HALF = [
    {"ansible.builtin.include_role": {"name": f"llmd.gke.{role}"}, "name": role}
    for role in ("gcp_network", "gke_gpu_cluster")
]
SUBNET = {
    "name": "Take the subnet away",
    "llmd.gke.gcp_proxy_subnet": {
        "project": "{{ llmd_project }}",
        "region": "us-central1",
        "deployment": "{{ inventory_hostname }}",
        "state": "absent",
    },
}
CLUSTER = {
    "name": "Take the cluster away",
    "llmd.gke.gke_cluster": {
        "project": "{{ llmd_project }}",
        "location": "{{ llmd_zone }}",
        "name": "llm-d-cluster",
        "deployment": "{{ inventory_hostname }}",
        "state": "absent",
    },
}
Play = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[tuple[Emulated, Emulated]]:
    """Two projects in which operations take time, so that hosts meet each other's."""
    started = []
    for project in ("project-one", "project-two"):
        (tmp_path / project).mkdir()
        started.append(start(tmp_path / project, 200, project))
    try:
        yield started[0][1], started[1][1]
        for _process, found in started:
            assert found.control("status")["schemaViolations"] == []
    finally:
        for process, _found in started:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(15)


@pytest.fixture
def play(projects: tuple[Emulated, Emulated], tmp_path: Path) -> Play:
    """Run tasks on all hosts or some; (recap by host, results in order, each with its host and task)."""
    one, two = projects
    places = {
        "chat": (one, {"llmd_project": "project-one", "llmd_zone": "us-central1-a"}),
        "code": (one, {"llmd_project": "project-one", "llmd_zone": "us-central1-b"}),
        "lost": (two, {"llmd_project": "project-two", "llmd_zone": "us-central1-a"}),
    }
    hosts = {}
    for name, (cloud, variables) in places.items():
        python = interpreter(tmp_path, name, {"environment": cloud.environment})
        hosts[name] = {"ansible_connection": "local", "ansible_python_interpreter": python, **variables}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"llmd": {"hosts": hosts}}))

    def run(tasks: list[dict[str, Any]], *words: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "llmd", "gather_facts": False, "tasks": tasks}]))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GOOGLE_", "GCP_"))}
        environment = {
            **kept,
            "HOME": str(tmp_path),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks/collections"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [program, "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml"), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert "{" in done.stdout, done.stderr
        document = json.loads(done.stdout[done.stdout.index("{") :])
        results = [
            {"host": host, "task": task["task"]["name"], **result}
            for one_play in document["plays"]
            for task in one_play["tasks"]
            for host, result in task["hosts"].items()
        ]
        return document["stats"], results

    return run


def of(results: list[dict[str, Any]], task: str) -> dict[str, dict[str, Any]]:
    return {result["host"]: result for result in results if task in result["task"]}


def proxy_subnets(cloud: Emulated) -> list[str]:
    compute = cloud.control("snapshot")["compute"]
    text = [json.dumps(one) for one in compute.values() for one in (one if isinstance(one, list) else [one])]
    return [one for one in text if "REGIONAL_MANAGED_PROXY" in one]


def test_one_fails_two_share_a_subnet_and_the_last_takes_it_away(
    projects: tuple[Emulated, Emulated], play: Play
) -> None:
    one, two = projects
    two.plant(name="permission-missing", permission="container.clusters.create")
    stats, results = play(HALF)
    assert {host: bool(those["failures"]) for host, those in stats.items()} == {
        "chat": False,
        "code": False,
        "lost": True,
    }
    failed = of(results, "Provide the cluster")["lost"]
    assert failed["error"]["code"] == "PERMISSION_DENIED"
    made = of(results, "Provide the proxy-only subnet")
    assert sorted(made[host]["changed"] for host in ("chat", "code")) == [False, True]  # the quicker one makes it
    assert sorted(made[host]["adopted"] for host in ("chat", "code")) == [False, True]
    assert made["lost"]["changed"] is True  # in its own project
    assert len(proxy_subnets(one)) == 1
    assert {cluster["status"] for cluster in one.control("status")["clusters"].values()} == {"RUNNING"}
    maker = next(host for host in ("chat", "code") if made[host]["changed"])
    other = "code" if maker == "chat" else "chat"

    # Whoever made it goes first: the other one still needs it, and takes it away in the end.
    _stats, results = play([CLUSTER, SUBNET], "--limit", maker)
    kept = of(results, "Take the subnet away")[maker]
    assert (kept["changed"], f"other deployments of the region: {other}" in kept["kept"]) == (False, True)
    assert len(proxy_subnets(one)) == 1
    _stats, results = play([CLUSTER, SUBNET], "--limit", other)
    assert of(results, "Take the subnet away")[other]["changed"] is True
    assert proxy_subnets(one) == []


def test_two_hosts_on_one_cluster_are_refused_before_anything_is_done(
    projects: tuple[Emulated, Emulated], play: Play
) -> None:
    stats, results = play(HALF, "-e", "llmd_zone=us-central1-a")
    assert all(those["failures"] for those in stats.values())
    assert all("FLEET_COLLISION" in str(result["msg"]) for result in results if result.get("failed"))
    assert projects[0].control("status")["clusters"] == {}
