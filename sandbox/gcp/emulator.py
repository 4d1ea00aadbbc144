"""The Google APIs behind one door: authentication, validation, authorisation, faults, handlers, own-answer check."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sandbox import paths
from sandbox.gcp import (
    api,
    balancing,
    catalog,
    clusters,
    compute,
    compute_catalog,
    container,
    credentials,
    customroles,
    dashboards,
    listing,
    nodepools,
    oauth,
    resourcemanager,
    schema,
    secrets,
    serviceusage,
    subnetworks,
)
from sandbox.gcp.api import HANDLERS, Call, Handler
from sandbox.gcp.backend import ClusterBackend
from sandbox.gcp.discovery import Method, Router, canonical
from sandbox.gcp.errors import (
    ApiError,
    OAuthError,
    bad_request,
    caller_without_permission,
    service_disabled,
    service_forbidden,
    unauthenticated,
    unknown_consumer,
)
from sandbox.gcp.faults import error_of
from sandbox.gcp.identity import Identity
from sandbox.gcp.nodes import STOCKOUT_SECONDS, NodeFleet
from sandbox.gcp.operations import OperationFailed, Operations
from sandbox.gcp.world import World
from sandbox.timing import REAL_SECONDS, Timing

Json = dict[str, Any]
T = TypeVar("T")
log = logging.getLogger(__name__)

# Importing these modules registers their handlers.
API_MODULES = (
    balancing,
    compute,
    compute_catalog,
    clusters,
    container,
    customroles,
    dashboards,
    nodepools,
    oauth,
    resourcemanager,
    secrets,
    serviceusage,
    subnetworks,
)


class Disturbed(Exception):
    """A planted fault takes the place of the answer (``faults.ANSWERS``)."""

    def __init__(self, spec: Json) -> None:
        super().__init__(str(spec.get("answer")))
        self.spec = spec


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. ``text`` replaces the JSON body where it is set. ``method`` is the id, for the log."""

    status: int
    body: Json = field(default_factory=dict)
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    content_type: str = "application/json; charset=UTF-8"
    wire: str = ""  # "reset": no answer at all; "cut": half of it


class Emulator:
    """Answers requests for every emulated host. Thread-safe.

    ``base_url`` is where the front end is reached, for the token endpoint written into key files.
    """

    def __init__(
        self,
        world: World,
        backend: ClusterBackend,
        timing: Timing,
        *,
        base_url: str = f"http://{paths.API_ADDRESS}",
        router: Router | None = None,
    ) -> None:
        self.world, self.backend, self.timing, self.base_url = world, backend, timing, base_url
        self.router = router or Router()
        self.operations = Operations(world, timing)
        self.fleet = NodeFleet(world, backend, lambda event: STOCKOUT_SECONDS / REAL_SECONDS[event])
        self.violations: list[str] = []  # answers of ours that broke their schema
        self.requests = 0
        self.started = time.time()
        self._starting = threading.Lock()

    # --- requests ----------------------------------------------------------------------------------------------

    def handle(
        self, host: str, verb: str, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str], raw: bytes
    ) -> Answer:
        """Answer one request. ``headers`` must look names up without regard to case (as http.client's do)."""
        self.requests += 1
        host, path = canonical(host, path)
        try:
            if (special := self._special(host, verb, path, query, headers, raw)) is not None:
                return special
            found = self.router.find(host, verb, path)
        except OAuthError as error:
            return Answer(error.code, error.body(), "oauth")
        except ApiError as error:
            return Answer(error.code, error.body(), "", error.headers)
        except Disturbed as trouble:
            return disturbed(trouble.spec, {}, "oauth")
        if found is None:
            message = f"The requested URL {path} was not found on this server."
            return Answer(404, {"error": {"code": 404, "message": message, "status": "NOT_FOUND"}})
        method, params = found
        body: Json = {}
        try:
            body = self._serve(host, method, params, query, headers, raw)
        except ApiError as error:
            return Answer(error.code, error.body(), method.id, error.headers)
        except Disturbed as trouble:
            return disturbed(trouble.spec, body, method.id)
        except Exception:
            log.exception("%s failed", method.id)
            return Answer(
                500, ApiError(500, "Internal error encountered.", "INTERNAL", "backendError").body(), method.id
            )
        return Answer(200, body, method.id)

    def _special(
        self, host: str, verb: str, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str], raw: bytes
    ) -> Answer | None:
        """Token endpoints, user information and the metadata server."""
        endpoint = oauth.TOKEN_ENDPOINTS.get((host, path))
        if endpoint is not None:
            self._disturb(self.world.faults.call(f"oauth.{endpoint.__name__}"))
            return Answer(200, endpoint(self.world, oauth.parameters(raw, query)), f"oauth.{endpoint.__name__}")
        if (host, path) in oauth.USERINFO:
            text = self._bearer(headers)
            self.authenticate(headers)
            found = self.world.accounts.token(text)
            assert found is not None
            return Answer(200, oauth.userinfo(self.world, found), "oauth.userinfo")
        if host in oauth.METADATA_HOSTS:
            flavor = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
            content = oauth.metadata(self.world, path, query, headers.get("Metadata-Flavor"))
            if content is None:
                return Answer(404, {}, "metadata", flavor, "Not Found\n", "text/plain")
            return Answer(200, {}, "metadata", flavor, *content)
        return None

    def _serve(
        self,
        host: str,
        method: Method,
        params: dict[str, str],
        query: Mapping[str, list[str]],
        headers: Mapping[str, str],
        raw: bytes,
    ) -> Json:
        identity = self.authenticate(headers)
        body = self._body(method, query, raw)
        params = self._own_project(host, method, params)
        identifier = container.modern(method.id)
        self._check_service(host)
        self._check_outage(identifier, params)
        planted = self.world.faults.call(identifier)
        late = planted is not None and bool(planted.get("late"))
        if not late:
            self._disturb(planted)
        call = Call(self, method, params, query, body, identity)
        if host == "compute.googleapis.com":
            compute.authorize(call)
        # Container and activation calls first look whether something is running and then start: one at a time.
        # (Compute's do not: operations.wait is a POST that takes minutes.)
        single = method.verb != "GET" and host in ("container.googleapis.com", "serviceusage.googleapis.com")
        with self._starting if single else contextlib.nullcontext():
            answer = self._handler(identifier, host)(call)
        self._check_answer(method, answer)
        if late:
            self._disturb(planted)
        fields = query.get("fields") or query.get("$fields")
        return listing.mask(answer, fields[-1]) if fields else answer

    @staticmethod
    def _disturb(planted: Json | None) -> None:
        """Raise what a planted fault wants in place of the answer. One with a delay only wants nothing more."""
        if planted is None:
            return
        if "answer" in planted:
            raise Disturbed(planted)
        if "http" in planted or "delay" not in planted:
            raise error_of(planted)

    def _check_outage(self, identifier: str, params: Mapping[str, str]) -> None:
        """503 for everything in a place that is out; what tells about the place itself (status DOWN) still answers."""
        if identifier in ("compute.zones.get", "compute.regions.get"):
            return
        place = self.world.faults.outage("/".join(params.values()))
        if place:
            raise ApiError(503, f"The service is currently unavailable in {place}.", "UNAVAILABLE", "backendError")

    def _handler(self, identifier: str, host: str) -> Handler:
        handler = HANDLERS.get(identifier)
        if handler is not None:
            return handler
        if host == "compute.googleapis.com":
            return compute.generic
        return unimplemented

    def _body(self, method: Method, query: Mapping[str, list[str]], raw: bytes) -> Json:
        """The checked, normalised body; ApiError 400 that lists everything that is wrong with the request."""
        sent = None
        if raw.strip():
            try:
                sent = json.loads(raw)
            except ValueError as error:
                text = f"Invalid JSON payload received. {str(error).partition(':')[0]}."
                raise bad_request([("", text)]) from error
        body, violations = schema.read_request(method, sent)
        violations = schema.check_query(method, query) + violations
        if violations:
            raise bad_request(violations)
        return body

    def _check_answer(self, method: Method, answer: Json) -> None:
        for path, text in schema.check_response(method, answer):
            log.error("our answer to %s breaks its schema at %r: %s", method.id, path, text)
            with self.world.lock:
                self.violations = [*self.violations[-99:], f"{method.id}: {text}"]

    # --- who may do it -----------------------------------------------------------------------------------------

    @staticmethod
    def _bearer(headers: Mapping[str, str]) -> str:
        value = headers.get("Authorization") or ""
        scheme, _, text = value.partition(" ")
        return text.strip() if scheme.lower() == "bearer" else ""

    def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """The caller. ApiError 401 without a token, with an unknown or with an expired one."""
        text = self._bearer(headers)
        if not text:
            raise unauthenticated("CREDENTIALS_MISSING")
        found = self.world.accounts.token(text)
        if found is None:
            raise unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED")
        if self.world.accounts.expired(found) or self.world.faults.expired(found.issued):
            raise unauthenticated("ACCESS_TOKEN_EXPIRED")
        return self.world.identity_of(found)

    def _own_project(self, host: str, method: Method, params: dict[str, str]) -> dict[str, str]:
        """Path parameters with our project's number replaced by its id. ApiError for any other project."""
        result = dict(params)
        for name, value in params.items():
            found = re.match(r"projects/([^/]+)", value)
            if found is None and name not in ("project", "projectId", "projectsId", "resource"):
                continue
            if name == "resource" and found is None and not host.startswith("cloudresourcemanager"):
                continue
            project = found.group(1) if found else value
            if project == "-" and host.startswith("iam"):
                continue
            if project not in (self.world.project, self.world.number):
                raise self._foreign(host, project)
            result[name] = f"projects/{self.world.project}{value[found.end() :]}" if found else self.world.project
        return result

    def _foreign(self, host: str, project: str) -> ApiError:
        if host.startswith("cloudresourcemanager"):
            return caller_without_permission()
        if host.startswith("compute"):
            return ApiError(404, f"Failed to find project {project}", reason="notFound")
        if host.startswith("serviceusage"):
            return service_forbidden(f"Project '{project}' not found or permission denied.")
        return unknown_consumer(project, host)

    def _check_service(self, host: str) -> None:
        if host not in catalog.ALWAYS_ON and not self.world.service_enabled(host):
            raise service_disabled(host, catalog.SERVICES.get(host, host), self.world.number)

    # --- for the other parts of the sandbox --------------------------------------------------------------------

    def exclusive(self) -> contextlib.AbstractContextManager[object]:
        """While held, no operation of a cluster or of a service begins."""
        return self._starting

    @staticmethod
    def in_parallel(work: list[Callable[[], T]]) -> list[T]:
        """Results of all, in order; all run at the same time."""
        if not work:
            return []
        with ThreadPoolExecutor(len(work), thread_name_prefix="parallel") as pool:
            return [future.result() for future in [pool.submit(one) for one in work]]

    def key_file(self, email: str, identifier: str, pem: bytes) -> dict[str, str]:
        """Content of a service account's JSON key file."""
        return credentials.key_content(self.world, email, identifier, pem, self.base_url)

    def close(self) -> None:
        """Stop waiting for modelled time. Clusters are the backend's to end."""
        self.operations.close()


_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Error 502 (Server Error)!!1</title></head><body><p><b>502.</b> <ins>That's an "
    "error.</ins><p>The server encountered a temporary error and could not complete your request.<p>Please try again "
    "in 30 seconds.</body></html>\n"
)


def disturbed(spec: Json, body: Json, method: str) -> Answer:
    """What comes over the wire in place of ``body``."""
    kind = str(spec["answer"])
    text = json.dumps(body or {"kind": "planted", "items": [{"name": "one"}, {"name": "two"}]}, indent=2)
    if kind in ("reset", "cut"):
        return Answer(200, body, method, text=text, wire=kind)
    if kind == "redirect":
        return Answer(302, {}, method, {"Location": "https://login.example.com/"}, "", "text/html")
    if kind == "html":
        return Answer(int(spec.get("http", 502)), {}, method, {}, _PAGE, "text/html; charset=UTF-8")
    if kind == "text":
        return Answer(int(spec.get("http", 200)), {}, method, {}, text, "text/plain; charset=UTF-8")
    return Answer(int(spec.get("http", 200)), {}, method, {}, "" if kind == "empty" else text[: len(text) // 2])


def unimplemented(call: Call) -> Json:
    raise ApiError(501, f"The sandbox does not implement {call.method.id}.", "UNIMPLEMENTED", "notImplemented")


__all__ = ["API_MODULES", "Answer", "Emulator", "OperationFailed", "api"]
