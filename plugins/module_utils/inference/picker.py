# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint picker's own testimony: its metrics and its start-up log, read through the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError, KubernetesError
from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import (
    scorers_from_log,
    total,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import POD
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import is_ready

LOG_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True)
class Picker:
    """How to find a pool's picker: namespace and label selector of its pods, port of its metrics."""

    client: KubeClient
    namespace: str
    selector: str
    port: int

    def pods(self) -> list[dict[str, Any]]:
        """The picker's ready pods: one, unless it elects a leader. Raises InferenceError if there is none."""
        try:
            pods = self.client.objects(POD, self.namespace, labels=self.selector)
        except KubernetesError as error:
            raise _unreadable("The picker's pods cannot be listed.", error) from error
        ready = [pod for pod in pods if is_ready(pod)]
        if not ready:
            raise InferenceError(
                "There is no ready endpoint picker.",
                code="PICKER_NOT_READY",
                where=f"namespace {self.namespace}, label {self.selector}",
                why=f"{len(pods)} pods, none ready.",
                remedy="Look at the pool release (gaie-...): its pod's events and log.",
            )
        return ready

    def metrics(self) -> list[str]:
        """The metrics text of every ready picker pod."""
        texts = []
        for pod in self.pods():
            name = str(pod["metadata"]["name"])
            try:
                texts.append(self.client.pod_get(name, self.namespace, self.port, "metrics"))
            except KubernetesError as error:
                raise _unreadable("The picker's metrics cannot be read through the API server.", error) from error
        return texts

    def count(self, counter: str, model: str) -> float:
        """How many requests for a model the picker has counted since its start (0 before the first)."""
        return sum(total(text, counter, {"model_name": model}) or 0.0 for text in self.metrics())

    def scorers(self) -> tuple[dict[str, float], str]:
        """Scorer weights and where they were read: the start-up log of the picker's container."""
        for pod in self.pods():
            name = str(pod["metadata"]["name"])
            try:
                log = self.client.logs(name, self.namespace, limit=LOG_LIMIT)
            except KubernetesError as error:
                raise _unreadable("The picker's log cannot be read.", error) from error
            found = scorers_from_log(log)
            if found:
                return found, f"log of pod {name}"
        return {}, "log"


def _unreadable(what: str, error: KubernetesError) -> InferenceError:
    return InferenceError(
        what,
        code="PICKER_UNREADABLE",
        where=error.where,
        why=error.why or error.what,
        remedy="The identity needs get on pods/proxy and pods/log in the namespace (container.developer has both);"
        " from picker charts 1.3 on, metrics may ask for a token.",
    )
