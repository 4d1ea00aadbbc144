"""Control groups of the sandbox's nodes: every one below ``/llmd-sandbox-<name>/``, so that all can be found again.

Works on pure cgroup v2 and on v1 (also "hybrid", where v2 is mounted beside v1 without controllers).
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox.paths import Paths

_V2_CONTROLLERS = ("cpu", "cpuset", "hugetlb", "memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy. ``controllers`` is empty for v2."""

    mountpoint: Path
    version: int
    controllers: tuple[str, ...] = ()


def parse_mounts(mounts: str) -> list[Hierarchy]:
    """Hierarchies in the text of /proc/mounts, each once."""
    found: dict[Path, Hierarchy] = {}
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[2] not in ("cgroup", "cgroup2"):
            continue
        mountpoint = Path(fields[1])
        if fields[2] == "cgroup2":
            found[mountpoint] = Hierarchy(mountpoint, 2)
        else:
            options = {"rw", "ro", "relatime", "nosuid", "nodev", "noexec", "seclabel", "xattr", "clone_children"}
            named = tuple(option for option in fields[3].split(",") if option not in options)
            found[mountpoint] = Hierarchy(mountpoint, 1, named)
    return list(found.values())


def hierarchies() -> list[Hierarchy]:
    return parse_mounts(Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"))


def root_of(paths: Paths) -> str:
    """The sandbox's own control group, as a path within a hierarchy."""
    return f"/llmd-sandbox-{paths.name}"


def node_group(paths: Paths, role: str) -> str:
    """The group of one node (kubelet's cgroupRoot)."""
    return f"{root_of(paths)}/{role}"


def create(group: str) -> None:
    """Make ``group`` in every hierarchy, with controllers handed down to it."""
    for hierarchy in hierarchies():
        folder = hierarchy.mountpoint
        for part in Path(group).parts[1:]:
            if hierarchy.version == 2:
                _delegate(folder)
            folder = folder / part
            folder.mkdir(exist_ok=True)
            if "cpuset" in hierarchy.controllers:
                _inherit_cpuset(folder)
        if hierarchy.version == 2:
            _delegate(folder)


def members(paths: Paths) -> set[int]:
    """Pids of every process in the sandbox's groups."""
    found: set[int] = set()
    for folder in _folders(paths):
        with contextlib.suppress(OSError):
            found.update(int(line) for line in (folder / "cgroup.procs").read_text(encoding="ascii").split())
    return found


def remove(group: str, *, patience: float = 3.0) -> bool:
    """Remove ``group`` and all below it, in every hierarchy; False where some could not be removed in time.

    The kernel lets a group go only some milliseconds after its last process has ended.
    """
    deadline = time.monotonic() + patience
    while True:
        left = False
        for hierarchy in hierarchies():
            top = hierarchy.mountpoint / group.lstrip("/")
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    continue
                except OSError:
                    left = True
        if not left or time.monotonic() > deadline:
            return not left
        time.sleep(0.02)


def _folders(paths: Paths) -> list[Path]:
    tops = [hierarchy.mountpoint / root_of(paths).lstrip("/") for hierarchy in hierarchies()]
    return [Path(folder) for top in tops for folder, _, _ in os.walk(top)]


def _delegate(folder: Path) -> None:
    available = (folder / "cgroup.controllers").read_text(encoding="ascii").split()
    for controller in _V2_CONTROLLERS:
        if controller in available:
            # One by one: the kernel refuses all of them where one cannot be had.
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")


def _inherit_cpuset(folder: Path) -> None:
    """A new v1 cpuset is empty and holds no process until it has its parent's CPUs and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        with contextlib.suppress(OSError):
            if not (folder / name).read_text(encoding="ascii").strip():
                (folder / name).write_text((folder.parent / name).read_text(encoding="ascii"), encoding="ascii")
