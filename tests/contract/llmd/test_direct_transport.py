"""The short way to an API server sends what kubernetes' own client sends, and tells the same refusals."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.kube import direct
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import (
    ApiProblem,
    KubeClient,
    _through_client,
    client_from_params,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import GATEWAY, POD, SECRET

SENT = ("accept", "authorization", "content-type")
NOTHING_THERE = {"kind": "Status", "code": 404, "message": 'pods "missing" not found'}
TOO_MANY = {"kind": "Status", "code": 429, "message": "too many requests"}


@dataclass
class Server:
    """What was asked, each as method, path, body and the headers that matter."""

    url: str
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def kubeconfig(self, user: dict[str, str] | None = None, **cluster: Any) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": self.url, **cluster}}],
            "users": [{"name": "u", "user": user or {"token": "t0ken"}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        }


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            found.asked.append((self.command, self.path, body, {name: self.headers.get(name) for name in SENT}))
            status, content = 200, {"items": [], "groups": [], "kind": "List"}
            if "missing" in self.path:
                status, content = 404, NOTHING_THERE
            elif "busy" in self.path:
                status, content = 429, TOO_MANY
            elif "moved" in self.path:
                status, content = 302, {}
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After", "1")
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = answer

        def log_message(self, *_: Any) -> None:
            """Nothing on the test's output."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Server(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield found
    http.shutdown()
    http.server_close()


def use(client: KubeClient) -> None:
    """One request of each kind that the library makes."""
    client.objects(POD, "n", labels="a=b", fields="c=d")
    client.labels_of(SECRET, "n")
    client.apply(GATEWAY, {"metadata": {"name": "g", "namespace": "n"}, "spec": {"x": "ü"}}, dry_run=True)
    client.annotate(GATEWAY, "g", "n", {"a": None})
    client.pod_post("p", "n", 8000, "/v1/completions", {"prompt": "x"})
    client.pod_get("p", "n", 9090, "metrics?a=b")
    client.logs("p", "n", container="c", tail=5)
    client.delete(POD, "p", "n", grace=0)
    client.version()


def test_both_ways_send_the_same(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(server.kubeconfig()))
    short = client_from_params({"kubeconfig": str(path)})
    assert isinstance(short._transport, direct.DirectTransport)
    use(short)
    ours, server.asked = server.asked, []
    full = KubeClient(_through_client({"kubeconfig": str(path)}))
    server.asked.clear()  # what its discovery has asked
    use(full)
    theirs = server.asked
    assert [request[:2] for request in ours] == [request[:2] for request in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert json.loads(one[2] or b"null") == json.loads(other[2] or b"null"), one
        assert one[3]["authorization"] == other[3]["authorization"] == "Bearer t0ken"
        assert one[3]["accept"].split(",")[0] == other[3]["accept"].split(",")[0], one
        assert one[2] == b"" or one[3]["content-type"] == other[3]["content-type"]


def test_refusals_come_at_once_with_the_servers_words(server: Server) -> None:
    client = client_from_params({"kubeconfig": server.kubeconfig()}, patience=0)
    assert client.get(POD, "missing", "n") is None
    for name, status in (("busy", 429), ("moved", 302)):
        server.asked.clear()
        with pytest.raises(ApiProblem) as caught:
            client.get(POD, name, "n")
        assert caught.value.status == status
        assert len(server.asked) == 1, "asked again behind the caller's back, or followed"


def test_a_server_that_is_not_there(server: Server) -> None:
    document = server.kubeconfig()
    document["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    with pytest.raises(ApiProblem) as caught:
        client_from_params({"kubeconfig": document}, patience=0).version()
    assert caught.value.code == "CLUSTER_UNREACHABLE"
    assert "t0ken" not in f"{caught.value} {caught.value.why} {caught.value.where}"


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        ({}, {}),
        ({"context": "c"}, {}),
        ({"host": "https://x", "api_key": "y"}, {}),
        ({}, {"K8S_AUTH_CONTEXT": "other"}),
    ],
)
def test_other_options_take_the_long_way(server: Server, options: dict[str, str], environ: dict[str, str]) -> None:
    assert direct.access_of({"kubeconfig": server.kubeconfig()}, {}) is not None
    if options or environ:
        assert direct.access_of({"kubeconfig": server.kubeconfig(), **options}, environ) is None
    else:
        assert direct.access_of({}, {}) is None


def test_other_kubeconfigs_take_the_long_way(server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("{]")
    for document in (
        server.kubeconfig({"exec": "x"}),
        server.kubeconfig({"token": "t", "client-key-data": "x"}),
        server.kubeconfig(**{"insecure-skip-tls-verify": True}),
        server.kubeconfig(**{"certificate-authority": "/some/where"}),
        server.kubeconfig(**{"certificate-authority-data": "no base 64"}),
        {**server.kubeconfig(), "current-context": "gone"},
        {**server.kubeconfig(), "users": None},
        {},
        str(broken),
        str(tmp_path / "missing"),
        f"{broken}:{broken}",
    ):
        assert direct.access_of({"kubeconfig": document}, {}) is None, document
    with pytest.raises(Exception, match="No usable access"):
        client_from_params({"kubeconfig": str(broken)})


def test_the_environments_proxy_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://me:se%20cret@"))
    document = server.kubeconfig()
    document["clusters"][0]["cluster"]["server"] = "http://cluster.example"
    client_from_params({"kubeconfig": document}).version()
    assert server.asked[-1][1] == "http://cluster.example/version"
    document["clusters"][0]["cluster"]["server"] = "http://10.1.2.3"
    for without in ("10.1.2.3", "10.0.0.0/8"):
        monkeypatch.setenv("no_proxy", without)
        assert client_from_params({"kubeconfig": document})._transport._pool.proxy is None
