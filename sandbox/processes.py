"""Long-running processes of the sandbox: started in a namespace, remembered on disk, ended by identity.

A pid alone is not an identity (pids are reused), so the kernel's start time of the process is kept with it. What was
started by a killed sandbox is therefore found, and nobody else's process is ever ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process that we started. ``started`` is field 22 of /proc/PID/stat (clock ticks since boot)."""

    name: str
    pid: int
    started: int
    log: str

    def alive(self) -> bool:
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Start time of a live process, or None where it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def in_namespace(namespace: str, command: Sequence[str]) -> list[str]:
    """``command`` as run in a network namespace.

    nsenter, not ``ip netns exec``: that one remounts /sys, after which a kubelet finds no cgroups.
    """
    return ["nsenter", f"--net=/run/netns/{namespace}", *command]


def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    namespace: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a background process in its own session and record it as ``folder/NAME.pid`` (JSON).

    stdout and stderr are appended to ``log``. ``environment`` replaces the inherited one when given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    full = in_namespace(namespace, command) if namespace else list(command)
    with log.open("ab") as output:
        child = subprocess.Popen(
            full,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
            env=None if environment is None else dict(environment),
        )
    started = start_time(child.pid)
    process = Process(name, child.pid, started if started is not None else -1, str(log))
    temporary = folder / f".{name}.pid.tmp"
    temporary.write_text(json.dumps(process.__dict__), encoding="utf-8")
    temporary.rename(folder / f"{name}.pid")
    return process


def recorded(folder: Path) -> list[Process]:
    """Every process recorded in ``folder``, alive or not. Unreadable records are skipped."""
    found = []
    for path in sorted(folder.glob("*.pid")):
        try:
            found.append(Process(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return found


def stop(process: Process, folder: Path, *, grace: float = 10.0) -> None:
    """End one process (its whole session), politely first and by force after ``grace`` seconds; forget its record."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        if not process.alive():
            break
        _signal(process, number)
        _wait_gone(process, patience)
    reap(process.pid)
    (folder / f"{process.name}.pid").unlink(missing_ok=True)


def stop_all(folder: Path, *, grace: float = 10.0) -> int:
    """End every recorded process of ``folder``, all at the same time; the number that was still alive."""
    processes = recorded(folder)
    alive = [process for process in processes if process.alive()]
    for process in alive:
        _signal(process, signal.SIGTERM)
    for process in processes:
        stop(process, folder, grace=grace)
    return len(alive)


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _wait_gone(process: Process, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        reap(process.pid)
        if not process.alive():
            return
        time.sleep(0.02)


def reap(pid: int) -> None:
    """Collect the exit status where the process was our child, so that it does not stay a zombie."""
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)
