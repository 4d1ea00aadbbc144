"""Packages the stand-in charts the way upstream publishes them: ``NAME-VERSION.tgz``.

``python -m sandbox.charts.package [--output DIR] [--helm PROGRAM]``
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandbox import paths

FOLDER = Path(__file__).resolve().parent
CHARTS = ("llm-d-infra", "inferencepool", "llm-d-modelservice")


class PackagingError(Exception):
    """helm refused a chart; the text is helm's own."""


def package(output: Path, helm: Path) -> list[Path]:
    """Package every stand-in chart into ``output``; the archives' paths, in ``CHARTS`` order.

    Each archive is written elsewhere first and renamed, so a half-written one is never seen.
    Raises PackagingError where helm is absent or refuses a chart.
    """
    output.mkdir(parents=True, exist_ok=True)
    archives: list[Path] = []
    with tempfile.TemporaryDirectory(dir=output, prefix=".packaging-") as folder:
        for chart in CHARTS:
            command = [str(helm), "package", str(FOLDER / chart), "--destination", folder]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                raise PackagingError(f"helm cannot be run: {error}") from error
            if done.returncode != 0:
                raise PackagingError(f"helm package {chart}: {done.stderr.strip()}")
        for made in sorted(Path(folder).glob("*.tgz")):
            archives.append(made.rename(output / made.name))
    return archives


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 where all charts were packaged, 1 with one line on stderr otherwise."""
    here = paths.current()
    parser = argparse.ArgumentParser(prog="python -m sandbox.charts.package", description=__doc__)
    parser.add_argument("--output", type=Path, default=here.cache / "charts")
    parser.add_argument("--helm", type=Path, default=here.bin / "helm")
    given = parser.parse_args(arguments)
    try:
        for archive in package(given.output, given.helm):
            print(archive)
    except PackagingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
