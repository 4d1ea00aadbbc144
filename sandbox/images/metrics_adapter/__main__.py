"""The adapter's process: ``/adapter --use-new-resource-model=true ...`` as Google's manifest calls it."""

from __future__ import annotations

import argparse
import json
import logging
import ssl
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import requests

from sandbox.gke.kubeapi import ApiError, Client, Resource
from sandbox.images.metrics_adapter import series
from sandbox.lws import certificate, incluster

PORT = 443
POD = Resource("", "v1", "pods", "Pod")
SCRAPE = Resource("monitoring.googleapis.com", "v1", "podmonitorings", "PodMonitoring")
READ_SECONDS = 3.0

log = logging.getLogger("adapter")


def read(url: str) -> str:
    """A pod's metrics; nothing where it does not answer, as nothing would have been collected."""
    try:
        answer = requests.get(url, timeout=READ_SECONDS)
    except requests.RequestException as error:
        log.info("%s: %s", url, error)
        return ""
    return answer.text if answer.ok else ""


def answer(client: Client, target: str) -> tuple[int, Any]:
    """Status and document for a request's path and query."""
    parts = urlsplit(target)
    path = unquote(parts.path)
    for version in series.VERSIONS:
        if path.rstrip("/") == f"/apis/{series.GROUP}/{version}":
            return 200, series.resources(version)
    asked = series.PATH.fullmatch(path)
    if asked is None or asked["version"] not in series.VERSIONS:
        return 404, series.refusal(404, f"nothing at {path}")
    if series.NAME.fullmatch(asked["name"]) is None:
        return 404, series.refusal(404, f"{asked['name']}: only gauges of managed Prometheus are modelled")
    selector = parse_qs(parts.query).get("labelSelector", [""])[0]
    try:
        pods = client.call("GET", POD.path(asked["space"]), labelSelector=selector or None)
        scrapes = client.call("GET", SCRAPE.path(asked["space"]))
    except (ApiError, requests.RequestException) as error:
        return 503, series.refusal(503, str(error))
    found = series.values(
        asked["version"], asked["name"], pods.get("items") or [], scrapes.get("items") or [], read, datetime.now(UTC)
    )
    if not found["items"]:
        return 404, series.refusal(404, f"no series of {asked['name']} was collected from these pods")
    return 200, found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    client: ClassVar[Client]

    def do_GET(self) -> None:
        status, document = answer(self.client, self.path)
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        log.info(format, *args)


class _Server(ThreadingHTTPServer):
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake happens in the connection's own thread: a client that says nothing holds up nobody."""
        request.settimeout(30)
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="adapter", allow_abbrev=False)
    parser.add_argument("--use-new-resource-model", default="true")
    parser.add_argument("--fallback-for-container-metrics", default="true")
    parser.parse_args(sys.argv[1:] if words is None else words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    _Handler.client = incluster.PodClient(incluster.account())
    server = _Server(("", PORT), _Handler)
    server.daemon_threads = True
    server.context = certificate.make("custom-metrics-stackdriver-adapter", "custom-metrics").context()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log.info("serving on %d", PORT)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
