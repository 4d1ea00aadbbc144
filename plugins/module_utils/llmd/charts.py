# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a chart's name and pinned version to a packaged chart on this machine.

Charts always end up as a .tgz: helm and helmfile then behave alike, nothing is downloaded twice, and the folder that is
handed over holds all it needs. (helmfile would rebuild the dependencies of an unpacked chart over the network.)
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ansible_collections.llmd.gke.plugins.module_utils.errors import HelmError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import Helm


def spellings(version: str) -> list[str]:
    """A version with and without "v": charts are not of one mind."""
    bare = version.removeprefix("v")
    return list(dict.fromkeys([version, bare, f"v{bare}"]))


def base_name(chart: str) -> str:
    """The chart's own name: "oci://registry.example/charts/inferencepool" -> "inferencepool"."""
    return chart.rstrip("/").rsplit("/", 1)[-1]


def packaged(folder: Path, chart: str, version: str) -> Path | None:
    """The package of a chart in a folder, if it is there."""
    for spelling in spellings(version):
        candidate = folder / f"{base_name(chart)}-{spelling}.tgz"
        if candidate.is_file():
            return candidate
    return None


def is_remote(text: str) -> bool:
    """Whether this is an address and not a folder."""
    return text.startswith(("http://", "https://", "oci://"))


def locate(helm: Helm, chart: str, version: str, source: str, cache: Path) -> Path:
    """The packaged chart, copied or downloaded into ``cache``.

    chart: a name, an oci:// or https:// address, or a path to a .tgz. source: a folder of packages, a repository
    address (https://...), an OCI registry (oci://...), or "". Raises HelmError HELM_CHART_NOT_FOUND.
    """
    if chart.endswith(".tgz") and not is_remote(chart):
        path = Path(chart).expanduser()
        if not path.is_file():
            raise _not_found(chart, version, f"There is no file {path}.")
        return keep(path, cache)
    if source and not is_remote(source) and not is_remote(chart):
        folder = Path(source).expanduser()
        path_or_none = packaged(folder, chart, version)
        if path_or_none is None:
            there = sorted(entry.name for entry in folder.glob("*.tgz")) if folder.is_dir() else []
            words = f"It holds {', '.join(there)}." if there else "It holds no packaged chart."
            raise _not_found(chart, version, f"Looked in folder {folder}. {words}")
        return keep(path_or_none, cache)
    return _download(helm, chart, version, source, cache)


def keep(path: Path, cache: Path) -> Path:
    """Copy a package into the cache unless it is there already; by content, so that a rebuilt package is noticed."""
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / path.name
    if target.resolve() != path.resolve() and not (target.is_file() and target.read_bytes() == path.read_bytes()):
        shutil.copyfile(path, target)
    return target


def _download(helm: Helm, chart: str, version: str, source: str, cache: Path) -> Path:
    cached = packaged(cache, chart, version)
    if cached is not None:
        return cached  # versions are pinned: the same version is the same package
    cache.mkdir(parents=True, exist_ok=True)
    if is_remote(chart):
        helm.pull(chart, version, "", cache)
    elif source.startswith("oci://"):
        helm.pull(f"{source.rstrip('/')}/{chart}", version, "", cache)
    elif source:
        helm.pull(chart, version, source, cache)
    else:
        raise _not_found(chart, version, "Neither the chart's name nor chart_source says where to get it.")
    found = packaged(cache, chart, version)
    if found is None:
        raise _not_found(chart, version, "helm pull brought no such package.")
    return found


def _not_found(chart: str, version: str, why: str) -> HelmError:
    return HelmError(
        f"The chart {chart} {version} cannot be had.",
        code="HELM_CHART_NOT_FOUND",
        why=why,
        remedy="Check llmd_chart_source and the versions in the profile.",
    )
