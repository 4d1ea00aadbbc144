# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Until when a deployment is wanted: a label of its cluster, for whoever reaps what nobody wants any more."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import cluster_labels, clusters, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json

SOON = 3600.0


@dataclass(frozen=True)
class Lease:
    """``state``: none, running, expired, or no_cluster; ``until`` as ISO 8601; ``hours`` left, negative when over."""

    state: str
    until: str = ""
    hours: float = 0.0
    paused_since: str = ""
    owned: bool = True

    def as_result(self) -> Json:
        return {
            "state": self.state,
            "until": self.until,
            "hours_left": round(self.hours, 1),
            "expired": self.state == "expired",
            "paused_since": self.paused_since,
            "owned": self.owned,
            "text": self.words(),
        }

    def words(self) -> str:
        """For a person."""
        text = {
            "none": "no lease: nothing takes this deployment away by itself",
            "no_cluster": "there is no cluster, hence no lease",
            "running": f"leased until {self.until}, {self.hours:.1f} h left",
            "expired": f"LEASE_EXPIRED: the lease was over at {self.until}. What now: ansible-playbook"
            " playbooks/lease.yml -e llmd_lease_hours=8, or playbooks/reap.yml",
        }[self.state]
        return text + (f"; paused since {self.paused_since}" if self.paused_since else "")


def read(labels: dict[str, str], now: datetime.datetime, *, owned: bool = True) -> Lease:
    """The lease that labels hold."""
    began = cluster_labels.moment_of(labels.get(cluster_labels.PAUSED_SINCE))
    since = "" if began is None else began.isoformat()
    until = cluster_labels.moment_of(labels.get(cluster_labels.LEASE_UNTIL))
    if until is None:
        return Lease("none", paused_since=since, owned=owned)
    left = (until - now).total_seconds() / 3600
    return Lease("expired" if left <= 0 else "running", until.isoformat(), left, since, owned)


def ensure(
    session: GoogleSession,
    where: Where,
    deployment: str,
    *,
    hours: float | None,
    renew: bool,
    timeout: float,
    check_mode: bool,
) -> tuple[bool, Lease, Lease]:
    """(changed, before, after). hours None: only read; 0: no lease. A lease that is there stays unless ``renew``.

    Raises ConfigurationError LEASE_INVALID, CLUSTER_NOT_OURS; LlmdError CLUSTER_NOT_FOUND.
    """
    if hours is not None and hours < 0:
        raise ConfigurationError(
            f"A lease of {hours} hours lies in the past",
            code="LEASE_INVALID",
            remedy="Set llmd_lease_hours to the hours from now, or to 0 for no lease.",
        )
    now = datetime.datetime.now(datetime.UTC)
    if hours is None:
        seen = clusters.get(session, where)
        if seen is None:
            return False, Lease("no_cluster"), Lease("no_cluster")
        labels = dict(seen.get("resourceLabels") or {})
        lease = read(labels, now, owned=ownership.owned(labels, deployment))
        return False, lease, lease
    labels = dict(cluster_labels.own_cluster(session, where, deployment).get("resourceLabels") or {})
    before = read(labels, now)
    if before.state != "none" and not renew:
        return False, before, before
    value = cluster_labels.stamp(now + datetime.timedelta(hours=hours)) if hours else None
    if value is None and before.state == "none":
        return False, before, before
    if not check_mode:
        cluster_labels.write(session, where, {cluster_labels.LEASE_UNTIL: value}, timeout=timeout)
    changed = {key: text for key, text in {**labels, cluster_labels.LEASE_UNTIL: value}.items() if text is not None}
    return True, before, read(changed, now)
