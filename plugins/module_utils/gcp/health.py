# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health of regional backend services, endpoint by endpoint, as the load balancer's own probes see it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

SIDE_BY_SIDE = 8
ONE_LIST_FROM = 10


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


def _describe(session: GoogleSession, path: str) -> Json | None:
    """A service's description, None if it is not there."""
    try:
        return session.call("compute.regionBackendServices.get", "GET", path)
    except GoogleApiError as error:
        if error.status == 404 and error.code == "NOT_FOUND":
            return None
        raise


def _listed(session: GoogleSession, project: str, region: str) -> dict[str, Json]:
    """The region's services by name."""
    path = f"projects/{segment(project)}/regions/{segment(region)}/backendServices"
    pages = session.pages("compute.regionBackendServices.list", path, params={"maxResults": 500})
    return {str(item["name"]): item for page in pages for item in page.get("items") or []}


def backend_health(session: GoogleSession, project: str, region: str, names: Iterable[str]) -> list[BackendHealth]:
    """Health of the named regional backend services, in the given order. Raises GoogleApiError.

    The API wants one question for each group of endpoints; they are asked side by side. Few services are described one
    by one, many by the region's list.
    """
    known = list(names)
    paths = [_service_path(project, region, name) for name in known]
    with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE) as workers:
        if len(known) > ONE_LIST_FROM:
            all_of = _listed(session, project, region)
            services = [all_of.get(name) for name in known]
        else:
            services = list(workers.map(lambda path: _describe(session, path), paths))
        groups = [
            [str(backend.get("group", "")) for backend in (service or {}).get("backends") or []] for service in services
        ]
        questions = [(path, group) for path, asked in zip(paths, groups, strict=True) for group in asked]

        def ask(question: tuple[str, str]) -> list[Endpoint]:
            path, group = question
            method = "compute.regionBackendServices.getHealth"
            return _endpoints(session.call(method, "POST", f"{path}/getHealth", body={"group": group}), group)

        answers = iter(list(workers.map(ask, questions)))
    found = []
    for name, service, asked in zip(known, services, groups, strict=True):
        endpoints = tuple(endpoint for _unused in asked for endpoint in next(answers))
        found.append(BackendHealth(name, endpoints, len(asked), service is not None))
    return found


def backend_names(
    session: GoogleSession, project: str, region: str, namespace: str, cluster_mark: str = ""
) -> list[str]:
    """Backend services that GKE's controller made for a namespace, by their names; for want of better knowledge.

    Names look like gkegw1-MARK-NAMESPACE-SERVICE-PORT-HASH; cluster_mark: the MARK, which is one cluster's own.
    """
    path = f"projects/{segment(project)}/regions/{segment(region)}/backendServices"
    prefix = f"gkegw1-{re.escape(cluster_mark) if cluster_mark else '[a-z0-9]{4}'}-{re.escape(namespace)}-"
    params: dict[str, str | int | bool | list[str]] = {"filter": f'name eq "{prefix}.*"', "maxResults": 500}
    found: list[str] = []
    for page in session.pages("compute.regionBackendServices.list", path, params=params):
        found += [str(item["name"]) for item in page.get("items") or []]
    return sorted(name for name in found if re.match(prefix, name) and "serve404" not in name)


def _service_path(project: str, region: str, name: str) -> str:
    return f"projects/{segment(project)}/regions/{segment(region)}/backendServices/{segment(name)}"
