"""Tokens and who they are: service accounts, exchange, impersonation, metadata server, Kubernetes' webhook."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth import identity_pool, jwt
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

from sandbox.gcp.credentials import proxy_environment, write_credentials, write_key
from sandbox.gcp.identity import CLOUD_PLATFORM, USERINFO_EMAIL
from sandbox.gcp.testing import Cloud
from sandbox.paths import Paths

SCOPES = [CLOUD_PLATFORM, USERINFO_EMAIL]
OPERATOR = "llmd-operator@llmd-sandbox.iam.gserviceaccount.com"


@pytest.fixture
def key(cloud: Cloud, tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    write_key(cloud.world, OPERATOR, path, cloud.server.url)
    return path


def grant(cloud: Cloud, assertion: str) -> requests.Response:
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    return requests.post(f"{cloud.server.url}/oauth2.googleapis.com/token", data=form, timeout=5)


def assertion(key: Path, **claims: Any) -> str:
    content = json.loads(key.read_text())
    now = int(time.time())
    body = {
        "iss": content["client_email"],
        "aud": content["token_uri"],
        "iat": now,
        "exp": now + 3600,
        "scope": CLOUD_PLATFORM,
    }
    signer = service_account.Credentials.from_service_account_info(content).signer
    return bytes(jwt.encode(signer, body | claims)).decode()


def test_google_auth_gets_a_token_and_uses_it(cloud: Cloud, key: Path) -> None:
    credentials = service_account.Credentials.from_service_account_file(str(key), scopes=SCOPES)
    session = AuthorizedSession(credentials)
    answer = session.get(f"{cloud.server.url}/{cloud.compute}")
    assert answer.json()["name"] == "llmd-sandbox"
    assert 3500 < (credentials.expiry.timestamp() - time.mktime(time.gmtime())) < 3700


def test_a_grant_says_how_long_it_lasts(cloud: Cloud, key: Path) -> None:
    answer = grant(cloud, assertion(key)).json()
    assert (answer["expires_in"], answer["token_type"]) == (3599, "Bearer")


@pytest.mark.parametrize(
    ("claims", "error", "text"),
    [
        ({"iat": 1, "exp": 2}, "invalid_grant", "Token must be a short-lived token (60 minutes)"),
        ({"exp": int(time.time()) + 9999}, "invalid_grant", "Token must be a short-lived token (60 minutes)"),
        ({"iss": "nobody@example.com"}, "invalid_grant", "account not found"),
        ({"scope": ""}, "invalid_scope", "Empty or missing scope not allowed."),
        ({"aud": "https://example.com/"}, "invalid_grant", "audience"),
    ],
)
def test_a_bad_assertion_is_refused(cloud: Cloud, key: Path, claims: dict[str, Any], error: str, text: str) -> None:
    answer = grant(cloud, assertion(key, **claims))
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert text in answer.json()["error_description"]


def test_a_key_of_somebody_else_is_refused(cloud: Cloud, key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    write_key(cloud.world, "llmd-editor@llmd-sandbox.iam.gserviceaccount.com", other, cloud.server.url)
    content = json.loads(other.read_text()) | {"client_email": OPERATOR}
    other.write_text(json.dumps(content))
    assert grant(cloud, assertion(other)).json()["error_description"] == "Invalid JWT Signature."
    assert grant(cloud, "not.a.jwt").json()["error"] == "invalid_grant"


def test_a_self_signed_jwt_is_a_token_too(cloud: Cloud, key: Path) -> None:
    token = assertion(key, aud="https://compute.googleapis.com/")
    assert cloud.ok("GET", cloud.compute, token=token)["name"] == "llmd-sandbox"


def test_a_foreign_identity_is_exchanged_and_may_impersonate(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "subject").write_text("from-the-job")
    cloud.world.accounts.add("job@example.com", human=True)
    cloud.world.accounts.subject_tokens["from-the-job"] = "job@example.com"
    info = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{cloud.server.url}/sts.googleapis.com/v1/token",
        "credential_source": {"file": str(tmp_path / "subject")},
    }
    credentials = identity_pool.Credentials.from_info(info, scopes=SCOPES)
    credentials.refresh(Request())
    identity = cloud.world.identity(credentials.token)
    assert identity is not None
    assert identity.email == "job@example.com"
    path = f"iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{OPERATOR}:generateAccessToken"
    error = cloud.fails(403, "POST", path, {"scope": SCOPES}, token=credentials.token)
    assert error["details"][0]["reason"] == "IAM_PERMISSION_DENIED"
    token = cloud.token_of("roles/iam.serviceAccountTokenCreator", email="job@example.com")
    made = cloud.ok("POST", path, {"scope": SCOPES, "lifetime": "600s"}, token=token)
    assert cloud.ok("GET", cloud.compute, token=made["accessToken"])["name"] == "llmd-sandbox"
    cloud.fails(400, "POST", path, {"scope": SCOPES, "lifetime": "7200s"}, token=token)


def test_the_background_question_of_google_auth(cloud: Cloud) -> None:
    path = f"iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{OPERATOR}/allowedLocations"
    assert cloud.ok("GET", path) == {"locations": [], "encodedLocations": "0x0"}


def test_token_information(cloud: Cloud) -> None:
    answer = cloud.ok("GET", f"oauth2.googleapis.com/tokeninfo?access_token={cloud.token}")
    assert answer["email"] == OPERATOR
    assert CLOUD_PLATFORM in answer["scope"].split()
    assert cloud.ok("GET", "www.googleapis.com/oauth2/v2/userinfo")["email"] == OPERATOR
    bad = cloud.send("GET", "oauth2.googleapis.com/tokeninfo?access_token=nothing")
    assert (bad.status_code, bad.json()["error"]) == (400, "invalid_token")


def test_the_metadata_server(cloud: Cloud) -> None:
    answer = requests.get(f"{cloud.server.url}/computeMetadata/v1/project/project-id", timeout=5)
    assert answer.status_code == 403
    answer = requests.get(
        f"{cloud.server.url}/computeMetadata/v1/project/project-id", headers={"Metadata-Flavor": "Google"}, timeout=5
    )
    assert (answer.text, answer.headers["Metadata-Flavor"]) == ("llmd-sandbox", "Google")
    token = requests.get(
        f"{cloud.server.url}/computeMetadata/v1/instance/service-accounts/default/token",
        headers={"Metadata-Flavor": "Google"},
        timeout=5,
    ).json()
    assert cloud.ok("GET", cloud.compute, token=token["access_token"])["name"] == "llmd-sandbox"


def review(cloud: Cloud, token: str, version: str = "authentication.k8s.io/v1") -> dict[str, Any]:
    body = {"apiVersion": version, "kind": "TokenReview", "spec": {"token": token}}
    url = f"{cloud.server.url}/kubernetes/tokenreview/llmd-sandbox%2Fus-central1-a%2Fc"
    answer: dict[str, Any] = requests.post(url, json=body, timeout=5).json()
    assert (answer["apiVersion"], answer["kind"]) == (version, "TokenReview")
    status: dict[str, Any] = answer["status"]
    return status


def test_kubernetes_learns_who_it_is(cloud: Cloud) -> None:
    status = review(cloud, cloud.token, "authentication.k8s.io/v1beta1")
    assert status["user"]["username"] == OPERATOR
    assert status["user"]["groups"] == ["gke:roles/container.admin"]
    assert review(cloud, cloud.token_of("roles/editor"))["user"]["groups"] == ["gke:roles/container.developer"]
    assert review(cloud, cloud.token_of("roles/viewer"))["user"]["groups"] == ["gke:roles/container.viewer"]
    assert review(cloud, cloud.token_of())["user"]["groups"] == []
    assert review(cloud, "unknown")["authenticated"] is False
    assert review(cloud, cloud.world.accounts.issue(OPERATOR, lifetime=-1))["authenticated"] is False


def test_without_the_email_scope_kubernetes_sees_a_number(cloud: Cloud) -> None:
    token = cloud.world.accounts.issue(OPERATOR, (CLOUD_PLATFORM,))
    assert review(cloud, token)["user"]["username"].isdigit()


def test_credentials_are_written_and_private(cloud: Cloud, tmp_path: Path) -> None:
    paths = Paths("test", tmp_path / "cache", tmp_path / "state")
    variables = write_credentials(cloud.world, paths, base_url=cloud.server.url, authority=cloud.server.authority)
    written = dict(line.split("=", 1) for line in paths.environment_file.read_text().splitlines())
    assert written == variables
    assert variables["LLMD_GKE_API_ENDPOINT_COMPUTE"] == f"{cloud.server.url}/compute.googleapis.com/"
    assert variables["CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"].endswith("/compute.googleapis.com/compute/v1/")
    for name in ("service-account.json", "editor.json", "access-token", "proxy-ca.pem"):
        assert (paths.credentials / name).stat().st_mode & 0o777 == 0o600
    editor = service_account.Credentials.from_service_account_file(
        str(paths.credentials / "editor.json"), scopes=SCOPES
    )
    editor.refresh(Request())
    identity = cloud.world.identity(editor.token)
    assert identity is not None
    assert identity.roles == {"roles/editor"}
    assert proxy_environment(paths)["REQUESTS_CA_BUNDLE"] == str(paths.credentials / "proxy-ca.pem")
