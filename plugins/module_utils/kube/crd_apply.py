# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the CRDs that are missing into a cluster, and wait until it serves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.crds import (
    Decision,
    bundle_version,
    decide,
    established,
    prepare,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import judge_class
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import CRD, GATEWAY_CLASS
from ansible_collections.llmd.gke.plugins.module_utils.kube.observing import Seen, tolerant
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, Verdict, wait_until


@dataclass(frozen=True)
class WantedCrd:
    """A CRD that must be there: its name, the API version it must serve, and a definition for when it is missing."""

    name: str
    version: str = ""
    definition: dict[str, Any] | None = None

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> WantedCrd:
        """From one entry of the module option ``manifests``."""
        definition = params.get("definition")
        if definition is not None and (definition.get("metadata") or {}).get("name") != params["name"]:
            raise ConfigurationError(
                f"The definition given for {params['name']} is of another object.",
                code="CRD_DEFINITION_WRONG",
                why=f"kind {definition.get('kind')}, name {(definition.get('metadata') or {}).get('name')}",
                remedy="Pair each CRD's name with its own definition.",
            )
        return cls(params["name"], params.get("version") or "", definition)


@dataclass
class CrdOutcome:
    """What was found and done."""

    changed: bool = False
    crds: list[dict[str, Any]] = field(default_factory=list)
    gateway_class: dict[str, Any] | None = None
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)


def wait_for_class(
    client: KubeClient, name: str, timeout: float, interval: float, clock: Clock | None
) -> dict[str, Any]:
    """Wait until a GatewayClass is there and accepted by GKE's controller."""

    def judge(seen: Seen[dict[str, Any] | None]) -> Verdict:
        if seen.trouble:
            return Verdict(False, seen.trouble)
        problem = judge_class(name, seen.value, f"GatewayClass {name}")
        if problem is not None and problem.fatal:
            raise problem.error()
        done = problem is None and seen.value is not None and of_object(seen.value, "Accepted").true
        return Verdict(done, "accepted" if done else (problem.what if problem else "not accepted yet"))

    def explain(seen: Seen[dict[str, Any] | None]) -> WaitTimeout:
        problem = judge_class(name, seen.value, f"GatewayClass {name}")
        return WaitTimeout(
            f"The GatewayClass {name} was not accepted within {timeout:.0f} s.",
            code=problem.code if problem else "GATEWAY_CLASS_NOT_ACCEPTED",
            where=f"GatewayClass {name}",
            why=seen.trouble or (problem.why or problem.what if problem else "no Accepted condition"),
            remedy=problem.remedy if problem else "Enable the Gateway API on the cluster and wait some minutes.",
            evidence=seen.value,
        )

    seen = wait_until(
        tolerant(lambda: client.get(GATEWAY_CLASS, name)),
        judge,
        what=f"GatewayClass {name} accepted",
        timeout=timeout,
        interval=interval,
        clock=clock,
        explain=explain,
    )
    return seen.value or {}


def ensure_crds(
    client: KubeClient,
    wanted: list[WantedCrd],
    *,
    gateway_class: str = "",
    wait: bool = True,
    timeout: float = 300,
    interval: float = 2,
    check_mode: bool = False,
    clock: Clock | None = None,
) -> CrdOutcome:
    """Apply what is missing (or ours and older), never more; then wait until every CRD is served.

    The class is awaited first: GKE installs classes and managed CRDs together, and a CRD that is about to come must not
    be taken for missing. Raises KubernetesError, WaitTimeout, ConfigurationError.
    """
    outcome = CrdOutcome()
    waiting = wait and not check_mode
    if gateway_class:
        live_class = (
            wait_for_class(client, gateway_class, timeout, interval, clock)
            if waiting
            else client.get(GATEWAY_CLASS, gateway_class)
        )
        outcome.gateway_class = {
            "name": gateway_class,
            "accepted": live_class is not None and of_object(live_class, "Accepted").true,
        }
    decisions = [_settle(client, entry, outcome, check_mode) for entry in wanted]
    if waiting:
        _wait_established(client, wanted, timeout, interval, clock)
    elif not check_mode:
        for decision in decisions:
            if decision.problem is not None:
                raise decision.problem.error()
    return outcome


def _settle(client: KubeClient, entry: WantedCrd, outcome: CrdOutcome, check_mode: bool) -> Decision:
    live = client.get(CRD, entry.name)
    decision = decide(entry.name, live, entry.definition, entry.version)
    if decision.problem is not None and live is not None and not check_mode:
        raise decision.problem.error()  # a version that is not served will not come by waiting
    version = bundle_version(live) if live else ""
    outcome.before[entry.name] = _state(live, version)
    outcome.after[entry.name] = outcome.before[entry.name]
    if decision.changes and entry.definition is not None:
        client.apply(CRD, prepare(entry.definition), dry_run=check_mode)
        version = bundle_version(entry.definition)
        outcome.changed = True
        outcome.after[entry.name] = _state(entry.definition, version)
    outcome.crds.append(
        {
            "name": entry.name,
            "action": decision.action,
            "owner": "us" if decision.changes else decision.owner,
            "reason": decision.reason,
            "bundle_version": version,
            "problem": decision.problem.as_dict() if decision.problem else None,
        }
    )
    return decision


def _state(crd: dict[str, Any] | None, version: str) -> str:
    if crd is None:
        return "absent"
    served = [str(entry.get("name")) for entry in (crd.get("spec") or {}).get("versions") or [] if entry.get("served")]
    return f"serves {', '.join(served)}" + (f" (bundle {version})" if version else "")


def _wait_established(
    client: KubeClient, wanted: list[WantedCrd], timeout: float, interval: float, clock: Clock | None
) -> None:
    def judge(seen: Seen[dict[str, dict[str, Any] | None]]) -> Verdict:
        if seen.trouble or seen.value is None:
            return Verdict(False, seen.trouble)
        open_names = [name for name, crd in seen.value.items() if not established(crd)]
        return Verdict(not open_names, f"not served yet: {', '.join(open_names)}" if open_names else "all served")

    def explain(seen: Seen[dict[str, dict[str, Any] | None]]) -> WaitTimeout:
        crds = seen.value or {}
        missing = [name for name, crd in crds.items() if crd is None]
        late = [name for name, crd in crds.items() if crd is not None and not established(crd)]
        words = [f"{name} does not exist" for name in missing]
        words += [of_object(crds[name] or {}, "Established").say() for name in late]
        return WaitTimeout(
            f"CRDs are not served after {timeout:.0f} s: {', '.join([*missing, *late])}",
            code="CRD_MISSING" if missing else "CRD_NOT_ESTABLISHED",
            why=seen.trouble or "; ".join(words),
            remedy="Enable the Gateway API on the cluster (gateway_api: standard); GKE needs minutes for its CRDs.",
        )

    wait_until(
        tolerant(lambda: {entry.name: client.get(CRD, entry.name) for entry in wanted}),
        judge,
        what="CRDs established",
        timeout=timeout,
        interval=interval,
        clock=clock,
        explain=explain,
    )
