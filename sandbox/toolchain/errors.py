"""Failures of the toolchain, worded for the person in front of the terminal."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

_FULL = re.compile(r"no space left on device|\[Errno 28\]|not have enough free space", re.IGNORECASE)


class ToolchainError(Exception):
    """One clear sentence and the way out of it."""

    def __init__(self, message: str, remedy: str = "", *, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        parts = [self.message]
        if self.details:
            parts.append("\n".join("  | " + line for line in self.details.splitlines()))
        if self.remedy:
            parts.append(f"What to do: {self.remedy}")
        return "\n".join(parts)


class Cancelled(Exception):
    """The work was stopped (Ctrl-C, or another lane failed)."""


def says_disk_full(text: str) -> bool:
    """Whether a program's output means that a disk is full."""
    return _FULL.search(text) is not None


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(what: str, folders: Iterable[Path]) -> ToolchainError:
    """The error for a full disk, naming the free space of each file system that the step writes to."""
    seen: dict[int, str] = {}
    for folder in folders:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
        usage = shutil.disk_usage(existing)
        seen.setdefault(os.stat(existing).st_dev, f"{folder} ({usage.free // 2**20} MiB free)")
    return ToolchainError(
        f"No space left on the disk while {what}: {', '.join(seen.values())}.",
        "free some space there (a first build needs about 8 GB, most of it Go's build cache), or move the cache with "
        "LLMD_SANDBOX_CACHE, GOCACHE, GOMODCACHE or TMPDIR, then start again: finished steps are kept, "
        "the unfinished one was removed.",
    )
