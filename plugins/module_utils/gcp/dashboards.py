# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud Monitoring's dashboard of a deployment, made from the Grafana one, so that both ask the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment

OWNER = "managed-by"
DEPLOYMENT = "llmd-deployment"
COLUMNS = 24  # Grafana's; a mosaic takes up to 48
MANAGED = ("displayName", "labels", "mosaicLayout")


@dataclass
class Outcome:
    changed: bool
    before: Json
    after: Json
    name: str


def from_grafana(source: Mapping[str, Any], *, title: str, deployment: str, namespace: str) -> Json:
    """The same panels, places and expressions, for one namespace. Raises ConfigurationError DASHBOARD_INVALID."""
    try:
        tiles = [_tile(panel, namespace) for panel in source["panels"]]
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The dashboard is no Grafana dashboard with panels: {error!r} is missing or of another kind.",
            code="DASHBOARD_INVALID",
            remedy="Give the content of roles/monitoring/files/dashboards/grafana.json, or one shaped like it.",
        ) from error
    return {
        "displayName": title,
        "labels": {OWNER: "llmd-gke", DEPLOYMENT: deployment},
        "mosaicLayout": {"columns": COLUMNS, "tiles": tiles},
    }


def _tile(panel: Mapping[str, Any], namespace: str) -> Json:
    place = panel["gridPos"]
    sets = [
        {"plotType": "LINE", "timeSeriesQuery": {"prometheusQuery": target["expr"].replace("$namespace", namespace)}}
        for target in panel["targets"]
    ]
    # Google leaves a zero out of its answers, so it is left out here too.
    where = {"xPos": place["x"], "yPos": place["y"], "width": place["w"], "height": place["h"]}
    found: Json = {key: value for key, value in where.items() if value}
    return {**found, "widget": {"title": panel["title"], "xyChart": {"dataSets": sets}}}


def find(session: GoogleSession, deployment: str) -> Json | None:
    """Our dashboard of the deployment, None where there is none. Others' are never looked at twice."""
    parent = f"projects/{segment(session.project)}/dashboards"
    for page in session.pages("monitoring.projects.dashboards.list", parent):
        for dashboard in page.get("dashboards") or []:
            labels = dashboard.get("labels") or {}
            if labels.get(OWNER) == "llmd-gke" and labels.get(DEPLOYMENT) == deployment:
                return dict(dashboard)
    return None


def managed(dashboard: Mapping[str, Any]) -> Json:
    """The fields that are ours to say, and of the charts only what we set: Google adds defaults of its own."""
    content = {key: dashboard[key] for key in MANAGED if key in dashboard}
    tiles = (content.get("mosaicLayout") or {}).get("tiles")
    if tiles is not None:
        content["mosaicLayout"] = {
            "columns": content["mosaicLayout"].get("columns"),
            "tiles": [_known(tile) for tile in tiles],
        }
    return content


def _known(tile: Mapping[str, Any]) -> Json:
    widget = tile.get("widget") or {}
    sets = [
        {
            "plotType": one.get("plotType"),
            "timeSeriesQuery": {"prometheusQuery": (one.get("timeSeriesQuery") or {}).get("prometheusQuery")},
        }
        for one in (widget.get("xyChart") or {}).get("dataSets") or []
    ]
    place = {key: tile[key] for key in ("xPos", "yPos", "width", "height") if tile.get(key)}
    return {**place, "widget": {"title": widget.get("title"), "xyChart": {"dataSets": sets}}}


def present(session: GoogleSession, wanted: Json, *, check_mode: bool) -> Outcome:
    """Make the dashboard, or bring it back to what is wanted. Raises GoogleApiError."""
    found = find(session, wanted["labels"][DEPLOYMENT])
    before = managed(found or {})
    name = str((found or {}).get("name", ""))
    if found is not None and before == wanted:
        return Outcome(False, before, wanted, name)
    if check_mode:
        return Outcome(True, before, wanted, name)
    if found is None:
        parent = f"projects/{segment(session.project)}/dashboards"
        made = session.call("monitoring.projects.dashboards.create", "POST", parent, body=wanted)
    else:
        body = {**wanted, "name": name, "etag": found.get("etag", "")}
        made = session.call("monitoring.projects.dashboards.patch", "PATCH", _path(session, name), body=body)
    return Outcome(True, before, wanted, str(made.get("name", "")))


def absent(session: GoogleSession, deployment: str, *, check_mode: bool) -> Outcome:
    """Remove our dashboard of the deployment. Raises GoogleApiError; one that is gone by then is no error."""
    try:
        found = find(session, deployment)
    except GoogleApiError as error:
        if error.code != "API_DISABLED":
            raise
        found = None  # without the API there are no dashboards
    if found is None:
        return Outcome(False, {}, {}, "")
    if not check_mode:
        path = _path(session, str(found["name"]))
        session.call("monitoring.projects.dashboards.delete", "DELETE", path)
    return Outcome(True, managed(found), {}, str(found["name"]))


def _path(session: GoogleSession, name: str) -> str:
    return f"projects/{segment(session.project)}/dashboards/{segment(name.rsplit('/', 1)[-1])}"
