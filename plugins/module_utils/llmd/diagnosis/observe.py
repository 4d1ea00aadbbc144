# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass over Google Cloud, the cluster and the endpoint. Every read that fails is noted, none stops the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer, Endpoint
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import endpoint_of
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis import read_cluster, read_google
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.parallel import Reads, read_all
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Observation, Scope
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, SystemClock

MODELS, COMPLETION = "GET /v1/models", "POST /v1/completions"

Connect = Callable[[], KubeClient]


class Pass:
    """One pass. ``session`` None: Google cannot be asked (``trouble`` says why). seconds: for all of it together."""

    def __init__(
        self,
        scope: Scope,
        session: GoogleSession | None,
        connect: Connect,
        *,
        seconds: float = 9.0,
        probe: bool = True,
        generate: bool = True,
        base_url: str = "",
        host_header: str = "",
        ca_file: str = "",
        clock: Clock | None = None,
    ) -> None:
        self.seen = Observation(scope)
        self.session = session
        self.connect = connect
        self.probe = probe
        self.generate = generate
        self.base_url = base_url
        self.host_header = host_header
        self.ca_file = ca_file
        self.clock: Clock = clock or SystemClock()
        self.started = self.clock.now()
        self.ends = self.started + seconds
        self.client: KubeClient | None = None

    def run(self) -> Observation:
        """Three rounds: what needs nothing; what needs the cluster; what needs the objects in it."""
        self._first_round()
        if self.client is not None:
            self._into(self.seen.cluster, read_cluster.first_reads(self.client, self.seen.scope), 0.6)
            if "secret_keys" not in self.seen.unread:
                self.seen.cluster.secret_exists = self.seen.cluster.secret_keys is not None
        self._last_round()
        self.seen.seconds = self.clock.now() - self.started
        return self.seen

    def _left(self, share: float = 1.0) -> float:
        return max(0.5, (self.ends - self.clock.now()) * share)

    def _read(self, reads: Reads, share: float) -> dict[str, Any]:
        values, errors = read_all(reads, seconds=self._left(share), clock=self.clock)
        self.seen.unread.update(errors)
        return values

    def _into(self, target: object, reads: Reads, share: float) -> None:
        for name, value in self._read(reads, share).items():
            setattr(target, name, value)

    def _first_round(self) -> None:
        reads: dict[str, Callable[[], Any]] = {"kubernetes": self._connected}
        session, scope = self.session, self.seen.scope
        if session is not None:
            reads.update(read_google.first_reads(session, scope))
            reads["cluster"] = lambda: read_google.read_cluster(session, scope)
        values = self._read(reads, 0.6)
        self.client = values.pop("kubernetes", None)
        for name, value in values.items():
            setattr(self.seen.google, name, value)

    def _connected(self) -> KubeClient:
        """A client that has been answered: a dead API server is found out once, not by every read."""
        client = self.connect()
        client.version()
        return client

    def _last_round(self) -> None:
        reads: dict[str, Callable[[], Any]] = {}
        google, cluster, session = self.seen.google, self.seen.cluster, self.session
        if session is not None and google.cluster:
            found = google.cluster
            reads["pool_errors"] = lambda: read_google.pool_errors(session, found)
            reads["pool_sizes"] = lambda: read_google.pool_sizes(session, found)
        if session is not None and cluster.gateway:
            reads["backends"] = lambda: read_google.backends_of(session, self.seen)
        if self.client is not None:
            reads.update(read_cluster.second_reads(self.client, self.seen))
        reads.update(self._requests())
        for name, value in self._read(reads, 1.0).items():
            kind, _unused, pod = name.partition("/")
            if kind == "log":
                cluster.logs[pod] = value
            elif kind == "metrics":
                cluster.metrics[pod] = value
            elif kind == "scorers":
                cluster.scorers[pod] = value
            elif isinstance(value, Answer):
                self.seen.answers[name] = value
            else:
                setattr(cluster if name == "foreign_gpu_pods" else google, name, value)

    def _requests(self) -> dict[str, Callable[[], Any]]:
        """The endpoint's own word, where it has an address: the list of models, and (``generate``) a token of each."""
        base = self.base_url or endpoint_of(self.seen.cluster.gateway or {})
        if not base or not self.probe:
            return {}
        try:
            endpoint = Endpoint.parse(base, self.host_header, ca_file=self.ca_file)
        except LlmdError as error:
            self.seen.unread["endpoint"] = error
            return {}
        patience = self._left(0.7)

        def completion(model: str) -> Callable[[], Answer]:
            document = {"model": model, "prompt": "Hello", "max_tokens": 1}
            return lambda: endpoint.send("POST", "/v1/completions", document, timeout=patience)

        reads: dict[str, Callable[[], Any]] = {MODELS: lambda: endpoint.send("GET", "/v1/models", timeout=patience)}
        if self.generate:
            models = self.seen.scope.models
            reads.update(
                {COMPLETION if model == models[0] else f"{COMPLETION} {model}": completion(model) for model in models}
            )
        return reads
