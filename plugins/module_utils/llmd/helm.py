# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A typed wrapper of the helm program. The way to run it is handed in, so that tests need neither helm nor a cluster.

Credentials reach helm by the environment (KUBECONFIG), never by an argument that a process list would show.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, HelmError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm_errors import explain_helm
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, report_progress

# The checks of Ansible want AnsibleModule.run_command. It knows no deadline,
# and one that has passed is a result of its own here (rc 124).
# pylint: disable=ansible-bad-function
HISTORY_MAX = 5
# what only reads, and the pauses before it is tried again while the API server stumbles
READS = frozenset({"list", "status", "history"})
PAUSES = (1.0, 2.0, 4.0)
STATUSES = ("--deployed", "--failed", "--pending", "--superseded", "--uninstalled", "--uninstalling")


@dataclass(frozen=True)
class Completed:
    """A finished program."""

    rc: int
    stdout: str = ""
    stderr: str = ""


class Runner(Protocol):
    """Runs a program: arguments, additions to the environment, deadline in seconds. A deadline passed is rc 124."""

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Completed: ...


def system_runner(argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Completed:
    """Really run it."""
    import os

    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Completed(124, "", f"Error: timed out waiting for the condition ({argv[0]} took over {timeout:.0f} s)")
    except OSError as error:
        return Completed(127, "", f"Error: {argv[0]}: {error}")
    return Completed(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def find_program(name: str, given: str = "") -> str:
    """The path of a program: as given, else from PATH; "" if there is none."""
    return shutil.which(given or name) or ""


def require_helm(given: str = "") -> str:
    """The helm program. Raises ConfigurationError where there is none."""
    path = find_program("helm", given)
    if not path:
        raise ConfigurationError(
            f"There is no helm program{f' at {given}' if given else ' on PATH'}.",
            code="HELM_MISSING",
            remedy="Install helm 3.13 or newer on the machine that runs the play, or name it with helm_binary.",
        )
    return path


@dataclass(frozen=True)
class ReleaseState:
    """A release as helm knows it. chart is "name-version"; values and manifest only after ``Helm.details``."""

    name: str
    namespace: str
    status: str
    revision: int
    chart: str
    updated: datetime | None = None
    values: dict[str, Any] = field(default_factory=dict)
    manifest: str = ""


def parse_time(text: str) -> datetime | None:
    """helm's "2026-11-23 11:10:54.008935541 +0000 UTC" or RFC 3339, in UTC; None if it is neither."""
    match = re.match(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)?", text)
    if not match:
        return None
    offset = "+0000" if match[3] in (None, "Z") else match[3].replace(":", "")
    return datetime.strptime(f"{match[1]} {match[2]} {offset}", "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)


class Helm:
    """helm for one cluster."""

    def __init__(
        self,
        binary: str,
        runner: Runner,
        environment: Mapping[str, str],
        context: str = "",
        timeout: float = 300,
        clock: Clock | None = None,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self.binary = binary
        self.timeout = timeout
        self.calls: list[str] = []
        self._runner = runner
        self._environment = dict(environment)
        self._context = ["--kube-context", context] if context else []

    def run(self, *arguments: str, what: str, timeout: float | None = None) -> str:
        """Run helm, return what it printed; reads are repeated while the API server stumbles. Raises HelmError."""
        reads = arguments[0] in READS or "--dry-run=server" in arguments
        for pause in PAUSES if reads else ():
            try:
                return self._once(*arguments, what=what, timeout=timeout)
            except HelmError as error:
                if error.code != "KUBERNETES_API_BUSY":
                    raise
                report_progress(f"{what}: the Kubernetes API is busy; asking again in {pause:g} s")
            self._clock.sleep(pause)
        return self._once(*arguments, what=what, timeout=timeout)

    def _once(self, *arguments: str, what: str, timeout: float | None) -> str:
        argv = [self.binary, *arguments, *self._context]
        self.calls.append(" ".join(arguments[:3]))
        done = self._runner(argv, self._environment, timeout or self.timeout + 30)
        if done.rc != 0:
            raise explain_helm(what, done.rc, done.stderr, done.stdout, where=" ".join(arguments[:4]))
        return done.stdout

    def releases(self, namespace: str, names: Sequence[str], family: str = "") -> dict[str, ReleaseState]:
        """The named releases of a namespace in any state (without values and manifest), and those of a family."""
        relatives = [f"[a-z]+-{re.escape(family)}(-.*)?"] if family else []
        pattern = "^(" + "|".join([*(re.escape(name) for name in names), *relatives]) + ")$"
        arguments = ["list", "--namespace", namespace, "--filter", pattern, "--output", "json", *STATUSES]
        listed = json.loads(self.run(*arguments, what=f"Listing the releases of namespace {namespace}") or "[]")
        return {
            str(entry["name"]): ReleaseState(
                str(entry["name"]),
                str(entry["namespace"]),
                str(entry["status"]),
                int(entry["revision"]),
                str(entry["chart"]),
                parse_time(str(entry.get("updated") or "")),
            )
            for entry in listed
        }

    def details(self, state: ReleaseState) -> ReleaseState:
        """The same release with its values and manifest."""
        text = self.run(
            "status", state.name, "--namespace", state.namespace, "--output", "json", what=f"Reading {state.name}"
        )
        document = json.loads(text)
        return ReleaseState(
            state.name,
            state.namespace,
            state.status,
            state.revision,
            state.chart,
            state.updated,
            document.get("config") or {},
            str(document.get("manifest") or ""),
        )

    def history(self, name: str, namespace: str) -> list[dict[str, Any]]:
        """All kept revisions, oldest first."""
        text = self.run("history", name, "--namespace", namespace, "--output", "json", what=f"History of {name}")
        revisions: list[dict[str, Any]] = json.loads(text or "[]")
        return revisions

    def preview(self, name: str, namespace: str, chart: str, values: Path) -> str:
        """The manifest that an upgrade would apply, rendered by helm against the server (nothing is changed)."""
        text = self.run(*self._upgrade(name, namespace, chart, values), "--dry-run=server", what=f"Rendering {name}")
        return str(json.loads(text).get("manifest") or "")

    def template(self, name: str, namespace: str, chart: str, values: Path) -> str:
        """The manifest rendered without a cluster."""
        return self.run(
            "template", name, chart, "--namespace", namespace, "--values", str(values), what=f"Rendering {name}"
        )

    def upgrade(self, name: str, namespace: str, chart: str, values: Path) -> int:
        """Install or upgrade, without waiting for workloads; returns the new revision."""
        text = self.run(*self._upgrade(name, namespace, chart, values), what=f"helm upgrade of {name}")
        return int(json.loads(text).get("version") or 0)

    def _upgrade(self, name: str, namespace: str, chart: str, values: Path) -> list[str]:
        # --reset-values: with empty values helm would otherwise silently keep those of the last revision
        return [
            *("upgrade", name, chart, "--install", "--namespace", namespace, "--values", str(values), "--reset-values"),
            *("--history-max", str(HISTORY_MAX), "--timeout", f"{int(self.timeout)}s", "--output", "json"),
        ]

    def rollback(self, name: str, namespace: str, revision: int) -> None:
        """Back to an earlier revision."""
        arguments = ["rollback", name, str(revision), "--namespace", namespace, "--history-max", str(HISTORY_MAX)]
        self.run(*arguments, "--timeout", f"{int(self.timeout)}s", what=f"helm rollback of {name}")

    def uninstall(self, name: str, namespace: str) -> None:
        """Remove a release and its history; its objects go in the background."""
        arguments = ["uninstall", name, "--namespace", namespace, "--ignore-not-found"]
        self.run(*arguments, "--timeout", f"{int(self.timeout)}s", what=f"helm uninstall of {name}")

    def pull(self, chart: str, version: str, repository: str, destination: Path) -> None:
        """Download a packaged chart."""
        arguments = ["pull", chart, "--version", version, "--destination", str(destination)]
        if repository:
            arguments += ["--repo", repository]
        try:
            self.run(*arguments, what=f"Downloading chart {chart} {version}")
        except HelmError as error:
            if error.code not in ("CLUSTER_UNREACHABLE", "HELM_FAILED", "HELM_TIMEOUT"):
                raise
            raise HelmError(  # nothing here spoke to a cluster: it is the chart's repository that does not answer
                f"Chart {chart} {version} cannot be downloaded.",
                code="HELM_CHART_NOT_FOUND",
                where=repository or chart,
                why=error.why,
                remedy="Check the way out to the chart repository (proxy), or give a folder of packaged charts"
                " (llmd_chart_source).",
            ) from error
