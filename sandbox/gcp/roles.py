"""Which permissions a predefined IAM role holds, as far as this deployment asks.

Patterns, not the thousands of names that Google lists. What matters is kept exact: ``roles/editor`` may create
clusters but no ClusterRoles and sets no IAM policy; ``roles/owner`` may not mint another account's tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache


@dataclass(frozen=True)
class Role:
    """Patterns of the permissions held, minus patterns of those that are not."""

    holds: tuple[str, ...]
    lacks: tuple[str, ...] = ()

    def allows(self, permission: str) -> bool:
        def matches(patterns: tuple[str, ...]) -> bool:
            return any(fnmatchcase(permission, pattern) for pattern in patterns)

        return matches(self.holds) and not matches(self.lacks)


_PROJECT = ("resourcemanager.projects.get", "resourcemanager.projects.list")
_TOKENS = ("iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken", "iam.serviceAccounts.sign*",
           "iam.serviceAccounts.implicitDelegation")  # fmt: skip
_RBAC = ("container.clusterRoles.bind", "container.clusterRoles.create", "container.clusterRoles.delete",
         "container.clusterRoles.escalate", "container.clusterRoles.update", "container.clusterRoleBindings.create",
         "container.clusterRoleBindings.delete", "container.clusterRoleBindings.update", "container.roles.bind",
         "container.roles.create", "container.roles.delete", "container.roles.escalate", "container.roles.update",
         "container.roleBindings.create", "container.roleBindings.delete", "container.roleBindings.update")  # fmt: skip
_READ = ("*.get", "*.list", "*.getIamPolicy")
_SERVICE_USER = ("serviceusage.services.get", "serviceusage.services.list", "serviceusage.services.use",
                 "serviceusage.quotas.get")  # fmt: skip
_NETWORK = (
    "networks", "subnetworks", "firewalls", "forwardingRules", "globalForwardingRules", "addresses", "globalAddresses",
    "backendServices", "regionBackendServices", "healthChecks", "regionHealthChecks", "urlMaps", "regionUrlMaps",
    "targetHttpProxies", "regionTargetHttpProxies", "targetHttpsProxies", "regionTargetHttpsProxies", "routes",
    "routers", "networkEndpointGroups", "regionNetworkEndpointGroups", "globalNetworkEndpointGroups", "sslPolicies",
)  # fmt: skip

ROLES: dict[str, Role] = {
    "roles/owner": Role(("*",), _TOKENS),
    "roles/editor": Role(
        ("*",),
        (*_TOKENS, *_RBAC, "*.setIamPolicy", "resourcemanager.projects.delete", "resourcemanager.projects.undelete",
         "iam.roles.create", "iam.roles.update", "iam.roles.delete"),
    ),
    "roles/viewer": Role((*_READ, "serviceusage.services.use")),
    "roles/browser": Role((*_PROJECT, "resourcemanager.projects.getIamPolicy")),
    "roles/container.admin": Role(("container.*", *_PROJECT)),
    "roles/container.clusterAdmin": Role(("container.clusters.*", "container.operations.*", *_PROJECT)),
    "roles/container.developer": Role(
        ("container.*", *_PROJECT),
        (*_RBAC, "container.clusters.create", "container.clusters.delete", "container.clusters.update"),
    ),
    "roles/container.viewer": Role(("container.*.get", "container.*.list", "container.clusters.connect", *_PROJECT)),
    "roles/container.clusterViewer": Role(
        ("container.clusters.get", "container.clusters.list", "container.clusters.connect", *_PROJECT)
    ),
    "roles/container.defaultNodeServiceAccount": Role(
        ("logging.logEntries.create", "monitoring.metricDescriptors.create", "monitoring.metricDescriptors.list",
         "monitoring.timeSeries.create", "autoscaling.sites.writeMetrics"),
    ),
    "roles/artifactregistry.reader": Role(("artifactregistry.*.get", "artifactregistry.*.list")),
    "roles/compute.admin": Role(("compute.*", *_PROJECT, *_SERVICE_USER)),
    "roles/compute.networkAdmin": Role(
        (*(f"compute.{name}.*" for name in _NETWORK), "compute.*.get", "compute.*.list", "networkservices.*", *_PROJECT,
         *_SERVICE_USER),
        ("compute.firewalls.create", "compute.firewalls.delete", "compute.firewalls.update", "compute.*.setIamPolicy"),
    ),
    "roles/compute.securityAdmin": Role(("compute.firewalls.*", "compute.sslPolicies.*", *_PROJECT, *_SERVICE_USER)),
    "roles/compute.viewer": Role(
        ("compute.*.get", "compute.*.list", "compute.*.getIamPolicy", *_PROJECT, *_SERVICE_USER)
    ),
    "roles/compute.networkViewer": Role(
        (*(f"compute.{name}.get" for name in _NETWORK), *(f"compute.{name}.list" for name in _NETWORK),
         "compute.regions.*", "compute.zones.*", "compute.projects.get", *_PROJECT, *_SERVICE_USER),
    ),
    "roles/serviceusage.serviceUsageAdmin": Role(("serviceusage.*",)),
    "roles/serviceusage.serviceUsageConsumer": Role(_SERVICE_USER),
    "roles/serviceusage.serviceUsageViewer": Role(
        ("serviceusage.services.get", "serviceusage.services.list", "serviceusage.quotas.get")
    ),
    "roles/iam.serviceAccountUser": Role(
        ("iam.serviceAccounts.actAs", "iam.serviceAccounts.get", "iam.serviceAccounts.list", *_PROJECT)
    ),
    "roles/iam.serviceAccountAdmin": Role(
        ("iam.serviceAccounts.create", "iam.serviceAccounts.delete", "iam.serviceAccounts.get",
         "iam.serviceAccounts.list", "iam.serviceAccounts.update", "iam.serviceAccounts.*etIamPolicy", *_PROJECT),
    ),
    "roles/iam.serviceAccountTokenCreator": Role((*_TOKENS, "iam.serviceAccounts.get", "iam.serviceAccounts.list")),
    "roles/iam.workloadIdentityUser": Role(
        ("iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken", "iam.serviceAccounts.get")
    ),
    "roles/iam.securityReviewer": Role(("*.list", "*.getIamPolicy")),
    "roles/resourcemanager.projectIamAdmin": Role(
        (*_PROJECT, "resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy")
    ),
    "roles/monitoring.admin": Role(("monitoring.*",)),
    "roles/monitoring.viewer": Role(("monitoring.*.get", "monitoring.*.list")),
    "roles/monitoring.metricWriter": Role(
        ("monitoring.metricDescriptors.create", "monitoring.metricDescriptors.list", "monitoring.timeSeries.create")
    ),
    "roles/logging.logWriter": Role(("logging.logEntries.create",)),
    "roles/logging.viewer": Role(("logging.*.get", "logging.*.list")),
    "roles/networkservices.admin": Role(("networkservices.*", *_PROJECT)),
}  # fmt: skip

# Kubernetes groups that the token review hands out: what GKE's own authoriser grants for an IAM role.
_CLUSTER_GROUP = {
    "roles/owner": "roles/container.admin",
    "roles/container.admin": "roles/container.admin",
    "roles/editor": "roles/container.developer",
    "roles/container.developer": "roles/container.developer",
    "roles/viewer": "roles/container.viewer",
    "roles/container.viewer": "roles/container.viewer",
}
# Permissions that exist but that no project-level grant can hold.
_FOREIGN = ("billing.*", "resourcemanager.folders.*", "resourcemanager.organizations.*", "orgpolicy.*")
_SERVICES = frozenset(
    {"artifactregistry", "certificatemanager", "cloudquotas", "compute", "container", "dns", "gkehub", "iam", "logging",
     "modelarmor", "monitoring", "networksecurity", "networkservices", "resourcemanager", "secretmanager",
     "serviceusage", "storage", "trafficdirector"}
)  # fmt: skip
_VERBS = (
    "actAs|add[A-Z]\\w*|abandon\\w*|attach\\w*|bind|bulkInsert|call|connect|consume|create\\w*|delete\\w*|detach\\w*|"
    "disable\\w*|enable\\w*|escalate|exec|expandIpCidrRange|generate\\w*|get\\w*|impersonate|implicitDelegation|insert|"
    "invalidateCache|invoke|list\\w*|mirror|move|osLogin|osAdminLogin|patch|portForward|proxy|remove\\w*|reset|resize|"
    "resume|set[A-Z]\\w*|sign\\w*|start\\w*|stop|suspend|switchToCustomMode|undelete|update\\w*|upload|upsert|use\\w*|validate|write|"
    "access|approve|evict|finalize|hostServiceAgent|manage\\w*|simulateMaintenanceEvent"
)


@lru_cache(maxsize=2048)
def known(permission: str) -> bool:
    """Whether a project-level permission of this name can exist."""
    if any(fnmatchcase(permission, pattern) for pattern in _FOREIGN):
        return False
    service, _, rest = permission.partition(".")
    return service in _SERVICES and re.fullmatch(rf"[a-z][A-Za-z]*\.({_VERBS})", rest) is not None


def holds(roles: Iterable[str], permission: str) -> bool:
    """Whether any of the roles holds the permission. An unknown (custom) role holds nothing."""
    return any(role in ROLES and ROLES[role].allows(permission) for role in roles)


def cluster_groups(roles: Iterable[str]) -> list[str]:
    """Groups such as ``gke:roles/container.admin`` that stand for IAM inside a cluster."""
    return sorted({f"gke:{_CLUSTER_GROUP[role]}" for role in roles if role in _CLUSTER_GROUP})
