"""The webhooks over HTTPS, and the probes' port."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox.gke.kubeapi import Object
from sandbox.lws import admission

_POD = "/mutate--v1-pod"
_SET = "/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset"
_CHECK_SET = "/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset"
_CHECK_POD = "/validate--v1-pod"


def review(path: str, body: Object) -> Object | None:
    """The answer to an AdmissionReview; None where nothing lives at the path."""
    request = body["request"]
    item: Object = request.get("object") or {}
    answer: Object = {"uid": request["uid"], "allowed": True}
    try:
        if path == _POD:
            _patch(answer, item, admission.admit_pod(item, str(request.get("namespace") or "")))
        elif path == _SET:
            _patch(answer, item, admission.admit_set(item))
        elif path == _CHECK_SET:
            admission.check_set(item)
        elif path != _CHECK_POD:
            return None
    except admission.Refused as refused:
        answer = {"uid": request["uid"], "allowed": False, "status": {"code": 422, "message": str(refused)}}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _patch(answer: Object, before: Object, after: Object) -> None:
    operations = admission.json_patch(before, after)
    if operations:
        text = json.dumps(operations).encode()
        answer.update({"patchType": "JSONPatch", "patch": base64.b64encode(text).decode()})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            answer = review(self.path.partition("?")[0], json.loads(raw))
        except (ValueError, KeyError, TypeError) as error:
            self.send_answer(400, {"message": repr(error)})
            return
        self.send_answer(404 if answer is None else 200, answer or {})

    def do_GET(self) -> None:
        self.send_answer(200, {})

    def send_answer(self, status: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake happens in the connection's own thread: a client that says nothing holds up nobody."""
        if self.context is not None:
            request.settimeout(30)
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event worth a traceback."""


def serve(address: str, port: int, context: ssl.SSLContext | None = None) -> Callable[[], None]:
    """Serve in a thread; the returned function ends it."""
    server = _Server((address, port), _Handler)
    server.context = context
    threading.Thread(target=server.serve_forever, daemon=True, name=f"serve-{port}").start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
