"""Packages the stand-in charts the way upstream publishes them: ``NAME-VERSION.tgz``.

A chart's folder is its first generation. ``generations/VERSION`` beside its templates holds what is different in
a later one (Chart.yaml, values.yaml, values.schema.json; merged, null takes a key away); templates ask the chart's
version.

``python -m sandbox.charts.package [--output DIR] [--helm PROGRAM]``
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sandbox import paths

FOLDER = Path(__file__).resolve().parent
CHARTS = ("llm-d-infra", "inferencepool", "llm-d-modelservice", "body-based-routing", "lws")
GENERATIONS = "generations"
MERGED = ("Chart.yaml", "values.yaml", "values.schema.json")


class PackagingError(Exception):
    """helm refused a chart; the text is helm's own."""


def generations(chart: str) -> list[Path]:
    """The folders of a chart's generations, the first (the chart's own folder) first."""
    return [FOLDER / chart, *sorted((FOLDER / chart / GENERATIONS).glob("*/"))]


def merged(base: Any, later: Any) -> Any:
    """``later`` over ``base``, mapping by mapping; null takes a key away."""
    if not (isinstance(base, dict) and isinstance(later, dict)):
        return later
    both = {key: merged(base.get(key), value) for key, value in later.items() if value is not None}
    return {**{key: value for key, value in base.items() if key not in later}, **both}


def assemble(generation: Path, folder: Path) -> Path:
    """A whole chart of one generation in ``folder``; its path there."""
    first = generation if generation.parent == FOLDER else generation.parent.parent
    target = folder / f"{first.name}-{generation.name}" / first.name
    shutil.copytree(first, target, ignore=shutil.ignore_patterns(GENERATIONS))
    for name in MERGED if generation != first else ():
        if (generation / name).is_file():
            documents = [yaml.safe_load((place / name).read_text(encoding="utf-8")) for place in (first, generation)]
            result = merged(*documents)
            text = json.dumps(result, indent=2) if name.endswith(".json") else yaml.safe_dump(result, sort_keys=False)
            (target / name).write_text(text, encoding="utf-8")
    return target


def package(output: Path, helm: Path) -> list[Path]:
    """Package every generation of every stand-in chart into ``output``; the archives' paths.

    Each archive is written elsewhere first and renamed, so a half-written one is never seen.
    Raises PackagingError where helm is absent or refuses a chart.
    """
    output.mkdir(parents=True, exist_ok=True)
    archives: list[Path] = []
    with tempfile.TemporaryDirectory(dir=output, prefix=".packaging-") as text:
        folder = Path(text)
        for generation in [entry for chart in CHARTS for entry in generations(chart)]:
            chart = assemble(generation, folder)
            command = [str(helm), "package", str(chart), "--destination", str(folder)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                raise PackagingError(f"helm cannot be run: {error}") from error
            if done.returncode != 0:
                raise PackagingError(f"helm package {chart.name} ({generation.name}): {done.stderr.strip()}")
        for made in sorted(folder.glob("*.tgz")):
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
