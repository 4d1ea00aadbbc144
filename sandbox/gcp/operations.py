"""Long-running operations of the three APIs, each in its own shape.

An operation is DONE when the work behind it has ended *and* the modelled duration (sandbox/timing.py) is over,
whichever is later. Failures appear at DONE, in the shape of the API that the operation belongs to.
"""

from __future__ import annotations

import copy
import datetime
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.gcp.errors import ApiError
from sandbox.gcp.store import compute_time
from sandbox.gcp.world import World
from sandbox.timing import Timing

Json = dict[str, Any]
Work = Callable[[], None]
KEPT = 1000  # finished operations that stay readable


@dataclass
class OperationFailed(Exception):
    """Work that failed. ``code`` is google.rpc.Code (8 exhausted, 13 internal) or compute's error name.

    ``factor`` stretches the modelled duration: a stockout is reported only after GKE gave up waiting.
    """

    message: str
    code: int | str = 13
    http: int = 400
    extra: Json = field(default_factory=dict)
    factor: float = 1.0

    def __str__(self) -> str:
        return self.message


@dataclass
class Operation:
    """One operation; ``body`` is what the API answers. ``key`` names the cluster that it keeps busy."""

    body: Json
    api: str  # compute | container | serviceusage
    event: str
    scope: str = ""
    key: str = ""
    started: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    foresee: Callable[[OperationFailed], None] | None = None  # told of a failure before the operation's time is over
    cancelled: bool = False

    @property
    def name(self) -> str:
        return str(self.body["name"])


def utc(seconds: float) -> str:
    """RFC 3339 in UTC with nanoseconds, as the newer APIs write it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class Operations:
    """Starts, remembers and finishes operations. Thread-safe."""

    def __init__(self, world: World, timing: Timing) -> None:
        self.world, self.timing = world, timing
        self._wake = threading.Condition()
        self._closed = False
        self._all: dict[str, Operation] = {}
        self._requests: dict[str, str] = {}  # compute's requestId -> operation name

    # --- reading -----------------------------------------------------------------------------------------------

    def find(self, api: str, name: str) -> Operation | None:
        with self.world.lock:
            found = self._all.get(name)
            return found if found is not None and found.api == api else None

    def list(self, api: str, *, running: bool = False) -> list[Operation]:
        with self.world.lock:
            return [op for op in self._all.values() if op.api == api and not (running and op.done.is_set())]

    def snapshot(self, operation: Operation) -> Json:
        with self.world.lock:
            return copy.deepcopy(operation.body)

    def repeated(self, request_id: str | None) -> Json | None:
        """The operation that a request with this ``requestId`` already started."""
        found = self._all.get(self._requests.get(request_id or "", ""))
        return None if found is None else self.snapshot(found)

    def busy(self, key: str) -> Operation | None:
        """The running operation of a cluster, if there is one."""
        return next((op for op in self.list("container", running=True) if op.key == key), None)

    # --- starting ----------------------------------------------------------------------------------------------

    def compute(
        self,
        scope: str,
        kind: str,
        target: str,
        *,
        user: str,
        event: str = "compute-operation",
        method: str = "",
        target_id: str | None = None,
        request_id: str | None = None,
        apply: Work | None = None,
    ) -> Json:
        """Start a compute operation in ``scope``; ``apply`` makes the change when its time has come."""
        world = self.world
        stamp = compute_time(world.clock())
        tail = uuid.uuid4().hex
        name = f"operation-{int(world.clock() * 1000)}-{tail[:13]}-{tail[13:21]}-{tail[21:29]}"
        body: Json = {
            "kind": "compute#operation",
            "id": world.new_id(),
            "name": name,
            "operationType": kind,
            "targetLink": target,
            "targetId": target_id or world.new_id(),
            "status": "RUNNING",
            "user": user,
            "progress": 0,
            "insertTime": stamp,
            "startTime": stamp,
            "selfLink": world.compute.link("operations", scope, name),
        }
        place, _, where = scope.partition("/")
        if where:
            body[place.removesuffix("s")] = world.compute.scope_link(scope)
        if request_id:
            body["clientOperationId"] = request_id
            self._requests[request_id] = name
        return self._start(Operation(body, "compute", event, scope), method, apply, None)

    def container(
        self,
        location: str,
        kind: str,
        target: str,
        *,
        event: str,
        key: str,
        method: str,
        work: Work,
        finish: Callable[[OperationFailed | None], None],
        foresee: Callable[[OperationFailed], None] | None = None,
    ) -> Json:
        """Start a GKE operation. ``work`` runs at once, ``finish`` when work and modelled time are both over.

        ``foresee`` is told of a failure as soon as it is certain: conditions show it while the operation still runs.
        """
        name = f"operation-{int(self.world.clock() * 1000)}-{uuid.uuid4()}"
        zonal = location.count("-") == 2
        place = "zones" if zonal else "locations"
        root = f"https://container.googleapis.com/v1/projects/{self.world.number}/{place}/{location}"
        body: Json = {
            "name": name,
            "operationType": kind,
            "status": "RUNNING",
            "startTime": utc(self.world.clock()),
            "selfLink": f"{root}/operations/{name}",
            "targetLink": target,
            "location": location,
        }
        if zonal:
            body["zone"] = location
        return self._start(Operation(body, "container", event, key=key, foresee=foresee), method, work, finish)

    def service_usage(self, kind: str, *, method: str, apply: Work, answer: Callable[[], Json]) -> Json:
        """Start an activation; ``answer`` makes the ``response`` of the finished operation."""
        name = f"operations/acf.p2-{self.world.number}-{uuid.uuid4()}"
        operation = Operation({"name": name}, "serviceusage", "service-enable")

        def finish(failure: OperationFailed | None) -> None:
            if failure is None:
                operation.body["response"] = {"@type": f"type.googleapis.com/{kind}", **answer()}

        return self._start(operation, method, apply, finish)

    def _start(
        self,
        operation: Operation,
        method: str,
        work: Work | None,
        finish: Callable[[OperationFailed | None], None] | None,
    ) -> Json:
        fault = self.world.faults.operation(method) if method else None
        with self.world.lock:
            self._all[operation.name] = operation
            self._forget()
            answer = copy.deepcopy(operation.body)
        thread = threading.Thread(
            target=self._run, args=(operation, fault, work, finish), name=f"{operation.api}-operation", daemon=True
        )
        thread.start()
        return answer

    def _forget(self) -> None:
        done = [name for name, operation in self._all.items() if operation.done.is_set()]
        for name in done[: max(0, len(self._all) - KEPT)]:
            del self._all[name]

    # --- running -----------------------------------------------------------------------------------------------

    def _run(
        self,
        operation: Operation,
        fault: Json | None,
        work: Work | None,
        finish: Callable[[OperationFailed | None], None] | None,
    ) -> None:
        failure = None if fault is None else _planted(fault)
        # A compute change becomes visible at the end of its operation, cluster work begins with it.
        late = operation.api != "container"
        if failure is None and work is not None and not late:
            failure = attempt(work)
        if failure is not None and operation.foresee is not None:
            with self.world.mutate():
                operation.foresee(failure)
        self._sleep(operation, 1.0 if failure is None else failure.factor)
        if operation.cancelled:
            failure = OperationFailed("Operation was cancelled.", 1, extra=failure.extra if failure else {})
        if failure is None and work is not None and late:
            failure = attempt(work)
        with self.world.mutate():
            if finish is not None:
                failure = attempt(lambda: finish(failure)) or failure
            self._end(operation, failure)
        operation.done.set()

    def _sleep(self, operation: Operation, factor: float) -> None:
        """Sit out what is left of the modelled duration; a change of the speed is felt at once."""
        with self._wake:
            while not self._closed and not operation.cancelled:
                over = operation.started + self.timing.seconds(operation.event) * factor
                left = over - time.monotonic()
                if left <= 0:
                    return
                self._wake.wait(left)

    def _end(self, operation: Operation, failure: OperationFailed | None) -> None:
        body = operation.body
        if operation.api == "serviceusage":
            body["done"] = True
            if failure is not None:
                body["error"] = {"code": _rpc_code(failure), "message": failure.message}
            return
        body["status"] = "DONE"
        if operation.api == "compute":
            body["endTime"] = compute_time(self.world.clock())
            body["progress"] = 100
            if failure is not None:
                code = failure.code if isinstance(failure.code, str) else "INTERNAL_ERROR"
                body["error"] = {"errors": [{"code": code, "message": failure.message, **failure.extra}]}
                body["httpErrorStatusCode"] = failure.http
                body["httpErrorMessage"] = _HTTP_TEXT.get(failure.http, "BAD REQUEST")
            return
        body["endTime"] = utc(self.world.clock())
        if failure is not None:
            body["error"] = {"code": _rpc_code(failure), "message": failure.message}
            body["statusMessage"] = failure.message

    def cancel(self, operation: Operation) -> None:
        """Let it end soon, as failed; what is done already stays done."""
        with self.world.mutate():
            operation.cancelled = True
            operation.body["status"] = "ABORTING"
        self.wake()

    # --- control -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """The speed changed: look at the clock again."""
        with self._wake:
            self._wake.notify_all()

    def close(self) -> None:
        """Let every waiting operation end at once (the sandbox goes down)."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()


_HTTP_TEXT = {400: "BAD REQUEST", 403: "FORBIDDEN", 404: "NOT FOUND", 409: "CONFLICT", 503: "SERVICE UNAVAILABLE"}


_NAMES = {
    "alreadyExists": "RESOURCE_ALREADY_EXISTS",
    "notFound": "RESOURCE_NOT_FOUND",
    "resourceInUseByAnotherResource": "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
}


def _rpc_code(failure: OperationFailed) -> int:
    return failure.code if isinstance(failure.code, int) else 13


def attempt(work: Callable[[], Any]) -> OperationFailed | None:
    """Run ``work``; its failure, whatever kind, as one that an operation can carry."""
    try:
        work()
    except OperationFailed as failure:
        return failure
    except ApiError as error:
        return OperationFailed(error.message, _NAMES.get(error.reason or "", "INVALID_USAGE"), error.code)
    except Exception as error:  # the operation, not the thread, has to tell the caller
        return OperationFailed(f"Internal error: {type(error).__name__}: {error}")
    return None


def _planted(fault: Json) -> OperationFailed:
    return OperationFailed(
        str(fault.get("message", "Internal error.")),
        fault.get("code", 13),
        int(fault.get("http", 400)),
        dict(fault.get("extra", {})),
    )
