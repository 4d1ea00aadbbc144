"""Service Usage: which APIs the project may call."""

from __future__ import annotations

from typing import Any

from sandbox.gcp import catalog, listing
from sandbox.gcp.api import Call, handles
from sandbox.gcp.errors import ApiError, error_info, failed_precondition, invalid_argument, service_forbidden
from sandbox.gcp.world import World

Json = dict[str, Any]

_API = "google.api.serviceusage.v1"


def service(world: World, name: str) -> Json:
    """A service as the API gives it."""
    parent = f"projects/{world.number}"
    return {
        "name": f"{parent}/services/{name}",
        "parent": parent,
        "state": "ENABLED" if name in world.services else "DISABLED",
        "config": {"name": name, "title": catalog.SERVICES.get(name, name)},
    }


def _need(call: Call, permission: str, message: str) -> None:
    if not call.allowed(permission):
        metadata = {"permission": permission, "resource": f"projects/{call.world.number}"}
        error = service_forbidden(message)
        error.details.append(error_info("AUTH_PERMISSION_DENIED", metadata, "googleapis.com"))
        raise error


def _named(call: Call) -> str:
    return call.params["name"].rsplit("/", 1)[-1]


@handles("serviceusage.services.get")
def get(call: Call) -> Json:
    name = _named(call)
    _need(call, "serviceusage.services.get", f"Permission denied to get service [{name}]")
    if name not in catalog.SERVICES:
        raise _unknown([name])
    return service(call.world, name)


@handles("serviceusage.services.list")
def list_services(call: Call) -> Json:
    _need(call, "serviceusage.services.list", f"Permission denied to list services for consumer container "
                                              f"[projects/{call.world.number}]")  # fmt: skip
    text = call.argument("filter")
    found = [service(call.world, name) for name in sorted(set(catalog.SERVICES) | call.world.services)]
    if text:
        states = {"state:ENABLED": "ENABLED", "state:DISABLED": "DISABLED"}
        if text not in states:
            raise invalid_argument(f"Invalid filter: {text}")
        found = [item for item in found if item["state"] == states[text]]
    chosen, following = listing.page(found, call.argument("pageSize") or "50", call.argument("pageToken"))
    answer: Json = {"services": chosen} if chosen else {}
    return answer | ({"nextPageToken": following} if following else {})


@handles("serviceusage.services.batchGet")
def batch_get(call: Call) -> Json:
    names = [name.rsplit("/", 1)[-1] for name in call.query.get("names", [])]
    _need(call, "serviceusage.services.get", f"Not found or permission denied for service(s): {', '.join(names)}.")
    unknown = [name for name in names if name not in catalog.SERVICES]
    if unknown:
        raise _unknown(unknown)
    return {"services": [service(call.world, name) for name in names]}


def _unknown(names: list[str]) -> ApiError:
    """Google does not say whether a service is missing or merely not yours."""
    text = f"Not found or permission denied for service(s): {', '.join(names)}."
    error = service_forbidden(text)
    error.details.append(error_info("SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED", {"services": ",".join(names)},
                                    "serviceusage.googleapis.com"))  # fmt: skip
    return error


def _done(kind: str, answer: Json) -> Json:
    response = {"@type": f"type.googleapis.com/{_API}.{kind}", **answer}
    return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": response}


def _check_idle(call: Call) -> None:
    if call.operations.list("serviceusage", running=True):
        raise failed_precondition("Another activation or deactivation is in progress.")


def _enable(call: Call, names: list[str], kind: str, answer: Any) -> Json:
    world = call.world
    listed = ", ".join(names)
    _need(call, "serviceusage.services.enable", f"Permission denied to enable service [{listed}]")
    unknown = [name for name in names if name not in catalog.SERVICES]
    if unknown:
        raise _unknown(unknown)
    if set(names) <= world.services:
        return _done(kind, answer())
    if world.faults.named("billing-disabled"):
        raise failed_precondition(
            f"Billing must be enabled for activation of service '[{listed}]' in project '{world.number}' to proceed.",
            [error_info("UREQ_PROJECT_BILLING_NOT_FOUND", {}, "serviceusage.googleapis.com/billing-enabled")],
        )
    _check_idle(call)
    return call.operations.service_usage(
        f"{_API}.{kind}", method=call.method.id, apply=lambda: world.enable(names), answer=answer
    )


@handles("serviceusage.services.enable")
def enable(call: Call) -> Json:
    name = _named(call)
    return _enable(call, [name], "EnableServiceResponse", lambda: {"service": service(call.world, name)})


@handles("serviceusage.services.batchEnable")
def batch_enable(call: Call) -> Json:
    names = list(call.body.get("serviceIds", []))
    if not 1 <= len(names) <= 20:
        raise invalid_argument("Between 1 and 20 services must be given in one batch.")
    return _enable(
        call, names, "BatchEnableServicesResponse", lambda: {"services": [service(call.world, name) for name in names]}
    )


@handles("serviceusage.services.disable")
def disable(call: Call) -> Json:
    world, name = call.world, _named(call)
    _need(call, "serviceusage.services.disable", f"Permission denied to disable service [{name}]")
    kind = "DisableServiceResponse"

    def answer() -> Json:
        return {"service": service(world, name)}

    if name not in world.services:
        return _done(kind, answer())
    needed_by = sorted(
        other for other, needs in catalog.SERVICE_NEEDS.items() if name in needs and other in world.services
    )
    if needed_by and not call.body.get("disableDependentServices"):
        text = (
            f"The service {name} is depended on by the following active service(s): {','.join(needed_by)}; Please "
            "specify disable_dependent_services=true if you want to proceed with disabling all services."
        )
        raise failed_precondition(text)
    _check_idle(call)

    def apply() -> None:
        with world.mutate():
            for one in [name, *needed_by]:
                world.disable(one)

    return call.operations.service_usage(f"{_API}.{kind}", method=call.method.id, apply=apply, answer=answer)


@handles("serviceusage.operations.get")
def get_operation(call: Call) -> Json:
    if call.params["name"] == "operations/noop.DONE_OPERATION":
        return {"name": call.params["name"], "done": True}
    found = call.operations.find("serviceusage", call.params["name"])
    if found is None:
        raise ApiError(404, "Operation not found.", "NOT_FOUND", "notFound")
    return call.operations.snapshot(found)
