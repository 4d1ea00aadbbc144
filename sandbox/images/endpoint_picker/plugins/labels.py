"""Filters by a pod's labels: any label, and the roles of prefill/decode disaggregation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.images.endpoint_picker.plugins.base import Endpoint, Plugin, Request, register

ROLE = "llm-d.ai/role"


class ByLabel(Plugin):
    """Keeps pods whose label has one of some values; those without it only where ``unlabelled`` is allowed."""

    def __init__(self, kind: str, name: str, label: str, values: Sequence[str], *, unlabelled: bool = False) -> None:
        super().__init__(kind, name)
        self._label = label
        self._values = frozenset(values)
        self._unlabelled = unlabelled

    def filter(self, request: Request, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        return [each for each in endpoints if self._fits(each.labels.get(self._label))]

    def _fits(self, value: str | None) -> bool:
        return self._unlabelled if value is None else value in self._values


class ByLabelSelector(Plugin):
    """Keeps pods that carry all labels of a selector."""

    def __init__(self, name: str, labels: Mapping[str, str]) -> None:
        super().__init__("by-label-selector", name)
        self._labels = dict(labels)

    def filter(self, request: Request, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        return [each for each in endpoints if all(each.labels.get(key) == value for key, value in self._labels.items())]


@register("by-label")
def _by_label(name: str, parameters: Mapping[str, Any]) -> Plugin:
    label, values = str(parameters.get("label") or ""), parameters.get("validValues") or []
    unlabelled = bool(parameters.get("allowsNoLabel"))
    if not label or not (values or unlabelled):
        raise ValueError("'by-label' filter needs 'label', and 'validValues' or 'allowsNoLabel'")
    return ByLabel("by-label", name, label, [str(value) for value in values], unlabelled=unlabelled)


@register("by-label-selector")
def _by_selector(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return ByLabelSelector(name, parameters.get("matchLabels") or {})


@register("prefill-filter")
def _prefill(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return ByLabel("prefill-filter", name, ROLE, ("prefill",))


@register("decode-filter")
def _decode(name: str, parameters: Mapping[str, Any]) -> Plugin:
    return ByLabel("decode-filter", name, ROLE, ("decode", "both"), unlabelled=True)
