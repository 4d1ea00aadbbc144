# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error tree. Every failure says what, where, why and what now, under a stable code.

Libraries raise; a module's ``main`` catches ``LlmdError`` once and calls ``fail``. Codes are part of the interface:
``docs/errors/`` lists them, tests compare the two.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol


class FailsJson(Protocol):
    """The part of AnsibleModule that reports a failure."""

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn: ...


class LlmdError(Exception):
    """A failure that a person can act on.

    what: what happened, one sentence. where: resource or URL. why: the evidence in words (condition, event, log line,
    API reason). remedy: a command or a variable to change. evidence: raw material (JSON-able), kept for diagnosis.
    code: UPPER_SNAKE, stable; ``UNKNOWN`` where the cause was not recognised and only the evidence speaks.
    """

    def __init__(
        self,
        what: str,
        *,
        code: str = "UNKNOWN",
        where: str = "",
        why: str = "",
        remedy: str = "",
        evidence: Any = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.where = where
        self.why = why
        self.remedy = remedy
        self.evidence = evidence

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.what}"]
        if self.where:
            parts.append(f"Where: {self.where}")
        if self.why:
            parts.append(f"Why: {self.why}")
        if self.remedy:
            parts.append(f"What now: {self.remedy}")
        return "\n".join(parts)

    def as_result(self) -> dict[str, Any]:
        """The ``error`` dictionary that every failing module returns."""
        return {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "remedy": self.remedy,
            "evidence": self.evidence,
        }


class ConfigurationError(LlmdError):
    """The caller's input cannot work; nothing was sent."""


class GoogleApiError(LlmdError):
    """A Google API refused a request. ``status`` is the HTTP status, ``reason`` Google's machine-readable reason."""

    def __init__(self, what: str, *, status: int = 0, reason: str = "", **kwargs: Any) -> None:
        super().__init__(what, **kwargs)
        self.status = status
        self.reason = reason


class OperationError(LlmdError):
    """A long-running operation ended in failure, or its resource did."""


class KubernetesError(LlmdError):
    """The Kubernetes API refused, or an object is in a state that will not heal by itself."""


class HelmError(LlmdError):
    """helm or helmfile ended with an error."""


class InferenceError(LlmdError):
    """The endpoint answers wrongly or not at all."""


class WaitTimeout(LlmdError):
    """A condition did not come true in time; ``evidence`` holds what was last seen."""


def fail(module: FailsJson, error: LlmdError, **result: Any) -> NoReturn:
    """End a module with an error of the tree: readable text in ``msg``, the parts in ``error``."""
    module.fail_json(msg=str(error), error=error.as_result(), **result)
