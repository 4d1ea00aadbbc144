# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live objects against the manifest that they came from: what is gone, what somebody changed by hand, putting it back.

The server itself says what differs: a dry run of a server-side apply fills in defaults and normalises quantities just
as it did for the live object, so nothing has to be guessed. Fields that the manifest does not name are nobody's drift
(an autoscaler's replicas, where the chart leaves them out; injected annotations).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem, KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import known_kind
from ansible_collections.llmd.gke.plugins.module_utils.kube.live import Target, essence
from ansible_collections.llmd.gke.plugins.module_utils.llmd.manifests import identify, parse

# refusals of the dry run that say nothing about drift: no right to patch, or rules that came after the object
NO_ANSWER = (400, 403, 409, 422)
SHOWN = 4
# kinds whose spec.selector Kubernetes never lets change
SELECTING = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


@dataclass
class Drift:
    """gone: objects that have disappeared. edited: objects with the paths of the fields that differ."""

    gone: list[str] = field(default_factory=list)
    edited: list[tuple[Target, list[str]]] = field(default_factory=list)

    def reasons(self) -> tuple[str, ...]:
        """One phrase an object."""
        words = [f"{name} is gone" for name in self.gone]
        for target, paths in self.edited:
            more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
            words.append(f"{target.say()} was changed by hand ({', '.join(paths[:SHOWN])}{more})")
        return tuple(words)


def targets(manifest: str, namespace: str) -> Iterator[Target]:
    """The objects of a manifest whose kinds we follow."""
    for document in parse(manifest):
        identity = identify(document)
        kind = known_kind(identity.api_version, identity.kind)
        if kind is not None:
            where = (identity.namespace or namespace) if kind.namespaced else ""
            metadata = {**document["metadata"], **({"namespace": where} if where else {})}
            yield Target(kind, {**document, "metadata": metadata}, where)


def look(client: KubeClient, manifest: str, namespace: str, leave: Container[str] = ()) -> Drift:
    """Compare every object of an installed manifest with the live one. Raises KubernetesError.

    leave: fields that somebody else of ours sets after the chart ("GCPBackendPolicy spec.default.timeoutSec").
    """
    drift = Drift()
    for target in targets(manifest, namespace):
        live = client.get(target.kind, target.name, target.namespace)
        if live is None:
            drift.gone.append(target.say())
            continue
        try:
            wanted = client.apply(target.kind, target.document, dry_run=True)
        except ApiProblem as problem:
            if problem.status in NO_ANSWER:
                continue
            raise
        found = differing(essence(live), essence(wanted))
        paths = sorted(path for path in found if f"{target.kind.kind} {path}" not in leave)
        if paths:
            drift.edited.append((target, paths))
    return drift


def selectors_in_the_way(client: KubeClient, wanted_manifest: str, namespace: str) -> list[str]:
    """Live workloads whose selector is not the wanted one, whatever helm's records say. Raises KubernetesError."""
    found = []
    for target in targets(wanted_manifest, namespace):
        if target.kind.kind not in SELECTING:
            continue
        live = client.get(target.kind, target.name, target.namespace)
        if live is not None and live["spec"].get("selector") != target.document["spec"].get("selector"):
            found.append(target.say())
    return found


def repair(client: KubeClient, drift: Drift) -> None:
    """Put back what was changed by hand (helm would leave custom resources as they are). Raises KubernetesError."""
    for target, _paths in drift.edited:
        client.apply(target.kind, target.document)


def differing(live: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Paths below which two values differ ("spec.replicas", "spec.template.spec.containers[0].args")."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        for key in sorted({*live, *wanted}):
            yield from differing(live.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
    elif _objects(live) and _objects(wanted) and len(live) == len(wanted):
        for index, (one, other) in enumerate(zip(live, wanted, strict=True)):
            yield from differing(one, other, f"{path}[{index}]")
    elif live != wanted:
        yield path


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)
