# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects and what we may do in them: asked by testIamPermissions, never guessed from role names."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

# What the seven roles of the main job do, as permissions on the project.
NEEDED_PERMISSIONS = (
    "container.clusters.create",
    "container.clusters.get",
    "container.clusters.update",
    "container.clusters.getCredentials",
    "container.operations.get",
    "container.clusterRoles.create",
    "container.clusterRoleBindings.create",
    "compute.networks.get",
    "compute.subnetworks.create",
    "compute.subnetworks.get",
    "compute.subnetworks.list",
    "compute.regions.get",
    "compute.zones.get",
    "compute.regionBackendServices.get",
    "serviceusage.services.enable",
    "serviceusage.services.get",
    "iam.serviceAccounts.actAs",
)
# What making an account for the nodes needs besides.
SERVICE_ACCOUNT_PERMISSIONS = (
    "iam.serviceAccounts.create",
    "iam.serviceAccounts.get",
    "resourcemanager.projects.getIamPolicy",
    "resourcemanager.projects.setIamPolicy",
)


def needed_permissions(service_account: str) -> tuple[str, ...]:
    """Of the main job, where the nodes run as ``service_account`` (a name without @ is one that is made)."""
    made = bool(service_account) and "@" not in service_account
    return NEEDED_PERMISSIONS + (SERVICE_ACCOUNT_PERMISSIONS if made else ())


def get_project(session: GoogleSession) -> Json:
    """The project (cloudresourcemanager v1). Raises GoogleApiError; a foreign or missing one is PERMISSION_DENIED."""
    return session.call("cloudresourcemanager.projects.get", "GET", f"projects/{segment(session.project)}")


def held_permissions(session: GoogleSession, permissions: Iterable[str]) -> tuple[set[str], set[str]]:
    """(held, impossible to ask): testIamPermissions refuses a whole request for one permission it does not know."""
    names = list(dict.fromkeys(permissions))
    try:
        return _test(session, names), set()
    except GoogleApiError as error:
        if error.status != 400 or len(names) <= 1:
            raise
    held: set[str] = set()
    unknown: set[str] = set()
    for name in names:
        try:
            held |= _test(session, [name])
        except GoogleApiError as error:
            if error.status != 400:
                raise
            unknown.add(name)
    return held, unknown


def _test(session: GoogleSession, permissions: list[str]) -> set[str]:
    path = f"projects/{segment(session.project)}:testIamPermissions"
    answer = session.call(
        "cloudresourcemanager.projects.testIamPermissions", "POST", path, body={"permissions": permissions}
    )
    return {str(name) for name in answer.get("permissions") or []}
