"""Which base model an adapter belongs to: read from labelled ConfigMaps (from v1.3.0 on). Pure but for its memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

LABEL = "inference.networking.k8s.io/bbr-managed"


class Malformed(Exception):
    """A ConfigMap that cannot be used; the text says why."""


@dataclass(frozen=True)
class Entry:
    """One ConfigMap: a base model and some of its adapters."""

    base: str
    adapters: tuple[str, ...] = ()


def managed(item: Mapping[str, Any]) -> bool:
    """Whether a ConfigMap is meant for the router."""
    labels = item["metadata"].get("labels") or {}
    return str(labels.get(LABEL, "")).lower() == "true"


def read(item: Mapping[str, Any]) -> Entry:
    """``data.baseModel`` and the YAML list ``data.adapters``. Raises Malformed."""
    data = item.get("data") or {}
    base = str(data.get("baseModel") or "").strip()
    if not base:
        raise Malformed("missing or empty baseModel in configmap")
    try:
        listed = yaml.safe_load(str(data.get("adapters") or "")) or []
    except yaml.YAMLError as error:
        raise Malformed(f"failed to parse adapters: {error}") from None
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise Malformed("failed to parse adapters: a list of names is expected")
    return Entry(base, tuple(entry for entry in listed if entry.strip()))


@dataclass
class Models:
    """All entries by ConfigMap. A base model may be spread over several of them."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def put(self, name: str, entry: Entry | None) -> None:
        """One ConfigMap changed, or is gone or unusable (None)."""
        if entry is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = entry

    def base_of(self, model: str) -> str:
        """The base model of an adapter, the model itself where it is a known base, else nothing."""
        wanted = model.strip()
        for entry in self.entries.values():
            if wanted in entry.adapters:
                return entry.base
        return wanted if any(entry.base == wanted for entry in self.entries.values()) else ""
