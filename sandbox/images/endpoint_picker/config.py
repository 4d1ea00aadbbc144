"""The EndpointPickerConfig file: read, completed with defaults, turned into plugins, and shown as the log shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from sandbox.images.endpoint_picker.plugins import REGISTRY
from sandbox.images.endpoint_picker.plugins.base import Filter, Picker, Plugin, PreRequest, ProfileHandler, Scorer
from sandbox.images.endpoint_picker.plugins.disaggregation import PdProfileHandler

API_VERSION = "inference.networking.x-k8s.io/v1alpha1"
KIND = "EndpointPickerConfig"


class ConfigError(Exception):
    """The file cannot be used."""


@dataclass
class Profile:
    """One scheduling profile: filters run first, then weighted scorers, then the picker."""

    filters: list[Filter] = field(default_factory=list)
    scorers: list[tuple[Scorer, float]] = field(default_factory=list)
    picker: Picker | None = None

    def __str__(self) -> str:
        filters = ", ".join(str(plugin) for plugin in self.filters)
        scorers = ", ".join(f"{plugin}: {weight:g}" for plugin, weight in self.scorers)
        return f"{{Filters: [{filters}], Scorers: [{scorers}], Picker: {self.picker}}}"


@dataclass(frozen=True)
class Saturation:
    """When the pool counts as full; ``staleness`` in seconds."""

    queue_depth: int = 5
    kv_usage: float = 0.8
    staleness: float = 0.2


@dataclass
class Configuration:
    """Everything the scheduler needs. ``loaded`` and ``completed`` are the log's texts of the file."""

    plugins: dict[str, Plugin]
    handler: ProfileHandler
    profiles: dict[str, Profile]
    saturation: Saturation
    loaded: str
    completed: str

    def pre_request(self) -> list[PreRequest]:
        return [plugin for plugin in self.plugins.values() if isinstance(plugin, PreRequest)]

    def __str__(self) -> str:
        profiles = " ".join(f"{name}:{profile}" for name, profile in self.profiles.items())
        return f"{{ProfileHandler: {self.handler}, Profiles: map[{profiles}]}}"


def load(text: str) -> Configuration:
    """Read an EndpointPickerConfig. Raises ConfigError with the reason."""
    document = _document(text)
    entries = [dict(entry) for entry in document.get("plugins") or []]
    profiles = [dict(profile) for profile in document.get("schedulingProfiles") or []]
    saturation = document.get("saturationDetector") or {}
    loaded = _shown(entries, profiles, "{}")
    for entry in entries:
        entry.setdefault("name", entry.get("type", ""))
    plugins = _instantiate(entries)
    if not profiles:
        profiles = [{"name": "default", "plugins": [{"pluginRef": entry["name"]} for entry in entries]}]
    handler = _handler(entries, plugins, len(profiles))
    if isinstance(handler, PdProfileHandler):
        try:
            handler.connect(plugins)
        except ValueError as error:
            raise ConfigError(f"failed to instantiate the plugins - {error}") from None
    built = {str(profile.get("name", "")): _profile(profile, entries, plugins) for profile in profiles}
    limits = _saturation(saturation)
    shown = (
        f"{{QueueDepthThreshold: {limits.queue_depth}, KVCacheUtilThreshold: {limits.kv_usage:g}, "
        f"MetricsStalenessThreshold: {{{_milliseconds(limits.staleness)}}}}}"
    )
    return Configuration(plugins, handler, built, limits, loaded, _shown(entries, profiles, shown))


def _document(text: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration is invalid - {error}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND or document.get("apiVersion") != API_VERSION:
        raise ConfigError(f'the configuration is invalid - want kind "{KIND}" of "{API_VERSION}"')
    unknown = set(document) - {
        "apiVersion", "kind", "plugins", "schedulingProfiles", "saturationDetector", "featureGates",
    }  # fmt: skip
    if unknown:
        raise ConfigError(f'the configuration is invalid - strict decoding error: unknown field "{min(unknown)}"')
    return document


def _instantiate(entries: list[dict[str, Any]]) -> dict[str, Plugin]:
    plugins: dict[str, Plugin] = {}
    for entry in entries:
        kind, name = str(entry.get("type", "")), str(entry["name"])
        if not kind:
            raise ConfigError(f"plugin definition for '{name}' is missing a type")
        if name in plugins:
            raise ConfigError(f"plugin name '{name}' used more than once")
        factory = REGISTRY.get(kind)
        if factory is None:
            raise ConfigError(f"failed to instantiate the plugins - plugin type '{kind}' is not registered")
        try:
            plugins[name] = factory(name, entry.get("parameters") or {})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"failed to instantiate the plugins - {error}") from None
    return plugins


def _handler(entries: list[dict[str, Any]], plugins: dict[str, Plugin], profiles: int) -> ProfileHandler:
    for plugin in plugins.values():
        if isinstance(plugin, ProfileHandler):
            return plugin
    if profiles > 1:
        raise ConfigError("no profile handler was specified, and there is more than one scheduling profile")
    plugin = _add(entries, plugins, "single-profile-handler")
    assert isinstance(plugin, ProfileHandler)
    return plugin


def _add(entries: list[dict[str, Any]], plugins: dict[str, Plugin], kind: str) -> Plugin:
    if kind not in plugins:
        plugins[kind] = REGISTRY[kind](kind, {})
        entries.append({"name": kind, "type": kind})
    return plugins[kind]


def _profile(profile: dict[str, Any], entries: list[dict[str, Any]], plugins: dict[str, Plugin]) -> Profile:
    built = Profile()
    references = [dict(reference) for reference in profile.get("plugins") or []]
    for reference in references:
        name = str(reference.get("pluginRef", ""))
        plugin = plugins.get(name)
        if plugin is None:
            raise ConfigError(f"plugin '{name}' referenced by profile '{profile.get('name')}' was not found")
        if isinstance(plugin, Filter):
            built.filters.append(plugin)
        if isinstance(plugin, Scorer):
            weight = reference.get("weight")
            built.scorers.append((plugin, float(1 if weight is None else weight)))
        if isinstance(plugin, Picker):
            if built.picker is not None:
                raise ConfigError(f"profile '{profile.get('name')}' already has a picker")
            built.picker = plugin
    if built.picker is None:
        pickers = [name for name, plugin in plugins.items() if isinstance(plugin, Picker)] or ["max-score-picker"]
        picker = plugins.get(pickers[0]) or _add(entries, plugins, pickers[0])
        assert isinstance(picker, Picker)
        built.picker = picker
        references.append({"pluginRef": pickers[0]})
    profile["plugins"] = references
    return built


def _saturation(values: Mapping[str, Any]) -> Saturation:
    defaults = Saturation()
    queue = int(values.get("queueDepthThreshold") or 0)
    kv = float(values.get("kvCacheUtilThreshold") or 0)
    staleness = str(values.get("metricsStalenessThreshold") or "")
    match = re.fullmatch(r"([0-9.]+)(ms|s)", staleness)
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else defaults.staleness
    return Saturation(queue if queue > 0 else defaults.queue_depth, kv if 0 < kv < 1 else defaults.kv_usage, seconds)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def _shown(entries: list[dict[str, Any]], profiles: list[dict[str, Any]], saturation: str) -> str:
    """The file as Go prints the struct."""
    plugins = " ".join(f"{{{entry.get('name', '')}/{entry.get('type', '')}}}" for entry in entries)
    shown = []
    for profile in profiles:
        references = []
        for reference in profile.get("plugins") or []:
            weight = reference.get("weight")
            tail = "" if weight is None else f", Weight: {weight:g}"
            references.append(f"{{PluginRef: {reference.get('pluginRef')}{tail}}}")
        shown.append(f"{{Name: {profile.get('name', '')}, Plugins: [{' '.join(references)}]}}")
    return (
        f"{{Plugins: [{plugins}], SchedulingProfiles: [{' '.join(shown)}], FeatureGates: {{}}, "
        f"SaturationDetector: {saturation}}}"
    )
