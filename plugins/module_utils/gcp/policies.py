# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's IAM policy, changed by reading, modifying and writing it: nobody else's change is ever lost.

The policy is asked for and written in version 3, so that conditional bindings survive; its etag makes Google refuse
(409) a write on top of somebody else's, and the whole is done again. Audit settings are not written at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import report_progress

VERSION = 3
MASK = "bindings,etag"
RACE_SECONDS = 60.0  # for other people's writes
SPREAD_SECONDS = 120.0  # for a new member to be known everywhere
FIRST_WAIT, LONGEST_WAIT = 1.0, 15.0


def get(session: GoogleSession) -> Json:
    """The whole policy. Raises GoogleApiError."""
    path = f"projects/{segment(session.project)}:getIamPolicy"
    body = {"options": {"requestedPolicyVersion": VERSION}}
    return session.call("cloudresourcemanager.projects.getIamPolicy", "POST", path, body=body)


def roles_of(policy: Json, member: str) -> set[str]:
    """Roles that the policy gives a member without any condition."""
    return {
        str(binding.get("role"))
        for binding in policy.get("bindings") or []
        if member in (binding.get("members") or []) and not binding.get("condition")
    }


def mentions(policy: Json, member: str) -> bool:
    """Whether any binding, conditional ones included, names the member."""
    return any(member in (binding.get("members") or []) for binding in policy.get("bindings") or [])


def with_roles(policy: Json, member: str, roles: Iterable[str]) -> Json:
    """The policy with the member in the unconditional binding of each role; everything else as it was."""
    bindings = [dict(binding) for binding in policy.get("bindings") or []]
    for role in roles:
        plain = next((b for b in bindings if b.get("role") == role and not b.get("condition")), None)
        if plain is None:
            bindings.append({"role": role, "members": [member]})
        elif member not in (plain.get("members") or []):
            plain["members"] = [*(plain.get("members") or []), member]
    return {**policy, "version": VERSION, "bindings": bindings}


def without_member(policy: Json, member: str) -> Json:
    """The policy without the member; a binding that names nobody any more goes."""
    bindings = []
    for binding in policy.get("bindings") or []:
        members = [one for one in binding.get("members") or [] if one != member]
        if members:
            bindings.append({**binding, "members": members})
    return {**policy, "version": VERSION, "bindings": bindings}


def change(session: GoogleSession, modify: Callable[[Json], Json | None], *, new_member: str = "") -> bool:
    """Read, modify, write, and again where somebody else wrote meanwhile. False: ``modify`` wanted no change (None).

    ``new_member``: an account made moments ago, which Google may not know everywhere yet; its refusal is sat out.
    Raises GoogleApiError.
    """
    path = f"projects/{segment(session.project)}:setIamPolicy"
    started, wait = session.clock.now(), FIRST_WAIT
    while True:
        wanted = modify(get(session))
        if wanted is None:
            return False
        try:
            body = {"policy": wanted, "updateMask": MASK}
            session.call("cloudresourcemanager.projects.setIamPolicy", "POST", path, body=body)
            return True
        except GoogleApiError as error:
            patience = _patience(error, new_member)
            if session.clock.now() - started + wait > min(patience, session.remaining(patience)):
                raise
            report_progress(f"IAM policy of {session.project}: {error.code}, read and written again in {wait:.0f} s")
        session.clock.sleep(wait)
        wait = min(LONGEST_WAIT, wait * 2)


def _patience(error: GoogleApiError, new_member: str) -> float:
    if error.code == "CONCURRENT_CHANGE":
        return RACE_SECONDS
    unknown = error.code in ("INVALID_REQUEST", "NOT_FOUND") and "does not exist" in error.why
    return SPREAD_SECONDS if new_member and unknown and new_member in error.why else -1.0
