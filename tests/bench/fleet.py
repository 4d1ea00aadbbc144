"""Figures of a fleet: measured, printed, never a pass or a fail.

    python tests/bench/fleet.py [--hosts 10] [--speed 20]

Each deployment has a project of its own, behind a Google emulator of its own on loopback; no cluster runs behind it, so
this is the half of the job that Google Cloud does: APIs, proxy-only subnet, cluster, node pools, access. One deployment
and N, from nothing and once more, with as many forks as hosts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from sandbox import paths  # noqa: E402

Json = dict[str, Any]
EMULATOR = REPOSITORY / "tests/contract/cloud/emulator_main.py"
PLAY = """\
- hosts: llmd
  gather_facts: false
  roles: [llmd.gke.gcp_network, llmd.gke.gke_gpu_cluster]
"""


@contextlib.contextmanager
def clouds(folder: Path, count: int, speed: float) -> Iterator[list[Json]]:
    """Emulators of ``count`` projects."""
    python = paths.current().venvs / "sandbox/bin/python"
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(count):
            home = folder / f"cloud{number}"
            home.mkdir()
            command = [str(python), str(EMULATOR), str(home), str(speed), f"project-{number}"]
            process = subprocess.Popen(
                command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait, 15)
            assert process.stdin is not None
            stack.callback(process.stdin.close)
            started.append(process)
        found = []
        for process in started:
            assert process.stdout is not None
            found.append(json.loads(process.stdout.readline()))
        yield found


def interpreter(folder: Path, name: str, cloud: Json) -> str:
    """A Python that is a client of that cloud, as the sandbox's own wrapper is."""
    variables = {key: value for key, value in cloud["environment"].items() if not key.startswith("CLOUDSDK")}
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items())
    path = folder / f"python-{name}"
    path.write_text(f'#!/bin/sh\n{exports}exec {shlex.quote(sys.executable)} "$@"\n')
    path.chmod(0o755)
    return str(path)


def inventory(folder: Path, found: list[Json]) -> Path:
    hosts = {
        f"d{number}": {
            "ansible_connection": "local",
            "ansible_python_interpreter": interpreter(folder, f"d{number}", cloud),
            "llmd_project": f"project-{number}",
        }
        for number, cloud in enumerate(found)
    }
    path = folder / f"hosts-{len(hosts)}.yml"
    path.write_text(json.dumps({"llmd": {"hosts": hosts}}))
    return path


def play(folder: Path, hosts: Path, forks: int) -> tuple[float, float, int]:
    """(seconds, CPU seconds, changed tasks) of the play on these hosts. Raises where one fails."""
    (folder / "play.yml").write_text(PLAY)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "GOOGLE_", "GCP_"))},
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks/collections"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_GATHERING": "explicit",
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ["ansible-playbook", "-i", str(hosts), "-f", str(forks), str(folder / "play.yml")],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    changed = sum(int(number) for number in re.findall(r"changed=(\d+)", done.stdout))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - begun, cpu, changed


def measure(folder: Path, count: int, forks: int, speed: float) -> tuple[float, float]:
    """Seconds from nothing and once more."""
    folder.mkdir()
    with clouds(folder, count, speed) as found:
        hosts = inventory(folder, found)
        results = []
        for what in ("from nothing", "once more"):
            seconds, cpu, changed = play(folder, hosts, forks)
            print(
                f"{count:>3} deployments, {forks:>2} forks, {what:<13} {seconds:7.1f} s, CPU {cpu:6.1f} s, "
                f"changed {changed:>3}, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
            results.append(seconds)
    return results[0], results[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--speed", type=float, default=20.0, help="of modelled time; 1 is Google's own")
    parser.add_argument("--forks", type=int, nargs="*", default=[10], help="how many hosts at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        one, one_again = measure(Path(home, "one"), 1, 1, options.speed)
        for forks in options.forks:
            many, again = measure(Path(home, f"many{forks}"), options.hosts, forks, options.speed)
            print(f"{options.hosts} over 1, from nothing, {forks} forks: {many / one:.2f}   aim: <= 3")
            print(f"{options.hosts} once more: {again:.1f} s (1: {one_again:.1f} s)   aim: <= 60 s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
