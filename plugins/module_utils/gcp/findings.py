# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preflight finds: one shape for every check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError

OK, WARNING, ERROR, UNKNOWN, SKIPPED = "ok", "warning", "error", "unknown", "skipped"
STATUS = {OK: "OK", WARNING: "WARN", UNKNOWN: "WARN", ERROR: "FAIL", SKIPPED: "SKIP"}


@dataclass(frozen=True)
class Check:
    """One finding. ``severity``: ok; warning (go on, but know it); unknown (not to be told yet); error (will fail);
    skipped (an error that the caller chose to live with). ``evidence``: what it rests on, JSON-able.
    """

    name: str
    severity: str
    detail: str
    code: str = ""
    remedy: str = ""
    evidence: Any = None

    @property
    def ok(self) -> bool:
        return self.severity != ERROR

    @property
    def status(self) -> str:
        """OK, WARN, FAIL or SKIP."""
        return STATUS[self.severity]

    def as_result(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            "severity": self.severity,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "remedy": self.remedy,
            "evidence": self.evidence,
        }


def failed(name: str, error: LlmdError) -> Check:
    """A check that ended in an error of the tree."""
    detail = error.what + (f": {error.why}" if error.why else "")
    return Check(name, ERROR, detail, error.code, error.remedy, error.evidence)


def guarded(name: str, body: Callable[[], Iterable[Check]], *, waits_for: str = "") -> list[Check]:
    """Run one check; errors become findings. ``waits_for`` names an API that the playbook enables later: while it is
    disabled the check is unknown, not failed.
    """
    try:
        return list(body())
    except LlmdError as error:
        if error.code == "API_DISABLED" and waits_for:
            return [
                Check(name, UNKNOWN, f"unknown until {waits_for} is enabled (the playbook enables it)", "API_DISABLED")
            ]
        return [failed(name, error)]


def skip(checks: Iterable[Check], codes: Collection[str]) -> list[Check]:
    """The findings, with errors and warnings of these codes as skipped: shown, but no reason to stop."""
    return [
        dataclasses.replace(check, severity=SKIPPED)
        if check.code in codes and check.severity in (ERROR, WARNING)
        else check
        for check in checks
    ]


def table(checks: Iterable[Check]) -> str:
    """The failed checks, one a paragraph, for a module's message."""
    lines = []
    for check in checks:
        lines.append(
            f"- {check.name}: {check.code}: {check.detail}" + (f"\n  What now: {check.remedy}" if check.remedy else "")
        )
    return "\n".join(lines)


def _one_line(text: str, longest: int = 300) -> str:
    return " ".join(text.split())[:longest]


def overview(checks: Collection[Check]) -> str:
    """All findings as a table: status, check, code, what was found; then the remedies of what is not well."""
    wide = max((len(check.name) for check in checks), default=0)
    code = max((len(check.code) for check in checks), default=0)
    lines = [
        f"{check.status:<4}  {check.name:<{wide}}  {check.code:<{code}}  {_one_line(check.detail)}".rstrip()
        for check in checks
    ]
    remedies = [f"{check.code}: {check.remedy}" for check in checks if check.severity != OK and check.remedy]
    return "\n".join([*lines, *(["What now:", *dict.fromkeys(remedies)] if remedies else [])])
