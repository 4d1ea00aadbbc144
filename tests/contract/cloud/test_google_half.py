"""The roles of the Google half, run by ansible-playbook against the emulated project: every setting reaches Google."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
Play = Callable[..., dict[str, Any]]
EVERYTHING: dict[str, Any] = {
    "llmd_cluster": {
        "release_channel": "STABLE",
        "version": "1.35",
        "workload_identity": True,
        "private_nodes": True,
        "authorized_networks": [{"cidr": "203.0.113.0/24", "name": "office"}],
        "maintenance_window": {"start": "03:00"},
        "labels": {"team": "ai"},
    },
    "llmd_node_service_account": "pattern1-nodes",
    "llmd_cpu_pool": {
        "pool": "cpu",
        "machine_type": "e2-standard-4",
        "nodes": 2,
        "min": 1,
        "max": 4,
        "spot": True,
        "labels": {"role": "system"},
        "disk_type": "pd-standard",
        "disk_size_gb": 50,
    },
    "llmd_gpu": {
        "pool": "gpu",
        "machine_type": "n1-standard-4",
        "type": "nvidia-tesla-t4",
        "count": 1,
        "driver": "latest",
        "nodes": 1,
        "min": 0,
        "max": 2,
        "zones": ["us-central1-b"],
        "location_policy": "any",
        "reservation": {"affinity": "specific", "name": "mine"},
        "upgrade_settings": {"max_surge": 0, "max_unavailable": 1},
        "labels": {"role": "inference"},
        "taints": [{"key": "team", "value": "ai", "effect": "NoSchedule"}],
        "disk_size_gb": 200,
        "disk_type": "pd-ssd",
    },
}
ROLES = ("gcp_network", "gke_gpu_cluster")


@pytest.fixture
def play(emulated: Any, tmp_path: Path) -> Play:
    """Run roles on a host ``pattern1``; the results that they registered, by module."""
    home = tmp_path / "home"
    home.mkdir()
    inventory = tmp_path / "hosts.yml"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "llmd_project": "llmd-sandbox"}
    inventory.write_text(yaml.safe_dump({"llmd": {"hosts": {"pattern1": host}}}))

    def run(*roles: str, words: tuple[str, ...] = (), rc: int = 0, **variables: Any) -> dict[str, Any]:
        book = tmp_path / "play.yml"
        tasks = []
        for role in roles:  # ROLE or ROLE/TASKS
            name, _, part = role.partition("/")
            included = {"name": f"llmd.gke.{name}", **({"tasks_from": part} if part else {})}
            tasks.append({"name": f"Run {role}", "ansible.builtin.include_role": included})
        book.write_text(yaml.safe_dump([{"hosts": "llmd", "gather_facts": False, "tasks": tasks}]))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "HF_"))}
        environment = {
            **kept,
            "HOME": str(home),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [str(program), "-i", str(inventory), str(book), "-e", json.dumps(variables), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert "{" in done.stdout, done.stderr
        document = json.loads(done.stdout[done.stdout.index("{") :])
        tasks_done = [task for one in document["plays"] for task in one["tasks"] if "pattern1" in task["hosts"]]
        results = {task["task"]["name"]: task["hosts"]["pattern1"] for task in tasks_done}
        failed = [result.get("msg") for result in results.values() if result.get("failed")]
        assert done.returncode == rc, failed or done.stderr
        return {"stats": document["stats"]["pattern1"], "results": results}

    return run


def result_of(done: dict[str, Any], words: str) -> dict[str, Any]:
    found: dict[str, Any] = next(result for name, result in done["results"].items() if words in name)
    return found


def calls(done: dict[str, Any]) -> Counter[str]:
    """Requests of a play by API method."""
    total: Counter[str] = Counter()
    for result in done["results"].values():
        total.update(result.get("api_calls") or {})
    return total


def check_cluster(cluster: dict[str, Any]) -> None:
    """A cluster as the API has it, against ``EVERYTHING``."""
    pools = {pool["name"]: pool for pool in cluster["nodePools"]}
    cpu, gpu = pools["cpu"], pools["gpu"]
    email = "pattern1-nodes@llmd-sandbox.iam.gserviceaccount.com"
    seen = {
        "channel": cluster["releaseChannel"]["channel"],
        "version": cluster["currentMasterVersion"][:4],
        "private": cluster["networkConfig"]["defaultEnablePrivateNodes"],
        "networks": [block["cidrBlock"] for block in cluster["masterAuthorizedNetworksConfig"]["cidrBlocks"]],
        "window": cluster["maintenancePolicy"]["window"]["dailyMaintenanceWindow"]["startTime"],
        "label": cluster["resourceLabels"]["team"],
        "identity": cluster["workloadIdentityConfig"]["workloadPool"],
        "accounts": {cpu["config"]["serviceAccount"], gpu["config"]["serviceAccount"]},
        "cpu": (cpu["config"]["spot"], cpu["config"]["labels"], cpu["config"]["diskType"], cpu["config"]["diskSizeGb"]),
        "limits": (cpu["autoscaling"]["minNodeCount"], cpu["autoscaling"]["maxNodeCount"]),
        "zones": gpu["locations"],
        "policy": gpu["autoscaling"]["locationPolicy"],
        "reservation": gpu["config"]["reservationAffinity"]["values"],
        "upgrade": (gpu["upgradeSettings"].get("maxSurge", 0), gpu["upgradeSettings"]["maxUnavailable"]),
        "labels": gpu["config"]["labels"],
        "taint": "team" in [taint["key"] for taint in gpu["config"]["taints"]],
        "disk": (gpu["config"]["diskType"], int(gpu["config"]["diskSizeGb"])),
        "driver": gpu["config"]["accelerators"][0]["gpuDriverInstallationConfig"]["gpuDriverVersion"],
    }
    assert seen == {
        "channel": "STABLE", "version": "1.35", "private": True, "networks": ["203.0.113.0/24"], "window": "03:00",
        "label": "ai", "identity": "llmd-sandbox.svc.id.goog", "accounts": {email},
        "cpu": (True, {"role": "system"}, "pd-standard", 50), "limits": (1, 4), "zones": ["us-central1-b"],
        "policy": "ANY", "reservation": ["mine"], "upgrade": (0, 1), "labels": {"role": "inference"}, "taint": True,
        "disk": ("pd-ssd", 200), "driver": "LATEST",
    }  # fmt: skip


def test_every_setting_reaches_google_and_stays(emulated: Any, play: Play) -> None:
    before = emulated.control("snapshot")
    planned = play(*ROLES, words=("--check",), **EVERYTHING)
    assert emulated.control("snapshot") == before, "check mode writes nothing"
    assert result_of(planned, "Provide the cluster")["changed"] is True
    made = play(*ROLES, **EVERYTHING)
    assert made["stats"]["failures"] == 0
    (cluster,) = emulated.control("snapshot")["clusters"].values()
    check_cluster(cluster)
    again = play(*ROLES, **EVERYTHING)
    assert again["stats"]["changed"] == 0, again["results"]
    foreseen = result_of(planned, "Provide the cluster")["cluster"]["node_pools"]
    real = result_of(again, "Provide the cluster")["cluster"]["node_pools"]
    for planned_pool, pool in zip(foreseen, real, strict=True):
        for key in ("machine_type", "accelerator", "autoscaling", "labels", "reservation", "service_account"):
            assert planned_pool[key] == pool[key], key
    gone = ("teardown/cluster", "teardown/service_account")
    shown = play(*gone, **EVERYTHING)  # without llmd_confirm: what would go
    assert result_of(shown, "Delete the account")["changed"] is True
    email = "pattern1-nodes@llmd-sandbox.iam.gserviceaccount.com"
    assert email in emulated.control("snapshot")["serviceAccounts"]
    play(*gone, llmd_confirm="pattern1", **EVERYTHING)
    left = emulated.control("snapshot")
    assert (left["clusters"], email in left["serviceAccounts"], left["policy"]) == ({}, False, before["policy"])
    wrong = {**EVERYTHING, "llmd_cluster": {**EVERYTHING["llmd_cluster"], "release_channel": "FAST"}}
    refused = play("gke_gpu_cluster", rc=2, **wrong)
    assert "FAST" in json.dumps(refused["results"])


def test_a_noop_of_the_google_half(emulated: Any, play: Play, capfd: pytest.CaptureFixture[str]) -> None:
    """Second run of services, subnet, cluster and access, and of the preflight before them: few calls, no change."""
    play(*ROLES)
    whole = play("preflight", *ROLES, preflight_hf_token="", preflight_require_helm=False, preflight_fail_on="never")
    assert whole["stats"]["changed"] == 0, whole["results"]
    look = Counter(result_of(whole, "Check credentials")["api_calls"])
    rest = calls(whole) - look
    with capfd.disabled():
        print(f"\nno-op of the Google half: {rest.total()} API calls, with preflight {calls(whole).total()}")
        print("  " + ", ".join(f"{method} {count}" for method, count in sorted(rest.items())))
    assert rest.total() <= 15, rest
    # One more than aimed at: Google takes 100 permissions a question, and the preflight asks for more.
    assert calls(whole).total() <= 16, calls(whole)
    assert not any(
        word in method for method in calls(whole) for word in ("create", "insert", "enable", "update", "set")
    )
