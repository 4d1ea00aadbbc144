"""Kubernetes' authorization webhook: GKE's IAM authorizer, which decides beside RBAC.

A request to a cluster's API server is one IAM permission, ``container.<resource>.<verb>``, as Google's page of GKE API
permissions lists them; custom resources are ``thirdPartyObjects``. Predefined roles never get here: the cluster binds
their groups (tokenreview), which answers without a question to anybody. Custom roles do.
"""

from __future__ import annotations

from typing import Any

from sandbox.gcp.world import World

Json = dict[str, Any]

# Plural of the API -> word in a permission's name, where it has capitals.
_RESOURCES = {
    plural.lower(): plural
    for plural in (
        "apiServices", "bindings", "certificateSigningRequests", "clusterRoleBindings", "clusterRoles", "configMaps",
        "controllerRevisions", "cronJobs", "csiDrivers", "csiNodes", "customResourceDefinitions", "daemonSets",
        "deployments", "endpointSlices", "endpoints", "events", "horizontalPodAutoscalers", "ingresses", "jobs",
        "leases", "limitRanges", "localSubjectAccessReviews", "mutatingWebhookConfigurations", "namespaces",
        "networkPolicies", "nodes", "persistentVolumeClaims", "persistentVolumes", "podDisruptionBudgets",
        "podTemplates", "pods", "priorityClasses", "replicaSets", "replicationControllers", "resourceQuotas",
        "roleBindings", "roles", "runtimeClasses", "secrets", "selfSubjectAccessReviews", "selfSubjectRulesReviews",
        "serviceAccounts", "services", "statefulSets", "storageClasses", "subjectAccessReviews", "tokenReviews",
        "validatingWebhookConfigurations", "volumeAttachments",
    )
}  # fmt: skip
# Groups of Kubernetes' own; everything else is somebody's custom resource.
_OWN_GROUPS = {
    "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps",
    "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io",
    "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "extensions", "networking.k8s.io", "node.k8s.io",
    "policy", "rbac.authorization.k8s.io", "scheduling.k8s.io", "storage.k8s.io",
}  # fmt: skip
_VERBS = {"list": "list", "watch": "list", "get": "get", "create": "create", "update": "update", "patch": "update",
          "delete": "delete", "deletecollection": "delete", "bind": "bind", "escalate": "escalate"}  # fmt: skip
# Subresource -> word that takes the verb's place.
_SUBRESOURCES = {"exec": "exec", "attach": "attach", "portforward": "portForward", "proxy": "proxy", "log": "getLogs",
                 "eviction": "evict", "token": "createToken", "finalize": "finalize"}  # fmt: skip


def permission_of(resource: Json) -> str:
    """The IAM permission that ``resourceAttributes`` of a SubjectAccessReview need; empty where there is none."""
    group, plural = str(resource.get("group", "")), str(resource.get("resource", ""))
    verb, part = _VERBS.get(str(resource.get("verb", "")), ""), str(resource.get("subresource", ""))
    if not verb:
        return ""
    if group not in _OWN_GROUPS or plural not in _RESOURCES:
        return f"container.thirdPartyObjects.{verb}"
    if part in _SUBRESOURCES:
        verb = _SUBRESOURCES[part]
    elif part:  # status and scale
        verb = ("get" if verb in ("get", "list") else "update") + part[0].upper() + part[1:]
    return f"container.{_RESOURCES[plural]}.{verb}"


def review(world: World, request: Json) -> Json:
    """Answer a SubjectAccessReview. Whom IAM does not know it has no opinion about: RBAC may still allow it."""
    spec = request.get("spec") or {}
    answer: Json = {
        "apiVersion": request.get("apiVersion", "authorization.k8s.io/v1"),
        "kind": "SubjectAccessReview",
        "status": {"allowed": False},
    }
    account = world.accounts.get(str(spec.get("user", "")))
    resource = spec.get("resourceAttributes")
    permission = permission_of(resource) if isinstance(resource, dict) else ""
    if account is None or not permission:
        return answer
    what = f"{resource.get('verb')} {resource.get('resource')}" if isinstance(resource, dict) else ""
    if world.permits(account.email, permission, asked_by=f"kubernetes: {what}"):
        answer["status"] = {"allowed": True}
    else:
        answer["status"]["reason"] = f'requires one of ["{permission}"] permission(s).'
    return answer
