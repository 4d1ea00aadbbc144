# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Google half of an observation: what is read, and where it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import clusters, iam, networks, node_pools, services
from ansible_collections.llmd.gke.plugins.module_utils.gcp.health import BackendHealth, backend_health
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import backend_service_refs
from ansible_collections.llmd.gke.plugins.module_utils.llmd.backends import parse_ref
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Json, Observation, Scope


def where_of(scope: Scope) -> Where:
    return Where(scope.location, scope.cluster)


def first_reads(session: GoogleSession, scope: Scope) -> dict[str, Callable[[], Any]]:
    """What can be asked without knowing anything yet, by the name of the field of ``Google`` that it fills."""

    def missing() -> list[str]:
        needed = iam.needed_permissions()
        held, unknown = iam.held_permissions(session, needed)
        return [name for name in needed if name not in held and name not in unknown]

    return {
        "services": lambda: services.states(session, scope.services),
        "subnets": lambda: networks.subnets_of(session, networks.network_ref(scope.network, session.project)),
        "missing_permissions": missing,
    }


def pool_errors(session: GoogleSession, cluster: Json) -> list[LlmdError]:
    """What is wrong with node pools by their own status."""
    found = []
    for pool in cluster.get("nodePools") or []:
        try:
            node_pools.require_healthy(session, pool, strict=True)
        except LlmdError as error:
            found.append(error)
    return found


def pool_sizes(session: GoogleSession, cluster: Json) -> dict[str, int]:
    """Nodes of each pool now, in all its zones."""
    return {
        str(pool.get("name")): node_pools.current_size(session, pool) * max(1, len(pool.get("locations") or []))
        for pool in cluster.get("nodePools") or []
    }


def read_cluster(session: GoogleSession, scope: Scope) -> Json:
    """The cluster as Google describes it, {} where there is none."""
    return clusters.get(session, where_of(scope)) or {}


def backends_of(session: GoogleSession, seen: Observation) -> list[BackendHealth]:
    """Health of the services that the Gateway's annotation names, the default one left out."""
    refs = [ref for text in backend_service_refs(seen.cluster.gateway or {}) if (ref := parse_ref(text)) is not None]
    found: list[BackendHealth] = []
    for region in sorted({ref.region for ref in refs if ref.region}):
        names = [ref.name for ref in refs if ref.region == region and not ref.is_default]
        found += backend_health(session, session.project, region, names)
    return found
