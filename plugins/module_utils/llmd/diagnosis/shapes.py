# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a diagnosis is made of: what to look at, what was seen, what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import BackendHealth
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import Answer
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem

Json = dict[str, Any]

ERROR, WARNING, UNKNOWN = "error", "warning", "unknown"


@dataclass(frozen=True)
class Server:
    """One model server: the model that it serves, its pool, its release."""

    model: str
    pool: str
    release: str


@dataclass(frozen=True)
class Scope:
    """The deployment to look at. Names only; everything else is read. ``servers``: empty means the only one."""

    project: str
    region: str
    location: str
    cluster: str
    network: str = "default"
    namespace: str = "llm-d"
    release: str = "pattern1"
    gateway: str = ""
    route: str = ""
    pool: str = ""
    model: str = ""
    servers: tuple[Server, ...] = ()
    body_router: str = ""
    secret: str = ""
    secret_key: str = "HF_TOKEN"
    services: tuple[str, ...] = ()
    crds: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    picker_label: str = "inferencepool"
    scorers: Mapping[str, float] = field(default_factory=dict)
    response_header: str = ""
    request_counter: str = ""
    minimum_version: str = ""
    role_label: str = ""

    @property
    def served(self) -> tuple[Server, ...]:
        """Every model server; the first one is what ``model`` and ``pool`` name."""
        return self.servers or (Server(self.model, self.pool, f"ms-{self.release}"),)

    @property
    def models(self) -> tuple[str, ...]:
        """What can be asked for, each once: a canary answers to the name of the model that it is to replace."""
        return tuple(dict.fromkeys(server.model for server in self.served if server.model))


@dataclass
class Google:
    """What Google Cloud says. None: not read (``Observation.unread`` says why); {} of ``cluster``: there is none."""

    services: dict[str, str] | None = None
    subnets: list[Json] | None = None
    cluster: Json | None = None
    missing_permissions: list[str] | None = None
    pool_errors: list[LlmdError] | None = None
    pool_sizes: dict[str, int] | None = None
    backends: list[BackendHealth] | None = None


@dataclass
class Cluster:
    """What the cluster says. None: not read; an object that does not exist is {}, a kind without objects []."""

    namespace: Json | None = None
    nodes: list[Json] | None = None
    pods: list[Json] | None = None
    foreign_gpu_pods: list[str] | None = None
    events: list[Json] | None = None
    workloads: list[Json] | None = None
    services: list[Json] | None = None
    secret_keys: list[str] | None = None
    secret_exists: bool | None = None
    releases: list[Json] | None = None
    crds: dict[str, Json] | None = None
    gateway: Json | None = None
    gateway_class: Json | None = None
    routes: list[Json] | None = None
    pools: list[Json] | None = None
    health_policies: list[Json] | None = None
    backend_policies: list[Json] | None = None
    routing_extension: Json | None = None
    autoscalers: list[Json] | None = None
    logs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    scorers: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Observation:
    """One pass over everything. ``unread``: part -> why it could not be read. ``answers``: request -> answer."""

    scope: Scope
    google: Google = field(default_factory=Google)
    cluster: Cluster = field(default_factory=Cluster)
    answers: dict[str, Answer] = field(default_factory=dict)
    unread: dict[str, LlmdError] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Finding:
    """A problem in its place: ``layer`` by order of cause, ``follows_from`` the code of what probably caused it."""

    problem: Problem
    layer: str
    severity: str = ERROR
    follows_from: str = ""
    places: list[str] = field(default_factory=list)

    def as_dict(self) -> Json:
        return {
            "code": self.problem.code,
            "severity": self.severity,
            "layer": self.layer,
            "what": self.problem.what,
            "where": ", ".join(self.places),
            "why": self.problem.why,
            "remedy": self.problem.remedy,
            "follows_from": self.follows_from,
            "evidence": self.problem.evidence,
        }


def problem_of(error: LlmdError) -> Problem:
    """An error of the tree as a problem."""
    return Problem(error.code, error.what, error.why, error.remedy, error.where, fatal=True, evidence=error.evidence)
