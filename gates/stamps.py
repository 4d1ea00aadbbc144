"""Which checks need not run again: those that passed on exactly these files with exactly these tools.

The key is a hash over the content of every input and over what pins the tools; only a success leaves a stamp. So a
stamp says "this very check passed on these very bytes", not "somebody ran it lately".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

# Folders that runs leave in a checkout. A link is never followed: the collection contains itself by one.
PASSED_OVER = frozenset(
    {".git", ".ansible", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "ansible_collections", "dist"}
)
KEEP = 400  # stamps; the oldest go first


def files_below(root: Path, wanted: Iterable[str]) -> list[Path]:
    """Regular files of the files and folders ``wanted`` (relative to ``root``; "." is all of it), sorted."""
    found: set[Path] = set()
    for name in wanted:
        start = root / name
        if start.is_file():
            found.add(start)
        for folder, folders, files in os.walk(start):
            folders[:] = [one for one in folders if one not in PASSED_OVER]
            found |= {Path(folder, one) for one in files if not one.endswith((".pyc", ".tar.gz"))}
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def key(root: Path, wanted: Iterable[str], *settings: str) -> str:
    """Hash of names, executable bits and contents of the inputs, and of the settings."""
    digest = hashlib.sha256()
    for path in files_below(root, wanted):
        mode = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"{path.relative_to(root).as_posix()}\0{mode}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for setting in settings:
        digest.update(f"\0{setting}".encode())
    return digest.hexdigest()[:20]


class Stamps:
    """A folder with one empty file for each check that passed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str, check_key: str) -> bool:
        stamp = self.folder / f"{name}-{check_key}"
        if not stamp.is_file():
            return False
        os.utime(stamp)  # used lately: kept longest
        return True

    def put(self, name: str, check_key: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}-{check_key}").touch()
        old = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in old[:-KEEP]:
            path.unlink(missing_ok=True)
