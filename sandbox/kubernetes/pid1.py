"""First process of a machine (a control plane or a node): private mounts, services, reaping.

Runs as pid 1 of its own pid and mount namespace (``launch_command``). Two things follow from that, by the kernel's
doing and not by ours: when it ends, everything that ran as the machine ends (containers and their shims too), and
with the last process every mount the machine ever made is gone. Standard library only: it stays in memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

MS_BIND = 4096
MS_REC = 16384
_RESTART_PAUSE = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before the first, second, ... restart of a service


@dataclass(frozen=True)
class Mount:
    """``kind`` bind (source over target) or tmpfs (an empty target, in which the folders ``keep`` stay visible)."""

    kind: str
    target: str
    source: str = ""
    keep: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Service:
    """A program to run for ever, or once. It starts when every file in ``needs`` exists; its output goes to ``log``."""

    name: str
    command: list[str]
    log: str
    environment: dict[str, str] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    once: bool = False


@dataclass(frozen=True)
class MachineSpec:
    """All that a machine is told: ``mounts`` in order, then ``services``."""

    mounts: list[Mount]
    services: list[Service]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def read_spec(path: Path) -> MachineSpec:
    """What ``MachineSpec.write`` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return MachineSpec([Mount(**item) for item in raw["mounts"]], [Service(**item) for item in raw["services"]])


def launch_command(python: str, spec: Path) -> list[str]:
    """The command that becomes the machine. Mounts made outside later still show inside (slave), never the reverse."""
    unshare = ["unshare", "--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*unshare, python, "-m", "sandbox.kubernetes.pid1", str(spec)]


def kept_below(target: str, keep: Iterable[str]) -> list[str]:
    """Those of the folders ``keep`` that lie below ``target``, outermost first, none below another one."""
    chosen: list[str] = []
    for path in sorted({os.path.normpath(item) for item in keep}, key=lambda item: (item.count("/"), item)):
        below = path.startswith(target.rstrip("/") + "/")
        if below and not any(path == outer or path.startswith(outer + "/") for outer in chosen):
            chosen.append(path)
    return chosen


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (source.encode(), target.encode(), kind.encode() if kind else None)
    if libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() if data else None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def apply_mount(mount: Mount) -> None:
    """Do one mount in this process's mount namespace."""
    if mount.kind == "bind":
        if os.path.isdir(mount.source):
            os.makedirs(mount.target, exist_ok=True)
        _mount(mount.source, mount.target, None, MS_BIND | MS_REC)
        return
    handles = [(path, os.open(path, os.O_PATH)) for path in kept_below(mount.target, mount.keep) if os.path.isdir(path)]
    _mount("tmpfs", mount.target, "tmpfs", 0, "mode=0755")
    for path, handle in handles:
        os.makedirs(path, exist_ok=True)
        # The handle still leads to the folder that the tmpfs now hides.
        _mount(f"/proc/self/fd/{handle}", path, None, MS_BIND | MS_REC)
        os.close(handle)


class Supervisor:
    """Starts services when what they need is there, restarts those that end, collects every orphan."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._waiting: list[tuple[float, Service]] = [(0.0, service) for service in services]
        self._running: dict[int, Service] = {}
        self._ends: dict[str, int] = {}

    def run(self) -> NoReturn:
        while True:
            self._start_due()
            self._collect()
            time.sleep(0.02 if self._waiting else 0.2)

    def _start_due(self) -> None:
        now = time.monotonic()
        for entry in list(self._waiting):
            due, service = entry
            if now >= due and all(os.path.exists(path) for path in service.needs):
                self._waiting.remove(entry)
                self._start(service)

    def _start(self, service: Service) -> None:
        with open(service.log, "ab") as log:
            log.write(f"--- {time.strftime('%H:%M:%S')} start: {' '.join(service.command)}\n".encode())
            log.flush()
            try:
                child = subprocess.Popen(
                    service.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **service.environment},
                    start_new_session=True,
                )
            except OSError as error:
                log.write(f"--- cannot start: {error}\n".encode())
                self._again(service)
                return
        self._running[child.pid] = service
        child.returncode = 0  # the loop below collects it, not Popen

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            service = self._running.pop(pid, None)
            if service is None:
                continue
            with open(service.log, "ab") as log:
                log.write(f"--- ended with status {os.waitstatus_to_exitcode(status)}\n".encode())
            if not service.once:
                self._again(service)

    def _again(self, service: Service) -> None:
        count = self._ends.get(service.name, 0)
        self._ends[service.name] = count + 1
        self._waiting.append((time.monotonic() + _RESTART_PAUSE[min(count, len(_RESTART_PAUSE) - 1)], service))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(0)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    spec = read_spec(Path(arguments[1]))
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    for mount in spec.mounts:
        apply_mount(mount)
    with contextlib.suppress(KeyError):
        del os.environ["PYTHONPATH"]  # it was ours, not the services'
    Supervisor(spec.services).run()


if __name__ == "__main__":
    main(sys.argv, os.environ)
