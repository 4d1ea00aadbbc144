"""One builder at a time: a lock file that says who holds it.

The kernel drops the lock when its holder dies, so nothing is ever left locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox.toolchain.errors import ToolchainError


@contextlib.contextmanager
def hold(
    path: Path,
    what: str,
    *,
    say: Callable[[str], None],
    timeout: float | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Hold the lock file ``path`` for the ``with`` block.

    While another process holds it, say once who that is and wait, at most ``timeout`` seconds (None: for ever, 0: not
    at all); then fail with ``ToolchainError``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as error:
        raise ToolchainError(
            f"{path.parent} cannot be written by this user.",
            "run as root, or choose another folder with LLMD_SANDBOX_CACHE",
        ) from error
    try:
        _acquire(descriptor, what, say=say, timeout=timeout, pause=pause, clock=clock)
        note = {
            "pid": os.getpid(),
            "what": what,
            "command": " ".join(sys.argv)[:200],
            "since": time.strftime("%H:%M:%S"),
        }
        with contextlib.suppress(OSError):  # only a courtesy to those who wait: a full disk must not stop us here
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _acquire(
    descriptor: int,
    what: str,
    *,
    say: Callable[[str], None],
    timeout: float | None,
    pause: Callable[[float], None],
    clock: Callable[[], float],
) -> None:
    started = clock()
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = describe(descriptor)
        if timeout is not None and clock() - started >= timeout:
            raise ToolchainError(
                f"Cannot start with {what}: {holder} is at it.",
                "wait until that one is done, or end it (Ctrl-C in its terminal)",
            )
        if not told:
            say(f"waiting for {holder}, which is at {what} already")
            told = True
        pause(0.2)


def describe(descriptor: int) -> str:
    """Who holds the lock, from the note inside the lock file."""
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {note['pid']} ({note['command']}, since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
