"""The HTTP side of the hub stand-in: the answers (and header names) a hub client meets, without any weights."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from sandbox.hub.catalogue import ACCOUNTS, MODELS, Account, Model
from sandbox.timing import Timing

FILE = re.compile(r"/(?P<model>[^/]+/[^/]+)/(?P<verb>resolve|raw)/(?P<revision>[^/]+)/(?P<file>.+)")
# Ours: how long the pretended download and start-up of a model server take at the sandbox's present speed.
WEIGHTS_HEADER = "X-Llmd-Sandbox-Weights-Seconds"
STARTUP_HEADER = "X-Llmd-Sandbox-Startup-Seconds"
API = re.compile(r"/api/models/(?P<model>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")


@dataclass
class Answer:
    """One HTTP answer; ``body`` goes out as JSON unless it is bytes."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Faults:
    """Planted misbehaviour: an HTTP status answered to everything (0: none). Set by the daemon's fault interface."""

    def __init__(self) -> None:
        self.status = 0


def account_of(authorization: str | None) -> Account | None:
    """The account of an ``Authorization: Bearer`` header; None without one. Raises PermissionError for a bad token."""
    if not authorization:
        return None
    token = authorization.removeprefix("Bearer ").strip()
    # hf_sandbox_ANYTHING is another token of the same account, for tests that look for one of their own.
    account = ACCOUNTS.get("hf_sandbox" if token.startswith("hf_sandbox_") else token)
    if account is None:
        raise PermissionError
    return account


def answer(path: str, authorization: str | None) -> Answer:
    """What the hub says to a GET of ``path``; HEAD gets the same without the body."""
    path = unquote(urlsplit(path).path)
    try:
        account = account_of(authorization)
    except PermissionError:
        message = "Invalid credentials in Authorization header"
        return Answer(401, {"error": message}, {"X-Error-Message": message})
    if path == "/api/whoami-v2":
        return _whoami(account)
    if match := API.fullmatch(path):
        model = MODELS.get(match["model"])
        return Answer(200, model.description()) if model else _unknown_model(account)
    if match := FILE.fullmatch(path):
        return _file(match["model"], match["revision"], match["file"], account)
    if path in ("/", "/healthz"):
        return Answer(200, b"ok\n", {"Content-Type": "text/plain"})
    return Answer(404, {"error": "Sorry, we can't find the page you are looking for."})


def _whoami(account: Account | None) -> Answer:
    if account is None:
        return Answer(401, {"error": "Invalid username or password."})
    return Answer(
        200,
        {
            "type": "user",
            "id": hashlib.sha256(account.user.encode()).hexdigest()[:24],
            "name": account.user,
            "fullname": account.user.title(),
            "isPro": False,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"displayName": "sandbox", "role": "read"}},
        },
    )


def _unknown_model(account: Account | None) -> Answer:
    # The hub does not tell a stranger whether a private repository exists.
    if account is None:
        message = "Invalid username or password."
        return Answer(401, {"error": message}, {"X-Error-Message": message})
    message = "Repository not found"
    return Answer(404, {"error": message}, {"X-Error-Code": "RepoNotFound", "X-Error-Message": message})


def _file(name: str, revision: str, file: str, account: Account | None) -> Answer:
    model = MODELS.get(name)
    if model is None:
        return _unknown_model(account)
    if refused := gate(model, account):
        return refused
    if revision not in ("main", model.revision):
        message = f"Invalid rev id: {revision}"
        return Answer(404, {"error": message}, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": message})
    contents: dict[str, object] = {
        "config.json": model.config(),
        "generation_config.json": {"max_length": model.positions},
        "model.safetensors.index.json": model.index(),
        "tokenizer_config.json": {"model_max_length": model.positions},
    }
    if file not in contents:
        return Answer(
            404,
            b"Entry not found",
            {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "Content-Type": "text/plain"},
        )
    body = json.dumps(contents[file], indent=2).encode()
    headers = {
        "X-Repo-Commit": model.revision,
        "ETag": f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'inline; filename="{file}"',
    }
    return Answer(200, body, headers)


def gate(model: Model, account: Account | None) -> Answer | None:
    """The refusal of a gated model, or None where the account may read it."""
    if not model.gated:
        return None
    if account is None:
        status, reason = 401, "You must have access to it and be authenticated to access it. Please log in."
    elif account.accepted is not None and model.name not in account.accepted:
        status = 403
        reason = f"and you are not in the authorized list. Visit https://huggingface.co/{model.name} to ask for access."
    else:
        return None
    joint = " is restricted " if status == 403 else " is restricted. "
    message = f"Access to model {model.name}{joint}{reason}"
    headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": message, "Content-Type": "text/plain"}
    return Answer(status, message.encode(), headers)


class Hub(ThreadingHTTPServer):
    """The running stand-in. ``faults`` may be changed while it runs; ``stop()`` ends it.

    With a ``timing`` every answer tells model servers how long to pretend (see the two headers above).
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: str, port: int, timing: Timing | None = None) -> None:
        self.faults = Faults()
        self._timing = timing
        super().__init__((address, port), _Handler)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="hub", daemon=True)

    def pauses(self) -> dict[str, str]:
        """The timing headers, empty without a timing."""
        if self._timing is None:
            return {}
        weights, startup = (self._timing.seconds(event) for event in ("weights-download", "model-server-start"))
        return {WEIGHTS_HEADER: f"{weights:.3f}", STARTUP_HEADER: f"{startup:.3f}"}

    def close(self) -> None:
        """Close the port of a hub that never served."""
        self.server_close()

    def stop(self) -> None:
        """Stop answering and close the port."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "llmd-sandbox-hub"

    def do_GET(self) -> None:
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def _send(self, *, with_body: bool) -> None:
        assert isinstance(self.server, Hub)
        planted = self.server.faults.status
        if planted:
            said = Answer(planted, {"error": HTTPStatus(planted).phrase})
        else:
            said = answer(self.path, self.headers.get("Authorization"))
        payload = said.payload()
        self.send_response(said.status)
        self.send_header("X-Request-Id", f"Root=1-{uuid.uuid4().hex[:8]}-{uuid.uuid4().hex[:24]}")
        ordinary = {"Content-Type": "application/json; charset=utf-8", **self.server.pauses()}
        for key, value in {**ordinary, **said.headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if with_body:
            self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the daemon's log would otherwise fill with every start of a model server."""


def serve(address: str, port: int, timing: Timing | None = None) -> Hub:
    """Start the hub stand-in on ``address:port`` in a thread of its own (port 0: any free one).

    ``timing``: the sandbox's speed, so that model servers' start-up follows it.

    Raises OSError where the address cannot be bound.
    """
    hub = Hub(address, port, timing)
    hub.thread.start()
    return hub
