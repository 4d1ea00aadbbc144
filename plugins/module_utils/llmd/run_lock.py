# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a deployment: a Lease object of its cluster; while the cluster is being made, its labels."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import cluster_labels, ownership
from ansible_collections.llmd.gke.plugins.module_utils.kube import direct

Json = dict[str, Any]
# One request to the cluster: method, path, body; status and answer (0: no connection).
Send = Callable[[str, str, "Json | None"], tuple[int, Json]]

RUN, RUN_BY, RUN_SINCE = "llmd-run", "llmd-run-by", "llmd-run-since"
NOTE = "llmd.gke/holder"
NAMESPACE = "default"  # is there before the deployment's own, and after it
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
TRIES = 5  # each lost to somebody who wrote at the same moment
SECONDS = 10.0
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Holder:
    """Who runs. ``run`` tells runs apart; machine, pid and started tell whether one on this machine still lives."""

    run: str
    user: str = ""
    host: str = ""
    machine: str = ""
    pid: int = 0
    started: str = ""
    play: str = ""
    job: str = ""
    since: str = ""
    until: str = ""

    def words(self) -> str:
        """For a person: who holds it."""
        parts = [f"{self.user or 'somebody'}@{self.host or 'somewhere'}"]
        if self.pid:
            parts.append(f"process {self.pid}")
        if self.play:
            parts.append(f"play {self.play!r}")
        if self.job:
            parts.append(f"job {self.job}")
        return ", ".join(parts)

    def as_result(self) -> Json:
        return {
            "run": self.run, "user": self.user, "host": self.host, "machine": self.machine, "pid": self.pid,
            "started": self.started, "play": self.play, "job": self.job, "since": self.since, "until": self.until,
        }  # fmt: skip

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Holder:
        known = {name: str(options.get(name) or "") for name in ("run", "user", "host", "machine", "started")}
        more = {name: str(options.get(name) or "") for name in ("play", "job")}
        return cls(**known, **more, pid=int(options.get("pid") or 0))


@dataclass(frozen=True)
class Outcome:
    """held: the lock is ours now. holder: whose it is. over: whom it was taken from. trouble: why there is no lock."""

    held: bool
    holder: Holder | None = None
    over: Holder | None = None
    trouble: str = ""
    changed: bool = field(default=False)


def name_of(deployment: str) -> str:
    """Name of the deployment's Lease object."""
    return "llmd-gke-" + (re.sub(r"[^a-z0-9-]+", "-", deployment.lower()).strip("-") or "deployment")[:200]


# --- the Lease object -----------------------------------------------------------------------------------------------


def holder_of(lease: Json) -> Holder:
    """Who holds a Lease, also one that somebody else's tool wrote."""
    spec = lease.get("spec") or {}
    try:
        note = json.loads(((lease.get("metadata") or {}).get("annotations") or {}).get(NOTE) or "{}")
    except ValueError:
        note = {}
    begun = _moment(spec.get("renewTime") or spec.get("acquireTime"))
    until = None if begun is None else begun + datetime.timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0))
    found = Holder.from_options({**(note if isinstance(note, dict) else {}), "run": spec.get("holderIdentity") or ""})
    return Holder(
        **{
            **found.__dict__,
            "since": str(spec.get("acquireTime") or ""),
            "until": "" if until is None else _text(until),
        }
    )


def expired(holder: Holder, now: datetime.datetime) -> bool:
    """Whether its time is over; one that says no time is over at once: nothing would ever end it."""
    until = _moment(holder.until)
    return until is None or until <= now


def manifest(deployment: str, me: Holder, now: datetime.datetime, duration: int, found: Json | None) -> Json:
    """The Lease as ours. ``found``: the one to take over; its version guards against somebody quicker."""
    note = {key: value for key, value in me.as_result().items() if key not in ("since", "until", "run") and value}
    metadata: Json = {
        "name": name_of(deployment),
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/managed-by": ownership.MANAGER, "app.kubernetes.io/instance": deployment},
        "annotations": {NOTE: json.dumps(note, sort_keys=True)},
    }
    acquired = _text(now)
    if found is not None:
        metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        if (found.get("spec") or {}).get("holderIdentity") == me.run:
            acquired = str(found["spec"].get("acquireTime") or acquired)
    spec = {
        "holderIdentity": me.run, "acquireTime": acquired, "renewTime": _text(now), "leaseDurationSeconds": duration,
    }  # fmt: skip
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def take(
    send: Send,
    deployment: str,
    me: Holder,
    now: datetime.datetime,
    *,
    duration: int,
    replace: str = "",
    force: bool = False,
) -> Outcome:
    """Take the lock, renew our own, or say who has it. ``replace``: the run that is known to be dead."""
    path = f"{LEASES}/{name_of(deployment)}"
    for _attempt in range(TRIES):
        status, found = send("GET", path, None)
        if status not in (200, 404):
            return Outcome(False, trouble=_trouble(status, found))
        before = holder_of(found) if status == 200 else None
        mine = before is not None and before.run == me.run
        free = before is None or not before.run or mine or expired(before, now) or before.run == replace or force
        if not free:
            return Outcome(False, holder=before)
        body = manifest(deployment, me, now, duration, found if before is not None else None)
        status, answer = send("POST", LEASES, body) if before is None else send("PUT", path, body)
        if status in (200, 201):
            over = before if before is not None and before.run and not mine else None
            return Outcome(True, holder=holder_of(answer), over=over, changed=True)
        if status not in (404, 409):  # gone, or changed, between our reading and our writing
            return Outcome(False, trouble=_trouble(status, answer))
    return Outcome(False, trouble="others write the lock all the time")


def look(send: Send, deployment: str, now: datetime.datetime) -> Outcome:
    """Who holds the lock now."""
    status, found = send("GET", f"{LEASES}/{name_of(deployment)}", None)
    if status == 404:
        return Outcome(False)
    if status != 200:
        return Outcome(False, trouble=_trouble(status, found))
    holder = holder_of(found)
    return Outcome(False, holder=None if expired(holder, now) else holder)


def free(send: Send, deployment: str, me: Holder) -> Outcome:
    """Give the lock back where it is ours; another's stays."""
    path = f"{LEASES}/{name_of(deployment)}"
    status, found = send("GET", path, None)
    if status != 200:
        return Outcome(False, trouble="" if status == 404 else _trouble(status, found))
    holder = holder_of(found)
    if holder.run != me.run:
        return Outcome(False, holder=holder)
    meta = found["metadata"]
    options = {"preconditions": {"uid": meta.get("uid"), "resourceVersion": meta.get("resourceVersion")}}
    status, answer = send("DELETE", path, options)
    trouble = "" if status in (200, 202, 404, 409) else _trouble(status, answer)
    return Outcome(False, trouble=trouble, changed=not trouble)


def _trouble(status: int, answer: Json) -> str:
    said = str(answer.get("message") or "").strip() or "no reason given"
    return f"the cluster does not answer: {said}" if status == 0 else f"the cluster answered {status}: {said}"


# --- labels of a cluster that is being made -------------------------------------------------------------------------


def creation_labels(me: Holder, now: datetime.datetime) -> dict[str, str]:
    """Labels for the create call: whoever comes while the cluster is being made reads who makes it."""
    by = re.sub(r"[^a-z0-9_-]+", "-", f"{me.user}_{me.host}".lower())[:63]
    return {RUN: me.run[:63], RUN_BY: by, RUN_SINCE: cluster_labels.stamp(now)}


def maker(labels: Mapping[str, str], now: datetime.datetime, duration: int) -> Holder | None:
    """Who makes a cluster; None where nothing says so, or where it is too long ago."""
    begun = cluster_labels.moment_of(labels.get(RUN_SINCE))
    if not labels.get(RUN) or begun is None or begun + datetime.timedelta(seconds=duration) <= now:
        return None
    user, _unused, host = labels.get(RUN_BY, "").partition("_")
    machine, pid, started = parts_of(labels[RUN])
    until = begun + datetime.timedelta(seconds=duration)
    return Holder(labels[RUN], user, host, machine, pid, started, since=_text(begun), until=_text(until))


def run_of(machine: str, pid: int, started: str) -> str:
    """One name a run, short enough for a label."""
    return f"{machine}-{pid}-{started or '0'}"


def parts_of(run: str) -> tuple[str, int, str]:
    """Machine, process and its start in a run's name."""
    found = re.fullmatch(r"([0-9a-f]+)-(\d+)-(\w+)", run)
    return ("", 0, "") if found is None else (found.group(1), int(found.group(2)), found.group(3))


# --- refusing and talking -------------------------------------------------------------------------------------------


def refusal(deployment: str, holder: Holder, now: datetime.datetime) -> LlmdError:
    """The error for the second run: who, since when, until when."""
    begun = _moment(holder.since)
    ago = "" if begun is None else f", {max(0, int((now - begun).total_seconds()))} s ago"
    return LlmdError(
        f"Another run works on deployment {deployment}",
        code="RUN_IN_PROGRESS",
        where=f"Lease {NAMESPACE}/{name_of(deployment)}",
        why=f"held by {holder.words()} since {holder.since or 'an unknown time'}{ago}; it expires at {holder.until}",
        remedy="Wait until it has ended. If it is dead and ran on another machine: -e lock_force=true takes over.",
        evidence=holder.as_result(),
    )


def sender(host: str, ca_cert: str, token: str) -> Send:
    """Requests to the API server: status and answer, status 0 with the reason where there was none."""
    transport = direct.DirectTransport(direct.Access(host.rstrip("/"), token, ca_cert))

    def send(method: str, path: str, body: Json | None) -> tuple[int, Json]:
        try:
            answer = transport.request(method, path, body, _request_timeout=SECONDS)
        except direct.Refused as refused:
            return refused.status, _document(refused.body)
        except Exception as error:
            if not direct.is_transport_error(error):
                raise
            return 0, {"message": str(error)}
        return answer.status, _document(answer.data)

    return send


def _document(data: bytes) -> Json:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {"message": data[:300].decode("utf-8", "replace")}
    return found if isinstance(found, dict) else {}


def _text(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime(_TIME)


def _moment(text: object) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(str(text or "")).astimezone(datetime.UTC)
    except ValueError:
        return None
