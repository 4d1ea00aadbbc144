"""Every way to be somebody: files, federation, impersonation, metadata server; tokens that end while we wait."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Module = Callable[..., dict[str, Any]]
SERVICES = {"services": ["compute"]}
ACTOR = "deployer@llmd-sandbox.iam.gserviceaccount.com"
OPERATOR = "llmd-operator@llmd-sandbox.iam.gserviceaccount.com"


def who(module: Module, emulated: Any, **options: Any) -> str:
    """The identity that a module's write really had, as the operation that it started remembers."""
    result = module("gcp_proxy_subnet", region="us-central1", range="192.168.0.0/23", **options)
    assert result.get("changed") is True, result
    return str(emulated.control("operations")["operations"][-1]["user"])


def policy_for(*grants: tuple[str, str]) -> dict[str, Any]:
    """A policy of (role, service account) pairs; the operator keeps what it needs to look."""
    own = [{"role": role, "members": [f"serviceAccount:{email}"]} for role, email in grants]
    return {"bindings": own, "version": 1}


@pytest.fixture
def compute(emulated: Any) -> Any:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    emulated.control("seed", {"accounts": [{"email": ACTOR}]})
    return emulated


def federation_file(folder: Path, url: str, subject: str, *, impersonate: str = "") -> Path:
    (folder / "subject-token").write_text(subject)
    document = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/ci/providers/j",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{url}/sts.googleapis.com/v1/token",
        "credential_source": {"file": str(folder / "subject-token")},
    }
    if impersonate:
        account = f"v1/projects/-/serviceAccounts/{impersonate}:generateAccessToken"
        document["service_account_impersonation_url"] = f"{url}/iamcredentials.googleapis.com/{account}"
    path = folder / "federation.json"
    path.write_text(json.dumps(document))
    return path


def test_workload_identity_federation(
    compute: Any, module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute.control("seed", {"subjectTokens": {"job-jwt": OPERATOR}})
    file = federation_file(tmp_path, compute.url, "job-jwt")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert who(module, compute) == OPERATOR
    (tmp_path / "subject-token").write_text("forged")
    refused = module("gcp_proxy_subnet", region="us-central1")
    assert refused["error"]["code"] == "UNAUTHENTICATED", refused["msg"]
    assert "attribute condition" in refused["error"]["why"]
    (tmp_path / "subject-token").unlink()
    assert module("gcp_proxy_subnet", region="us-central1")["error"]["code"] == "UNAUTHENTICATED"


def test_federation_that_impersonates(
    compute: Any, module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = policy_for(("roles/iam.serviceAccountTokenCreator", OPERATOR), ("roles/compute.networkAdmin", ACTOR))
    compute.control("seed", {"subjectTokens": {"job-jwt": OPERATOR}, "policy": grants})
    file = federation_file(tmp_path, compute.url, "job-jwt", impersonate=ACTOR)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert who(module, compute) == ACTOR


@pytest.mark.parametrize(
    "variable",
    [
        "",
        "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
        "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
        "GCP_IMPERSONATE_SERVICE_ACCOUNT",
    ],
)
def test_impersonation(compute: Any, module: Module, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    options = {} if variable else {"impersonate_service_account": ACTOR}
    if variable:
        monkeypatch.setenv(variable, ACTOR)
    denied = module("gcp_proxy_subnet", region="us-central1", **options)
    assert denied["error"]["code"] == "IMPERSONATION_DENIED", denied["msg"]
    assert "roles/iam.serviceAccountTokenCreator" in denied["error"]["remedy"]
    grants = policy_for(("roles/iam.serviceAccountTokenCreator", OPERATOR), ("roles/compute.networkAdmin", ACTOR))
    compute.control("seed", {"policy": grants})
    assert who(module, compute, **options) == ACTOR


def test_nonsense_to_impersonate(compute: Any, module: Module) -> None:
    refused = module("gcp_proxy_subnet", region="us-central1", impersonate_service_account="not/an/account")
    assert refused["error"]["code"] == "AUTH_OPTION_MISSING"


@pytest.mark.parametrize("kind", ["machineaccount", "application"])
def test_the_metadata_server(
    compute: Any, module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    address = compute.url.removeprefix("http://")
    for variable in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"):
        monkeypatch.setenv(variable, address)
    metadata = pytest.importorskip("google.auth.compute_engine._metadata")
    monkeypatch.setattr(metadata, "_GCE_METADATA_HOST", address)
    assert who(module, compute, auth_kind=kind) == OPERATOR


@pytest.mark.parametrize("emulated", [400], indirect=True)
def test_tokens_that_end_during_a_long_wait(compute: Any, module: Module) -> None:
    """Every token is void again and again while the cluster is made: each time a new one is got, unasked."""
    over = threading.Event()

    def expire() -> None:
        while not over.wait(0.3):
            compute.control("seed", {"expireTokens": True})

    thread = threading.Thread(target=expire)
    thread.start()
    try:
        result = module("gke_cluster", name="c", location="us-central1-a", node_pools=[{"name": "p"}])
    finally:
        over.set()
        thread.join()
    assert result.get("changed") is True, result
    assert result["cluster"]["status"] == "RUNNING"


def test_a_given_token_that_ends_is_named(compute: Any, module: Module) -> None:
    token = compute.control("seed", {"tokens": [OPERATOR]})["tokens"][OPERATOR]
    options = {"auth_kind": "accesstoken", "access_token": token, "region": "us-central1"}
    assert module("gcp_proxy_subnet", range="192.168.0.0/23", **options)["changed"] is True
    compute.control("seed", {"expireTokens": True})
    refused = module("gcp_proxy_subnet", **options)
    assert refused["error"]["code"] == "UNAUTHENTICATED"
    assert "fresh" in refused["error"]["remedy"]
    assert token not in json.dumps(refused)


# --- answers that are none ----------------------------------------------------------------------------------------


class Strange(http.server.BaseHTTPRequestHandler):
    """Answers what it was told, byte for byte."""

    raw: bytes = b""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.wfile.write(self.raw)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def strange() -> Iterator[tuple[str, type[Strange]]]:
    handler = type("Handler", (Strange,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def http_answer(status: str, body: bytes, *, kind: str = "application/json", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


HTML = b"<html><title>Sign in to the guest network</title></html>"
JSON = b'{"items": {}}'
ODD = [
    ("html", http_answer("200 OK", HTML, kind="text/html"), "MALFORMED_ANSWER"),
    ("json as text", http_answer("200 OK", JSON, kind="text/plain"), "MALFORMED_ANSWER"),
    ("html 403", http_answer("403 Forbidden", HTML, kind="text/html"), "MALFORMED_ANSWER"),
    ("html 404", http_answer("404 Not Found", HTML, kind="text/html"), "MALFORMED_ANSWER"),
    ("proxy 407", http_answer("407 Proxy Authentication Required", HTML, kind="text/html"), "MALFORMED_ANSWER"),
    ("json list", http_answer("200 OK", b"[1]"), "MALFORMED_ANSWER"),
    ("cut json", http_answer("200 OK", b'{"items": {"regions/us'), "TRUNCATED_ANSWER"),
    ("cut body", http_answer("200 OK", JSON, length=4000), "CONNECTION_FAILED"),
    ("no http", b"\x16\x03\x01 hello", "CONNECTION_FAILED"),
    ("nothing", b"", "CONNECTION_FAILED"),
    ("redirect", b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\nContent-Length: 0\r\n\r\n", "MALFORMED_ANSWER"),
    ("html 503", http_answer("503 Unavailable", HTML, kind="text/html"), "GOOGLE_UNAVAILABLE"),
    ("html 429", http_answer("429 Too Many Requests", HTML, kind="text/html"), "RATE_LIMITED"),
    ("not utf-8", http_answer("200 OK", b"\xff\xfe\x00{"), "TRUNCATED_ANSWER"),
    ("error without a body", http_answer("400 Bad Request", b""), "INVALID_REQUEST"),
    ("error of another form", http_answer("400 Bad Request", b'{"error": ["x"]}'), "INVALID_REQUEST"),
    ("error in parts", http_answer("403 Forbidden", b'{"error": {"errors": 7, "details": {}}}'), "PERMISSION_DENIED"),
]


@pytest.mark.parametrize(("raw", "code"), [pytest.param(raw, code, id=name) for name, raw, code in ODD])
def test_an_api_that_answers_nonsense(
    emulated: Any, module: Module, strange: tuple[str, type[Strange]], raw: bytes, code: str
) -> None:
    url, handler = strange
    handler.raw = raw
    options = {"api_endpoint_overrides": {"compute": url}, "timeout": 1, "region": "us-central1"}
    result = module("gcp_proxy_subnet", **options)
    assert result["failed"] is True
    assert result["error"]["code"] == code, result["msg"]
    assert "Traceback" not in result["msg"]
    assert sum(result["api_calls"].values()) >= 1


TOKEN_ANSWERS = [
    ("html", http_answer("200 OK", HTML, kind="text/html"), {"UNAUTHENTICATED"}),
    ("html 502", http_answer("502 Bad Gateway", HTML, kind="text/html"), {"UNAUTHENTICATED", "CONNECTION_FAILED"}),
    ("no token", http_answer("200 OK", b"{}"), {"UNAUTHENTICATED"}),
    ("json list", http_answer("200 OK", b"[]"), {"UNAUTHENTICATED"}),
    ("cut", http_answer("200 OK", b'{"access_tok'), {"UNAUTHENTICATED"}),
    ("cut body", http_answer("200 OK", JSON, length=4000), {"CONNECTION_FAILED"}),
    ("expires never", http_answer("200 OK", b'{"access_token": "x", "expires_in": "soon"}'), {"UNAUTHENTICATED"}),
    (
        "clock",
        http_answer(
            "400 Bad Request",
            b'{"error": "invalid_grant", "error_description": "Invalid JWT: Token must be a short-lived token'
            b' (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."}',
        ),
        {"CLOCK_SKEW"},
    ),
]


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize(("raw", "codes"), [pytest.param(raw, codes, id=name) for name, raw, codes in TOKEN_ANSWERS])
def test_a_token_server_that_answers_nonsense(
    emulated: Any,
    module: Module,
    strange: tuple[str, type[Strange]],
    tmp_path: Path,
    raw: bytes,
    codes: set[str],
    federated: bool,
) -> None:
    url, handler = strange
    handler.raw = raw
    path = tmp_path / "key.json"
    if federated:
        path = federation_file(tmp_path, url, "job-jwt")
        options = {"auth_kind": "application"}
    else:
        key = json.loads(Path(emulated.environment["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
        path.write_text(json.dumps({**key, "token_uri": f"{url}/token"}))
        options = {"auth_kind": "serviceaccount", "service_account_file": str(path)}
    with pytest.MonkeyPatch.context() as patch:
        if federated:
            patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        result = module("gcp_proxy_subnet", region="us-central1", timeout=1, **options)
    assert result["failed"] is True
    assert result["error"]["code"] in codes, result["msg"]


def test_a_clock_that_is_wrong(compute: Any, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour behind: the emulated token server refuses the assertion as Google's does."""
    import datetime

    helpers = pytest.importorskip("google.auth._helpers")
    real = helpers.utcnow
    monkeypatch.setattr(helpers, "utcnow", lambda: real() - datetime.timedelta(hours=2))
    result = module("gcp_proxy_subnet", region="us-central1")
    assert result["error"]["code"] == "CLOCK_SKEW", result["msg"]
    assert "clock" in result["error"]["remedy"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"type": "nonsense"}', '{"type": "external_account"}', "\x00"])
def test_credentials_files_of_all_kinds_of_wrong(
    emulated: Any, module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    path = tmp_path / "adc.json"
    path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    result = module("gcp_proxy_subnet", region="us-central1")
    assert result["error"]["code"] == "CREDENTIALS_NOT_FOUND", result["msg"]
