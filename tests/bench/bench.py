"""Figures of the sandbox and the playbooks: measured, printed, never a pass or a fail.

    make bench

Prints one line a figure with what the project aims at. Uses a sandbox of its own and takes it away.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CREATE = """
import json, sys, time, urllib.request
token, base = open(sys.argv[1]).read().strip(), "http://192.0.2.10/"
def call(method, url, body=None):
    request = urllib.request.Request(base + url, method=method, data=json.dumps(body).encode() if body else None,
        headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))
services = [s + ".googleapis.com" for s in ("compute", "container")]
call("POST", "serviceusage.googleapis.com/v1/projects/llmd-sandbox/services:batchEnable", {"serviceIds": services})
time.sleep(1)
where = "container.googleapis.com/v1/projects/llmd-sandbox/locations/us-central1-a/"
pool = {"name": "default-pool", "initialNodeCount": 3, "config": {"machineType": "n1-standard-4"}}
start = time.monotonic()
cluster = {"name": "bench", "ipAllocationPolicy": {"useIpAliases": True}, "nodePools": [pool]}
operation = call("POST", where + "clusters", {"cluster": cluster})
while operation["status"] != "DONE":
    time.sleep(0.2)
    operation = call("GET", where + "operations/" + operation["name"])
assert not operation.get("error"), operation
print(time.monotonic() - start)
"""


class Memory(threading.Thread):
    """Peak of the sandbox's processes' proportional memory, asked from its own status every two seconds."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.environment, self.peak, self.done = environment, 0.0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(2):
            try:
                status = json.loads(run(["status", "--json"], self.environment))
            except (ValueError, subprocess.CalledProcessError):
                continue
            self.peak = max(self.peak, float(status["memory_mb"]))


def run(words: list[str], environment: dict[str, str]) -> str:
    """Standard output of one sandbox command; raises where it fails."""
    command = [str(REPOSITORY / "sandbox" / "sandbox"), *words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def playbook(environment: dict[str, str], home: str) -> float:
    """Seconds of one whole run of pattern1.yml."""
    command = [
        "ansible-playbook",
        "-i",
        str(REPOSITORY / "inventories/sandbox"),
        str(REPOSITORY / "playbooks/pattern1.yml"),
    ]
    start = time.monotonic()
    subprocess.run(command, env=environment, cwd=home, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


class Overshoot:
    """How long after a condition came true the module that waits for it returned: measured, while a playbook runs.

    A watcher of its own notes the first; the modules' progress lines ("...: done") the second.
    """

    def __init__(self, environment: dict[str, str], home: str) -> None:
        self.progress = Path(home) / "progress"
        self.progress.touch()
        environment["LLMD_GKE_PROGRESS_FILE"] = str(self.progress)
        command = [
            str(REPOSITORY / "sandbox/sandbox"),
            "exec",
            sys.executable,
            str(REPOSITORY / "tests/bench/watcher.py"),
        ]
        command += ["llm-d", "us-central1", "us-central1-a"]
        self.truth = Path(home) / "truth"
        with self.truth.open("w") as stream:
            self.watcher = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=stream)

    def end(self) -> dict[str, float]:
        """Seconds by condition; only waits that really waited are in it."""
        assert self.watcher.stdin is not None
        self.watcher.stdin.close()
        self.watcher.wait(30)
        truth = [json.loads(line) for line in self.truth.read_text().splitlines()]
        found: dict[str, float] = {}
        for line in self.progress.read_text().splitlines():
            entry = json.loads(line)
            if not re.search(r": done \(\d+ s\)$", entry["message"]):
                continue
            for what in {look["what"] for look in truth if entry["message"].startswith(look["what"])}:
                before = [
                    look["time"]
                    for look in truth
                    if look["what"] == what and look["true"] and look["time"] <= entry["time"]
                ]
                if before:
                    found[what.strip()] = entry["time"] - before[-1]
        return found


def kubernetes_half(home: str) -> float:
    """Seconds of the stages that work in the cluster, as the last run's report has them."""
    report = json.loads((Path(home) / ".llmd/pattern1/report.json").read_text())
    stages = {"gateway_crds", "llmd_helmfile", "gateway_route", "verify"}
    return sum(float(stage["seconds"]) for stage in report["stages"] if stage["name"] in stages)


def show(what: str, value: float, unit: str, aim: str) -> None:
    print(f"{what:<58} {value:8.1f} {unit:<3} aim: {aim}", flush=True)


def main() -> int:
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "HOME": home,
            "LLMD_SANDBOX_NAME": "bench",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        }
        run(["down"], environment)
        start = time.monotonic()
        run(["up", "--speed", "0", "--port", "0"], environment)
        show("sandbox up (tools cached)", time.monotonic() - start, "s", "a few seconds")
        try:
            token = run(["exec", "sh", "-c", "echo $CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"], environment).strip()
            seconds = float(run(["exec", sys.executable, "-c", CREATE, token], environment))
            show("cluster with 3 nodes, create call to DONE, speed 0", seconds, "s", "<= 25 s")
            run(["down"], environment)
            memory = Memory(environment)
            start = time.monotonic()
            run(["up", "--speed", "60", "--port", "0"], environment)
            memory.start()
            overshoot = Overshoot(environment, home)
            first = playbook(environment, home)
            for what, seconds in overshoot.end().items():
                show(f"  overshoot: {what}, from true to returned", seconds, "s", "<= 2 s")
            environment.pop("LLMD_GKE_PROGRESS_FILE")
            show("make demo, warm (up + pattern1.yml), speed 60", time.monotonic() - start, "s", "<= 120 s")
            show("  of which pattern1.yml", first, "s", "")
            show("second pattern1.yml, nothing to do", playbook(environment, home), "s", "<= 15 s")
            show("  of which in the cluster, nothing to do", kubernetes_half(home), "s", "<= 8 s")
            memory.done.set()
            show("peak memory of the sandbox", memory.peak / 1024, "GiB", "<= 6 GiB")
        finally:
            run(["down"], environment)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
