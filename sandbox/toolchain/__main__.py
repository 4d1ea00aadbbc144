"""``python3 -m sandbox.toolchain ensure|list|remove``: the sandbox's tools."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from sandbox.paths import Paths, current
from sandbox.toolchain import content, debian
from sandbox.toolchain.ensure import GROUPS, KNOWN, ensure
from sandbox.toolchain.errors import Cancelled, ToolchainError
from sandbox.toolchain.progress import Progress

_OURS = ("bin", "builds", "venv", "images", "charts", "locks")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python3 -m sandbox.toolchain", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    one = commands.add_parser("ensure", help="build or install what is missing")
    one.add_argument("--only", default="", help=f"comma-separated: {', '.join((*GROUPS, *KNOWN))}")
    one.add_argument("--quiet", action="store_true", help="print errors only")
    commands.add_parser("list", help="what is in the cache")
    commands.add_parser("remove", help="remove the whole cache")
    return made


def listing(paths: Paths) -> list[str]:
    """One line for every link in the cache: name and the build that it points to."""
    lines = []
    for folder in (paths.bin, paths.venvs):
        if not folder.is_dir():
            continue
        for entry in sorted(folder.iterdir()):
            if entry.is_symlink() and not entry.name.startswith("."):
                state = "" if entry.exists() else "  (missing)"
                lines.append(f"{entry.name:<26} {os.readlink(entry)}{state}")
    for name in ("images", "charts"):
        entry = paths.cache / name
        if entry.is_symlink():
            lines.append(f"{name:<26} {os.readlink(entry)}")
    return lines


def remove(paths: Paths) -> None:
    """Remove what the toolchain made in the cache, and the cache folder where nothing else is in it."""
    if debian.was_interrupted() and os.geteuid() == 0:
        debian.heal_policy()
    for name in _OURS:
        content.remove(paths.cache / name)
    if paths.cache.is_dir() and not any(paths.cache.iterdir()):
        paths.cache.rmdir()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        paths = current()
        if options.command == "list":
            print("\n".join(listing(paths)) or f"nothing in {paths.cache} yet")
        elif options.command == "remove":
            remove(paths)
        else:
            only = [name.strip() for name in options.only.split(",") if name.strip()]
            ensure(paths, only, progress=Progress(quiet=options.quiet))
    except (ToolchainError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Cancelled):
        print("Stopped. Finished tools are kept; start again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
