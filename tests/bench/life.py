"""Figures of a deployment's life after its first day: measured, printed, never a pass or a fail.

    make bench        (or: python tests/bench/life.py)

At speed 0 Google's modelled durations are nothing, so that what is measured is what the playbooks add to them. Uses a
sandbox of its own and takes it away.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def show(what: str, value: float, unit: str, aim: str) -> None:
    print(f"{what:<58} {value:8.2f} {unit:<3} aim: {aim}", flush=True)


def sandbox(environment: dict[str, str], *words: str) -> None:
    command = [str(REPOSITORY / "sandbox" / "sandbox"), *words]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def playbook(environment: dict[str, str], name: str, **variables: object) -> float:
    """Seconds of one whole run of a playbook."""
    command = ["ansible-playbook", "-i", str(REPOSITORY / "inventories/sandbox")]
    command += [str(REPOSITORY / f"playbooks/{name}.yml"), "-e", json.dumps(variables)]
    start = time.monotonic()
    done = subprocess.run(
        command, env=environment, cwd=environment["HOME"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{name}.yml: {done.stdout[-3000:]}{done.stderr[-1000:]}")
    return time.monotonic() - start


def stages(environment: dict[str, str], name: str) -> None:
    """Where the seconds of a run went, by its own report."""
    report = json.loads(Path(environment["HOME"], f".llmd/pattern1/report-{name}.json").read_text())
    print("    " + ", ".join(f"{stage['name']} {stage['seconds']:.1f}" for stage in report["stages"]), flush=True)


def life(environment: dict[str, str]) -> None:
    """A deployment's pause, resume, upgrade and teardown."""
    playbook(environment, "pattern1")
    page = Path(environment["HOME"], ".llmd/pattern1/report.html")
    show("report of a deployment, one file", page.stat().st_size / 1000, "kB", "< 300 kB")
    for what, name, aim, variables in (
        ("pause", "pause", "<= 30 s", {}),
        ("resume to the first completion", "resume", "<= 60 s", {}),
        ("upgrade on the only GPU", "upgrade", "", {"llmd_confirm": "pattern1", "llmd_max_num_seqs": 48}),
        ("teardown to 0 left", "teardown", "", {"llmd_confirm": "pattern1"}),
    ):
        seconds = playbook(environment, name, **variables)
        show(f"{what}, over Google's durations", seconds, "s", aim)
        stages(environment, name)


def pytest_says(test: str) -> str:
    """What a test prints of its own figures."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", test]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout


def scan_and_page() -> None:
    """The orphan scan among five hundred resources, and the report's page in a real browser."""
    said = pytest_says("tests/contract/cloud/test_orphans.py::test_thirty_of_five_hundred")
    for line in re.findall(r"^orphan scan: .*$", said, re.MULTILINE):
        print(line)
    for word, aim in (("scan", "<= 5 s"), ("deletion", "")):
        found = re.search(rf"\b{word} ([\d.]+) s", said)
        if found:
            show(f"orphan scan, 500 resources of which 30 are ours: {word}", float(found.group(1)), "s", aim)
    said = pytest_says("tests/contract/report/test_in_a_browser.py")
    for width, took in re.findall(r"report at (\d+) px: rendered in (\d+) ms", said):
        show(f"report drawn by Chromium, {width} px wide", int(took) / 1000, "s", "< 1 s")


def main() -> int:
    scan_and_page()
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "HOME": home,
            "LLMD_SANDBOX_NAME": os.environ.get("LLMD_SANDBOX_TEST_PREFIX", "") + "life",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        }
        sandbox(environment, "down")
        try:
            sandbox(environment, "up", "--speed", "0", "--port", "0")
            life(environment)
        finally:
            sandbox(environment, "down")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
