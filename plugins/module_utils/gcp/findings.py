# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preflight finds: one shape for every check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError

OK, WARNING, ERROR, UNKNOWN = "ok", "warning", "error", "unknown"


@dataclass(frozen=True)
class Check:
    """One finding. ``severity``: ok; warning (go on, but know it); unknown (not to be told yet); error (will fail)."""

    name: str
    severity: str
    detail: str
    code: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return self.severity != ERROR

    def as_result(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            "severity": self.severity,
            "detail": self.detail,
            "code": self.code,
            "remedy": self.remedy,
        }


def failed(name: str, error: LlmdError) -> Check:
    """A check that ended in an error of the tree."""
    detail = error.what + (f": {error.why}" if error.why else "")
    return Check(name, ERROR, detail, error.code, error.remedy)


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


def table(checks: Iterable[Check]) -> str:
    """The failed checks, one a paragraph, for a module's message."""
    lines = []
    for check in checks:
        lines.append(
            f"- {check.name}: {check.code}: {check.detail}" + (f"\n  What now: {check.remedy}" if check.remedy else "")
        )
    return "\n".join(lines)
