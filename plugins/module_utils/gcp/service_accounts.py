# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service account with just the roles that it needs: made, adopted, or taken away together with its bindings.

An account has no labels, so what is ours says so in its description. An account that is not ours is used as it is: what
it lacks is told, never granted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import ownership, policies
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

# What GKE nodes need to send logs and metrics, and nothing else; pulling from Artifact Registry is another role.
NODE_ROLES = ("roles/container.defaultNodeServiceAccount",)
METHOD = "iam.projects.serviceAccounts."
NAME = re.compile(r"[a-z]([-a-z0-9]{4,28}[a-z0-9])")
ROLE = re.compile(r"(roles/[\w.]+|projects/[\w:.-]+/roles/[\w.]+|organizations/\d+/roles/[\w.]+)")


@dataclass(frozen=True)
class ServiceAccount:
    """A wanted account. ``name`` is the part before the @. ``roles`` are on the project."""

    name: str
    display_name: str = ""
    description: str = ""
    roles: tuple[str, ...] = NODE_ROLES
    deployment: str = ""
    force: bool = False


@dataclass
class Outcome:
    """What was found or done. ``missing``: roles that an adopted account lacks. ``kept``: why it was not deleted."""

    changed: bool
    before: Json | None
    after: Json | None
    adopted: bool = False
    kept: str = ""
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def email_of(name: str, project: str) -> str:
    """Address of an account; a project of a domain (``example.com:p``) has its parts the other way round."""
    domain = ".".join(reversed(project.split(":")))
    return f"{name}@{domain}.iam.gserviceaccount.com"


def member_of(email: str) -> str:
    return f"serviceAccount:{email}"


def validate(want: ServiceAccount) -> None:
    """Raises ConfigurationError SERVICE_ACCOUNT_INVALID, before anything is sent."""
    if not NAME.fullmatch(want.name):
        raise ConfigurationError(
            f"{want.name!r} cannot be the name of a service account",
            code="SERVICE_ACCOUNT_INVALID",
            why="Google takes 6 to 30 small letters, digits and hyphens, a letter first and no hyphen last",
            remedy="Choose such a name (the part before the @), for example llm-d-nodes.",
        )
    wrong = [role for role in want.roles if not ROLE.fullmatch(role)]
    if wrong:
        raise ConfigurationError(
            f"Not the name of a role: {', '.join(wrong)}",
            code="SERVICE_ACCOUNT_INVALID",
            remedy="Roles look like roles/logging.logWriter or projects/my-project/roles/myRole.",
        )


def view(found: Json | None, roles: set[str]) -> Json | None:
    """An account in the words of our options."""
    if found is None:
        return None
    return {
        "name": str(found.get("email", "")).split("@", 1)[0],
        "email": found.get("email", ""),
        "display_name": found.get("displayName", ""),
        "description": found.get("description", ""),
        "disabled": bool(found.get("disabled")),
        "roles": sorted(roles),
    }


def get(session: GoogleSession, email: str) -> Json | None:
    """The account, of whatever project, None where there is none. Raises GoogleApiError."""
    ours = email.endswith(email_of("", session.project))
    try:
        path = f"projects/{segment(session.project) if ours else '-'}/serviceAccounts/{_email_segment(email)}"
        return session.call(METHOD + "get", "GET", path)
    except GoogleApiError as error:
        if error.code == "NOT_FOUND":
            return None
        raise


def _get_if_enabled(session: GoogleSession, email: str) -> Json | None:
    """The account; none where the IAM API is disabled, as nobody made one there."""
    try:
        return get(session, email)
    except GoogleApiError as error:
        if error.code != "API_DISABLED":
            raise
        return None


def _email_segment(email: str) -> str:
    name, _unused, domain = email.partition("@")
    return f"{segment(name)}@{segment(domain)}"


def request_body(want: ServiceAccount) -> Json:
    """Body of iam.projects.serviceAccounts.create."""
    text = want.description or "Nodes of an llm-d cluster"
    account = {"displayName": want.display_name or want.name, "description": _description(text, want.deployment)}
    return {"accountId": want.name, "serviceAccount": account}


def _description(text: str, deployment: str) -> str:
    """Google takes 256 bytes; the mark must be among them."""
    room = 256 - len(ownership.description("", deployment).encode())
    return ownership.description(text.encode()[: max(0, room)].decode(errors="ignore"), deployment)


def _owned(found: Json, deployment: str) -> bool:
    return ownership.owned_by_description(str(found.get("description", "")), deployment)


def ensure_present(session: GoogleSession, want: ServiceAccount, *, check_mode: bool) -> Outcome:
    """Make the account where there is none, and bind what an account of ours lacks.

    Raises ConfigurationError SERVICE_ACCOUNT_INVALID or SERVICE_ACCOUNT_DISABLED, GoogleApiError.
    """
    validate(want)
    email = email_of(want.name, session.project)
    found = _get_if_enabled(session, email) if check_mode else get(session, email)
    if found is None:
        return _create(session, want, email, check_mode=check_mode)
    if found.get("disabled"):
        raise ConfigurationError(
            f"Service account {email} is disabled, its nodes would not start",
            code="SERVICE_ACCOUNT_DISABLED",
            where=str(found.get("name", email)),
            remedy=f"gcloud iam service-accounts enable {email} --project {session.project}, or name another one.",
        )
    has = policies.roles_of(policies.get(session), member_of(email))
    before = view(found, has)
    missing = [role for role in want.roles if role not in has]
    if not _owned(found, want.deployment):
        return _adopted(session, email, before, missing)
    if not missing:
        return Outcome(False, before, before)
    if not check_mode:
        _bind(session, email, want.roles)
    return Outcome(True, before, view(found, has | set(missing)))


def _adopted(session: GoogleSession, email: str, seen: Json | None, missing: list[str]) -> Outcome:
    outcome = Outcome(False, seen, seen, adopted=True, missing=missing)
    for role in missing:
        command = f"gcloud projects add-iam-policy-binding {session.project} --member={member_of(email)} --role={role}"
        outcome.warnings.append(
            f"Service account {email} is not ours and lacks {role}; nothing was granted. What now: {command}"
        )
    return outcome


def _create(session: GoogleSession, want: ServiceAccount, email: str, *, check_mode: bool) -> Outcome:
    body = request_body(want)
    planned = {**body["serviceAccount"], "email": email}
    if check_mode:
        return Outcome(True, None, view(planned, set(want.roles)))
    path = f"projects/{segment(session.project)}/serviceAccounts"
    try:
        made = session.call(METHOD + "create", "POST", path, body=body)
    except GoogleApiError as error:
        if error.code != "ALREADY_EXISTS":  # otherwise its answer was lost, or another run was quicker
            raise
        made = get(session, email) or planned
        if not _owned(made, want.deployment):
            return ensure_present(session, want, check_mode=False)
    if want.roles:
        _bind(session, email, want.roles)
    return Outcome(True, None, view({**planned, **made}, set(want.roles)))


def _bind(session: GoogleSession, email: str, roles: tuple[str, ...]) -> bool:
    member = member_of(email)

    def modify(policy: Json) -> Json | None:
        if set(roles) <= policies.roles_of(policy, member):
            return None
        return policies.with_roles(policy, member, roles)

    return policies.change(session, modify, new_member=email)


def ensure_absent(session: GoogleSession, want: ServiceAccount, *, check_mode: bool) -> Outcome:
    """Take the account away if we made it (or ``force``): first its bindings, so that no dead member stays behind."""
    validate(want)
    email = email_of(want.name, session.project)
    found = _get_if_enabled(session, email)
    if found is None:
        return Outcome(False, None, None)
    member = member_of(email)
    seen = view(found, policies.roles_of(policies.get(session), member))
    if not want.force and not _owned(found, want.deployment):
        reason = (
            f"Service account {email} is kept: its description does not say that this deployment made it "
            f"({ownership.MARKER})."
        )
        return Outcome(False, seen, seen, adopted=True, kept=reason, warnings=[reason])
    if not check_mode:
        remove(session, email)
    return Outcome(True, seen, None)


def remove(session: GoogleSession, email: str) -> None:
    """Delete the account, after its bindings. Raises GoogleApiError."""
    member = member_of(email)

    def modify(policy: Json) -> Json | None:
        return policies.without_member(policy, member) if policies.mentions(policy, member) else None

    policies.change(session, modify)
    try:
        path = f"projects/{segment(session.project)}/serviceAccounts/{_email_segment(email)}"
        session.call(METHOD + "delete", "DELETE", path)
    except GoogleApiError as error:
        if error.code != "NOT_FOUND":
            raise
