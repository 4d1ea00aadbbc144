# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rules in the order of cause, and what they say together. Pure: an observation in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis import install_rules as install
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis import project_rules as project
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis import traffic_rules as traffic
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import (
    ERROR,
    UNKNOWN,
    WARNING,
    Finding,
    Observation,
)

Rule = Callable[[Observation], Iterator[Problem]]

# In the order in which one thing needs the other: what comes first explains what comes later.
RULES: tuple[tuple[str, str, Rule], ...] = (
    ("access", ERROR, project.unread),
    ("project", ERROR, project.services),
    ("project", ERROR, project.subnet),
    ("project", WARNING, project.permissions),
    ("cluster", ERROR, project.cluster),
    ("cluster", ERROR, project.pools),
    ("cluster", WARNING, install.nodes),
    ("install", ERROR, install.namespace),
    ("install", ERROR, install.crds),
    ("install", ERROR, install.secret),
    ("install", ERROR, install.releases),
    ("pods", ERROR, install.workloads),
    ("pods", ERROR, install.pods),
    ("pods", ERROR, install.pools),
    ("pods", ERROR, install.picker_health),
    ("pods", WARNING, install.scorers),
    ("pods", WARNING, install.autoscalers),
    ("pods", WARNING, project.metrics),
    ("gateway", ERROR, traffic.gateway),
    ("route", ERROR, traffic.routes),
    ("route", ERROR, traffic.body_router),
    ("backends", ERROR, traffic.policies),
    ("backends", ERROR, traffic.backends),
    ("endpoint", ERROR, traffic.endpoint),
    ("endpoint", WARNING, traffic.bypass),
    ("endpoint", WARNING, install.direct_services),
)
# What these say is usually the doing of something before them.
CONSEQUENCES = frozenset(
    {
        "BACKENDS_NOT_FOUND",
        "BACKEND_MISSING",
        "BACKEND_NO_ENDPOINTS",
        "BACKEND_POD_NOT_READY",
        "BACKEND_UNHEALTHY",
        "ENDPOINT_NOT_READY",
        "ENDPOINT_UNREACHABLE",
        "GATEWAY_CLASS_MISSING",
        "GATEWAY_MISSING",
        "GATEWAY_NOT_PROGRAMMED",
        "GATEWAY_NOT_READY_YET",
        "NO_HEALTHY_UPSTREAM",
        "NO_ROUTE_YET",
        "PICKER_CRD_MISSING",
        "PICKER_NO_PODS",
        "PICKER_RBAC_FORBIDDEN",
        "PICKER_UNREACHABLE",
        "POLICY_NOT_ATTACHED",
        "ROUTE_BACKEND_NOT_FOUND",
        "ROUTE_MISSING",
        "ROUTE_NOT_RECONCILED",
        "UNEXPECTED_ANSWER",
    }
)
# Without a working cluster nothing can have been installed in it.
CLUSTER_CAUSES = frozenset({"CLUSTER_ERROR", "CLUSTER_NOT_FOUND", "CLUSTER_NOT_READY"})
NOT_INSTALLED = frozenset(
    {"CRD_MISSING", "HF_SECRET_MISSING", "NAMESPACE_MISSING", "NODE_POOL_ERROR", "RELEASE_MISSING"}
)
READ_CODES = frozenset({"KUBERNETES_API_ERROR", "READ_TIMEOUT", "GOOGLE_UNAVAILABLE", "RATE_LIMITED", "UNKNOWN"})


def diagnose(seen: Observation) -> list[Finding]:
    """What is wrong, causes first; [] where all is well. The same code at several places is one finding."""
    merged: dict[str, Finding] = {}
    for layer, severity, rule in RULES:
        for problem in rule(seen):
            _add(merged, problem, layer, severity)
    findings = list(merged.values())
    unknown = _unexplained(seen, findings)
    if unknown is not None:
        findings.append(unknown)
    _link(findings)
    return findings


def _add(merged: dict[str, Finding], problem: Problem, layer: str, severity: str) -> None:
    if layer == "access" and problem.code in READ_CODES:
        severity = UNKNOWN  # one part was not told; that alone is no fault of the deployment
    found = merged.get(problem.code)
    if found is None:
        merged[problem.code] = Finding(problem, layer, severity, places=[problem.where] if problem.where else [])
        return
    if problem.where and problem.where not in found.places:
        found.places.append(problem.where)
    if not found.problem.why and problem.why:
        found.problem = replace(found.problem, why=problem.why)


def _unexplained(seen: Observation, findings: Iterable[Finding]) -> Finding | None:
    """Something is not ready and no rule says why: then that is what is said."""
    waiting = [*install.waiting(seen), *traffic.waiting(seen)]
    if not waiting or any(finding.severity == ERROR for finding in findings):
        return None
    problem = Problem(
        "NOT_READY_YET",
        "Something is not ready, and nothing says why: it may just be starting.",
        "; ".join(waiting),
        "Wait a minute and diagnose again; the bundle holds conditions, events and logs.",
        evidence=waiting,
    )
    return Finding(problem, "unknown", UNKNOWN)


def _link(findings: list[Finding]) -> None:
    """Name the first cause in every finding that usually follows from one; causes stay in front."""
    root = next((f for f in findings if f.severity == ERROR and f.problem.code not in CONSEQUENCES), None)
    if root is None:
        root = next((f for f in findings if f.severity == ERROR), None)
    if root is None:
        return
    following = CONSEQUENCES | (NOT_INSTALLED if root.problem.code in CLUSTER_CAUSES else frozenset())
    for finding in findings:
        if finding is not root and finding.problem.code in following:
            finding.follows_from = root.problem.code
    findings.sort(key=lambda finding: (bool(finding.follows_from), finding.severity != ERROR))


def table(findings: list[Finding], seconds: float) -> list[str]:
    """The findings as lines for a person."""
    if not findings:
        return [f"Nothing is wrong (looked at everything in {seconds:.1f} s)."]
    lines = [f"{len(findings)} finding(s), causes first ({seconds:.1f} s)"]
    for number, finding in enumerate(findings, 1):
        problem = finding.problem
        mark = f"  (follows from {finding.follows_from})" if finding.follows_from else ""
        lines.append(f"{number}. {finding.severity.upper():7} {problem.code}{mark}")
        lines.append(f"     {problem.what}")
        if finding.places:
            more = f" and {len(finding.places) - 3} more" if len(finding.places) > 3 else ""
            lines.append(f"     where   {', '.join(finding.places[:3])}{more}")
        if problem.why:
            lines.append(f"     why     {' '.join(problem.why.split())[:400]}")
        if problem.remedy:
            lines.append(f"     remedy  {problem.remedy}")
    return lines
