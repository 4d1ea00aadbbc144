"""What is up, seen from the disk, the kernel and the daemon. Reading only."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox import processes
from sandbox.cli import network
from sandbox.paths import Paths
from sandbox.processes import Process

DAEMON = "daemon"
FORWARD = "forward"

UP = "up"  # the daemon lives
STARTING = "starting"  # it lives, but `up` has not come to its end
DEAD = "dead"  # something is left of a sandbox whose daemon is gone (killed, crashed, rebooted)
DOWN = "down"  # nothing is there


@dataclass(frozen=True)
class Record:
    """Written by ``up`` at its end: who made this sandbox, and how. ``boot`` is the kernel's boot id."""

    repository: str
    boot: str
    speed: float
    started: float


def folder(paths: Paths) -> Path:
    """Process records of the daemon and the forwarder."""
    return paths.state / "processes"


def record_file(paths: Paths) -> Path:
    return paths.state / "sandbox.json"


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def write_record(paths: Paths, record: Record) -> None:
    temporary = record_file(paths).with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    temporary.rename(record_file(paths))


def read_record(paths: Paths) -> Record | None:
    try:
        return Record(**json.loads(record_file(paths).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def process(paths: Paths, name: str) -> Process | None:
    """The recorded process ``name``, alive or not."""
    return next((found for found in processes.recorded(folder(paths)) if found.name == name), None)


def alive(paths: Paths, name: str) -> bool:
    found = process(paths, name)
    return found is not None and found.alive()


def namespaces(paths: Paths) -> list[str]:
    """Names of this sandbox's network namespaces that exist now."""
    pattern = re.compile(rf"{re.escape(paths.name)}-(fabric|cp\d+|n\d+-\d+)")
    try:
        return sorted(entry.name for entry in network.NETNS.iterdir() if pattern.fullmatch(entry.name))
    except OSError:
        return []


def mounts(paths: Paths) -> list[Path]:
    """Mount points below the sandbox's state folder, the deepest first."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            # The kernel writes blanks in a path as octal.
            point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[1]))
            if paths.state in point.parents:
                found.append(point)
    return sorted(set(found), key=lambda point: len(point.parts), reverse=True)


def condition(paths: Paths) -> str:
    """One of UP, STARTING, DEAD, DOWN."""
    if alive(paths, DAEMON):
        return UP if read_record(paths) and network.namespace_file(paths.fabric).exists() else STARTING
    return DEAD if paths.state.exists() or namespaces(paths) else DOWN


# --- processes -----------------------------------------------------------------------------------------------------


def inodes(names: list[str]) -> set[int]:
    """Kernel identities of network namespaces."""
    found = set()
    for name in names:
        with contextlib.suppress(OSError):
            found.add(os.stat(network.namespace_file(name)).st_ino)
    return found


def members(paths: Paths) -> set[int]:
    """Pids of everything that runs in this sandbox's namespaces or was recorded, and all their descendants.

    Pods have namespaces of their own, but descend from shims that a node's containerd started.
    """
    networks = inodes(namespaces(paths))
    parents: dict[int, int] = {}
    found = {item.pid for item in every_record(paths) if item.alive()}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[pid] = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            if networks and os.stat(entry / "ns" / "net").st_ino in networks:
                found.add(pid)
    while True:
        more = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        if not more:
            return found
        found |= more


def every_record(paths: Paths) -> list[Process]:
    """Every process recorded anywhere below the state folder."""
    if not paths.state.is_dir():
        return []
    folders = {path.parent for path in paths.state.rglob("*.pid")}
    return [item for one in sorted(folders) for item in processes.recorded(one)]


def memory(pid: int) -> int:
    """Bytes of memory of a process: its fair share of shared pages (PSS), else its resident size; 0 when gone."""
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/{name}").read_text(errors="replace").splitlines():
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    return 0


def program(pid: int) -> str:
    """Short name of what a process runs: the program, or for Python the module or script."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    name = Path(words[0]).name if words and words[0] else ""
    if name.startswith("python"):
        rest = [word for word in words[1:] if word]
        if "-m" in rest and rest.index("-m") + 1 < len(rest):
            return rest[rest.index("-m") + 1]
        scripts = [word for word in rest if not word.startswith("-")]
        return Path(scripts[0]).name if scripts else name
    return name


def usage(paths: Paths) -> list[dict[str, Any]]:
    """Programs of the sandbox, the biggest first: ``{"name", "count", "memory_mb"}``."""
    found: dict[str, list[int]] = {}
    for pid in members(paths):
        name = program(pid)
        if name:
            found.setdefault(name, []).append(memory(pid))
    rows = [
        {"name": name, "count": len(sizes), "memory_mb": round(sum(sizes) / 2**20, 1)} for name, sizes in found.items()
    ]
    return sorted(rows, key=lambda row: -float(row["memory_mb"]))
