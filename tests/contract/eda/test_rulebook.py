"""The rulebook in a real ansible-rulebook: Alertmanager's post in, the right playbooks out. Skipped where it is absent.

Its playbooks are stand-ins that say that they ran; everything before them (source, filter, conditions, throttle, the
finding of a playbook by its collection's name) is ansible-rulebook's own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RULEBOOK = ROOT / "extensions/eda/rulebooks/alerts.yml"
PROGRAM = os.environ.get("LLMD_ANSIBLE_RULEBOOK") or shutil.which("ansible-rulebook") or ""
PLAYBOOKS = ("pause", "diagnose", "reap")
pytestmark = pytest.mark.skipif(
    not PROGRAM or shutil.which("java") is None, reason="no ansible-rulebook (pip install ansible-rulebook) or no Java"
)


def alert(name: str, status: str = "firing") -> dict[str, Any]:
    """As Alertmanager posts it, with the labels that our rule of that name has."""
    rules = yaml.safe_load((ROOT / "roles/monitoring/files/rules/alerts.yml").read_text())["groups"][0]["rules"]
    (rule,) = (one for one in rules if one["alert"] == name)
    labels = {"alertname": name, "namespace": "llm-d", **rule["labels"]}
    return {
        "status": status, "labels": labels, "annotations": {"summary": "s"}, "startsAt": "2026-11-24T08:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph", "fingerprint": name,
    }  # fmt: skip


def post(port: int, *alerts: dict[str, Any]) -> None:
    body = {
        "version": "4",
        "groupKey": "{}",
        "status": "firing",
        "receiver": "eda",
        "groupLabels": {},
        "alerts": alerts,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/endpoint", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def wait(condition: Any, what: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{log.read_text()[-4000:]}"
        time.sleep(0.2)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[int, Path, Path]]:
    """(port, file in which the playbooks leave a line each, log)."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    book = yaml.safe_load(RULEBOOK.read_text())
    book[0]["sources"][0]["eda.builtin.webhook"]["port"] = port
    rulebook = tmp_path / "alerts.yml"
    rulebook.write_text(yaml.safe_dump(book))
    ran, log = tmp_path / "ran", tmp_path / "log"
    ran.write_text("")
    collection = tmp_path / "collections/ansible_collections/llmd/gke"
    (collection / "playbooks").mkdir(parents=True)
    (collection / "galaxy.yml").write_text(
        "namespace: llmd\nname: gke\nversion: 0.1.0\nreadme: README.md\nauthors: [x]\n"
    )
    for name in PLAYBOOKS:
        task = {"name": "Say so", "ansible.builtin.shell": f"echo {name} >> {ran}", "delegate_to": "localhost"}
        play = {"name": name, "hosts": "llmd", "gather_facts": False, "tasks": [task]}
        (collection / f"playbooks/{name}.yml").write_text(yaml.safe_dump([play]))
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("llmd: {hosts: {pattern1: {ansible_connection: local}}}\n")
    environment = {
        **os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"), "HOME": str(tmp_path),
        "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "-i", str(inventory), "-r", str(rulebook), "--print-events"], env=environment, cwd=tmp_path,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def listening() -> bool:
        assert process.poll() is None, log.read_text()[-4000:]
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait(listening, "it does not listen", log)
        yield port, ran, log
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_each_alert_runs_its_playbook_once(running: tuple[int, Path, Path]) -> None:
    port, ran, log = running
    post(port, alert("LlmdGpuIdle", "resolved"), alert("LlmdLeaseEndsSoon"))  # over, and for a person: nothing to do
    post(port, alert("LlmdGpuIdle"), alert("LlmdNoReadyPod"))
    post(port, alert("LlmdGpuIdle"), alert("LlmdNoReadyPod"))  # Alertmanager repeats itself; the throttle does not
    post(port, alert("LlmdLeaseOver"))
    wait(lambda: len(ran.read_text().split()) >= 3, "the playbooks did not run", log)
    post(port, alert("LlmdQueueGrowing"))  # another alert of the same kind is not throttled by the first
    wait(lambda: len(ran.read_text().split()) >= 4, "the playbooks did not run", log)
    assert sorted(ran.read_text().split()) == ["diagnose", "diagnose", "pause", "reap"]


def test_the_rulebook_is_valid_by_its_own_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    (schema,) = (
        Path(PROGRAM).resolve().parents[1].glob("lib/python3*/site-packages/ansible_rulebook/schema/ruleset*.json")
    )
    jsonschema.validate(yaml.safe_load(RULEBOOK.read_text()), json.loads(schema.read_text()))
