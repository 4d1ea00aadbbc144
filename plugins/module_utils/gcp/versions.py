# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GKE versions: which ones a location and release channel offer (getServerConfig), against the least that is needed."""

from __future__ import annotations

import re

from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import ERROR, OK, WARNING, Check
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment


def parts(version: str) -> tuple[int, ...]:
    """``1.34.0-gke.1626000`` -> (1, 34, 0, 1626000); a part that is not told counts as 0 in comparisons."""
    numbers = [int(number) for number in re.findall(r"\d+", version)][:4]
    return tuple(numbers + [0] * (4 - len(numbers)))


def server_config(session: GoogleSession, location: str) -> Json:
    path = f"projects/{segment(session.project)}/locations/{segment(location)}/serverConfig"
    return session.call("container.projects.locations.getServerConfig", "GET", path)


def judge(config: Json, channel: str, minimum: str, location: str) -> Check:
    """Does the channel (or the default, without one) give a cluster that is new enough?"""
    name = "GKE version"
    channels = {str(item.get("channel")): item for item in config.get("channels") or []}
    if channel and channel not in channels:
        known = ", ".join(sorted(channels))
        return Check(
            name,
            ERROR,
            f"release channel {channel} is not offered in {location}",
            "GKE_CHANNEL_UNAVAILABLE",
            f"Use one of: {known}.",
            {"channels": sorted(channels)},
        )
    offered = channels[channel] if channel else config
    default = str(offered.get("defaultVersion") or offered.get("defaultClusterVersion") or "")
    valid = [str(v) for v in offered.get("validVersions") or offered.get("validMasterVersions") or []]
    where = f"{channel or 'the default'} in {location}"
    evidence = {"channel": channel, "default": default, "valid": valid, "minimum": minimum}
    if not minimum or parts(default) >= parts(minimum):
        detail = f"{where} gives {default}" + (f", {minimum} is needed" if minimum else "")
        return Check(name, OK, detail, evidence=evidence)
    newer = sorted((v for v in valid if parts(v) >= parts(minimum)), key=parts)
    if newer:
        remedy = f"Ask for version {newer[-1]} (gke_cluster's version), or for a faster release channel."
        return Check(
            name,
            WARNING,
            f"{where} gives {default} by itself, {minimum} is needed",
            "GKE_VERSION_OLD",
            remedy,
            evidence,
        )
    detail = f"{where} has nothing newer than {max(valid, key=parts, default='?')}, {minimum} is needed"
    return Check(name, ERROR, detail, "GKE_VERSION_OLD", "Use a faster release channel (RAPID).", evidence)
