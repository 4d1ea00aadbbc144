# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of a deployment: what is wanted, what is there, what is to be done. Pure, except where Helm is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, HelmError
from ansible_collections.llmd.gke.plugins.module_utils.llmd.charts import base_name, spellings
from ansible_collections.llmd.gke.plugins.module_utils.llmd.drift import SELECTING, SHOWN, Drift, differing
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import ReleaseState
from ansible_collections.llmd.gke.plugins.module_utils.llmd.manifests import by_identity, changes, prune

VERSION_SUFFIX = r"-v?[0-9]+\.[0-9]+\.[0-9]+.*$"
# Kinds of releases that come and go with models and patterns, and the charts that they are made from.
PRUNABLE = {"gaie": "inferencepool", "ms": "llm-d-modelservice", "bbr": "body-based-routing"}
PENDING = frozenset({"pending-install", "pending-upgrade", "pending-rollback"})


@dataclass(frozen=True)
class Bounds:
    """A Deployment whose replicas an autoscaler sets, and the value ("decode.replicas") by which the chart does."""

    deployment: str
    value: str
    least: int
    most: int

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Bounds:
        """From the suboption ``autoscaled``."""
        return cls(str(params["deployment"]), str(params["value"]), int(params["min"]), int(params["max"]))

    def inside(self, number: int) -> int:
        """The number, or the bound that it is beyond."""
        return min(max(number, self.least), self.most)


@dataclass(frozen=True)
class Release:
    """A release that is wanted."""

    name: str
    chart: str
    version: str
    namespace: str
    values: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    repository: str = ""
    description: str = ""
    correct_health_check: bool = False
    leave: tuple[str, ...] = ()
    autoscaled: Bounds | None = None

    @classmethod
    def from_params(cls, params: dict[str, Any], namespace: str) -> Release:
        """From one entry of the module option ``releases``; values are made plain JSON (Ansible tags its strings)."""
        return cls(
            name=str(params["name"]),
            chart=str(params.get("chart") or ""),
            version=str(params.get("version") or ""),
            namespace=str(params.get("namespace") or namespace or "default"),
            values=json.loads(json.dumps(params.get("values") or {})),
            needs=tuple(str(name).rsplit("/", 1)[-1] for name in params.get("needs") or []),
            repository=str(params.get("repository") or ""),
            description=str(params.get("description") or ""),
            correct_health_check=bool(params.get("correct_health_check")),
            leave=tuple(params.get("leave") or ()),
            autoscaled=Bounds.from_params(params["autoscaled"]) if params.get("autoscaled") else None,
        )


def waves(releases: Sequence[Release]) -> list[list[Release]]:
    """Releases in the order of their needs; those of one wave do not need each other. Raises ConfigurationError."""
    names = {release.name for release in releases}
    if len(names) != len(releases):
        raise ConfigurationError("Two releases have the same name.", code="RELEASES_INVALID", remedy="Rename one.")
    unknown = sorted({need for release in releases for need in release.needs} - names)
    if unknown:
        raise ConfigurationError(
            f"Releases are needed that are not in the list: {', '.join(unknown)}.",
            code="RELEASES_INVALID",
            remedy="Name only releases of the list under needs.",
        )
    done: set[str] = set()
    ordered: list[list[Release]] = []
    left = list(releases)
    while left:
        wave = [release for release in left if set(release.needs) <= done]
        if not wave:
            raise ConfigurationError(
                f"Releases need each other in a circle: {', '.join(release.name for release in left)}.",
                code="RELEASES_INVALID",
                remedy="Break the circle under needs.",
            )
        ordered.append(wave)
        done |= {release.name for release in wave}
        left = [release for release in left if release.name not in done]
    return ordered


@dataclass(frozen=True)
class Plan:
    """What is to be done about one release.

    action: none, install, upgrade, replace (uninstall, install), restore (roll back to ``revision``, then upgrade),
    repair (only live objects are put back).
    reasons: why, for the result. healed: what state the release was found in, where that had to be repaired.
    notice: what the user should know before it happens. drift: live objects that are not as installed.
    """

    release: Release
    action: str
    reasons: tuple[str, ...] = ()
    healed: str = ""
    revision: int = 0
    before: str = ""
    after: str = ""
    notice: str = ""
    drift: Drift = field(default_factory=Drift)
    live: int = 0  # the revision that is deployed, to which a failed upgrade goes back

    @property
    def changed(self) -> bool:
        return self.action != "none"


def chart_matches(release: Release, installed: str) -> bool:
    """Whether helm's "name-version" is the wanted chart."""
    return installed in {f"{base_name(release.chart)}-{spelling}" for spelling in spellings(release.version)} or (
        release.chart.endswith(".tgz") and Path(release.chart).name == f"{installed}.tgz"
    )


def differences(release: Release, installed: ReleaseState, wanted_manifest: str) -> tuple[str, ...]:
    """Why an installed release is not the wanted one; () if it is."""
    reasons = []
    if not chart_matches(release, installed.chart):
        reasons.append(f"chart {installed.chart} -> {base_name(release.chart)}-{release.version}")
    paths = sorted(differing(prune(installed.values), prune(release.values)))
    if paths:
        more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        reasons.append(f"values differ ({', '.join(paths[:SHOWN])}{more})")
    reasons += changes(installed.manifest, wanted_manifest, release.namespace)
    return tuple(reasons)


def last_deployed(history: Sequence[dict[str, Any]]) -> int:
    """The newest revision that was ever live (deployed, or superseded by a later one); 0 if none."""
    good = [int(entry["revision"]) for entry in history if entry.get("status") in ("deployed", "superseded")]
    return max(good, default=0)


def surplus(wanted: Sequence[Release], installed: Collection[ReleaseState], family: str) -> list[str]:
    """Installed releases KIND-FAMILY or KIND-FAMILY-... that are not wanted any more, of the charts that are used here.

    Another deployment may be called FAMILY-SOMETHING; it is known by its release infra-FAMILY-SOMETHING and left alone.
    """
    if not family:
        return []
    names = {state.name for state in installed}
    others = [name.removeprefix("infra-") for name in names if name.startswith(f"infra-{family}-")]
    found = []
    for state in installed:
        kind, _unused, rest = state.name.partition("-")
        foreign = any(rest == other or rest.startswith(f"{other}-") for other in others)
        mine = rest == family or rest.startswith(f"{family}-")
        ours = PRUNABLE.get(kind) == re.sub(VERSION_SUFFIX, "", state.chart)
        if mine and ours and not foreign and state.name not in {release.name for release in wanted}:
            found.append(state.name)
    return sorted(found)


def relatives(
    wanted: Sequence[Release], installed: Collection[ReleaseState], family: str, infra: str = "infra"
) -> list[Release]:
    """The family's other installed releases, needing what they need: a model server its picker, all the Gateway's."""
    listed = {release.name: release for release in wanted}
    spaces = {state.name: state.namespace for state in installed}
    names = surplus(wanted, installed, family)
    known = {*listed, *names}
    found = []
    for name in names:
        needs = [f"{infra}-{family}", name.replace("ms-", "gaie-", 1)]
        needed = tuple(need for need in needs if need in known and need != name)
        found.append(Release(name=name, chart="", version="", namespace=spaces[name], needs=needed))
    return found


def immutable_changes(before: str, after: str, namespace: str) -> list[str]:
    """Workloads whose selector differs between two manifests: Kubernetes never lets that change in place."""
    old, new = by_identity(before, namespace), by_identity(after, namespace)
    return [
        key.say() if key.namespace else f"{key.kind} {namespace}/{key.name}"
        for key in new
        if key in old and key.kind in SELECTING and _selector(old[key]) != _selector(new[key])
    ]


def _selector(document: dict[str, Any]) -> Any:
    return (document.get("spec") or {}).get("selector")


def restarts(before: str, after: str, namespace: str) -> list[str]:
    """Names of the Deployments (and the like) whose pods a change replaces: another pod template, or other pods."""
    old, new = by_identity(before, namespace), by_identity(after, namespace)
    return sorted(
        key.name
        for key in old
        if key.kind in SELECTING
        and (key not in new or _template(old[key]) != _template(new[key]) or _selector(old[key]) != _selector(new[key]))
    )


def _template(document: dict[str, Any]) -> Any:
    return (document.get("spec") or {}).get("template")


def as_it_was(release: Release, installed: ReleaseState) -> dict[str, Any]:
    """An installed release in the form of the module option ``releases``: handed back, it is restored."""
    name, _unused, version = _split_chart(installed.chart)
    same = base_name(release.chart) == name
    return {
        "name": release.name,
        "chart": release.chart if same and not release.chart.endswith(".tgz") else name,
        "version": version,
        "repository": release.repository,
        "namespace": release.namespace,
        "values": installed.values,
        "needs": list(release.needs),
        "description": release.description,
        "correct_health_check": release.correct_health_check,
    }


def _split_chart(chart: str) -> tuple[str, str, str]:
    """helm's "name-version" taken apart."""
    found = re.search(VERSION_SUFFIX, chart)
    return (chart, "", "") if found is None else (chart[: found.start()], "-", chart[found.start() + 1 :])


def refuse_foreign(release: Release, installed: ReleaseState | None) -> None:
    """A release of our name made from another chart is somebody else's. Raises HelmError."""
    if installed is None or not release.chart:
        return
    theirs, ours = (
        re.sub(VERSION_SUFFIX, "", name) for name in (installed.chart, base_name(release.chart).removesuffix(".tgz"))
    )
    if theirs == ours:
        return
    raise HelmError(
        f"There is a release {release.name} already, and it is not ours.",
        code="RELEASE_FOREIGN",
        where=f"namespace {release.namespace}",
        why=f"It was made from chart {installed.chart}; ours is made from {ours}.",
        remedy="Choose another llmd_release or llmd_namespace, or uninstall that release if nobody needs it.",
    )


def plan_release(
    release: Release,
    installed: ReleaseState | None,
    wanted_manifest: str,
    history: Callable[[], Sequence[dict[str, Any]]],
    drift: Drift | None = None,
    in_the_way: Sequence[str] = (),
) -> Plan:
    """Decide. ``history`` is only asked about a broken release; ``drift``: live objects that are not as installed.

    in_the_way: live workloads with another selector than the wanted one, found behind helm's back.

    Raises HelmError for a release that somebody else made.
    """
    refuse_foreign(release, installed)
    drift = drift or Drift()
    if installed is None or installed.status == "uninstalled":
        return Plan(release, "install", ("not installed",), after=wanted_manifest)
    before = installed.manifest
    selectors = sorted({*immutable_changes(before, wanted_manifest, release.namespace), *in_the_way})
    broken = f"was {installed.status} at revision {installed.revision}"
    if installed.status == "uninstalling":
        return Plan(release, "replace", (broken,), broken, before=before, after=wanted_manifest)
    if installed.status == "failed" or installed.status in PENDING:
        good = last_deployed(history())
        if not good:
            healed = f"{broken} and never deployed: uninstalled and installed anew"
            return Plan(release, "replace", (broken,), healed, before=before, after=wanted_manifest)
        if selectors:
            return _replacement(release, before, wanted_manifest, selectors, (broken,))
        if installed.status == "failed":
            healed = f"{broken}: upgraded over it"
            return Plan(release, "upgrade", (broken,), healed, before=before, after=wanted_manifest)
        healed = f"{broken}: rolled back to revision {good} first"
        return Plan(release, "restore", (broken,), healed, good, before, wanted_manifest)
    reasons = differences(release, installed, wanted_manifest)
    if selectors:
        return _replacement(release, before, wanted_manifest, selectors, reasons)
    action = "upgrade" if reasons or drift.gone else "repair" if drift.edited else "none"
    reasons += drift.reasons()
    plan = Plan(release, action, reasons, before=before, after=wanted_manifest, drift=drift)
    return replace(plan, live=installed.revision)


def _replacement(release: Release, before: str, after: str, selectors: Sequence[str], reasons: tuple[str, ...]) -> Plan:
    why = f"the selector of {', '.join(selectors)} differs and cannot be changed in place"
    notice = (
        f"Release {release.name} is replaced, not upgraded: {why}. Its pods go before the new ones come;"
        " until those are ready nothing is served."
    )
    return Plan(release, "replace", (why, *reasons), before=before, after=after, notice=notice)


def pending_seconds(installed: ReleaseState, now: datetime | None = None) -> float:
    """How long a release has been pending; a large number where helm does not say."""
    if installed.updated is None:
        return 1e9
    return ((now or datetime.now(UTC)) - installed.updated).total_seconds()
