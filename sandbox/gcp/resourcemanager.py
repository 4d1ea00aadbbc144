"""Resource Manager v1 and v3 for the one project there is, its billing, and IAM's service accounts."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
from typing import Any

from sandbox.gcp import roles
from sandbox.gcp.api import Call, handles
from sandbox.gcp.errors import ApiError, caller_without_permission, invalid_argument, service_forbidden
from sandbox.gcp.identity import Account
from sandbox.gcp.operations import utc

Json = dict[str, Any]

_RACE = "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."


def _need(call: Call, permission: str) -> None:
    if not call.allowed(permission):
        raise caller_without_permission()


@handles("cloudresourcemanager.projects.get")
def get_project(call: Call) -> Json:
    _need(call, "resourcemanager.projects.get")
    world = call.world
    created = utc(0)
    state = "DELETE_REQUESTED" if world.faults.named("project-inactive") else "ACTIVE"
    if call.method.document.version == "v1":
        return {
            "projectNumber": world.number,
            "projectId": world.project,
            "lifecycleState": state,
            "name": world.project,
            "createTime": created,
        }
    return {
        "name": f"projects/{world.number}",
        "projectId": world.project,
        "state": state,
        "displayName": world.project,
        "createTime": created,
        "updateTime": created,
        "etag": base64.b64encode(b"sandbox").decode(),
    }


@handles("cloudbilling.projects.getBillingInfo")
def billing_info(call: Call) -> Json:
    """Whether somebody pays. Closed while the fault ``billing-disabled`` is planted."""
    _need(call, "resourcemanager.projects.get")
    world = call.world
    name = f"projects/{world.project}/billingInfo"
    if world.faults.named("billing-disabled"):
        return {"name": name, "projectId": world.project}
    account = "billingAccounts/012345-6789AB-CDEF01"
    return {"name": name, "projectId": world.project, "billingAccountName": account, "billingEnabled": True}


@handles("cloudresourcemanager.projects.list", "cloudresourcemanager.projects.search")
def list_projects(call: Call) -> Json:
    """Only what the caller may see: a caller without roles sees nothing."""
    return {"projects": [get_project(call)]} if call.allowed("resourcemanager.projects.get") else {}


@handles("cloudresourcemanager.projects.getIamPolicy")
def get_policy(call: Call) -> Json:
    """The policy. A reader that does not ask for version 3 gets conditional bindings under names that mean nothing."""
    _need(call, "resourcemanager.projects.getIamPolicy")
    with call.world.lock:
        policy: Json = json.loads(json.dumps(call.world.policy))
    if int((call.body.get("options") or {}).get("requestedPolicyVersion", 1)) < 3:
        for binding in policy["bindings"]:
            condition = binding.pop("condition", None)
            if condition is not None:
                digest = hashlib.sha256(json.dumps(condition, sort_keys=True).encode()).hexdigest()
                binding["role"] = f"{binding['role']}_withcond_{digest[:20]}"
        policy["version"] = 1
    return policy


@handles("cloudresourcemanager.projects.setIamPolicy")
def set_policy(call: Call) -> Json:
    """Replace what ``updateMask`` names. ApiError 409 where the etag shows that somebody else was faster."""
    _need(call, "resourcemanager.projects.setIamPolicy")
    policy = call.body.get("policy")
    if not isinstance(policy, dict):
        raise invalid_argument("Policy is required.")
    with call.world.mutate():
        if policy.get("etag") and _bytes(policy["etag"]) != _bytes(call.world.policy["etag"]):
            raise ApiError(409, _RACE, "ABORTED", "aborted")
        for binding in policy.get("bindings", []):
            _check_binding(call, binding)
            if binding.get("condition") and int(policy.get("version", 1)) != 3:
                raise invalid_argument("Specified policy version cannot support conditional bindings: use version 3.")
        masked = str(call.body.get("updateMask") or "bindings,etag").replace(" ", "").split(",")
        given = {key: policy[key] for key in masked if key in policy}
        bindings = given["bindings"] if "bindings" in given else call.world.policy["bindings"]
        conditional = any(binding.get("condition") for binding in bindings)
        return call.world.set_policy({**call.world.policy, **given, "version": 3 if conditional else 1})


def _bytes(text: str) -> bytes:
    """A bytes field of JSON: proto3 takes base64's two alphabets, with or without padding (gcloud sends the other)."""
    plain = str(text).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:
        raise invalid_argument(f'Base64 decoding failed for "{text}"') from error


def _check_binding(call: Call, binding: Json) -> None:
    role = str(binding.get("role", ""))
    if role.startswith("roles/") and role not in roles.ROLES:
        raise invalid_argument(f"Role {role} is not supported for this resource.")
    if not role.startswith("roles/") and call.world.custom_roles.get(role, {"deleted": True}).get("deleted"):
        raise invalid_argument(f"Role ({role}) does not exist in the resource's hierarchy.")
    for member in binding.get("members", []):
        kind, _, name = str(member).partition(":")
        if kind == "serviceAccount" and name.endswith(f"@{call.world.project}.iam.gserviceaccount.com"):
            if call.world.accounts.get(name) is None:  # members of deleted accounts are called "deleted:..."
                raise invalid_argument(f"Service account {name} does not exist.")
        elif kind not in ("user", "group", "domain", "serviceAccount", "allUsers", "allAuthenticatedUsers", "deleted",
                          "principal", "principalSet"):  # fmt: skip
            raise invalid_argument(
                f"The member {member} is of an unknown type. Please set the valid type prefix for the member."
            )


@handles("cloudresourcemanager.projects.testIamPermissions")
def test_permissions(call: Call) -> Json:
    """The permissions that the caller holds. ApiError 400 for one that a project cannot have."""
    wanted = list(call.body.get("permissions", []))
    if len(wanted) > 100:
        raise invalid_argument("Permissions must contain at most 100 entries.")
    for permission in wanted:
        if not roles.known(permission):
            raise invalid_argument(f"Permission {permission} is not valid for this resource.")
    held = [permission for permission in wanted if call.world.allowed(call.identity, permission)]
    return {"permissions": held} if held else {}


# --- IAM: service accounts ---------------------------------------------------------------------------------------


def _account(call: Call, account: Account) -> Json:
    project = call.world.project
    return {
        "name": f"projects/{project}/serviceAccounts/{account.email}",
        "projectId": project,
        "uniqueId": account.unique_id,
        "email": account.email,
        "displayName": account.display_name,
        "oauth2ClientId": account.unique_id,
        **({"description": account.description} if account.description else {}),
        **({"disabled": True} if account.disabled else {}),
    }


def _iam_need(call: Call, permission: str, name: str) -> None:
    if not call.allowed(permission):
        text = f"Permission '{permission}' denied on resource (or it may not exist)."
        raise service_forbidden(text)


def _find(call: Call, permission: str) -> Account:
    name = call.params["name"].rsplit("/", 1)[-1]
    _iam_need(call, permission, name)
    found = call.world.accounts.get(name)
    if found is None or found.human:
        raise ApiError(404, f"Unknown service account: {name}", "NOT_FOUND", "notFound")
    return found


@handles("iam.projects.serviceAccounts.get")
def get_account(call: Call) -> Json:
    return _account(call, _find(call, "iam.serviceAccounts.get"))


@handles("iam.projects.serviceAccounts.list")
def list_accounts(call: Call) -> Json:
    _iam_need(call, "iam.serviceAccounts.list", call.params["name"])
    return {"accounts": [_account(call, account) for account in call.world.accounts.all() if not account.human]}


@handles("iam.projects.serviceAccounts.create")
def create_account(call: Call) -> Json:
    _iam_need(call, "iam.serviceAccounts.create", call.params["name"])
    name, given = str(call.body.get("accountId", "")), call.body.get("serviceAccount", {})
    if not 6 <= len(name) <= 30:
        raise invalid_argument(f'The account ID "{name}" does not have a length between 6 and 30.')
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])", name):
        raise invalid_argument(f'The account ID "{name}" is invalid: it must match [a-z]([-a-z0-9]*[a-z0-9]).')
    if len(str(given.get("description", "")).encode()) > 256:
        raise invalid_argument("The description of a service account has at most 256 bytes.")
    email = call.world.email(name)
    if call.world.accounts.get(email) is not None:
        text = f"Service account {call.body['accountId']} already exists within project projects/{call.world.project}."
        raise ApiError(409, text, "ALREADY_EXISTS", "alreadyExists")
    display, description = str(given.get("displayName", "")), str(given.get("description", ""))
    return _account(call, call.world.accounts.add(email, display_name=display, description=description))


@handles("iam.projects.serviceAccounts.delete")
def delete_account(call: Call) -> Json:
    """The account goes; bindings that name it stay, with its member marked as deleted."""
    account = _find(call, "iam.serviceAccounts.delete")
    world = call.world
    with world.mutate():
        world.accounts.remove(account.email)
        if any(account.member in binding["members"] for binding in world.policy["bindings"]):
            dead = f"deleted:{account.member}?uid={account.unique_id}"
            for binding in world.policy["bindings"]:
                binding["members"] = [dead if one == account.member else one for one in binding["members"]]
            world.set_policy(world.policy)
    return {}


@handles("iam.projects.serviceAccounts.keys.create")
def create_key(call: Call) -> Json:
    """A new key, as the JSON file that Google's libraries read, base64-encoded."""
    account = _find(call, "iam.serviceAccountKeys.create")
    identifier, pem = call.world.accounts.new_key(account.email)
    content = call.emulator.key_file(account.email, identifier, pem)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "name": f"projects/{call.world.project}/serviceAccounts/{account.email}/keys/{identifier}",
        "privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE",
        "privateKeyData": base64.b64encode(json.dumps(content, indent=2).encode()).decode(),
        "keyAlgorithm": "KEY_ALG_RSA_2048",
        "keyOrigin": "GOOGLE_PROVIDED",
        "keyType": "USER_MANAGED",
        "validAfterTime": now,
        "validBeforeTime": "9999-12-31T23:59:59Z",
    }
