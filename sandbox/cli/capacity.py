"""What the machine must have left for one more sandbox, read from /proc: a kubelet that runs short of it just dies."""

from __future__ import annotations

import os
from pathlib import Path

# A cluster of three nodes, counted: 12 for its control plane and Envoy, 8 a node (kubelet, containerd, kube-proxy).
INOTIFY_INSTANCES = 36
_LIMIT = Path("sys/fs/inotify/max_user_instances")


def inotify_used(proc: Path = Path("/proc")) -> int:
    """Inotify instances of this user's processes; those that end meanwhile are left out."""
    used = 0
    for process in proc.glob("[0-9]*"):
        try:
            if process.stat().st_uid != os.geteuid():
                continue
            links = [os.readlink(entry) for entry in (process / "fd").iterdir()]
        except OSError:
            continue
        used += links.count("anon_inode:inotify")
    return used


def inotify_note(proc: Path = Path("/proc")) -> str:
    """A sentence with the way out where too few instances are left for a cluster of three nodes, else nothing."""
    try:
        limit = int((proc / _LIMIT).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ""
    left = limit - inotify_used(proc)
    if left >= INOTIFY_INSTANCES:
        return ""
    return (
        f"note: {left} of {limit} inotify instances are left and a cluster of three nodes takes {INOTIFY_INSTANCES}: "
        'nodes may not start ("too many open files"). What to do: take another sandbox down, or '
        "sysctl -w fs.inotify.max_user_instances=512"
    )
