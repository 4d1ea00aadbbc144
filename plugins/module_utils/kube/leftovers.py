# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment left in a cluster that stays: Secrets, roles, claims. Known by marks, never by looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.gcp import ownership
from ansible_collections.llmd.gke.plugins.module_utils.kube import kinds
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem, KubeClient, Manifest
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import Kind

CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
# In the order in which they can go: what uses others first.
KINDS = (
    *kinds.WORKLOADS,
    kinds.SERVICE,
    kinds.ROLE_BINDING,
    kinds.CLUSTER_ROLE_BINDING,
    kinds.ROLE,
    kinds.CLUSTER_ROLE,
    kinds.SERVICE_ACCOUNT,
    kinds.CONFIG_MAP,
    kinds.SECRET,
    CLAIM,
)
MANAGED_BY, INSTANCE = "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"
RELEASE, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"


@dataclass
class Found:
    """left: what is ours; deleted: of it; unread, refused: kinds and objects that we may not read or delete."""

    left: list[Manifest] = field(default_factory=list)
    deleted: list[Manifest] = field(default_factory=list)
    unread: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)


def reason(item: Manifest, *, deployment: str, namespace: str, family: str) -> str:
    """Why an object is this deployment's; empty where nothing says so."""
    meta = item.get("metadata") or {}
    labels: Mapping[str, str] = meta.get("labels") or {}
    notes: Mapping[str, str] = meta.get("annotations") or {}
    if labels.get(MANAGED_BY) == ownership.MANAGER:
        return "its labels name the deployment" if labels.get(INSTANCE) == deployment else ""
    if notes.get(RELEASE_NAMESPACE) == namespace and _of(family, notes.get(RELEASE, "")):
        return f"it is of release {notes[RELEASE]}"
    if labels.get("owner") == "helm" and meta.get("namespace") == namespace and _of(family, labels.get("name", "")):
        return f"helm's record of release {labels['name']}"
    return ""


def _of(family: str, release: str) -> bool:
    """Whether a release is one of the family, such as gaie-pattern1 or ms-pattern1-gemma."""
    return bool(family) and re.fullmatch(rf"[a-z]+-{re.escape(family)}(-.*)?", release) is not None


def scan(client: KubeClient, *, deployment: str, namespace: str, family: str) -> Found:
    """Read the metadata of every kind in every namespace; what may not be read is noted. Raises ApiProblem."""
    found = Found()
    for kind in KINDS:
        try:
            items = client.labels_of(kind)
        except ApiProblem as problem:
            if problem.status == 404:
                continue  # a kind of a CRD that is not there
            if problem.status != 403:
                raise
            found.unread.append({"kind": kind.kind, "code": problem.code, "why": problem.why, "remedy": problem.remedy})
            continue
        for item in items:
            meta = item.get("metadata") or {}
            why = reason(item, deployment=deployment, namespace=namespace, family=family)
            if why and not meta.get("deletionTimestamp") and not meta.get("ownerReferences"):
                found.left.append(entry(kind, meta, why))
    return found


def entry(kind: Kind, meta: Manifest, why: str) -> Manifest:
    """In the words of the orphan scan, so that both make one list."""
    scope = f"namespaces/{meta['namespace']}" if meta.get("namespace") else "cluster"
    return {"kind": kind.kind, "scope": scope, "name": str(meta.get("name")), "why": why}


def delete(client: KubeClient, found: Found) -> None:
    """Delete what is ours; what may not be deleted is noted and stays in the list. Raises ApiProblem."""
    by_name = {kind.kind: kind for kind in KINDS}
    kept = []
    for one in found.left:
        namespace = one["scope"].removeprefix("namespaces/") if one["scope"] != "cluster" else ""
        try:
            client.delete(by_name[one["kind"]], one["name"], namespace)
            found.deleted.append(one)
        except ApiProblem as problem:
            if problem.transient:
                raise
            kept.append(one)
            found.refused.append({**one, "code": problem.code, "why": problem.why, "remedy": problem.remedy})
    found.left = kept
