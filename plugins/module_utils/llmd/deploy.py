# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a deployment's releases to what is wanted, or take them away; with helm, or with helmfile where wished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.llmd.gke.plugins.module_utils.errors import HelmError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.llmd import draining, drift, health_check, scaled
from ansible_collections.llmd.gke.plugins.module_utils.llmd.charts import locate
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import Helm, ReleaseState
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helmfile import (
    Helmfile,
    render_helmfile,
    render_values,
    write_if_changed,
)
from ansible_collections.llmd.gke.plugins.module_utils.llmd.manifests import readable
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import (
    PENDING,
    Plan,
    Release,
    as_it_was,
    pending_seconds,
    plan_release,
    refuse_foreign,
    relatives,
    restarts,
    surplus,
    waves,
)
from ansible_collections.llmd.gke.plugins.module_utils.llmd.rollouts import (
    Ref,
    Waiter,
    references,
    wait_gone,
    workload_refs,
)
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock, report_progress

T = TypeVar("T")
R = TypeVar("R")
ADAPTED = "portSpecification was added to the chart's HealthCheckPolicy: this cluster refuses it without"
# what a prediction may run into before the roles that come earlier in the play have really run
NOT_YET = frozenset({"HELM_CRD_MISSING", "NAMESPACE_MISSING", "CLUSTER_UNREACHABLE"})


@dataclass(frozen=True)
class Settings:
    """How to go about it. Times in seconds.

    scratch: a folder for the run. folder: where helmfile.yaml, values and charts are kept (None: nowhere).
    drained: wait for pods that have to go, too. family: what all releases of the deployment have in their names.
    """

    scratch: Path
    folder: Path | None = None
    chart_source: str = ""
    check_mode: bool = False
    wait: bool = True
    drained: bool = False
    timeout: float = 1800
    interval: float = 2.0
    failure_grace: float = 45
    pending_grace: float = 30
    helm_timeout: float = 300
    atomic: bool = True
    family: str = ""


@dataclass
class Report:
    """What was found and done, release by release; filled as the work goes on, so that a failure still shows it."""

    changed: bool = False
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    previous: list[dict[str, Any]] = field(default_factory=list)

    def as_result(self) -> dict[str, Any]:
        parts = {"releases": list(self.releases.values()), "files": self.files, "surplus": self.surplus}
        return {"changed": self.changed, "previous": self.previous, **parts}


def side_by_side(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Map with threads; the first error is raised once all have ended, so nothing is left running behind our back."""
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(4, len(items))) as pool:
        futures = [pool.submit(function, item) for item in items]
    return [future.result() for future in futures]


class Deployer:
    """One run over a list of releases."""

    def __init__(
        self,
        helm: Helm,
        client: KubeClient | None,
        settings: Settings,
        helmfile: Helmfile | None = None,
        clock: Clock | None = None,
    ) -> None:
        """client None is allowed in check mode only: a cluster that does not exist yet."""
        self.helm = helm
        self.client = client
        self.settings = settings
        self.helmfile = helmfile
        self.clock: Clock = clock or SystemClock()
        self.report = Report()
        self.warn: Callable[[str], None] = report_progress  # told what the user should know before it happens
        self._packages: dict[str, Path] = {}
        self._adapted: dict[str, str] = {}
        self._before: dict[str, ReleaseState] = {}
        kept = None if settings.check_mode else settings.folder
        self.work: Path = kept or settings.scratch  # check mode writes nothing into the kept folder

    # ---- present

    def present(self, releases: Sequence[Release]) -> Report:
        """Install or upgrade what differs, in the order of needs, then wait for the workloads. Raises LlmdError."""
        releases = self._as_scaled(releases)
        ordered = waves(releases)
        self._write_files(releases)
        installed = self._settled(releases)
        self.report.surplus = surplus(releases, installed.values(), self.settings.family)
        plans = side_by_side(lambda release: self._plan(release, installed.get(release.name)), list(releases))
        whole = [release for release in releases if release.name in self._before]
        self.report.previous = [as_it_was(release, self._before[release.name]) for release in whole]
        for plan in plans:
            if plan.notice:
                self.warn(plan.notice)
        if self.helmfile is not None and not self.settings.check_mode:
            self._apply_by_helmfile(plans, self.helmfile)
        else:
            self._record(plans)
            if not self.settings.check_mode:
                self._apply(ordered, {plan.release.name: plan for plan in plans})
        if self.settings.wait and not self.settings.check_mode and self.client is not None:
            refs = workload_refs([(plan.after, plan.release.namespace) for plan in plans])
            Waiter(self.client, self.settings.failure_grace, self.clock).wait(
                refs, self.settings.timeout, self.settings.interval
            )
            if self.settings.drained:
                self._drain(self.client, refs)
        return self.report

    def _drain(self, client: KubeClient, refs: list[Ref]) -> None:
        stuck = draining.wait_ended(client, refs, self.settings.timeout, self.settings.interval, self.clock)
        if stuck:
            self.warn(f"Pods that outlived their grace period are not waited for: {', '.join(stuck)}")

    def _as_scaled(self, releases: Sequence[Release]) -> list[Release]:
        """The releases with the numbers of replicas that autoscalers have set."""
        states = self._installed([release for release in releases if release.autoscaled is not None])

        def one(release: Release) -> Release:
            state = states.get(release.name)
            known = self.helm.details(state) if state is not None and state.status == "deployed" else None
            return scaled.settled(release, known, scaled.live_number(self.client, release))

        return [release if release.autoscaled is None else one(release) for release in releases]

    def _record(self, plans: Sequence[Plan]) -> None:
        for plan in plans:
            self._enter(plan)
            self.report.changed = self.report.changed or plan.changed

    def _enter(self, plan: Plan, **more: Any) -> None:
        release = plan.release
        self.report.releases[release.name] = {
            "name": release.name,
            "namespace": release.namespace,
            "chart": release.chart,
            "version": release.version,
            "changed": plan.changed,
            "action": plan.action,
            "reasons": list(plan.reasons),
            "healed": plan.healed,
            "adapted": self._adapted.get(release.name, ""),
            "restarts": restarts(plan.before, plan.after, release.namespace) if plan.changed else [],
            "status": "deployed" if plan.action == "none" else "planned",
            **more,
        }
        if not plan.changed:
            return
        reasons = "".join(f"# {reason}\n" for reason in plan.reasons)
        self.report.diff.append(
            {
                "before_header": f"release {release.name} (installed)",
                "after_header": f"release {release.name} (wanted: {plan.action})",
                "before": readable(plan.before, release.namespace) if plan.before else "",
                "after": reasons + readable(plan.after, release.namespace),
            }
        )

    def _write_files(self, releases: Sequence[Release]) -> None:
        settings, charts = self.settings, self.work / "charts"

        def find(release: Release) -> tuple[str, Path]:
            source = settings.chart_source or release.repository
            return release.name, locate(self.helm, release.chart, release.version, source, charts)

        self._packages = dict(side_by_side(find, list(releases)))
        for release in releases:
            if release.correct_health_check:
                self._correct(release)
        texts = {f"values/{release.name}.yaml": render_values(release) for release in releases}
        # A folder that has none yet is a new control node (a container of AWX), not another deployment.
        counts = settings.folder is not None and (settings.folder / "helmfile.yaml").exists()
        texts["helmfile.yaml"] = render_helmfile(releases, self._packages, settings.timeout)
        for name, text in texts.items():
            if settings.folder is not None and write_if_changed(settings.folder / name, text, settings.check_mode):
                self.report.changed = self.report.changed or counts
                self.report.files.append(str(settings.folder / name))
            write_if_changed(self.work / name, text)

    def _correct(self, release: Release) -> None:
        """Adapt the copied chart's health check to a cluster that would refuse it."""
        try:
            if self.client is None or not health_check.refused(self.client, release.name, release.namespace):
                return
        except LlmdError as error:
            if self.settings.check_mode and error.code in NOT_YET:
                return
            raise
        if health_check.correct(self._packages[release.name]):
            self._adapted[release.name] = ADAPTED

    def _values_file(self, release: Release) -> Path:
        return self.work / "values" / f"{release.name}.yaml"

    def _settled(self, releases: Sequence[Release]) -> dict[str, ReleaseState]:
        """What is installed; a release that another helm may be working on right now is given a moment."""
        deadline = self.clock.now() + self.settings.pending_grace
        while True:
            installed = self._installed(releases)
            busy = [
                state.name
                for state in installed.values()
                if state.status in PENDING and pending_seconds(state) < self.settings.pending_grace
            ]
            if not busy or self.settings.check_mode or self.clock.now() >= deadline:
                return installed
            report_progress(f"releases {', '.join(busy)} are being worked on by another helm; waiting for it")
            self.clock.sleep(2)

    def _installed(self, releases: Sequence[Release]) -> dict[str, ReleaseState]:
        found: dict[str, ReleaseState] = {}
        try:
            for namespace in sorted({release.namespace for release in releases}):
                names = [release.name for release in releases if release.namespace == namespace]
                found.update(self.helm.releases(namespace, names, self.settings.family))
        except HelmError as error:
            if not (self.settings.check_mode and error.code in NOT_YET):
                raise
        return found

    def _plan(self, release: Release, state: ReleaseState | None) -> Plan:
        refuse_foreign(release, state)
        wanted = self._wanted_manifest(release, state)
        if state is None:
            return plan_release(release, None, wanted, list)
        full = self.helm.details(state)
        if state.status == "deployed":
            self._before[release.name] = full
        found, selectors = drift.Drift(), []
        if state.status == "deployed" and self.client is not None:
            found = drift.look(self.client, full.manifest, release.namespace, release.leave)
        elif self.client is not None:
            selectors = drift.selectors_in_the_way(self.client, wanted, release.namespace)

        def history() -> list[dict[str, Any]]:
            return self.helm.history(release.name, release.namespace)

        return plan_release(release, full, wanted, history, found, selectors)

    def _wanted_manifest(self, release: Release, state: ReleaseState | None) -> str:
        chart, values = str(self._packages[release.name]), self._values_file(release)
        # helm refuses even a dry run over a pending release
        if state is not None and state.status == "deployed":
            try:
                return self.helm.preview(release.name, release.namespace, chart, values)
            except HelmError as error:
                if not (self.settings.check_mode and error.code in NOT_YET):
                    raise
        return self.helm.template(release.name, release.namespace, chart, values)

    def _apply(self, ordered: Sequence[Sequence[Release]], plans: dict[str, Plan]) -> None:
        for wave in ordered:
            todo = [plans[release.name] for release in wave if plans[release.name].changed]
            if todo:
                names = ", ".join(f"{plan.release.name} ({plan.action})" for plan in todo)
                report_progress(f"helm: {names}")
            side_by_side(self._apply_one, todo)

    def _apply_one(self, plan: Plan) -> None:
        release, entry = plan.release, self.report.releases[plan.release.name]
        try:
            self._repair(plan)
            if plan.action != "repair":
                entry["revision"] = self.helm.upgrade(
                    release.name, release.namespace, str(self._packages[release.name]), self._values_file(release)
                )
            self._put_back(plan)
            entry["status"] = "deployed"
        except LlmdError as error:
            entry["status"] = f"failed: {error.code}"
            self._undo(plan, entry)
            raise

    def _undo(self, plan: Plan, entry: dict[str, Any]) -> None:
        """After a failed upgrade, back to what was deployed: half a change is worse than none.

        A first installation stays as it is, for whoever looks why it failed; the next run replaces it.
        """
        if not self.settings.atomic or not plan.live or plan.action != "upgrade":
            return
        try:
            self.helm.rollback(plan.release.name, plan.release.namespace, plan.live)
            entry["status"] += f"; rolled back to revision {plan.live}"
        except HelmError as error:  # the first failure is the one to tell; the next run heals what is left
            entry["status"] += f"; not rolled back ({error.code})"

    def _repair(self, plan: Plan) -> None:
        """Bring a broken release into a state from which helm can upgrade or install it."""
        release = plan.release
        if plan.action == "restore":
            self.helm.rollback(release.name, release.namespace, plan.revision)
        elif plan.action == "replace":
            self.helm.uninstall(release.name, release.namespace)
            if self.client is not None:
                refs = references(plan.before, release.namespace)
                wait_gone(self.client, refs, self.settings.timeout, self.settings.interval, self.clock)

    def _put_back(self, plan: Plan) -> None:
        """Undo what was changed by hand, as far as the wanted manifest still holds that object."""
        if self.client is None or not plan.drift.edited:
            return
        wanted = {target.say(): target for target in drift.targets(plan.after, plan.release.namespace)}
        edited = [(wanted[target.say()], paths) for target, paths in plan.drift.edited if target.say() in wanted]
        if plan.release.autoscaled is not None:
            edited = [(scaled.keep_number(self.client, target), paths) for target, paths in edited]
        drift.repair(self.client, drift.Drift(edited=edited))

    def _apply_by_helmfile(self, plans: Sequence[Plan], helmfile: Helmfile) -> None:
        self._record([plan for plan in plans if plan.action in ("replace", "restore")])
        for plan in plans:
            if plan.action in ("replace", "restore"):
                self._repair(plan)
        wanted = helmfile.diff()
        if wanted:
            report_progress(f"helmfile apply: {', '.join(wanted)}")
            helmfile.apply()
        for plan in plans:
            name = plan.release.name
            by_hand = bool(plan.drift.gone or plan.drift.edited)
            changed = name in wanted or "(unnamed)" in wanted or bool(plan.healed) or by_hand
            if plan.drift.gone and name not in wanted:  # helmfile compares with helm's records only
                self.helm.upgrade(
                    name, plan.release.namespace, str(self._packages[name]), self._values_file(plan.release)
                )
            self._put_back(plan)
            reasons = plan.reasons if changed else ()
            action = (plan.action if plan.action != "none" else "upgrade") if changed else "none"
            self._enter(Plan(plan.release, action, reasons, plan.healed, 0, plan.before, plan.after), status="deployed")
            self.report.changed = self.report.changed or changed

    # ---- absent

    def absent(self, releases: Sequence[Release]) -> Report:
        """Uninstall in reverse order of needs, the family's other releases too, and wait until the objects are gone.

        Raises LlmdError.
        """
        installed = self._installed(releases)
        releases = [*releases, *relatives(releases, installed.values(), self.settings.family)]
        ordered = list(reversed(waves(releases)))
        refs = []
        for wave in ordered:
            there = [release for release in wave if release.name in installed]
            for release in there:
                state = self.helm.details(installed[release.name])
                refs += references(state.manifest, release.namespace)
                plan = Plan(release, "uninstall", (f"was {state.status}",), before=state.manifest)
                self._enter(plan, status="planned" if self.settings.check_mode else "uninstalled")
                self.report.changed = True
            if not self.settings.check_mode:
                side_by_side(lambda release: self.helm.uninstall(release.name, release.namespace), there)
        if self.settings.wait and not self.settings.check_mode and self.client is not None:
            wait_gone(self.client, refs, self.settings.timeout, self.settings.interval, self.clock)
        return self.report
