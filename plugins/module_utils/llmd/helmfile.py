# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""helmfile.yaml and the values files: readable, commented, without secrets, safe to hand over; and helmfile itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_dump
from ansible_collections.llmd.gke.plugins.module_utils.errors import HelmError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import HISTORY_MAX, Runner
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm_errors import explain_helm
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Release

HEADER = """\
# Written by llmd.gke from the play's variables; the next run writes it again, so change the variables, not this file.
#
# The deployment by hand, with helmfile (needs the helm-diff plugin) and a kubeconfig for the cluster:
#   helmfile diff      shows what would change
#   helmfile apply     brings the cluster to this state
#   helmfile destroy   removes the releases, the last one first
#
# No secret is in here: the model server reads its Hugging Face token from a Secret of the namespace.
"""


def _dump(document: Any) -> str:
    return str(yaml_dump(document, sort_keys=False, default_flow_style=False, width=120, allow_unicode=True))


def render_helmfile(releases: Sequence[Release], packages: Mapping[str, Path], timeout: float) -> str:
    """The helmfile. packages: release name -> packaged chart (referred to as charts/<file> beside the helmfile)."""
    parts = [HEADER]
    defaults = {"wait": False, "timeout": int(timeout), "historyMax": HISTORY_MAX, "createNamespace": False}
    parts.append("# The play waits for the workloads by itself; set wait to true when you apply this by hand.\n")
    parts.append(_dump({"helmDefaults": defaults}))
    parts.append("\nreleases:\n")
    for release in releases:
        entry: dict[str, Any] = {
            "name": release.name,
            "namespace": release.namespace,
            "chart": f"./charts/{packages[release.name].name}",
        }
        if release.needs:
            spaces = {other.name: other.namespace for other in releases}
            entry["needs"] = [f"{spaces[need]}/{need}" for need in release.needs]
        entry["values"] = [f"values/{release.name}.yaml"]
        if release.description:
            parts.append("".join(f"# {line}\n" for line in release.description.splitlines()))
        parts.append(f"# {' '.join(part for part in (release.chart, release.version, release.repository) if part)}\n")
        parts.append(_dump([entry]))
        parts.append("\n")
    return "".join(parts)


def render_values(release: Release) -> str:
    """The values file of one release."""
    head = [f"# Values of release {release.name} for chart {release.chart} {release.version}. Written by llmd.gke."]
    head += [f"# {line}" for line in release.description.splitlines()]
    return "\n".join(head) + "\n" + (_dump(release.values) if release.values else "{}\n")


def write_if_changed(path: Path, text: str, check_mode: bool = False) -> bool:
    """Write a file (mode 0644, by rename) unless it already holds the text; True if it did not."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except OSError:
        pass
    if not check_mode:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    return True


_AFFECTED = re.compile(r"^\s+(?P<name>\S+) \(\S+\) (?P<what>UPDATED|ADDED|DELETED)\s*$", re.MULTILINE)


def affected(stderr: str) -> dict[str, str]:
    """Which releases helmfile names under "Affected releases are:" (name -> UPDATED, ADDED, DELETED)."""
    return {match["name"]: match["what"] for match in _AFFECTED.finditer(stderr)}


class Helmfile:
    """The helmfile program for one folder."""

    def __init__(
        self,
        programs: tuple[str, str],
        runner: Runner,
        environment: Mapping[str, str],
        folder: Path,
        *,
        context: str = "",
        timeout: float = 900,
    ) -> None:
        """programs: the paths of helmfile and helm."""
        self._base = [programs[0], "--file", str(folder / "helmfile.yaml"), "--helm-binary", programs[1]]
        if context:
            self._base += ["--kube-context", context]
        self._runner = runner
        self._environment = dict(environment)
        self._timeout = timeout

    def diff(self) -> dict[str, str]:
        """What an apply would change: release name -> UPDATED or ADDED; {} for nothing. Raises HelmError.

        Exit codes of ``diff --detailed-exitcode``: 0 nothing, 2 changes, 1 error.
        """
        arguments = ["diff", "--detailed-exitcode", "--suppress-secrets", "--no-color"]
        done = self._runner([*self._base, *arguments], self._environment, self._timeout)
        if done.rc == 0:
            return {}
        if done.rc == 2:
            return affected(done.stderr) or affected(done.stdout) or {"(unnamed)": "UPDATED"}
        raise self._error("helmfile diff", done.rc, done.stderr, done.stdout)

    def apply(self) -> None:
        """Bring the cluster to the helmfile's state. Raises HelmError."""
        arguments = ["apply", "--suppress-secrets", "--no-color"]
        done = self._runner([*self._base, *arguments], self._environment, self._timeout)
        if done.rc != 0:
            raise self._error("helmfile apply", done.rc, done.stderr, done.stdout)

    def _error(self, what: str, rc: int, stderr: str, stdout: str) -> HelmError:
        if 'unknown command "diff" for "helm"' in stderr + stdout:
            return HelmError(
                f"{what} failed: helm has no diff plugin.",
                code="HELM_DIFF_MISSING",
                remedy="Install helm-diff, or set use to helm: the releases come out the same.",
            )
        return explain_helm(what, rc, stderr, stdout)


def has_helm_diff(helm: str, runner: Runner, environment: Mapping[str, str]) -> bool:
    """Whether helm knows the diff plugin, without which ``helmfile apply`` cannot work."""
    done = runner([helm, "plugin", "list"], environment, 60)
    return done.rc == 0 and any(line.split()[:1] == ["diff"] for line in done.stdout.splitlines())
