"""What the project's own code makes for the sandbox: container images and chart archives, built by their folders."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox.paths import REPOSITORY, Paths
from sandbox.toolchain import content
from sandbox.toolchain.errors import ToolchainError, disk_full, says_disk_full
from sandbox.toolchain.runner import Run, clean_environment


@dataclass(frozen=True)
class Part:
    """``module`` is run with ``--output FOLDER``; ``folders`` (of the repository) are what the result depends on."""

    name: str
    module: str
    folders: tuple[str, ...]
    binaries: tuple[str, ...]  # tools that it uses

    def exists(self) -> bool:
        """Whether its source is in this checkout."""
        return (REPOSITORY / Path(*self.module.split("."))).with_suffix(".py").is_file()


PARTS = (
    Part("images", "sandbox.images.build", ("sandbox/images",), ("pause",)),
    Part("charts", "sandbox.charts.package", ("sandbox/charts",), ("helm",)),
)


def key(part: Part, paths: Paths) -> str:
    """Content key: the sources, the tools used, and the places that images name (checkout, interpreter)."""
    tools = [os.path.realpath(paths.bin / name) for name in part.binaries]
    interpreter = os.path.realpath(paths.venvs / "sandbox")
    return content.tree_key([REPOSITORY / folder for folder in part.folders], *tools, interpreter, str(REPOSITORY))


def build(part: Part, final: Path, paths: Paths, run: Run) -> None:
    """Have the part built into ``final``. The caller holds its lock."""
    what = f"making the {part.name}"
    with content.build_folder(final, {"part": part.name, "key": key(part, paths)}, what) as folder:
        python = paths.venvs / "sandbox" / "bin" / "python"
        environment = clean_environment(
            PYTHONPATH=str(REPOSITORY),
            PATH=f"{paths.bin}:{os.environ.get('PATH', os.defpath)}",
            LLMD_SANDBOX_CACHE=str(paths.cache),
        )
        interpreter = str(python) if python.exists() else sys.executable
        command = [interpreter, "-P", "-m", part.module, "--output", str(folder)]
        result = run(command, cwd=REPOSITORY, environment=environment)
        if result.returncode != 0:
            if says_disk_full(result.output):
                raise disk_full(what, [final.parent])
            raise ToolchainError(
                f"{what[0].upper()}{what[1:]} failed.",
                f"the whole output: cd {REPOSITORY} && {interpreter} -m {part.module} --output /tmp/{part.name}",
                details=result.tail,
            )
