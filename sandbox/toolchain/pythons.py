"""Find Python interpreters that really run.

A ``python3.12`` on PATH may be a version manager's dead shim, so each candidate is asked for its version.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.toolchain.runner import Run

# The base executable: seen from inside a virtual environment or through a shim it is still the same interpreter.
_PROBE = (
    "import os, sys, venv, ensurepip, ssl; "
    "print('%d.%d.%d' % sys.version_info[:3], os.path.realpath(getattr(sys, '_base_executable', sys.executable)))"
)


@dataclass(frozen=True)
class Python:
    """A working interpreter: resolved path and ``3.12.1``."""

    path: Path
    version: str

    @property
    def series(self) -> str:
        return ".".join(self.version.split(".")[:2])


def candidates(series: str, environment: Mapping[str, str]) -> Iterator[Path]:
    """Paths where Python ``series`` ("3.12") may be: the system, PATH, then the folders of version managers."""
    name = f"python{series}"
    yield Path("/usr/bin") / name
    found = shutil.which(name, path=environment.get("PATH"))
    if found:
        yield Path(found)
    yield Path("/usr/local/bin") / name
    home = Path(environment.get("HOME") or "/root")
    roots = [
        (Path(environment.get("PYENV_ROOT") or home / ".pyenv") / "versions", f"{series}.*"),
        (Path(environment.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python"), f"cpython-{series}.*"),
        (Path("/opt/python"), f"{series}*"),
    ]
    for root, pattern in roots:
        for folder in sorted(root.glob(pattern), key=_version_of, reverse=True):
            yield folder / "bin" / name


def find(series: str, run: Run, environment: Mapping[str, str] | None = None) -> Python | None:
    """The first candidate of ``series`` that runs and can make virtual environments, or None."""
    seen: set[Path] = set()
    for path in candidates(series, os.environ if environment is None else environment):
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        result = run([str(path), "-I", "-c", _PROBE])
        version, _, executable = result.output.strip().partition(" ")
        if result.returncode == 0 and version.startswith(series + "."):
            return Python(Path(executable or path), version)
    return None


def find_first(wanted: list[str], run: Run, environment: Mapping[str, str] | None = None) -> Python | None:
    """The first of several series that is there."""
    for series in wanted:
        found = find(series, run, environment)
        if found:
            return found
    return None


def _version_of(folder: Path) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", folder.name)
    return tuple(int(part or 0) for part in match.groups()) if match else ()
