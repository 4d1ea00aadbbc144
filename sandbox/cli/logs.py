"""``sandbox logs``: the logs of the sandbox's processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from sandbox.cli import state
from sandbox.cli.errors import CliError, not_up
from sandbox.paths import Paths


def find(paths: Paths) -> dict[str, Path]:
    """Every log below the state folder, by a name as short as it can be while it is the only one."""
    if not paths.state.is_dir():
        return {}
    files = sorted(path for path in paths.state.rglob("*.log") if path.is_file())
    named: dict[str, Path] = {}
    for path in files:
        parts = path.relative_to(paths.state).with_suffix("").parts
        short = parts[-1]
        if sum(other.stem == short for other in files) > 1 and paths.logs not in path.parents:
            short = "/".join(parts)
        named[short] = path
    return named


def choose(paths: Paths, name: str) -> Path:
    """The log called ``name``, or the only one whose name contains it."""
    found = find(paths)
    if not found:
        raise not_up(paths.name)
    if name in found:
        return found[name]
    close = [key for key in found if name in key]
    if len(close) == 1:
        return found[close[0]]
    which = f"several logs match {name!r}" if close else f"there is no log {name!r}"
    raise CliError(
        f"In the sandbox {paths.name!r} {which}.", f"choose among: {', '.join(close or sorted(found))}", code=2
    )


def show(
    path: Path,
    *,
    lines: int,
    follow: bool,
    output: TextIO | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Print the last ``lines`` lines (0: all); with ``follow`` go on until Ctrl-C or until the log is deleted."""
    stream = output or sys.stdout
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.readlines()
        stream.writelines(text[-lines:] if lines else text)
        stream.flush()
        while follow and path.exists():
            line = file.readline()
            if line:
                stream.write(line)
                stream.flush()
            else:
                pause(0.2)


def listing(paths: Paths) -> str:
    """Names and sizes of all logs."""
    found = find(paths)
    if not found:
        raise not_up(paths.name)
    alive = {process.log for process in state.every_record(paths) if process.alive()}
    rows = []
    for name, path in sorted(found.items()):
        running = "running" if str(path) in alive else ""
        rows.append(f"{name:<40} {path.stat().st_size // 1024:>7} KiB  {running}".rstrip())
    return "\n".join(rows)
