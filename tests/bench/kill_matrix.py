"""SIGKILL of ansible-playbook at every stage boundary and inside each long wait; then the same command again.

    make kill-matrix                    every point of pattern1.yml on a project of its own: an hour on two idle cores
    make kill-matrix ARGS=--chain       one deployment whose making, pause, resume, upgrade and teardown are killed at
                                        one point after the other: ten minutes or so
    make kill-matrix ARGS="--chain gateway pause"   only points whose names have one of these words
    make kill-matrix ARGS="--speed 60"        Google's durations divided by this, not by 30

    make kill-matrix ARGS="--chain --sandbox NAME"   in a sandbox that is up, whose project has no deployment

Prints stage x result: what was seen when it was killed, and whether the same command then finished with the same end
state and without anything made twice. Exit code 1 where one did not. Without --sandbox it uses one of its own and takes
it away.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SPEED = 30  # waits are long enough to be killed in
OF_A_NETWORK = ("networks", "subnetworks", "firewalls", "routes")  # come with the compute API


@dataclass(frozen=True)
class Point:
    """Where to kill: at the first line of the output that has ``marker``; a wait's own lines come from its module."""

    name: str
    marker: str


POINTS = (
    Point("preflight | its checks", "llmd.gke.preflight : Check credentials"),
    Point("preflight | end", "TASK [Note the end of preflight]"),
    Point("services | wait", "  ... Enabling"),
    Point("subnet | begin", "llmd.gke.gcp_network : Subnet | Provide the proxy-only subnet"),
    Point("subnet | wait", "  ... Creation of subnet"),
    Point("gcp_network | end", "TASK [Note the end of gcp_network]"),
    Point("cluster | begin", "llmd.gke.gke_gpu_cluster : Provide the cluster"),
    Point("cluster | wait", "  ... Creation of cluster"),
    Point("cluster | access", "llmd.gke.gke_gpu_cluster : Get access"),
    Point("cluster | lock", "TASK [Take the lock in a cluster that is new]"),
    Point("gke_gpu_cluster | end", "TASK [Note the end of gke_gpu_cluster]"),
    Point("crds | begin", "llmd.gke.gateway_crds : Install the definitions"),
    Point("gateway_crds | end", "TASK [Note the end of gateway_crds]"),
    Point("secret | begin", "llmd.gke.llmd_helmfile : Provide the namespace"),
    Point("helm | wait", "  ... helm: "),
    Point("rollout | wait", "  ... Workloads ready"),
    Point("llmd_helmfile | end", "TASK [Note the end of llmd_helmfile]"),
    Point("route | begin", "llmd.gke.gateway_route : "),
    Point("gateway | wait", "  ... Gateway "),
    Point("backends | wait", "  ... Backends HEALTHY"),
    Point("gateway_route | end", "TASK [Note the end of gateway_route]"),
    Point("verify | begin", "llmd.gke.verify : Ask the endpoint"),
    Point("verify | end", "TASK [Note the end of verify]"),
    Point("report | begin", "llmd.gke.report : Put the report together"),
)
# The rest of a deployment's life, in the chain only: what each playbook is given, and where it is killed.
UPGRADE = {"llmd_confirm": "pattern1", "llmd_max_num_seqs": 48}
LIFE: tuple[tuple[str, dict[str, Any], tuple[Point, ...]], ...] = (
    (
        "pause",
        {},
        (
            Point("pause | its look", "llmd.gke.pause : See what there is"),
            Point("pause | releases", "llmd.gke.llmd_helmfile : Install the releases"),
            Point("pause | drain, wait", "  ... Requests under way"),
            Point("pause | nodes", "llmd.gke.pause : Take the GPU nodes away"),
            Point("pause | nodes, wait", "  ... Node pool "),
            Point("pause | cost", "llmd.gke.pause : Say what it costs now"),
        ),
    ),
    (
        "resume",
        {},
        (
            Point("resume | nodes", "llmd.gke.resume : Give the nodes back"),
            Point("resume | nodes, wait", "  ... Node pool "),
            Point("resume | releases", "llmd.gke.llmd_helmfile : Install the releases"),
            Point("resume | rollout, wait", "  ... Workloads "),
            Point("resume | backends", "llmd.gke.resume : Wait until every backend"),
            Point("resume | completion", "llmd.gke.resume : Ask for a completion"),
        ),
    ),
    (
        "upgrade",
        UPGRADE,
        (
            Point("upgrade | plan", "llmd.gke.upgrade : Decide how to go about it"),
            Point("upgrade | watch", "llmd.gke.upgrade : Begin to watch"),
            Point("upgrade | strategy", "llmd.gke.upgrade : Set the order"),
            Point("upgrade | rollout, wait", "  ... Workloads "),
            Point("upgrade | asking", "llmd.gke.upgrade : Ask for a completion"),
        ),
    ),
    (
        "teardown",
        {"llmd_confirm": "pattern1"},
        (
            Point("teardown | record", "llmd.gke.teardown : Record"),
            Point("teardown | route", "llmd.gke.teardown : Release | Delete the route"),
            Point("teardown | load balancer, wait", "  ... Objects of the releases"),
            Point("teardown | namespace", "llmd.gke.teardown : Release | Delete the namespace"),
            Point("teardown | cluster", "llmd.gke.teardown : Cluster"),
            Point("teardown | cluster, wait", "  ... Deletion of cluster"),
            Point("teardown | scan", "llmd.gke.teardown : Scan"),
            Point("teardown | network", "llmd.gke.teardown : Network"),
        ),
    ),
)


class Bench:
    """A sandbox of its own and ansible-playbook in it."""

    def __init__(self, home: Path, speed: int, borrowed: str) -> None:
        self.home = home
        self.speed = speed
        self.borrowed = borrowed
        self.base: dict[str, int] = {}
        self.made_before: Counter[tuple[str, str]] = Counter()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GOOGLE_", "GCP_"))},
            "HOME": str(home),
            "LLMD_SANDBOX_NAME": borrowed or os.environ.get("LLMD_SANDBOX_TEST_PREFIX", "") + "kill",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        }

    def cli(self, *words: str) -> str:
        command = [str(REPOSITORY / "sandbox" / "sandbox"), *words]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def fresh(self) -> None:
        """A project without a deployment: a new sandbox, or the borrowed one after a teardown."""
        if self.borrowed:
            self.cli("speed", str(self.speed))
            code, text = self.playbook("", "teardown", llmd_confirm="pattern1")
            assert code == 0, text[-3000:]
        else:
            self.cli("down")
            self.cli("up", "--speed", str(self.speed), "--port", "0")
        self.base = self.counts()
        self.made_before = self.made()

    def away(self) -> None:
        if not self.borrowed:
            self.cli("down")

    def counts(self) -> dict[str, int]:
        """Resources of each kind; what comes with the compute API is there from the first run on."""
        found = self.control("snapshot")
        kinds = {kind: len(items) for kind, items in found["compute"].items() if items and kind not in OF_A_NETWORK}
        return {**kinds, "clusters": len(found["clusters"])}

    def playbook(self, until: str = "", name: str = "pattern1", **variables: Any) -> tuple[int, str]:
        """Run a playbook, killed with all its children as soon as ``until`` shows; (exit code, output)."""
        command = ["ansible-playbook", "-i", str(REPOSITORY / "inventories/sandbox")]
        child = subprocess.Popen(
            [*command, str(REPOSITORY / f"playbooks/{name}.yml"), "-e", json.dumps(variables)],
            env=self.environment, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert child.stdout is not None
        seen = ""
        for line in child.stdout:
            seen += line
            if until and until in line:
                os.killpg(child.pid, signal.SIGKILL)
                break
        child.stdout.close()
        return child.wait(), seen

    def control(self, what: str) -> Any:
        return json.loads(self.cli("exec", "curl", "-sf", f"http://192.0.2.10/control/{what}"))

    def end_state(self) -> dict[str, Any]:
        """What there is, without what differs between two equal deployments (random names, times)."""
        snapshot = self.control("snapshot")
        kinds = {kind: len(items) for kind, items in snapshot["compute"].items() if items}
        cluster: dict[str, Any] = next(iter(snapshot["clusters"].values()), {})
        pools = sorted((pool["name"], pool.get("initialNodeCount")) for pool in cluster.get("nodePools") or [])
        text = self.cli("exec", "kubectl", "get", "-n", "llm-d", "-o", "json",
                        "deployments,services,gateways,httproutes,inferencepools,secrets,configmaps")  # fmt: skip
        objects = Counter(
            f"{item['kind']}/{re.sub(r'-[0-9a-f]{8}$', '-*', item['metadata']['name'])}"
            for item in json.loads(text)["items"]
            if not item["metadata"]["name"].startswith("sh.helm.release")  # a revision more is no resource more
        )
        return {"compute": kinds, "pools": pools, "objects": dict(sorted(objects.items()))}

    def made(self) -> Counter[tuple[str, str]]:
        """How often Google was asked to make each thing, and made it."""
        done = [operation for operation in self.control("operations")["operations"] if not operation.get("error")]
        return Counter(
            (str(operation["operationType"]), str(operation.get("targetLink")))
            for operation in done
            if operation.get("operationType") in ("CREATE_CLUSTER", "CREATE_NODE_POOL", "insert")
        )

    def twice(self) -> list[str]:
        """What was made more than once since the project was empty."""
        made = self.made() - self.made_before
        return [
            f"{kind} {target.rsplit('/', 1)[-1]} {count} times" for (kind, target), count in made.items() if count > 1
        ]


def judge(bench: Bench, wanted: dict[str, Any] | None, code: int, text: str) -> str:
    """What the same command after the kill came to, in words; empty where it is as it should be."""
    if code != 0:
        return f"exit code {code}: {text[-1500:]}"
    assert wanted is not None
    found, again = bench.end_state(), bench.twice()
    different = [key for key in wanted if found[key] != wanted[key]]
    if different:
        return "another end state: " + "; ".join(f"{key} {found[key]} instead of {wanted[key]}" for key in different)
    return "made twice: " + ", ".join(again) if again else ""


def row(name: str, killed: str, result: str, seconds: float) -> None:
    print(f"{name:<30} {killed:<12} {seconds:6.1f} s  {result}", flush=True)


def one_each(bench: Bench, points: list[Point], wanted: dict[str, Any]) -> int:
    """Every point on an empty project: kill, then the same command to its end."""
    wrong = 0
    for point in points:
        bench.fresh()
        code, _text = bench.playbook(point.marker)
        killed = "killed" if code == -signal.SIGKILL else "not reached"
        started = time.monotonic()
        trouble = judge(bench, wanted, *bench.playbook())
        wrong += bool(trouble)
        row(point.name, killed, trouble or "finished, same end state, nothing twice", time.monotonic() - started)
    return wrong


def killed_in_turn(bench: Bench, points: list[Point], name: str = "pattern1", **variables: Any) -> int:
    """One playbook, killed at every point in turn: each run goes on from where the one before it died."""
    wrong = 0
    for point in points:
        started = time.monotonic()
        code, text = bench.playbook(point.marker, name, **variables)
        if code == -signal.SIGKILL:
            row(point.name, "killed", "the next one went on from there", time.monotonic() - started)
        elif code == 0:
            row(point.name, "not reached", "its wait was over by then; finished", time.monotonic() - started)
        else:
            wrong += 1
            row(point.name, "failed", text[-1500:], time.monotonic() - started)
    return wrong


def to_the_end(bench: Bench, wanted: dict[str, Any] | None, name: str = "pattern1", **variables: Any) -> int:
    """The run after the last kill, judged. No ``wanted``: its exit code is all that there is to judge."""
    started = time.monotonic()
    code, text = bench.playbook("", name, **variables)
    trouble = judge(bench, wanted, code, text) if wanted is not None or code else ""
    said = "finished, same end state, nothing twice" if wanted is not None else "finished"
    row(f"{name} to its end", "", trouble or said, time.monotonic() - started)
    return int(bool(trouble))


def in_a_chain(bench: Bench, words: list[str], wanted: dict[str, Any]) -> int:
    """One deployment's whole life, killed at every point in turn; then nothing is left."""
    wrong = 0
    if points := chosen(POINTS, words):
        bench.fresh()
        wrong += killed_in_turn(bench, points) + to_the_end(bench, wanted)
    for name, variables, all_points in LIFE:
        points = chosen(all_points, words)
        if points:
            wrong += killed_in_turn(bench, points, name, **variables)
            wrong += to_the_end(bench, wanted if name in ("resume", "upgrade") else None, name, **variables)
    if chosen(LIFE[-1][2], words):
        left = bench.counts()
        rest = {kind: count for kind, count in left.items() if count != bench.base.get(kind, 0)}
        wrong += bool(rest)
        print(f"left, as before the deployment: {rest or 'yes'}")
    return wrong


def chosen(points: Sequence[Point], words: list[str]) -> list[Point]:
    return [point for point in points if not words or any(word in point.name for word in words)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", action="store_true")
    parser.add_argument("--speed", type=int, default=SPEED)
    parser.add_argument("--sandbox", default="", metavar="NAME")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    points = chosen(POINTS, options.words)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.speed, options.sandbox)
        try:
            bench.fresh()
            code, text = bench.playbook()
            if code != 0:
                print(text[-4000:])
                return 1
            wanted = bench.end_state()
            parts = [sum(wanted[kind].values()) for kind in ("compute", "objects")]
            print(f"SIGKILL at speed {options.speed}, {'in a chain' if options.chain else 'each on its own'}")
            print(f"end state without a kill: {parts[0]} compute resources, {parts[1]} objects in the namespace")
            print(f"{'point':<30} {'kill':<12} {'took':>8}  result")
            wrong = in_a_chain(bench, options.words, wanted) if options.chain else one_each(bench, points, wanted)
        finally:
            bench.away()
    print(f"{wrong} wrong" if wrong else "all as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
