"""The last broom of ``down``: whatever is still there after every part has cleaned up after itself.

Only what is provably this sandbox's is touched: processes inside its namespaces (or recorded by it, by pid and start
time), mounts below its state folder, namespaces of its name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from sandbox.cli import state
from sandbox.paths import Paths
from sandbox.processes import start_time


def ancestors(pid: int) -> set[int]:
    """``pid`` and its parents: never to be ended, as they are us (a `down` typed inside `sandbox shell`)."""
    found = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            break
    return found


def remove(paths: Paths, *, patience: float = 5.0) -> list[str]:
    """End, unmount and delete what is left. Lines about what resisted; empty when nothing is there any more."""
    left = end_processes(paths, patience=patience)
    for point in state.mounts(paths):
        if not _unmounted(point):
            left.append(f"mount {point}")
    for name in state.namespaces(paths):
        done = subprocess.run(["ip", "netns", "delete", name], capture_output=True, text=True, check=False)
        if done.returncode != 0 and name in state.namespaces(paths):
            left.append(f"network namespace {name}: {done.stderr.strip()}")
    if not state.mounts(paths):  # never delete through a mount
        left += _delete_state(paths)
    return left


def end_processes(paths: Paths, *, patience: float) -> list[str]:
    """End what runs in the sandbox: politely, then by force. Lines about survivors."""
    us = ancestors(os.getpid())
    found = {pid: start_time(pid) for pid in state.members(paths) - us}
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid, started in found.items():
            # Pids are reused: end only what is still the same process.
            if started is not None and start_time(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found = {pid: started for pid, started in found.items() if started and start_time(pid) == started}
            if not found:
                return []
            time.sleep(0.05)
    return [f"process {pid} ({state.program(pid)})" for pid in found]


def _unmounted(point: Path) -> bool:
    for flags in ([], ["-l"]):  # lazily where a dying process still holds it
        if subprocess.run(["umount", *flags, str(point)], capture_output=True, check=False).returncode == 0:
            return True
    return not os.path.ismount(point)


def _delete_state(paths: Paths) -> list[str]:
    try:
        shutil.rmtree(paths.state)
    except FileNotFoundError:
        pass
    except OSError as error:
        return [f"folder {paths.state}: {error}"]
    with contextlib.suppress(OSError):  # the folder of all sandboxes, when this was the last
        paths.state.parent.rmdir()
    return []
