"""Figures of the Google half: measured, printed, never a pass or a fail.

    make bench

The first part needs no sandbox: the roles run against the Google emulator alone, on loopback, at zero latency. The
second runs pattern1.yml from an empty project at two speeds in a sandbox of its own. What a run takes at real time is
worked out from the two (seconds = own + modelled / speed): a straight line through two measured points, not a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from sandbox import paths  # noqa: E402
from sandbox.timing import REAL_SECONDS  # noqa: E402

Json = dict[str, Any]
HALF = ("gcp_network", "gke_gpu_cluster")
WITHOUT = {"preflight_hf_token": "", "preflight_require_helm": False, "preflight_fail_on": "never"}
SPEEDS = (10.0, 120.0)
# words of the fault, code of the finding
PLANTED = (
    (["permission-missing", "container.clusterRoles.create"], "PERMISSION_MISSING"),
    (["billing-disabled"], "BILLING_DISABLED"),
    (["not-offered", "n1-standard-4", "us-central1-a"], "MACHINE_TYPE_UNAVAILABLE"),
    (["not-offered", "nvidia-tesla-t4", "us-central1-a"], "ACCELERATOR_UNAVAILABLE"),
    (["quota", "CPUS", "4", "us-central1"], "QUOTA_EXCEEDED"),
    (["gke-version", "1.20.1-gke.1"], "GKE_VERSION_OLD"),
)
# What follows from what, in modelled seconds: the longest way through is the least that a run can take.
CHAINS = {
    "APIs, cluster, image, weights, model server, health check": (
        "service-enable", "cluster-create", "image-pull", "weights-download", "model-server-start",
        "health-check-propagation",
    ),
    "APIs, cluster, Gateway": ("service-enable", "cluster-create", "gateway-programmed"),
    "APIs, proxy-only subnet, Gateway": ("service-enable", "subnet-insert", "gateway-programmed"),
}  # fmt: skip


def show(what: str, value: float, unit: str, aim: str) -> None:
    print(f"{what:<58} {value:8.1f} {unit:<5} aim: {aim}", flush=True)


@contextlib.contextmanager
def emulator(folder: Path) -> Iterator[Json]:
    """The Google emulator on loopback; its address and what a client's environment must be."""
    python = paths.current().venvs / "sandbox" / "bin" / "python"
    program = REPOSITORY / "tests" / "contract" / "cloud" / "emulator_main.py"
    process = subprocess.Popen(
        [str(python), str(program), str(folder), "0"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(15)


def control(cloud: Json, route: str, body: Json) -> None:
    request = urllib.request.Request(f"{cloud['url']}/control/{route}", data=json.dumps(body).encode())
    urllib.request.urlopen(request, timeout=10).read()


def cpu() -> float:
    """CPU seconds of all programs that ended so far: what a busy machine does not change much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def play(folder: Path, cloud: Json, *roles: str) -> tuple[float, Json]:
    """(seconds of the whole play, its results by task)."""
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "llmd_project": "llmd-sandbox",
        "llmd_artifacts_dir": str(folder / "artifacts"),
        **WITHOUT,
    }
    (folder / "hosts.yml").write_text(json.dumps({"llmd": {"hosts": {"bench": host}}}))
    tasks = [{"name": role, "ansible.builtin.include_role": {"name": f"llmd.gke.{role}"}} for role in roles]
    (folder / "play.yml").write_text(json.dumps([{"hosts": "llmd", "gather_facts": False, "tasks": tasks}]))
    environment = {
        **os.environ,
        **{k: v for k, v in cloud["environment"].items() if not k.startswith("CLOUDSDK")},
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    begun, before = time.monotonic(), cpu()
    done = subprocess.run(
        ["ansible-playbook", "-i", str(folder / "hosts.yml"), str(folder / "play.yml")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.monotonic() - begun
    print(f"{' '.join(roles)}: CPU {cpu() - before:.1f} s, load {os.getloadavg()[0]:.1f}")
    found = json.loads(done.stdout[done.stdout.index("{") :])
    tasks_done = [task for one in found["plays"] for task in one["tasks"]]
    return seconds, {task["task"]["name"]: task["hosts"].get("bench", {}) for task in tasks_done}


def calls(results: Json) -> Counter[str]:
    total: Counter[str] = Counter()
    for result in results.values():
        total.update(result.get("api_calls") or {})
    return total


def google_half(folder: Path) -> None:
    with emulator(folder) as cloud:
        play(folder, cloud, *HALF)
        seconds, results = play(folder, cloud, *HALF)
        show("no-op: services, subnet, cluster, access", seconds, "s", "<= 8 s")
        show("  API calls", calls(results).total(), "calls", "<= 15")
        seconds, results = play(folder, cloud, "preflight", *HALF)
        show("no-op with the preflight before it", seconds, "s", "")
        show("  API calls", calls(results).total(), "calls", "<= 15")
        for method, count in sorted(calls(results).items()):
            print(f"    {count} {method}")
        seconds, _results = play(folder, cloud, "preflight")
        show("preflight alone, every Google check, ansible included", seconds, "s", "<= 5 s")
        for words, _code in PLANTED:
            control(cloud, "faults", {"words": words})
        seconds, results = play(folder, cloud, "preflight")
        codes = [check["code"] for result in results.values() for check in result.get("checks") or []]
        found = sum(code in codes for _words, code in PLANTED)
        show(f"preflight with {len(PLANTED)} faults planted, {found} found in one pass", seconds, "s", "all, <= 5 s")


def from_zero(folder: Path, speed: float) -> float:
    """Seconds of pattern1.yml from an empty project to the verified endpoint at that speed."""
    cli = str(REPOSITORY / "sandbox" / "sandbox")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "LLMD_SANDBOX_NAME": "benchg",
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
    }
    subprocess.run([cli, "down"], env=environment, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [cli, "up", "--speed", str(speed), "--port", "0"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    try:
        book = [str(REPOSITORY / name) for name in ("inventories/sandbox", "playbooks/pattern1.yml")]
        begun = time.monotonic()
        subprocess.run(
            ["ansible-playbook", "-i", *book], env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        return time.monotonic() - begun
    finally:
        subprocess.run([cli, "down"], env=environment, check=True, stdout=subprocess.DEVNULL)


def real_time(folder: Path) -> None:
    slow, fast = SPEEDS
    measured = {speed: from_zero(folder, speed) for speed in SPEEDS}
    modelled = (measured[slow] - measured[fast]) / (1 / slow - 1 / fast)
    own = measured[fast] - modelled / fast
    name, longest = max(
        ((name, sum(REAL_SECONDS[event] for event in events)) for name, events in CHAINS.items()),
        key=lambda one: one[1],
    )
    for speed, seconds in measured.items():
        show(f"pattern1.yml from zero at speed {speed:g}", seconds, "s", "")
    show("  of which its own work, whatever the speed", own, "s", "")
    show("from zero at speed 1, worked out from the two", own + modelled, "s", f"<= {1.1 * longest:.0f} s")
    show(f"longest chain: {name}", longest, "s", "")
    show("  ratio", (own + modelled) / longest, "", "<= 1.1")


def main() -> int:
    with tempfile.TemporaryDirectory() as home:
        google_half(Path(home))
        if "--no-sandbox" not in sys.argv:
            real_time(Path(home))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
