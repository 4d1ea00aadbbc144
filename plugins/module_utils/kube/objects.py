# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a handful of objects into a cluster and take others away, in one go; the server merges (server-side apply)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.kube import kinds
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem, KubeClient, Manifest
from ansible_collections.llmd.gke.plugins.module_utils.kube.going import wait_gone
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import Kind
from ansible_collections.llmd.gke.plugins.module_utils.kube.live import Target, essence
from ansible_collections.llmd.gke.plugins.module_utils.kube.observing import Seen, tolerant
from ansible_collections.llmd.gke.plugins.module_utils.llmd.manifests import masked
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, Verdict, wait_until


@dataclass
class Outcome:
    """What was done: of each object its action (created, changed, none, removed), and a diff of those that changed."""

    changed: bool = False
    objects: list[dict[str, str]] = field(default_factory=list)
    diff: list[dict[str, Any]] = field(default_factory=list)

    def note(self, target: Target, action: str, before: Manifest | None, after: Manifest | None) -> None:
        self.objects.append({"object": target.say(), "action": action})
        if action != "none":
            self.changed = True
            sides = (masked(essence(live)) if live else {} for live in (before, after))
            self.diff.append(_difference(target.say(), *sides))


def _difference(name: str, before: Manifest, after: Manifest) -> dict[str, Any]:
    """In the form that Ansible shows."""
    return {"before_header": name, "after_header": name, "before": before, "after": after}


def with_secrets(manifests: Sequence[Manifest], values: Mapping[str, str]) -> list[Manifest]:
    """The manifests with the values of their Secrets put in. values: by "NAME/KEY", as text.

    Raises ConfigurationError where a value belongs to no Secret of the list.
    """
    whole, left = [], dict(values)
    for manifest in manifests:
        name = str((manifest.get("metadata") or {}).get("name"))
        mine = [key for key in left if manifest.get("kind") == "Secret" and key.partition("/")[0] == name]
        data = {key.partition("/")[2]: b64encode(str(left.pop(key)).encode()).decode() for key in mine}
        whole.append({**manifest, "data": {**(manifest.get("data") or {}), **data}} if data else manifest)
    if left:
        raise ConfigurationError(
            f"There is no Secret for {', '.join(sorted(left))}.",
            code="MANIFEST_INVALID",
            remedy="Name each value SECRET/KEY, after a Secret of the list.",
        )
    return whole


def kind_of(client: KubeClient, api_version: str, kind: str) -> Kind | None:
    """A kind's path: from our table, else asked of the server; None where it does not know the kind."""
    known = kinds.known_kind(api_version, kind)
    if known is None and (api_version, kind) == ("v1", "Namespace"):
        known = kinds.NAMESPACE
    return known or client.discover(api_version, kind)


def target_of(client: KubeClient, manifest: Manifest) -> Target | None:
    """Where a manifest belongs; None where the server does not know its kind. Raises ConfigurationError."""
    plain: Manifest = json.loads(json.dumps(manifest))  # Ansible tags its strings
    metadata = plain.get("metadata") or {}
    api_version, name = str(plain.get("apiVersion") or ""), str(metadata.get("name") or "")
    if not (api_version and plain.get("kind") and name):
        raise ConfigurationError(
            "A manifest has no apiVersion, no kind or no name.",
            code="MANIFEST_INVALID",
            why=f"apiVersion {api_version!r}, kind {plain.get('kind')!r}, name {name!r}",
            remedy="Give all three for each object.",
        )
    kind = kind_of(client, api_version, str(plain["kind"]))
    if kind is None:
        return None
    return Target(kind, plain, str(metadata.get("namespace") or "") if kind.namespaced else "")


def ensure_present(
    client: KubeClient,
    manifests: Sequence[Manifest],
    outcome: Outcome,
    *,
    check_mode: bool = False,
    timeout: float = 300,
    interval: float = 1,
    clock: Clock | None = None,
) -> None:
    """Apply objects in their order, a namespace that is going away waited for first.

    Raises KubernetesError, ConfigurationError, WaitTimeout NAMESPACE_TERMINATING.
    """
    for manifest in manifests:
        target = target_of(client, manifest)
        if target is None:
            _unknown(manifest, outcome, check_mode)
            continue
        live = client.get(target.kind, target.name, target.namespace)
        if target.kind == kinds.NAMESPACE and live is not None and _phase(live) == "Terminating":
            if not check_mode:
                _wait_for_end(client, target, timeout, interval, clock)
            live = None
        after = _apply(client, target, live, check_mode)
        same = live is not None and essence(live) == essence(after)
        outcome.note(target, "none" if same else "changed" if live else "created", live, after)


def _apply(client: KubeClient, target: Target, live: Manifest | None, check_mode: bool) -> Manifest:
    try:
        return client.apply(target.kind, target.document, dry_run=check_mode)
    except ApiProblem as problem:
        # A prediction may come before the namespace, or before an earlier namespace of its name has gone.
        if check_mode and live is None and problem.status in (403, 404):
            return target.document
        raise


def _unknown(manifest: Manifest, outcome: Outcome, check_mode: bool) -> None:
    """A kind that the server does not know: its CRD comes earlier in a real run."""
    name = f"{manifest['kind']} {(manifest.get('metadata') or {}).get('name')}"
    if not check_mode:
        raise ConfigurationError(
            f"The cluster does not know {manifest['kind']} of {manifest['apiVersion']}.",
            code="CRD_MISSING",
            where=name,
            remedy="Install its CRD first: role llmd.gke.gateway_crds for the Gateway API's, an operator for its own.",
        )
    outcome.objects.append({"object": name, "action": "created"})
    outcome.changed = True
    outcome.diff.append(_difference(name, {}, masked(manifest)))


def ensure_absent(
    client: KubeClient,
    manifests: Sequence[Manifest],
    outcome: Outcome,
    *,
    check_mode: bool = False,
    timeout: float = 300,
    interval: float = 1,
    clock: Clock | None = None,
) -> None:
    """Delete objects where they are there, and wait until they have gone. Raises KubernetesError, WaitTimeout."""
    deleted = []
    for manifest in manifests:
        target = target_of(client, manifest)
        live = client.get(target.kind, target.name, target.namespace) if target else None
        if target is None or live is None:
            continue
        if not check_mode:
            client.delete(target.kind, target.name, target.namespace, propagation="Foreground")
        outcome.note(target, "removed", live, None)
        deleted.append(target)
    if deleted and not check_mode:
        wait_gone(
            client,
            deleted,
            timeout,
            interval,
            clock,
            what="Objects",
            code="OBJECT_NOT_GONE",
            remedy="Look at the events of what is named above (a load balancer takes its time to go), then run again.",
        )


def _phase(namespace: Manifest) -> str:
    return str((namespace.get("status") or {}).get("phase") or "")


def _wait_for_end(client: KubeClient, target: Target, timeout: float, interval: float, clock: Clock | None) -> None:
    """Until a namespace that is going away has gone."""

    def judge(seen: Seen[Manifest | None]) -> Verdict:
        live = seen.value
        reasons = _remaining(live)
        return Verdict(not seen.trouble and live is None, seen.trouble or reasons or "the namespace is going away")

    def explain(seen: Seen[Manifest | None]) -> WaitTimeout:
        return WaitTimeout(
            f"Namespace {target.name} is being deleted and does not go.",
            code="NAMESPACE_TERMINATING",
            where=f"Namespace {target.name}",
            why=seen.trouble or _remaining(seen.value) or "the server gives no reason",
            remedy="Remove what is named above (a Gateway goes once its load balancer is gone), then run again.",
        )

    wait_until(
        tolerant(lambda: client.get(target.kind, target.name)),
        judge,
        what=f"Namespace {target.name} gone",
        timeout=timeout,
        interval=interval,
        clock=clock,
        explain=explain,
    )


def _remaining(namespace: Manifest | None) -> str:
    conditions = ((namespace or {}).get("status") or {}).get("conditions") or []
    return "; ".join(str(entry.get("message")) for entry in conditions if entry.get("status") == "True")
