# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRDs: whose are they, are they new enough, and what is to be done? Pure functions.

GKE from 1.34.0-gke.1626000 installs and manages the Gateway API's and InferencePool's CRDs; an older one re-applied
over them is a downgrade that breaks every Gateway of the cluster. So only what is missing, or ours and older, is
touched.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.client import FIELD_MANAGER
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem

OWNER_LABEL = "app.kubernetes.io/managed-by"
OWNER = "llmd-gke"
DIGEST = "llmd.gke/definition-sha256"
BUNDLE_VERSIONS = ("inference.networking.k8s.io/bundle-version", "gateway.networking.k8s.io/bundle-version")


@dataclass(frozen=True)
class Decision:
    """What to do about one CRD. action: create, update or keep; owner: nobody, us or others ("managed")."""

    name: str
    action: str
    owner: str
    reason: str
    problem: Problem | None = None

    @property
    def changes(self) -> bool:
        return self.action != "keep"


def digest(definition: dict[str, Any]) -> str:
    """A definition's fingerprint, kept in an annotation: the server fills in defaults, so no plain compare works."""
    text = json.dumps(definition.get("spec"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def owned_by_us(crd: dict[str, Any]) -> bool:
    """Applied by this collection: by label, and by our field manager."""
    metadata = crd.get("metadata") or {}
    managers = {entry.get("manager") for entry in metadata.get("managedFields") or []}
    return (metadata.get("labels") or {}).get(OWNER_LABEL) == OWNER and (not managers or FIELD_MANAGER in managers)


def bundle_version(crd: dict[str, Any]) -> str:
    """The release of the CRD bundle, "" where it carries none."""
    annotations = (crd.get("metadata") or {}).get("annotations") or {}
    return next((str(annotations[key]) for key in BUNDLE_VERSIONS if annotations.get(key)), "")


def version_key(version: str) -> tuple[int, ...]:
    """A version ("v1.2.0-rc.1") as something to compare; a release candidate sorts before its release."""
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(-.*)?", version)
    if not numbers:
        return (0,)
    return int(numbers[1]), int(numbers[2]), int(numbers[3] or 0), 0 if numbers[4] else 1


def serves(crd: dict[str, Any], version: str) -> bool:
    """Whether an API version ("v1", "v1alpha2") is served."""
    versions = (crd.get("spec") or {}).get("versions") or []
    return any(entry.get("name") == version and entry.get("served") for entry in versions)


def established(crd: dict[str, Any] | None) -> bool:
    """Whether the API server serves the kind."""
    return crd is not None and of_object(crd, "Established").status == "True"


def prepare(definition: dict[str, Any]) -> dict[str, Any]:
    """A CRD as we apply it: marked as ours, without status."""
    metadata = dict(definition.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), OWNER_LABEL: OWNER}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), DIGEST: digest(definition)}
    metadata.pop("creationTimestamp", None)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": definition.get("spec") or {},
    }


def decide(name: str, live: dict[str, Any] | None, definition: dict[str, Any] | None, version: str) -> Decision:
    """What to do about CRD ``name`` that must serve API version ``version`` ("" = any).

    definition None: we have nothing to apply, it must be there already.
    """
    if live is None:
        if definition is None:
            return Decision(name, "keep", "nobody", "missing", _missing(name))
        return Decision(name, "create", "nobody", "missing")
    fits = not version or serves(live, version)
    if not owned_by_us(live):
        problem = None if fits else _unserved(name, live, version)
        return Decision(name, "keep", "others", f"managed by others{_bundle(live)}", problem)
    if definition is None:
        return Decision(name, "keep", "us", "ours", None if fits else _unserved(name, live, version))
    if ((live.get("metadata") or {}).get("annotations") or {}).get(DIGEST) == digest(definition):
        return Decision(name, "keep", "us", "ours and the same", None if fits else _unserved(name, live, version))
    if version_key(bundle_version(live)) > version_key(bundle_version(definition)):
        problem = None if fits else _unserved(name, live, version)
        return Decision(name, "keep", "us", f"ours and newer{_bundle(live)}", problem)
    return Decision(name, "update", "us", f"ours and older{_bundle(live)}")


def _bundle(crd: dict[str, Any]) -> str:
    version = bundle_version(crd)
    return f", {version}" if version else ""


def _missing(name: str) -> Problem:
    return Problem(
        "CRD_MISSING",
        f"The cluster has no CRD {name}, and no definition was given to apply.",
        remedy="Enable the Gateway API on the cluster (gateway_api: standard) and wait, or give a definition.",
        where=f"CustomResourceDefinition {name}",
    )


def _unserved(name: str, live: dict[str, Any], version: str) -> Problem:
    served = [entry.get("name") for entry in (live.get("spec") or {}).get("versions") or [] if entry.get("served")]
    return Problem(
        "CRD_VERSION_NOT_SERVED",
        f"The cluster's CRD {name} does not serve {version}.",
        f"It serves {', '.join(map(str, served)) or 'nothing'}{_bundle(live)}. It is not ours, so it is left alone.",
        "Take a newer GKE version for the cluster, or remove the foreign CRD if nothing uses it.",
        where=f"CustomResourceDefinition {name}",
    )
