# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects and what we may do in them: asked by testIamPermissions, never guessed from role names."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.permissions import NEEDED
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

MOST = 100  # permissions of one request
DEPLOY = "deploy"
# Variables that ask for permissions of their own; permissions.py names them beside the jobs.
NODE_ACCOUNT, ADDRESS = "llmd_node_service_account", "llmd_address"
POLICIES, AUTOSCALING = "llmd_network_policies", "llmd_autoscaling"
OPTIONS = (ADDRESS, POLICIES, AUTOSCALING)  # beside the account, which the preflight knows from its name


def needed_permissions(service_account: str = "", options: Iterable[str] = ()) -> tuple[str, ...]:
    """Of a deployment with these options; a ``service_account`` without @ is one that is made for the nodes."""
    used = {*options, *([NODE_ACCOUNT] if service_account and "@" not in service_account else [])}
    return tuple(name for name, jobs in NEEDED.items() if DEPLOY in jobs or used & set(jobs))


def later_permissions() -> tuple[str, ...]:
    """What only looking, changing and removing need, whatever the options."""
    only = {NODE_ACCOUNT, *OPTIONS}
    return tuple(name for name, jobs in NEEDED.items() if DEPLOY not in jobs and set(jobs) - only)


def get_project(session: GoogleSession) -> Json:
    """The project (cloudresourcemanager v1). Raises GoogleApiError; a foreign or missing one is PERMISSION_DENIED."""
    return session.call("cloudresourcemanager.projects.get", "GET", f"projects/{segment(session.project)}")


def held_permissions(session: GoogleSession, permissions: Iterable[str]) -> tuple[set[str], set[str]]:
    """(held, impossible to ask): testIamPermissions refuses a whole request for one permission it does not know."""
    names = list(dict.fromkeys(permissions))
    held: set[str] = set()
    unknown: set[str] = set()
    for first in range(0, len(names), MOST):
        some = names[first : first + MOST]
        try:
            held |= _test(session, some)
        except GoogleApiError as error:
            if error.status != 400 or len(names) <= 1:
                raise
            _one_by_one(session, some, held, unknown)
    return held, unknown


def _one_by_one(session: GoogleSession, names: Iterable[str], held: set[str], unknown: set[str]) -> None:
    for name in names:
        try:
            held |= _test(session, [name])
        except GoogleApiError as error:
            if error.status != 400:
                raise
            unknown.add(name)


def _test(session: GoogleSession, permissions: list[str]) -> set[str]:
    path = f"projects/{segment(session.project)}:testIamPermissions"
    answer = session.call(
        "cloudresourcemanager.projects.testIamPermissions", "POST", path, body={"permissions": permissions}
    )
    return {str(name) for name in answer.get("permissions") or []}
