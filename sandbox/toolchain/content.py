"""Results addressed by content: built beside their place, moved in whole, found again by the hash of what made them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandbox.toolchain.errors import disk_full, is_disk_full

MARKER = ".complete"  # the last file written into a finished folder: what it was made from


def content_key(files: Iterable[Path], *settings: str) -> str:
    """12 hex digits that change when a file's name or content or a setting does. Order of ``files`` does not matter."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda item: item.as_posix()):
        data = path.read_bytes()
        digest.update(f"{path.name}\0{len(data)}\0".encode())
        digest.update(data)
    for setting in settings:
        digest.update(f"\0{setting}".encode())
    return digest.hexdigest()[:12]


def tree_key(folders: Iterable[Path], *settings: str) -> str:
    """As ``content_key`` for all files below the folders (compiled Python and hidden files left out)."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
            if hidden or not path.is_file():
                continue
            digest.update(f"{folder.name}/{relative.as_posix()}\0{os.access(path, os.X_OK)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    for setting in settings:
        digest.update(f"\0{setting}".encode())
    return digest.hexdigest()[:12]


def is_complete(folder: Path) -> bool:
    return (folder / MARKER).is_file()


def read_marker(folder: Path) -> dict[str, str]:
    """What a finished folder was made from; empty where it is not finished."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def write_marker(folder: Path, made_from: dict[str, str]) -> None:
    (folder / MARKER).write_text(json.dumps(made_from, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def build_folder(final: Path, made_from: dict[str, str], what: str) -> Iterator[Path]:
    """Give the ``with`` block an empty temporary folder; move it to ``final`` when the block ends well.

    The caller holds the lock of ``final``, so temporary folders found there belong to builds that were killed.
    """
    temporary = final.parent / f".{final.name}.{os.getpid()}.tmp"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        for stale in final.parent.glob(f".{final.name}.*.tmp"):
            remove(stale)
        temporary.mkdir()
        yield temporary
        write_marker(temporary, made_from)
        remove(final)
        temporary.rename(final)
    except OSError as error:
        remove(temporary)
        if is_disk_full(error):
            raise disk_full(what, [final.parent]) from error
        raise
    except BaseException:
        remove(temporary)
        raise


def remove(path: Path) -> None:
    """Remove a file, link or folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.is_dir():
        shutil.rmtree(path)


def link(name: Path, target: Path) -> None:
    """Point ``name`` at ``target`` (relative link), replacing what was there in one step."""
    name.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.path.relpath(target, name.parent)
    if name.is_symlink() and os.readlink(name) == wanted:
        return
    if name.is_dir() and not name.is_symlink():
        shutil.rmtree(name)
    temporary = name.parent / f".{name.name}.{os.getpid()}.link"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(wanted)
    temporary.rename(name)
