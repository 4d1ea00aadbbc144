"""Secret Manager, as far as a deployment reads its token from it: make a secret, add versions, list and access them."""

from __future__ import annotations

from typing import Any

from sandbox.gcp.api import Call, handles
from sandbox.gcp.errors import ApiError, invalid_argument
from sandbox.gcp.operations import utc

Json = dict[str, Any]
_BASE = "secretmanager.projects.secrets"


def _need(call: Call, permission: str) -> None:
    if not call.allowed(permission):
        message = (
            f"Permission '{permission}' denied for resource 'projects/{call.world.project}' (or it may not exist)."
        )
        raise ApiError(403, message, "PERMISSION_DENIED", "forbidden")


def _versions(call: Call, name: str) -> list[str]:
    """The secret's versions, oldest first. ApiError 404 where there is no such secret."""
    identifier = name.split("/secrets/", 1)[1].split("/", 1)[0]
    found = call.world.secrets.get(identifier)
    if found is None:
        number = call.world.number
        raise ApiError(404, f"Secret [projects/{number}/secrets/{identifier}] not found.", "NOT_FOUND", "notFound")
    return found


def _path(call: Call, name: str) -> str:
    return f"projects/{call.world.number}/secrets/{name.split('/secrets/', 1)[1].split('/', 1)[0]}"


@handles(f"{_BASE}.create")
def create(call: Call) -> Json:
    _need(call, "secretmanager.secrets.create")
    identifier = call.argument("secretId")
    if not identifier:
        raise invalid_argument("secret_id is required.")
    with call.world.mutate():
        if identifier in call.world.secrets:
            raise ApiError(409, f"Secret [{identifier}] already exists.", "ALREADY_EXISTS", "alreadyExists")
        call.world.secrets[identifier] = []
    name = f"projects/{call.world.number}/secrets/{identifier}"
    return {"name": name, "createTime": utc(call.world.clock()), "replication": {"automatic": {}}}


@handles(f"{_BASE}.addVersion")
def add_version(call: Call) -> Json:
    _need(call, "secretmanager.versions.add")
    with call.world.mutate():
        versions = _versions(call, call.params["parent"])
        versions.append(str(call.body.get("payload", {}).get("data", "")))
        return _version(call, call.params["parent"], len(versions))


def _version(call: Call, name: str, number: int) -> Json:
    made = utc(call.world.clock())
    return {"name": f"{_path(call, name)}/versions/{number}", "createTime": made, "state": "ENABLED"}


@handles(f"{_BASE}.versions.list")
def list_versions(call: Call) -> Json:
    """Newest first, as the real one lists them."""
    _need(call, "secretmanager.versions.list")
    count = len(_versions(call, call.params["parent"]))
    listed = [_version(call, call.params["parent"], number) for number in range(count, 0, -1)]
    return {"versions": listed, "totalSize": count} if listed else {}


@handles(f"{_BASE}.versions.access")
def access(call: Call) -> Json:
    _need(call, "secretmanager.versions.access")
    name = call.params["name"]
    versions, wanted = _versions(call, name), name.rsplit("/", 1)[-1]
    number = len(versions) if wanted == "latest" else int(wanted) if wanted.isdigit() else 0
    if not 1 <= number <= len(versions):
        raise ApiError(
            404, f"Secret Version [{_path(call, name)}/versions/{wanted}] not found.", "NOT_FOUND", "notFound"
        )
    return {"name": f"{_path(call, name)}/versions/{number}", "payload": {"data": versions[number - 1]}}
