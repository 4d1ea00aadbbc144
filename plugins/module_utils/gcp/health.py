# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health of regional backend services, endpoint by endpoint, as the load balancer's own probes see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment


@dataclass(frozen=True)
class Endpoint:
    """One endpoint. ``state`` is HEALTHY or UNHEALTHY; ``instance`` and ``group`` are short names."""

    ip: str
    port: int
    state: str
    instance: str = ""
    group: str = ""

    @property
    def healthy(self) -> bool:
        return self.state == "HEALTHY"

    def as_result(self) -> Json:
        return {"ip": self.ip, "port": self.port, "state": self.state, "instance": self.instance, "group": self.group}


@dataclass(frozen=True)
class BackendHealth:
    """One backend service. ``exists`` False: it is not there (yet); ``groups``: how many backends it has."""

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    groups: int = 0
    exists: bool = True

    @property
    def total(self) -> int:
        return len(self.endpoints)

    @property
    def healthy(self) -> int:
        return sum(endpoint.healthy for endpoint in self.endpoints)

    @property
    def all_healthy(self) -> bool:
        """At least one endpoint and none of them unhealthy."""
        return bool(self.endpoints) and self.healthy == self.total

    def as_result(self) -> Json:
        return {
            "name": self.name,
            "endpoints": [endpoint.as_result() for endpoint in self.endpoints],
            "healthy": self.healthy,
            "total": self.total,
            "exists": self.exists,
        }


def _short(url: object) -> str:
    return str(url or "").rsplit("/", 1)[-1]


def _endpoints(answer: Json, group: str) -> list[Endpoint]:
    return [
        Endpoint(
            ip=str(entry.get("ipAddress", "")),
            port=int(entry.get("port") or 0),
            state=str(entry.get("healthState", "UNHEALTHY")),
            instance=_short(entry.get("instance")),
            group=_short(group),
        )
        for entry in answer.get("healthStatus") or []
    ]


def one_backend_health(session: GoogleSession, project: str, region: str, name: str) -> BackendHealth:
    """Health of one service: its description, then getHealth of each group (that is how the API asks it)."""
    path = f"projects/{segment(project)}/regions/{segment(region)}/backendServices/{segment(name)}"
    try:
        service = session.call("compute.regionBackendServices.get", "GET", path)
    except GoogleApiError as error:
        if error.status == 404 and error.code == "NOT_FOUND":
            return BackendHealth(name, exists=False)
        raise
    endpoints: list[Endpoint] = []
    groups = [str(backend.get("group", "")) for backend in service.get("backends") or []]
    for group in groups:
        answer = session.call(
            "compute.regionBackendServices.getHealth", "POST", f"{path}/getHealth", body={"group": group}
        )
        endpoints += _endpoints(answer, group)
    return BackendHealth(name, tuple(endpoints), len(groups))


def backend_health(session: GoogleSession, project: str, region: str, names: Iterable[str]) -> list[BackendHealth]:
    """Health of the named regional backend services, in the given order. Raises GoogleApiError."""
    return [one_backend_health(session, project, region, name) for name in names]
