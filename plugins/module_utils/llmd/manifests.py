# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered manifests: taken apart, compared, shown without their secrets. Pure functions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.common.yaml import yaml_dump, yaml_load_all


@dataclass(frozen=True, order=True)
class ObjectId:
    """What an object is called in a manifest."""

    kind: str
    namespace: str
    name: str
    api_version: str

    def say(self) -> str:
        """As in: Deployment llm-d/gaie-pattern1-epp."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def parse(manifest: str) -> list[dict[str, Any]]:
    """The objects of a rendered manifest (lists are flattened, empty documents dropped)."""
    objects: list[dict[str, Any]] = []
    for document in yaml_load_all(manifest):
        if not isinstance(document, dict):
            continue
        if document.get("kind") == "List":
            objects.extend(entry for entry in document.get("items") or [] if isinstance(entry, dict))
        else:
            objects.append(document)
    return objects


def identify(document: dict[str, Any]) -> ObjectId:
    """An object's identity; the namespace is empty where the manifest leaves it to the release."""
    metadata = document.get("metadata") or {}
    return ObjectId(
        str(document.get("kind") or ""),
        str(metadata.get("namespace") or ""),
        str(metadata.get("name") or ""),
        str(document.get("apiVersion") or ""),
    )


def by_identity(manifest: str, namespace: str) -> dict[ObjectId, dict[str, Any]]:
    """Objects by identity. A namespace that is merely spelled out is no difference: helm fills the release's in."""
    found = {}
    for document in parse(manifest):
        identity = identify(document)
        if identity.namespace == namespace:
            identity = ObjectId(identity.kind, "", identity.name, identity.api_version)
        found[identity] = document
    return found


def masked(document: dict[str, Any]) -> dict[str, Any]:
    """A Secret with its values replaced by short fingerprints (equal values stay equal); anything else as it is."""
    if document.get("kind") != "Secret":
        return document
    hidden = dict(document)
    for part in ("data", "stringData"):
        if isinstance(document.get(part), dict):
            hidden[part] = {key: f"(hidden, {_fingerprint(value)})" for key, value in document[part].items()}
    return hidden


def _fingerprint(value: Any) -> str:
    return hashlib.sha256(b"llmd.gke:" + str(value).encode()).hexdigest()[:8]


def changes(before: str, after: str, namespace: str) -> list[str]:
    """What differs between two manifests, one phrase an object ("Deployment x changed"); [] if nothing does."""
    if before == after:
        return []
    old, new = by_identity(before, namespace), by_identity(after, namespace)
    words = [f"{key.say()} removed" for key in old if key not in new]
    words += [f"{key.say()} added" for key in new if key not in old]
    words += [f"{key.say()} changed" for key in new if key in old and _plain(old[key]) != _plain(new[key])]
    return words


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in (document.get("metadata") or {}).items() if value and key != "namespace"}
    return {**document, "metadata": metadata}


def readable(manifest: str, namespace: str) -> str:
    """A manifest in a stable order and form, secrets hidden, for a diff that a person reads."""
    objects = by_identity(manifest, namespace)
    parts = []
    for key in sorted(objects):
        text = yaml_dump(masked(objects[key]), sort_keys=False, width=120, default_flow_style=False)
        parts.append(f"# {key.say()}\n{text}")
    return "---\n".join(parts)


def prune(values: Any) -> Any:
    """Values without empty leaves (None), as helm leaves them out when it compares nothing with nothing."""
    if isinstance(values, dict):
        return {key: prune(value) for key, value in values.items() if value is not None}
    if isinstance(values, list):
        return [prune(value) for value in values]
    return values
