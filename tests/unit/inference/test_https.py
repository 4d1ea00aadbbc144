"""An endpoint behind TLS, asked at its address under a name that no DNS knows."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.inference.answers import explain_answer
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import ENDPOINT_HEADER, Endpoint
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import endpoint_of

from tests.authority import Authority

NAME = "llm.example.com"


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = (self.headers["Host"] + self.headers.get("X-Api-Key", "")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, file of the authority that signed the server's certificate)."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    pair = authority.sign(NAME)
    (folder / "pair.pem").write_text(pair.certificate + pair.key)
    (folder / "ca.pem").write_text(authority.pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", str(folder / "ca.pem")
    server.shutdown()


def test_the_name_is_asked_for_at_the_address(served: tuple[str, str]) -> None:
    answer = Endpoint.parse(served[0], NAME, ca_file=served[1]).send("GET", "/")
    assert (answer.status, answer.text, answer.error) == (200, NAME, "")


@pytest.mark.parametrize("wrong", ["another name", "another authority"])
def test_whom_not_to_trust(served: tuple[str, str], wrong: str) -> None:
    name = "else.example.com" if wrong == "another name" else NAME
    answer = Endpoint.parse(served[0], name, ca_file=served[1] if wrong == "another name" else "").send("GET", "/")
    cause = explain_answer(answer)
    assert cause is not None
    assert (answer.status, cause.code, cause.transient) == (0, "ENDPOINT_CERTIFICATE_INVALID", False)
    trusting = Endpoint.parse(served[0], name, verify=False).send("GET", "/")
    assert trusting.status == 200


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pem", Path(__file__)):
        with pytest.raises(ConfigurationError) as caught:
            Endpoint.parse("https://llm.example.com", ca_file=str(path))
        assert caught.value.code == "CA_FILE_INVALID"


@pytest.mark.parametrize(
    ("listeners", "wanted"),
    [
        ([{"port": 80, "protocol": "HTTP"}], "http://203.0.113.7"),
        ([{"port": 80, "protocol": "HTTP"}, {"port": 443, "protocol": "HTTPS"}], "https://203.0.113.7"),
        ([{"port": 8443, "protocol": "HTTPS"}], "https://203.0.113.7:8443"),
        ([{"port": 8080, "protocol": "HTTP"}], "http://203.0.113.7:8080"),
    ],
)
def test_where_clients_go(listeners: list[dict[str, object]], wanted: str) -> None:
    gateway = {"spec": {"listeners": listeners}, "status": {"addresses": [{"value": "203.0.113.7"}]}}
    assert endpoint_of(gateway) == wanted
    assert endpoint_of({"spec": {"listeners": listeners}}) == ""


def test_a_header_of_the_environment_goes_with_every_request(
    served: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT_HEADER, "X-Api-Key: canary-1")
    endpoint = Endpoint.parse(served[0], NAME, ca_file=served[1])
    assert endpoint.send("GET", "/").text == f"{NAME}canary-1"
    assert "canary" not in repr(endpoint)
    monkeypatch.setenv(ENDPOINT_HEADER, "canary-2 without a name")
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.parse("http://127.0.0.1:1")
    assert caught.value.code == "ENDPOINT_HEADER_INVALID"
    assert "canary" not in str(caught.value)
