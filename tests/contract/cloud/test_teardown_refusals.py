"""playbooks/teardown.yml, whole, on a project whose cluster has vanished: each bad case has a named result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .orphan_zoo import Zoo, others, ours
from .test_orphans import existing

REPOSITORY = Path(__file__).resolve().parents[3]
Module = Callable[..., dict[str, Any]]


@dataclass
class Done:
    rc: int
    output: str
    result: dict[str, Any]


@pytest.fixture
def teardown(emulated: Any, module: Module, tmp_path: Path) -> Callable[..., Done]:
    """The playbook on host ``pattern1``, confirmed unless said otherwise; what it printed and kept."""
    assert module("gcp_services", services=["compute", "container", "networkservices", "monitoring"])["changed"]
    home = tmp_path / "home"
    home.mkdir()
    inventory = tmp_path / "hosts.yml"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "llmd_project": "llmd-sandbox"}
    inventory.write_text(yaml.safe_dump({"llmd": {"hosts": {"pattern1": host}}}))
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "HF_"))},
        "HOME": str(home),
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "LLMD_GKE_PROGRESS_HISTORY": "",
    }

    def run(**variables: Any) -> Done:
        file = home / ".llmd/pattern1/teardown.json"
        file.unlink(missing_ok=True)
        given = {"llmd_confirm": "pattern1", "teardown_subnet_timeout": 1, **variables}
        book = str(REPOSITORY / "playbooks/teardown.yml")
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), book]
        done = subprocess.run(
            [*command, "-e", json.dumps(given)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Traceback" not in done.stdout
        return Done(done.returncode, done.stdout + done.stderr, json.loads(file.read_text()) if file.exists() else {})

    return run


def plant(emulated: Any) -> set[tuple[str, str, str]]:
    """What a vanished cluster left, among others' things that look alike."""
    zoo = Zoo()
    mine = set(ours(zoo))
    others(zoo, 40)
    emulated.control("seed", {"resources": zoo.resources})
    return mine


def test_nothing_is_touched_by_a_wrong_name_or_in_a_wrong_project(emulated: Any, teardown: Any) -> None:
    plant(emulated)
    before = existing(emulated)
    for variables, codes in (
        ({"llmd_confirm": "pattern2"}, {"CONFIRM_WRONG"}),
        ({"llmd_project": "no-such-project"}, {"PROJECT_NOT_FOUND", "PERMISSION_DENIED"}),
    ):
        done = teardown(**variables)
        assert done.rc != 0, done.output
        assert any(code in done.output for code in codes), done.output
    assert existing(emulated) == before


def test_what_a_vanished_cluster_left_goes_but_for_what_we_may_not_delete(
    emulated: Any, module: Module, teardown: Any
) -> None:
    subnet = {"region": "us-central1", "range": "192.168.0.0/23", "deployment": "pattern1"}
    assert module("gcp_proxy_subnet", **subnet)["changed"]
    mine = plant(emulated)
    listed = teardown(teardown_scope="cluster")
    assert listed.rc != 0
    assert "TEARDOWN_LEFTOVERS: 30 left" in listed.output, listed.output[-3000:]
    assert mine <= existing(emulated)

    words = "Required 'compute.firewalls.delete' permission for 'projects/llmd-sandbox/global/firewalls/x'"
    emulated.plant(method="compute.firewalls.delete", http=403, message=words, times=100)
    partly = teardown(teardown_scope="cluster", teardown_delete_leftovers=True)
    assert partly.rc != 0
    assert {one["code"] for one in partly.result["refused"]} == {"PERMISSION_DENIED"}
    assert {one["kind"] for one in partly.result["left"]} == {"firewalls"}
    assert {kind for kind, _scope, _name in mine & existing(emulated)} == {"firewalls"}
    emulated.control("faults", verb="DELETE")

    used = (
        "The subnetwork resource 'projects/llmd-sandbox/regions/us-central1/subnetworks/proxy-only-subnet' is already"
    )
    used += " being used by 'projects/llmd-sandbox/regions/us-central1/forwardingRules/by-hand'"
    emulated.plant(
        method="compute.subnetworks.delete", http=400, message=used, reason="resourceInUseByAnotherResource", times=100
    )
    words = "Permission monitoring.dashboards.list denied"
    emulated.plant(method="monitoring.projects.dashboards.list", http=403, message=words, times=100)
    rest = teardown(teardown_delete_leftovers=True)
    assert rest.rc == 0, rest.output[-3000:]
    assert rest.result["lines"][-1] == "0 left, 0.00 USD/h"
    assert any("by-hand" in one for one in rest.result["kept"]), rest.result["kept"]
    assert any("monitoring.dashboards.list" in one for one in rest.result["kept"])
    assert ("subnetworks", "regions/us-central1", "proxy-only-subnet") in existing(emulated)


def test_another_deployments_cluster_is_kept_and_its_dashboard_too(emulated: Any, module: Module) -> None:
    made = {"location": "us-central1-a", "name": "llm-d-cluster", "node_pools": [{"name": "p", "node_count": 1}]}
    module("gcp_services", services=["compute", "container"])
    module("gke_cluster", **made, deployment="pattern9")
    kept = module("gke_cluster", **made, deployment="pattern1", state="absent")
    assert (kept["changed"], kept["adopted"]) == (False, True)
    assert "is kept: its labels do not say" in kept["kept"]
    assert emulated.control("status")["clusters"]
