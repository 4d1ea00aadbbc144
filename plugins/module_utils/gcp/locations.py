# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones, and which machines and GPUs they offer."""

from __future__ import annotations

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment


def region_of_zone(zone: str) -> str:
    """``us-central1-a`` -> ``us-central1``; a region stays what it is."""
    parts = zone.split("-")
    return "-".join(parts[:2]) if len(parts) > 2 else zone


def _get(session: GoogleSession, method: str, path: str) -> Json | None:
    try:
        return session.call(method, "GET", f"projects/{segment(session.project)}/{path}")
    except GoogleApiError as error:
        if error.status == 404 and error.code in ("NOT_FOUND", "ZONE_NOT_FOUND"):
            return None
        raise


def get_zone(session: GoogleSession, zone: str) -> Json | None:
    return _get(session, "compute.zones.get", f"zones/{segment(zone)}")


def zones_of_region(session: GoogleSession, region: str) -> list[str]:
    """Names of the region's zones, sorted; none where there is no such region."""
    found = _get(session, "compute.regions.get", f"regions/{segment(region)}") if region else None
    return sorted(str(url).rsplit("/", 1)[-1] for url in (found or {}).get("zones") or [])


def get_machine_type(session: GoogleSession, zone: str, name: str) -> Json | None:
    return _get(session, "compute.machineTypes.get", f"zones/{segment(zone)}/machineTypes/{segment(name)}")


def get_accelerator_type(session: GoogleSession, zone: str, name: str) -> Json | None:
    return _get(session, "compute.acceleratorTypes.get", f"zones/{segment(zone)}/acceleratorTypes/{segment(name)}")


def zones_with_accelerator(session: GoogleSession, name: str, region: str = "") -> list[str]:
    """Zones (of the region, or all) that offer that GPU, sorted."""
    path = f"projects/{segment(session.project)}/aggregated/acceleratorTypes"
    zones = set()
    for page in session.pages("compute.acceleratorTypes.aggregatedList", path):
        for scope, content in (page.get("items") or {}).items():
            zone = str(scope).rsplit("/", 1)[-1]
            offered = {str(item.get("name")) for item in content.get("acceleratorTypes") or []}
            if name in offered and (not region or region_of_zone(zone) == region):
                zones.add(zone)
    return sorted(zones)
