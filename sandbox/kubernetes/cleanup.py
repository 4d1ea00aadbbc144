"""Remove everything that clusters of a sandbox left, whatever killed it: from disk records, /proc and control groups.

Normally one step does it all: a machine's first process is ended, and the kernel takes the rest of it away. The other
steps are for what might be left when a record was never written or a namespace could not be made.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sandbox import fabric, processes
from sandbox.kubernetes import cgroups
from sandbox.paths import Paths

_PROGRAMS = frozenset(
    {
        "containerd",
        "containerd-shim",
        "containerd-shim-runc-v2",
        "coredns",
        "ctr",
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubelet",
        "kwok",
        "kwokctl",
        "runc",
        "unshare",
    }
)
_MODULE = "sandbox.kubernetes.pid1"
MNT_DETACH = 2


def cleanup(paths: Paths) -> None:
    """Leave no process, mount, namespace, control group or file of any cluster. May be called at any time, again too.

    Raises RuntimeError naming what could not be removed.
    """
    stop_machines(paths)
    kill_leftovers(paths)
    unmount_all(paths.state)
    for name in fabric.namespaces(paths):
        role = name[len(paths.name) + 1 :]
        if role != "fabric":
            fabric.detach(paths, role)
    left = [] if cgroups.remove(cgroups.root_of(paths)) else ["control groups " + cgroups.root_of(paths)]
    remove_folder(paths.clusters)
    if paths.clusters.exists():
        left.append(str(paths.clusters))
    if left:
        raise RuntimeError(f"could not remove {' and '.join(left)}; is something of it still in use?")


def stop_machines(paths: Paths) -> None:
    """End every recorded machine, all at once."""
    folders = sorted(paths.clusters.glob("*/processes"))
    for folder in folders:
        for process in processes.recorded(folder):
            if process.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
    for folder in folders:
        processes.stop_all(folder, grace=5.0)


def kill_leftovers(paths: Paths) -> int:
    """Kill what runs without a record; the number of processes that had to be killed."""
    count = 0
    for _ in range(100):
        found = leftovers(paths)
        if not found:
            return count
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                count += 1
        time.sleep(0.05)
    raise RuntimeError(f"processes {sorted(leftovers(paths))} do not end")


def leftovers(paths: Paths) -> set[int]:
    """Pids that belong to this sandbox's clusters: by their control group, or by program and files they name."""
    commands: dict[int, list[str]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                commands[int(folder.name)] = (folder / "cmdline").read_text("utf-8", "replace").split("\0")
    found = cgroups.members(paths) | select(commands, paths)
    found.discard(os.getpid())
    return {pid for pid in found if processes.start_time(pid) is not None}


def select(commands: Mapping[int, Sequence[str]], paths: Paths) -> set[int]:
    """Which of the processes (pid -> arguments) are parts of this sandbox's clusters.

    A part is one of the programs that we run *and* names a file below the clusters' folder: an editor or ``tail``
    on one of its files is none, nor is another sandbox's kubelet.
    """
    prefix = f"{paths.clusters}/"
    chosen = set()
    for pid, command in commands.items():
        ours = os.path.basename(command[0]) in _PROGRAMS or _MODULE in command
        if ours and any(prefix in argument for argument in command[1:]):
            chosen.add(pid)
    return chosen


def unmount_all(folder: Path) -> None:
    """Unmount everything below ``folder``, deepest and newest first."""
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(20):  # what was mounted twice on one place shows again
        targets = mounts_below(Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines(), folder)
        if not targets:
            return
        for target in targets:
            libc.umount2(os.fsencode(target), MNT_DETACH)


def mounts_below(lines: Iterable[str], folder: Path) -> list[str]:
    """Mount points at or below ``folder`` in lines of /proc/mounts, in the order in which to unmount them."""
    top = str(folder)
    found = []
    for number, line in enumerate(lines):
        fields = line.split()
        if len(fields) < 2:
            continue
        target = _unescape(fields[1])
        if target == top or target.startswith(top + "/"):
            found.append((target.count("/"), number, target))
    return [target for _, _, target in sorted(found, reverse=True)]


def remove_folder(folder: Path) -> None:
    """Remove a tree, patiently: the last writer may still be ending."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def _unescape(text: str) -> str:
    """/proc/mounts writes blanks and the like as three octal digits after a backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
