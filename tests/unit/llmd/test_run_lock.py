"""One run at a time: who may take the lock, who is refused, what is stale."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.action import run_lock as action
from ansible_collections.llmd.gke.plugins.module_utils.llmd import run_lock
from ansible_collections.llmd.gke.plugins.module_utils.llmd.run_lock import Holder

NOW = datetime.datetime(2026, 11, 27, 19, 0, tzinfo=datetime.UTC)
ME = Holder("aaaaaaaaaaaa-10-111", "me", "laptop", "aaaaaaaaaaaa", 10, "111", "Pause a deployment")
YOU = Holder("bbbbbbbbbbbb-20-222", "you", "desk", "bbbbbbbbbbbb", 20, "222", "Deploy llm-d pattern 1")


class Cluster:
    """The lease API of one cluster; ``refuse``: status of every request of a verb."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.refuse: dict[str, int] = {}
        self.before_write: list[Any] = []

    def __call__(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        assert path.startswith("/apis/coordination.k8s.io/v1/namespaces/default/leases")
        if method in self.refuse:
            return self.refuse[method], {"message": "no"}
        if method in ("POST", "PUT") and self.before_write:
            self.before_write.pop()()
        if method == "POST":
            if self.lease is not None:
                return 409, {"message": "exists"}
            return 201, self._keep(body)
        if self.lease is None:
            return 404, {}
        if method == "PUT":
            assert body is not None
            if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
                return 409, {"message": "conflict"}
            return 200, self._keep(body)
        if method == "DELETE":
            assert body is not None
            assert body["preconditions"]["resourceVersion"] == self.lease["metadata"]["resourceVersion"]
            self.lease = None
            return 200, {}
        return 200, self.lease

    def _keep(self, body: dict[str, Any] | None) -> dict[str, Any]:
        self.version += 1
        found: dict[str, Any] = json.loads(json.dumps(body))
        found["metadata"].update(resourceVersion=str(self.version), uid="u")
        self.lease = found
        return found


def take(cluster: Cluster, who: Holder, *, at: float = 0, **options: Any) -> run_lock.Outcome:
    return run_lock.take(cluster, "pattern1", who, NOW + datetime.timedelta(seconds=at), duration=7200, **options)


def test_taken_renewed_refused_and_given_back() -> None:
    cluster = Cluster()
    assert take(cluster, ME).held
    again = take(cluster, ME, at=60)
    assert again.held
    assert again.over is None
    refused = take(cluster, YOU, at=90)
    assert not refused.held
    assert refused.holder is not None
    assert (refused.holder.run, refused.holder.user, refused.holder.pid) == (ME.run, "me", 10)
    assert refused.holder.since.startswith("2026-11-27T19:00:00")  # of the taking, not of the renewal
    assert run_lock.free(cluster, "pattern1", YOU).changed is False
    assert cluster.lease is not None
    assert run_lock.free(cluster, "pattern1", ME).changed is True
    assert cluster.lease is None
    assert run_lock.free(cluster, "pattern1", ME).trouble == ""
    assert take(cluster, YOU, at=100).held


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({"at": 7199}, False),
        ({"at": 7201}, True),
        ({"replace": ME.run}, True),
        ({"replace": "x"}, False),
        ({"force": True}, True),
    ],
)
def test_a_stale_lock_is_taken_over_and_a_living_one_is_not(options: dict[str, Any], held: bool) -> None:
    cluster = Cluster()
    take(cluster, ME)
    outcome = take(cluster, YOU, **options)
    assert outcome.held is held
    assert (outcome.over is not None and outcome.over.run == ME.run) is held


def test_of_two_at_the_same_moment_one_has_it() -> None:
    cluster = Cluster()
    cluster.before_write = [lambda: take(cluster, YOU)]
    assert not take(cluster, ME).held
    cluster = Cluster()
    take(cluster, Holder("c-1-1"), at=-8000)
    cluster.before_write = [lambda: take(cluster, YOU)]
    assert not take(cluster, ME).held


@pytest.mark.parametrize(("verb", "status"), [("GET", 403), ("GET", 0), ("POST", 403), ("GET", 503)])
def test_a_cluster_that_does_not_let_us_is_no_refusal(verb: str, status: int) -> None:
    cluster = Cluster()
    cluster.refuse[verb] = status
    outcome = take(cluster, ME)
    assert (outcome.held, outcome.holder) == (False, None)
    assert outcome.trouble


def test_a_lease_of_another_tool_without_times_is_stale() -> None:
    cluster = Cluster()
    cluster._keep({"metadata": {"name": "llmd-gke-pattern1"}, "spec": {"holderIdentity": "whoever"}})
    assert take(cluster, ME).held


def test_the_refusal_says_who_since_when_and_what_now() -> None:
    cluster = Cluster()
    take(cluster, YOU)
    holder = take(cluster, ME, at=125).holder
    assert holder is not None
    error = run_lock.refusal("pattern1", holder, NOW + datetime.timedelta(seconds=125))
    assert error.code == "RUN_IN_PROGRESS"
    for part in ("you@desk", "process 20", "Deploy llm-d pattern 1", "125 s ago", "2026-11-27T21:00:00"):
        assert part in error.why
    assert "lock_force" in error.remedy
    assert error.evidence["machine"] == "bbbbbbbbbbbb"


def test_labels_name_the_maker_until_they_are_old() -> None:
    labels = run_lock.creation_labels(ME, NOW)
    assert all(len(value) <= 63 and value == value.lower() for value in labels.values())
    maker = run_lock.maker(labels, NOW + datetime.timedelta(seconds=30), 7200)
    assert maker is not None
    assert (maker.run, maker.user, maker.host, maker.machine, maker.pid, maker.started) == (
        ME.run, "me", "laptop", "aaaaaaaaaaaa", 10, "111",
    )  # fmt: skip
    assert run_lock.maker(labels, NOW + datetime.timedelta(seconds=7300), 7200) is None
    assert run_lock.maker({}, NOW, 7200) is None


def test_the_name_is_one_that_kubernetes_takes() -> None:
    assert run_lock.name_of("My_Deployment.1") == "llmd-gke-my-deployment-1"


# --- who is alive -----------------------------------------------------------------------------------------------------


def of(pid: int, started: str) -> dict[str, Any]:
    return {"machine": action.machine(), "pid": pid, "started": started}


def test_a_process_of_this_machine_is_known_to_live_or_not() -> None:
    me = os.getpid()
    assert action.alive(of(me, action.started(me)))
    assert not action.alive(of(me, "1"))  # the number was given to another process since
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    begun = action.started(child.pid)
    assert action.alive(of(child.pid, begun))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
    assert not action.alive(of(child.pid, begun))
    child.communicate()
    assert not action.alive(of(child.pid, begun))


def test_nobody_elsewhere_is_known_to_be_dead() -> None:
    assert action.alive({"machine": "elsewhere", "pid": 1, "started": "0"})
