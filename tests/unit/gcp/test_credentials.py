"""Who we are; the way into a cluster; nothing of it ever in a result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import credentials
from ansible_collections.llmd.gke.plugins.module_utils.gcp.credentials import AccessToken, AuthSettings

Run = Callable[..., dict[str, Any]]
FOUND = {
    "name": "llm-d-cluster",
    "status": "RUNNING",
    "endpoint": "203.0.113.7",
    "masterAuth": {"clusterCaCertificate": "LS0tLS1CRUdJTg=="},
}
OPTIONS = {"cluster": "llm-d-cluster", "location": "us-central1-a"}


def test_settings_from_options() -> None:
    settings = AuthSettings.from_params({"auth_kind": None, "service_account_contents": {"a": 1}, "scopes": None})
    assert settings.auth_kind == "application"
    assert settings.service_account_contents == '{"a": 1}'
    assert any(scope.endswith("userinfo.email") for scope in settings.scopes)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (AuthSettings("serviceaccount"), "AUTH_OPTION_MISSING"),
        (
            AuthSettings("serviceaccount", service_account_file="/f", service_account_contents="{}"),
            "AUTH_OPTION_MISSING",
        ),
        (AuthSettings("serviceaccount", service_account_file="/nonexistent/key.json"), "CREDENTIALS_UNREADABLE"),
        (AuthSettings("serviceaccount", service_account_contents="no json"), "CREDENTIALS_UNREADABLE"),
        (AuthSettings("serviceaccount", service_account_contents='{"private_key": "hush"}'), "CREDENTIALS_UNREADABLE"),
        (AuthSettings("serviceaccount", service_account_contents="[]"), "CREDENTIALS_UNREADABLE"),
        (AuthSettings("accesstoken"), "AUTH_OPTION_MISSING"),
    ],
)
def test_unusable_settings_are_named_and_keep_secrets(settings: AuthSettings, code: str) -> None:
    pytest.importorskip("google.auth")
    with pytest.raises(ConfigurationError) as caught:
        credentials.load(settings)
    assert caught.value.code == code
    assert "hush" not in str(caught.value)


def test_a_broken_application_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("google.auth")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(ConfigurationError) as caught:
        credentials.load(AuthSettings(project="p"))
    assert caught.value.code == "CREDENTIALS_NOT_FOUND"
    assert "missing.json" in caught.value.where


def test_one_object_a_process() -> None:
    pytest.importorskip("google.auth")
    settings = AuthSettings("accesstoken", access_token="t")
    assert credentials.load(settings) is credentials.load(AuthSettings("accesstoken", access_token="t"))


def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(AccessToken("secret", "never"))


def test_a_kubeconfig_is_written_private_and_whole(google: Any, run_module: Run, tmp_path: Path) -> None:
    google.on("GET", "clusters/llm-d-cluster$", FOUND)
    path = tmp_path / "new folder" / "kubeconfig"
    predicted = run_module("gke_credentials", check=True, path=str(path), **OPTIONS)
    assert predicted["changed"] is True
    assert not path.exists()
    result = run_module("gke_credentials", path=str(path), **OPTIONS)
    assert result["changed"] is True
    assert result["host"] == "https://203.0.113.7"
    assert result["context"] == "gke_my-project_us-central1-a_llm-d-cluster"
    assert result["expires_at"] == "2026-11-23T16:00:00Z"
    assert "ya29" not in json.dumps(result)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["kubeconfig"]
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://203.0.113.7"
    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == "LS0tLS1CRUdJTg=="
    assert config["users"][0]["user"] == {"token": "ya29.secret"}
    assert config["current-context"] == config["contexts"][0]["name"] == result["context"]


def test_a_fresh_token_is_no_change_but_is_written(google: Any, run_module: Run, tmp_path: Path) -> None:
    google.on("GET", "clusters/llm-d-cluster$", FOUND)
    path = tmp_path / "kubeconfig"
    run_module("gke_credentials", path=str(path), **OPTIONS)
    google.token = AccessToken("ya29.fresh", "2026-11-23T17:00:00Z")
    result = run_module("gke_credentials", path=str(path), **OPTIONS)
    assert result["changed"] is False
    assert "ya29.fresh" in path.read_text()
    google.on("GET", "clusters/llm-d-cluster$", {**FOUND, "endpoint": "203.0.113.8"})
    assert run_module("gke_credentials", path=str(path), **OPTIONS)["changed"] is True
    path.chmod(0o644)
    assert run_module("gke_credentials", path=str(path), **OPTIONS)["changed"] is True
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_somebody_else_is_left_alone(google: Any, run_module: Run, tmp_path: Path) -> None:
    google.on("GET", "clusters/llm-d-cluster$", FOUND)
    path = tmp_path / "config"
    path.write_text("apiVersion: v1\n")
    for options in ({**OPTIONS}, {"state": "absent"}):
        assert run_module("gke_credentials", path=str(path), **options)["error"]["code"] == "KUBECONFIG_FOREIGN"
    assert path.read_text() == "apiVersion: v1\n"
    assert run_module("gke_credentials", path=str(path), force=True, **OPTIONS)["changed"] is True


def test_removing_asks_nobody(google: Any, run_module: Run, tmp_path: Path) -> None:
    google.on("GET", "clusters/llm-d-cluster$", FOUND)
    path = tmp_path / "kubeconfig"
    run_module("gke_credentials", path=str(path), **OPTIONS)
    asked = len(google.requests)
    assert run_module("gke_credentials", check=True, path=str(path), state="absent")["changed"] is True
    assert path.exists()
    assert run_module("gke_credentials", path=str(path), state="absent")["changed"] is True
    assert run_module("gke_credentials", path=str(path), state="absent")["changed"] is False
    assert len(google.requests) == asked


def test_the_dns_endpoint_has_a_public_certificate(google: Any, run_module: Run) -> None:
    dns = {"dnsEndpointConfig": {"endpoint": "gke-1.us-central1-a.gke.goog", "allowExternalTraffic": True}}
    google.on("GET", "clusters/llm-d-cluster$", {**FOUND, "controlPlaneEndpointsConfig": dns})
    result = run_module("gke_credentials", endpoint="dns", **OPTIONS)
    assert (result["host"], result["ca_cert"]) == ("https://gke-1.us-central1-a.gke.goog", "")
    assert result["changed"] is False


def test_no_cluster_or_not_yet(google: Any, run_module: Run, error_reply: Callable[..., Any]) -> None:
    google.on("GET", "clusters/llm-d-cluster$", {"name": "llm-d-cluster", "status": "PROVISIONING"})
    assert run_module("gke_credentials", **OPTIONS)["error"]["code"] == "CLUSTER_NOT_READY"
    google.on("GET", "clusters/", error_reply(404, "Not found: projects/p/zones/z/clusters/c.", canonical="NOT_FOUND"))
    assert run_module("gke_credentials", **OPTIONS)["error"]["code"] == "CLUSTER_NOT_FOUND"
    assert run_module("gke_credentials", cluster="c")["failed"] is True
    missing = run_module("gke_credentials", missing_ok=True, **OPTIONS)
    assert (missing["exists"], missing["changed"]) == (False, False)


def test_a_path_that_cannot_be_written(google: Any, run_module: Run, tmp_path: Path) -> None:
    google.on("GET", "clusters/llm-d-cluster$", FOUND)
    (tmp_path / "file").write_text("")
    result = run_module("gke_credentials", path=str(tmp_path / "file" / "kubeconfig"), **OPTIONS)
    assert result["error"]["code"] == "KUBECONFIG_UNUSABLE"
