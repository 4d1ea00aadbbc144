# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long-running operations of the three kinds, waited for in one place.

compute: server-side wait (regionOperations.wait and its like), errors in error.errors[]. container: polled; errors in
error / statusMessage, and the cluster's or pool's own conditions. serviceusage: polled, done/error/response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError, OperationError, WaitTimeout
from ansible_collections.llmd.gke.plugins.module_utils.gcp.errors import operation_error
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, Verdict, wait_until

SERVER_WAIT_SECONDS = 130.0  # compute's operations.wait answers after 2 minutes at the latest
LONGEST_POLL = 5.0
# Conditions under which a pool or cluster will not heal while we wait.
HOPELESS = ("GCE_STOCKOUT", "GCE_QUOTA_EXCEEDED", "GKE_SERVICE_ACCOUNT_DELETED")


class GrowingClock:
    """A clock whose sleeps start short and grow to the asked length: quick operations end quickly, long ones are
    polled gently."""

    def __init__(self, clock: Clock, *, first: float = 0.25, factor: float = 1.3) -> None:
        self._clock = clock
        self._next = first
        self._factor = factor

    def now(self) -> float:
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(min(seconds, self._next))
        self._next *= self._factor


@dataclass(frozen=True)
class Finished:
    """An operation that ended well. ``seconds`` as we saw it."""

    name: str
    type: str
    seconds: float
    document: Json

    def as_result(self) -> Json:
        return {"name": self.name, "type": self.type, "seconds": round(self.seconds, 1)}


def kind_of(operation: Json) -> str:
    """``compute``, ``serviceusage`` or ``container``."""
    if str(operation.get("kind", "")).startswith("compute#"):
        return "compute"
    return "serviceusage" if str(operation.get("name", "")).startswith("operations/") else "container"


def _compute_poll(session: GoogleSession, operation: Json) -> Json:
    base, scope = f"projects/{segment(session.project)}", "global"
    owner = str(operation.get("selfLink") or "")
    if "/projects/" in owner:  # the operation of a shared VPC lives in its host project
        base = f"projects/{segment(owner.split('/projects/', 1)[1].split('/', 1)[0])}"
    method = "compute.globalOperations.wait"
    for key, plural in (("region", "regions"), ("zone", "zones")):
        if operation.get(key):
            scope = f"{plural}/{segment(str(operation[key]).rsplit('/', 1)[-1])}"
            method = f"compute.{key}Operations.wait"
    path = f"{base}/{scope}/operations/{segment(str(operation['name']))}/wait"
    return session.call(method, "POST", path, timeout=SERVER_WAIT_SECONDS)


def container_path(session: GoogleSession, operation: Json, location: str) -> str:
    where = location or str(operation.get("location") or operation.get("zone") or "")
    return (
        f"projects/{segment(session.project)}/locations/{segment(where)}/operations/{segment(str(operation['name']))}"
    )


def _container_poll(session: GoogleSession, operation: Json, location: str) -> Json:
    return session.call(
        "container.projects.locations.operations.get", "GET", container_path(session, operation, location)
    )


def poll(session: GoogleSession, operation: Json, *, location: str = "") -> Json:
    """The operation's present state (for compute: after the server's own wait)."""
    kind = kind_of(operation)
    if kind == "compute":
        return _compute_poll(session, operation)
    if kind == "serviceusage":
        return session.call("serviceusage.operations.get", "GET", str(operation["name"]))
    return _container_poll(session, operation, location)


def is_done(operation: Json) -> bool:
    return bool(operation.get("done")) or operation.get("status") == "DONE"


def trouble(operation: Json) -> tuple[str, tuple[str, ...]] | None:
    """(message, reasons) of what the operation says went wrong; None where it says nothing."""
    conditions = [*(operation.get("nodepoolConditions") or []), *(operation.get("clusterConditions") or [])]
    codes = tuple(str(condition.get("code", "")) for condition in conditions if condition.get("code") in HOPELESS)
    error = operation.get("error") or {}
    entries = error.get("errors")
    if isinstance(entries, list) and entries:  # compute
        messages = "; ".join(str(entry.get("message", "")) for entry in entries)
        return messages, tuple(str(entry.get("code", "")) for entry in entries)
    message = str(error.get("message") or "")
    if kind_of(operation) == "container" and is_done(operation):
        message = message or str(operation.get("statusMessage") or "")
    if not message and codes:
        message = "; ".join(str(condition.get("message", "")) for condition in conditions)
    return (message, codes) if message or error or codes else None


def _raise_trouble(session: GoogleSession, operation: Json, what: str) -> None:
    found = trouble(operation)
    if found is None:
        return
    message, reasons = found
    raise operation_error(
        message,
        reasons=reasons,
        what=f"{what} failed",
        where=str(operation.get("targetLink") or operation.get("name") or ""),
        project=session.project,
        evidence=operation,
    )


def wait(
    session: GoogleSession,
    operation: Json,
    *,
    what: str,
    timeout: float,
    location: str = "",
    watch: Callable[[], Any] | None = None,
) -> Finished:
    """Wait until ``operation`` is done. ``what`` in words ("creation of cluster llm-d"); ``timeout`` in seconds, cut by
    the session's deadline.

    ``watch`` is called at each look and may raise to give up early (a pool that is out of stock). Raises
    OperationError when the operation failed, WaitTimeout OPERATION_TIMEOUT when it took too long: it goes on by
    itself then and the next run finds it, unless the session cancels what it gives up on.
    """
    clock = session.clock
    timeout = min(timeout, session.remaining(timeout))
    started = clock.now()

    def observe() -> Json:
        seen = operation if is_done(operation) else poll(session, operation, location=location)
        if watch is not None and not is_done(seen):
            try:
                watch()
            except OperationError as error:
                error.why = f"{error.why} {_give_up(session, seen, location)}".strip()
                raise
        return seen

    def judge(seen: Json) -> Verdict:
        _raise_trouble(session, seen, what)
        return Verdict(is_done(seen), _detail(seen))

    def expired(seen: Json) -> WaitTimeout:
        return WaitTimeout(
            f"{what} did not end within {timeout:.0f} s",
            code="OPERATION_TIMEOUT",
            where=str(seen.get("targetLink") or seen.get("name")),
            why=f"{_detail(seen)}. {_give_up(session, seen, location)}",
            remedy="Run again: an operation that is still under way is found and waited for. Or raise the timeout.",
            evidence=seen,
        )

    last = wait_until(
        observe,
        judge,
        what=what,
        timeout=timeout,
        interval=LONGEST_POLL,
        clock=GrowingClock(clock),
        explain=expired,
    )
    kind = str(last.get("operationType") or operation.get("operationType") or "")
    return Finished(str(last.get("name", "")), kind, clock.now() - started, last)


def _give_up(session: GoogleSession, operation: Json, location: str) -> str:
    """Cancel an operation that nobody waits for any more, if the session is told to; what came of it, in words."""
    if not session.cancel_late or kind_of(operation) != "container":
        return "The operation goes on by itself."
    try:
        cancel(session, operation, location=location)
    except GoogleApiError as error:
        return f"The operation goes on by itself; GKE would not cancel it: {error.why or error.what}"
    return "The operation was cancelled."


def cancel(session: GoogleSession, operation: Json, *, location: str = "") -> None:
    """Ask GKE to cancel an operation. Raises GoogleApiError where it cannot be cancelled (creation of a cluster)."""
    path = container_path(session, operation, location)
    session.call("container.projects.locations.operations.cancel", "POST", f"{path}:cancel", body={})


def compute_under_way(session: GoogleSession, project: str, scope: str, target: str) -> Json | None:
    """The compute operation that still works on ``target`` (its path after ``projects/P/``), a killed run's perhaps.

    ``scope`` is ``regions/R``, ``zones/Z`` or ``global``.
    """
    place = scope.split("/", 1)[0].removesuffix("s")
    method = f"compute.{'global' if place == 'global' else place}Operations.list"
    path = f"projects/{segment(project)}/{scope}/operations"
    try:
        for page in session.pages(method, path, params={"filter": 'status != "DONE"'}):
            for operation in page.get("items") or []:
                if str(operation.get("targetLink", "")).endswith(f"/{target}"):
                    return dict(operation)
    except GoogleApiError as error:
        if error.code != "PERMISSION_DENIED":  # who may make things need not be allowed to list operations
            raise
    return None


def _detail(operation: Json) -> str:
    state = "DONE" if is_done(operation) else str(operation.get("status") or "RUNNING")
    stages = (operation.get("progress") or {}).get("stages") if isinstance(operation.get("progress"), dict) else None
    current = next((str(s.get("name")) for s in stages or [] if s.get("status") == "RUNNING"), "")
    detail = str(operation.get("detail") or current)
    return f"{state} {detail}".strip()


def explain_conditions(session: GoogleSession, resource: Json, *, what: str, where: str) -> OperationError:
    """The error for a cluster or pool whose own status is bad (ERROR, DEGRADED), from statusMessage and conditions."""
    conditions = resource.get("conditions") or []
    messages = [str(c.get("message", "")) for c in conditions] or [str(resource.get("statusMessage") or "")]
    return operation_error(
        "; ".join(message for message in messages if message),
        reasons=tuple(str(c.get("code") or c.get("canonicalCode") or "") for c in conditions),
        what=what,
        where=where,
        project=session.project,
        evidence={k: resource.get(k) for k in ("name", "status", "statusMessage", "conditions")},
    )
