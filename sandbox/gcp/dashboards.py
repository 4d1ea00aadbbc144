"""Cloud Monitoring's dashboards: kept as they were given, with a name and an etag."""

from __future__ import annotations

import copy
from typing import Any

from sandbox.gcp import listing
from sandbox.gcp.api import Call, handles
from sandbox.gcp.container_shape import new_etag
from sandbox.gcp.errors import ApiError, caller_without_permission, invalid_argument

Json = dict[str, Any]
_LAYOUTS = ("gridLayout", "mosaicLayout", "rowLayout", "columnLayout")


def _need(call: Call, verb: str) -> None:
    if not call.allowed(f"monitoring.dashboards.{verb}"):
        raise caller_without_permission()


def _full(call: Call, identifier: str) -> str:
    return f"projects/{call.world.number}/dashboards/{identifier}"


def _found(call: Call) -> Json:
    """The dashboard that the request names, by the project's id or number. ApiError 404."""
    name = _full(call, call.params["name"].rsplit("/", 1)[-1])
    dashboard = call.world.dashboards.get(name)
    if dashboard is None:
        raise ApiError(404, f"The dashboard {name} was not found.", "NOT_FOUND", "notFound")
    return dashboard


def _checked(body: Json) -> Json:
    if not body.get("displayName"):
        raise invalid_argument("Field displayName is required.")
    if len([name for name in _LAYOUTS if name in body]) != 1:
        raise invalid_argument("Field layout must be set.")
    mosaic = body.get("mosaicLayout", {})
    columns = mosaic.get("columns", 0)
    if "mosaicLayout" in body and not 1 <= columns <= 48:
        raise invalid_argument("Field mosaicLayout.columns must be between 1 and 48.")
    for index, tile in enumerate(mosaic.get("tiles", [])):
        if tile.get("xPos", 0) + tile.get("width", 0) > columns or not tile.get("width") or not tile.get("height"):
            raise invalid_argument(f"Field mosaicLayout.tiles[{index}] does not fit the layout.")
    return copy.deepcopy(body)


@handles("monitoring.projects.dashboards.create")
def create(call: Call) -> Json:
    _need(call, "create")
    content = _checked(call.body)
    name = _full(call, content.get("name", "").rsplit("/", 1)[-1] or call.world.new_id())
    if name in call.world.dashboards:
        raise ApiError(409, f"The dashboard {name} already exists.", "ALREADY_EXISTS", "alreadyExists")
    dashboard = {**content, "name": name, "etag": new_etag()}
    if not call.flag("validateOnly"):
        with call.world.mutate():
            call.world.dashboards[name] = dashboard
    return copy.deepcopy(dashboard)


@handles("monitoring.projects.dashboards.get")
def get(call: Call) -> Json:
    _need(call, "get")
    return copy.deepcopy(_found(call))


@handles("monitoring.projects.dashboards.list")
def list_dashboards(call: Call) -> Json:
    _need(call, "list")
    every = [copy.deepcopy(call.world.dashboards[name]) for name in sorted(call.world.dashboards)]
    chosen, following = listing.page(every, call.argument("pageSize") or "500", call.argument("pageToken"))
    answer: Json = {"dashboards": chosen} if chosen else {}
    return answer | ({"nextPageToken": following} if following else {})


@handles("monitoring.projects.dashboards.patch")
def patch(call: Call) -> Json:
    """Replaces the whole dashboard, as Google does. ApiError 409 where the etag shows that somebody else was faster."""
    _need(call, "update")
    content = _checked(call.body)
    with call.world.mutate():
        before = _found(call)
        if content.get("etag") and content["etag"] != before["etag"]:
            raise ApiError(409, "The dashboard was changed concurrently.", "ABORTED", "aborted")
        after = {**content, "name": before["name"], "etag": new_etag()}
        if not call.flag("validateOnly"):
            call.world.dashboards[before["name"]] = after
    return copy.deepcopy(after)


@handles("monitoring.projects.dashboards.delete")
def delete(call: Call) -> Json:
    _need(call, "delete")
    with call.world.mutate():
        del call.world.dashboards[_found(call)["name"]]
    return {}
