# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service accounts that were made for a deployment's nodes and outlived it: found by the mark in their description."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import leftovers, ownership, service_accounts
from ansible_collections.llmd.gke.plugins.module_utils.gcp.leftovers import Deleted
from ansible_collections.llmd.gke.plugins.module_utils.gcp.orphans import FOREIGN, LIVE, OWNED, Deployment, Finding
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import report_progress

KIND, SCOPE = "serviceAccounts", "global"
_MARK = re.compile(rf"{re.escape(ownership.MARKER)} {ownership.DEPLOYMENT}=([\w-]+)")


def classify(who: Deployment, accounts: Iterable[Json]) -> list[Finding]:
    """Findings for accounts that carry our mark; people's own are none of our business. Pure."""
    findings = []
    for account in accounts:
        mark = _MARK.search(str(account.get("description") or ""))
        if mark is None:
            continue
        state, why = FOREIGN, f"its description names deployment {mark.group(1)}"
        if mark.group(1) == who.name:
            state, why = (LIVE if who.alive else OWNED), "its description names the deployment"
        findings.append(Finding(KIND, SCOPE, str(account.get("email")), state, why, account))
    return findings


def read(session: GoogleSession, who: Deployment) -> tuple[list[Finding], list[Json]]:
    """The findings, and what could not be read (as ``leftovers.Seen.unread``). Raises GoogleApiError."""
    path = f"projects/{segment(session.project)}/serviceAccounts"
    accounts: list[Json] = []
    try:
        for page in session.pages(service_accounts.METHOD + "list", path, params={"pageSize": 100}):
            accounts += page.get("accounts") or []
    except GoogleApiError as error:
        if error.code == "API_DISABLED":
            return [], []  # without the API nobody made one
        if error.code != "PERMISSION_DENIED":
            raise
        return [], [{"kind": KIND, "code": error.code, "why": error.why, "remedy": error.remedy}]
    return classify(who, accounts), []


def delete(session: GoogleSession, findings: Iterable[Finding]) -> Deleted:
    """Delete them, their bindings first. What fails is noted, the rest goes on."""
    result = Deleted()
    for finding in findings:
        report_progress(f"deleting service account {finding.name}")
        try:
            service_accounts.remove(session, finding.name)
            result.done.append(finding.key)
        except LlmdError as error:
            result.failed.append(leftovers.refused(finding.key, error))
    return result
