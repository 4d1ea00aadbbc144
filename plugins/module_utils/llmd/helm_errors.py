# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""helm's own words, recognised. Pure: what helm printed in, an error of the tree out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.errors import HelmError


@dataclass(frozen=True)
class Rule:
    """One recognisable failure of helm or helmfile."""

    code: str
    pattern: str
    what: str
    remedy: str


RULES = (
    Rule(
        "HELM_RBAC_DENIED",
        r'cannot \w+ resource "(cluster)?role(binding)?s"|attempting to grant RBAC|is forbidden: User',
        "The Kubernetes API does not let this identity do what the chart needs.",
        "gcloud projects add-iam-policy-binding PROJECT --member=user:YOU --role=roles/container.admin"
        " (roles/editor may not create ClusterRoles), then run again: the failed release is replaced.",
    ),
    Rule(
        "HELM_SCHEMA_REFUSED",
        r"values don't meet the specifications of the schema",
        "The chart's schema refuses our values.",
        "Take out or correct the key that helm names; the chart's version decides which keys exist (profile).",
    ),
    Rule(
        "HEALTH_CHECK_POLICY_REFUSED",
        r"portSpecification being USE_SERVING_PORT|HealthCheckPolicy[^\n]*portSpecification",
        "The cluster's newer HealthCheckPolicy CRD refuses the policy that the pool chart writes.",
        "Take a pool chart that fits this GKE version (profile), or replace the chart's policy by an own one.",
    ),
    Rule(
        "HELM_CRD_MISSING",
        r'no matches for kind "\w+" in version|ensure CRDs are installed first',
        "A kind that the chart uses does not exist in the cluster.",
        "Run role llmd.gke.gateway_crds first; on GKE the Gateway API must be enabled on the cluster.",
    ),
    Rule(
        "NAMESPACE_TERMINATING",
        r"because it is being terminated",
        "The namespace is being deleted.",
        "Wait until it is gone (kubectl get namespace), then run again.",
    ),
    Rule(
        "NAMESPACE_MISSING",
        r'namespaces "[^"]+" not found',
        "The namespace does not exist.",
        "Let the role make it (llmd_helmfile does), or: kubectl create namespace NAMESPACE",
    ),
    Rule(
        "HELM_FOREIGN_OBJECT",
        r"invalid ownership metadata|exists and cannot be imported into the current release",
        "An object of the chart's name already exists and belongs to something else.",
        "Choose another llmd_release or llmd_namespace, or remove the foreign object.",
    ),
    Rule(
        "HELM_IMMUTABLE_FIELD",
        r"field is immutable",
        "The change touches a field that Kubernetes never lets change (a selector, usually).",
        "The release must be replaced: uninstall it, then run again.",
    ),
    Rule(
        "HELM_RELEASE_LOCKED",
        r"another operation \(install/upgrade/rollback\) is in progress",
        "Another helm is at work on the release, or one was killed while it was.",
        "Run again: a release that stays locked is healed by itself.",
    ),
    Rule(
        "KUBERNETES_API_BUSY",
        r"[Tt]oo many requests|server is currently unable to handle the request|etcdserver: |etcd leader changed"
        r"|Internal error occurred|was unable to return a response in the time allotted",
        "The Kubernetes API is overloaded or restarting.",
        "Run again: what is done is kept.",
    ),
    Rule(
        "CLUSTER_TOKEN_EXPIRED",
        r"the server has asked for the client to provide credentials|Unauthorized",
        "The Kubernetes API refuses our credentials.",
        "Get fresh credentials (run the play again: llmd.gke.gke_credentials mints a token each time).",
    ),
    Rule(
        "CLUSTER_UNREACHABLE",
        r"Kubernetes cluster unreachable|connection refused|no route to host|i/o timeout|no such host[^\n]*:443",
        "The Kubernetes API cannot be reached.",
        "Check that the cluster is RUNNING and that this machine may reach it (authorized networks, proxy).",
    ),
    Rule(
        "HELM_CHART_NOT_FOUND",
        r"non-absolute URLs should be in form of repo_name/path_to_chart|path \"[^\"]*\" not found"
        r"|failed to (download|fetch)|chart \"[^\"]*\" (matching|version|not found)|no cached repo"
        r"|is not a valid chart repository|: not found\b|Chart\.yaml file is missing|appear to be a gzipped archive",
        "The chart cannot be had.",
        "Check llmd_chart_source and the versions in the profile, and the way out to the chart repository.",
    ),
    Rule(
        "HELM_TOO_OLD",
        r'invalid argument "server" for "--dry-run"|unknown flag: --',
        "This helm is too old: it does not know an option that we use.",
        "Install helm 3.13 or newer on the machine that runs the play, or name it with helm_binary.",
    ),
    Rule(
        "HELM_TIMEOUT",
        r"timed out waiting for the condition|context deadline exceeded",
        "helm ran out of time.",
        "Run again: what is done is kept. Raise the timeout if it was close.",
    ),
    Rule(
        "HELM_TEMPLATE_FAILED",
        r"execution error at|template: |parse error",
        "The chart cannot be rendered with our values.",
        "Read helm's words above: a list in the values (containers) replaces the chart's whole list.",
    ),
)


def own_words(stderr: str, stdout: str = "") -> str:
    """What helm said, without its warnings and usage text."""
    lines = [line for line in (stderr or stdout).splitlines() if line.strip() and not line.startswith("WARNING:")]
    errors = [index for index, line in enumerate(lines) if line.startswith(("Error:", "in ./", "err:"))]
    return "\n".join(lines[errors[0] :] if errors else lines[-12:])[:3000]


def explain_helm(what: str, rc: int, stderr: str, stdout: str = "", where: str = "") -> HelmError:
    """A failed helm or helmfile call as an error. what: what was tried ("helm upgrade of gaie-pattern1")."""
    words = own_words(stderr, stdout)
    for rule in RULES:
        if re.search(rule.pattern, words):
            return HelmError(f"{what} failed. {rule.what}", code=rule.code, where=where, why=words, remedy=rule.remedy)
    return HelmError(
        f"{what} failed with exit code {rc}.",
        code="HELM_FAILED",
        where=where,
        why=words or "helm said nothing",
        remedy="Read helm's words above.",
    )
