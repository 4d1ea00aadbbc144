# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment must remember between runs (a pause, a lease) is on its cluster, where every run sees it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import clusters, operations, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json

LEASE_UNTIL = "llmd-lease-until"
PAUSED_SINCE = "llmd-paused-since"
_FORM = "%Y%m%dt%H%M%Sz"  # a label value has small letters, digits, dash and underline


def own_cluster(session: GoogleSession, where: Where, deployment: str) -> Json:
    """The deployment's cluster. Raises LlmdError CLUSTER_NOT_FOUND; ConfigurationError CLUSTER_NOT_OURS."""
    found = clusters.get(session, where)
    if found is None:
        raise LlmdError(
            f"There is no cluster {where.cluster} in {where.location}",
            code="CLUSTER_NOT_FOUND",
            where=where.path(session.project),
            remedy="Check llmd_cluster_name and llmd_zone, or run playbooks/pattern1.yml first.",
        )
    if not ownership.owned(found.get("resourceLabels"), deployment):
        raise ConfigurationError(
            f"Cluster {where.cluster} was not made by deployment {deployment}",
            code="CLUSTER_NOT_OURS",
            where=str(found.get("selfLink", "")),
            why=f"its labels are {found.get('resourceLabels') or 'none'}",
            remedy="An adopted cluster is used, but neither paused, leased nor deleted: ask its owner.",
        )
    return found


def write(session: GoogleSession, where: Where, changes: Mapping[str, str | None], *, timeout: float) -> Json | None:
    """Set labels of the cluster, or remove those whose value is None; the operation's result, None where all is so.

    Labels are read anew: the fingerprint guards against a change by somebody else. Raises GoogleApiError.
    """
    found = clusters.get(session, where) or {}
    labels = dict(found.get("resourceLabels") or {})
    wanted = {key: value for key, value in {**labels, **changes}.items() if value is not None}
    if wanted == labels:
        return None
    path = where.path(session.project)
    body = {"name": path, "resourceLabels": wanted, "labelFingerprint": found.get("labelFingerprint", "")}
    operation = session.call(clusters.METHOD + "setResourceLabels", "POST", path + ":setResourceLabels", body=body)
    what = f"Labels of cluster {where.cluster}"
    return operations.wait(session, operation, what=what, timeout=timeout, location=where.location).as_result()


def stamp(moment: datetime.datetime) -> str:
    """A moment as a label value."""
    return moment.astimezone(datetime.UTC).strftime(_FORM)


def moment_of(value: str | None) -> datetime.datetime | None:
    """The moment in a label value; None where there is none or it is no moment."""
    try:
        return datetime.datetime.strptime(value or "", _FORM).replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
