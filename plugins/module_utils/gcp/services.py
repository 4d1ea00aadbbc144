# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""APIs of a project: read in batches, enabled in batches, and proven usable where that can be asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import GoogleApiError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import operations
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Verdict, wait_until

BATCH = 20  # serviceusage takes at most 20 names in a batchEnable
# A harmless read of each API that we use, to see that enabling has reached Google's servers.
PROBES: dict[str, tuple[str, str]] = {
    "compute.googleapis.com": ("compute.projects.get", "projects/{project}"),
    "container.googleapis.com": (
        "container.projects.locations.clusters.list",
        "projects/{project}/locations/-/clusters",
    ),
}


@dataclass
class Outcome:
    changed: bool
    before: dict[str, str]
    after: dict[str, str]
    operations: list[Json] = field(default_factory=list)


def full_name(service: str) -> str:
    """``compute`` -> ``compute.googleapis.com``."""
    return service if "." in service else f"{service}.googleapis.com"


def states(session: GoogleSession, services: Iterable[str]) -> dict[str, str]:
    """ENABLED or DISABLED of each service. Raises GoogleApiError (SERVICE_UNKNOWN, PROJECT_NOT_FOUND, ...)."""
    names = sorted({full_name(service) for service in services})
    found: dict[str, str] = {}
    project = f"projects/{segment(session.project)}"
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        answer = session.call(
            "serviceusage.services.batchGet",
            "GET",
            f"{project}/services:batchGet",
            params={"names": [f"{project}/services/{name}" for name in batch]},
        )
        for service in answer.get("services") or []:
            found[str(service.get("name", "")).rsplit("/", 1)[-1]] = str(service.get("state", "DISABLED"))
    return {name: found.get(name, "DISABLED") for name in names}


def ensure(
    session: GoogleSession, services: Sequence[str], *, enabled: bool, timeout: float, check_mode: bool
) -> Outcome:
    """Enable (or disable) the services that are not so yet; waits until the APIs we use really answer."""
    before = states(session, services)
    wanted = "ENABLED" if enabled else "DISABLED"
    todo = [name for name, state in before.items() if state != wanted]
    after = {**before, **dict.fromkeys(todo, wanted)}
    if not todo or check_mode:
        return Outcome(bool(todo), before, after)
    done = _enable(session, todo, timeout) if enabled else _disable(session, todo, timeout)
    if enabled:
        for name in todo:
            _prove(session, name, timeout)
    return Outcome(True, before, after, [finished.as_result() for finished in done])


def _enable(session: GoogleSession, names: list[str], timeout: float) -> list[operations.Finished]:
    project = f"projects/{segment(session.project)}"
    done = []
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        if len(batch) == 1:
            path = f"{project}/services/{segment(batch[0])}:enable"
            operation = session.call("serviceusage.services.enable", "POST", path, body={})
        else:
            path = f"{project}/services:batchEnable"
            operation = session.call("serviceusage.services.batchEnable", "POST", path, body={"serviceIds": batch})
        done.append(operations.wait(session, operation, what=f"Enabling {', '.join(batch)}", timeout=timeout))
    return done


def _disable(session: GoogleSession, names: list[str], timeout: float) -> list[operations.Finished]:
    """Those that others need wait until the others are gone; what is needed by something else is an error."""
    done = []
    waiting = list(names)
    while waiting:
        postponed: list[str] = []
        for name in waiting:
            try:
                done.append(_disable_one(session, name, timeout))
            except GoogleApiError as error:
                if error.code != "SERVICE_NEEDED" or len(postponed) + 1 == len(waiting):
                    raise
                postponed.append(name)
        waiting = postponed
    return done


def _disable_one(session: GoogleSession, name: str, timeout: float) -> operations.Finished:
    # Never take other services along: that is for a person to decide.
    body = {"disableDependentServices": False}
    path = f"projects/{segment(session.project)}/services/{segment(name)}:disable"
    operation = session.call("serviceusage.services.disable", "POST", path, body=body)
    return operations.wait(session, operation, what=f"Disabling {name}", timeout=timeout)


def _prove(session: GoogleSession, service: str, timeout: float) -> None:
    """Ask the API itself until it stops saying that it is disabled; other refusals prove that it is reached."""
    if service not in PROBES:
        return
    method, path = PROBES[service]

    def observe() -> str:
        try:
            session.call(method, "GET", path.format(project=segment(session.project)))
        except GoogleApiError as error:
            return error.code
        return ""

    wait_until(
        observe,
        lambda code: Verdict(code != "API_DISABLED", "still says that it is disabled"),
        what=f"API {service} usable",
        timeout=timeout,
        interval=5.0,
        clock=session.clock,
    )
