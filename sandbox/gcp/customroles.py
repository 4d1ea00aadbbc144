"""IAM's custom roles of the project: made, read, changed, deleted; the policy binds them like predefined ones."""

from __future__ import annotations

import re
from typing import Any

from sandbox.gcp import roles
from sandbox.gcp.api import Call, handles
from sandbox.gcp.errors import ApiError, invalid_argument, service_forbidden

Json = dict[str, Any]
_FIELDS = ("title", "description", "includedPermissions", "stage")


def _need(call: Call, permission: str) -> None:
    if not call.allowed(permission):
        raise service_forbidden(f"Permission '{permission}' denied on resource (or it may not exist).")


def _find(call: Call) -> Json:
    name = call.params["name"]
    found = call.world.custom_roles.get(name)
    if found is None:
        raise ApiError(404, f"The role named {name} was not found.", "NOT_FOUND", "notFound")
    return found


def _checked(given: Json) -> Json:
    for permission in given.get("includedPermissions", []):
        if not roles.known(permission):
            raise invalid_argument(f"Permission {permission} is not valid.")
    return {key: given[key] for key in _FIELDS if key in given}


@handles("iam.projects.roles.create")
def create_role(call: Call) -> Json:
    _need(call, "iam.roles.create")
    identifier = str(call.body.get("roleId", ""))
    if not re.fullmatch(r"[a-zA-Z0-9_.]{3,64}", identifier):
        raise invalid_argument(f"The role_id {identifier} is invalid: 3 to 64 letters, digits, underscores, periods.")
    name = f"projects/{call.world.project}/roles/{identifier}"
    role = {"name": name, "etag": "BwAAAAAAAAA=", **_checked(call.body.get("role") or {})}
    with call.world.mutate():
        if name in call.world.custom_roles:
            text = f"A role named {identifier} in projects/{call.world.project} already exists."
            raise ApiError(409, text, "ALREADY_EXISTS", "alreadyExists")
        call.world.custom_roles[name] = role
    return dict(role)


@handles("iam.projects.roles.get")
def get_role(call: Call) -> Json:
    _need(call, "iam.roles.get")
    return dict(_find(call))


@handles("iam.projects.roles.list")
def list_roles(call: Call) -> Json:
    """Without ``view=FULL`` the permissions are left out, as Google leaves them out."""
    _need(call, "iam.roles.list")
    hidden = set() if call.argument("view") == "FULL" else {"includedPermissions"}
    with call.world.lock:
        found = [role for _name, role in sorted(call.world.custom_roles.items()) if not role.get("deleted")]
    return {"roles": [{key: value for key, value in role.items() if key not in hidden} for role in found]}


@handles("iam.projects.roles.patch")
def patch_role(call: Call) -> Json:
    _need(call, "iam.roles.update")
    with call.world.mutate():
        role = _find(call)
        masked = call.argument("updateMask").replace(" ", "").split(",") if call.argument("updateMask") else _FIELDS
        role.update({key: value for key, value in _checked(call.body).items() if key in masked})
        return dict(role)


@handles("iam.projects.roles.delete")
def delete_role(call: Call) -> Json:
    """Gone for seven days, then for ever: here it stays, marked, and gives nobody anything."""
    _need(call, "iam.roles.delete")
    with call.world.mutate():
        role = _find(call)
        role["deleted"] = True
        return dict(role)
