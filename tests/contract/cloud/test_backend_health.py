"""Health of 100 backend services with 10 endpoints each in one module call, against a server on loopback; printed."""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

SERVICES, GROUPS, ENDPOINTS = 100, 2, 5  # endpoints of one group


class Compute(BaseHTTPRequestHandler):
    """The two answers that are needed, at once."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        groups = [{"group": f"https://x/zones/z{number}/networkEndpointGroups/neg"} for number in range(GROUPS)]
        self._say({"items": [{"name": f"service-{number}", "backends": groups} for number in range(SERVICES)]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        states = [{"healthState": "HEALTHY", "ipAddress": f"10.4.0.{n}", "port": 8000} for n in range(ENDPOINTS)]
        self._say({"healthStatus": states})

    def _say(self, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def compute() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Compute)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_hundred_backends_in_one_call(
    compute: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    module = importlib.import_module("ansible_collections.llmd.gke.plugins.modules.backend_health")
    params = {
        "project": "my-project",
        "region": "us-central1",
        "backend_services": [f"service-{number}" for number in range(SERVICES)],
        "auth_kind": "accesstoken",
        "access_token": "token-for-a-test",
        "api_endpoint_overrides": {"compute": compute},
        "timeout": 20,
        "min_endpoints": GROUPS * ENDPOINTS,
    }
    started = time.monotonic()
    with patch_module_args(params), pytest.raises(SystemExit):
        module.main()
    seconds = time.monotonic() - started
    result = json.loads(capfd.readouterr().out)
    assert result["healthy"], result
    assert sum(backend["healthy"] for backend in result["backends"]) == SERVICES * GROUPS * ENDPOINTS
    assert [backend["name"] for backend in result["backends"]] == params["backend_services"]
    assert result["api_calls"] == {
        "compute.regionBackendServices.list": 1,
        "compute.regionBackendServices.getHealth": SERVICES * GROUPS,
    }
    with capfd.disabled():
        print(f"\nbackend_health: {SERVICES} backends x {GROUPS * ENDPOINTS} endpoints in {seconds:.2f} s")
    assert seconds < 10  # the figure (2 s) is read from the line above; this only tells side by side from a hang
