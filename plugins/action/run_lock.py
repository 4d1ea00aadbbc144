# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ``run_lock``: knows who runs, and whether a run of this machine that holds the lock is still alive."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.llmd.gke.plugins.module_utils.llmd.run_lock import run_of

JOBS = ("AWX_JOB_ID", "TOWER_JOB_ID", "JOB_ID")


def machine() -> str:
    """This machine since its last start, as processes see it: two containers with one host name are two."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        try:
            parts.append(Path(path).read_text(encoding="ascii").strip())
        except OSError:
            continue
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def started(pid: int) -> str:
    """When a process began, in the kernel's clock ticks; empty where it is gone, a zombie, or nobody can tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def alive(holder: dict[str, Any]) -> bool:
    """Whether the run may still be there. Only a run of this machine can be known to be dead."""
    pid = int(holder.get("pid") or 0)
    if holder.get("machine") != machine() or not pid:
        return True
    if Path("/proc/self/stat").exists():
        return started(pid) == str(holder.get("started"))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


class ActionModule(ActionBase):  # type: ignore[misc]
    """Adds the holder; asks a second time where the first answer names a dead run."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        pid = os.getppid()  # an action runs in a worker; its parent is ansible-playbook
        here, begun = machine(), started(pid)
        holder = {
            "run": run_of(here, pid, begun),
            "user": user(),
            "host": socket.gethostname(),
            "machine": here,
            "pid": pid,
            "started": begun,
            "play": str(variables.get("ansible_play_name") or ""),
            "job": next((os.environ[name] for name in JOBS if os.environ.get(name)), ""),
        }
        options = {**self._task.args, "holder": holder}
        result.update(self._ask(options, variables))
        error = result.get("error") or {}
        other = (error.get("evidence") or {}) if error.get("code") == "RUN_IN_PROGRESS" else {}
        if other and not alive(other):
            result = self._ask({**options, "replace": other["run"]}, variables)
        return result

    def _ask(self, options: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_module(
            module_name="llmd.gke.run_lock", module_args=options, task_vars=variables
        )
        return found
