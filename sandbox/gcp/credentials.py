"""Files and environment with which a client becomes a caller of the emulated Google Cloud."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import paths as sandbox_paths
from sandbox.gcp.world import EDITOR, OPERATOR, World

if TYPE_CHECKING:
    from sandbox.gcp.tls import CertificateAuthority

BASE_URL = f"http://{sandbox_paths.API_ADDRESS}"
TOKEN_LIFETIME = 30 * 86400.0  # of the token file for gcloud, seconds
SERVICES = ("compute", "container", "serviceusage", "cloudresourcemanager", "cloudbilling", "iam", "iamcredentials",
            "sts", "oauth2", "monitoring", "networkservices", "logging")  # fmt: skip
# gcloud wants the version path in compute's override and not in the others'.
_GCLOUD = {"compute": "compute/v1/", "container": "", "serviceusage": "", "cloudresourcemanager": "", "iam": "",
           "iamcredentials": ""}  # fmt: skip


def endpoint(service: str, base_url: str = BASE_URL) -> str:
    """Base of a service by path prefix, without version, with a slash: for api_endpoint overrides."""
    return f"{base_url}/{service}.googleapis.com/"


def write_credentials(
    world: World,
    paths: sandbox_paths.Paths,
    *,
    base_url: str = BASE_URL,
    authority: CertificateAuthority | None = None,
) -> dict[str, str]:
    """Write key files, token file and environment file; the environment as a dictionary.

    Everything is readable by its owner only. Existing files are replaced: keys of an earlier sandbox mean nothing.
    """
    folder = paths.credentials
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for account, name in ((OPERATOR, "service-account.json"), (EDITOR, "editor.json")):
        write_key(world, world.email(account), folder / name, base_url)
    token = world.accounts.issue(world.email(OPERATOR), lifetime=TOKEN_LIFETIME)
    write_private(folder / "access-token", token)
    if authority is not None:
        write_private(folder / "proxy-ca.pem", authority.pem.decode())
    variables = environment(world, paths, base_url)
    write_private(paths.environment_file, "".join(f"{key}={value}\n" for key, value in variables.items()))
    plain = {key: value for key, value in variables.items() if "_ENDPOINT_" not in key}
    proxied = plain | proxy_environment(paths, base_url)
    write_private(paths.proxy_environment_file, "".join(f"{key}={value}\n" for key, value in proxied.items()))
    return variables


def write_key(world: World, email: str, path: Path, base_url: str = BASE_URL) -> None:
    """A new key of a service account as Google's JSON key file."""
    identifier, pem = world.accounts.new_key(email)
    write_private(path, json.dumps(key_content(world, email, identifier, pem, base_url), indent=2) + "\n")


def key_content(world: World, email: str, identifier: str, pem: bytes, base_url: str) -> dict[str, str]:
    account = world.accounts.get(email)
    return {
        "type": "service_account",
        "project_id": world.project,
        "private_key_id": identifier,
        "private_key": pem.decode(),
        "client_email": email,
        "client_id": account.unique_id if account else "0",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": f"{base_url}/oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    }


def environment(world: World, paths: sandbox_paths.Paths, base_url: str = BASE_URL) -> dict[str, str]:
    """Variables of a client that uses endpoint overrides."""
    hub = f"http://{sandbox_paths.HUB_ADDRESS}"
    variables = {
        "GOOGLE_APPLICATION_CREDENTIALS": str(paths.credentials / "service-account.json"),
        "GOOGLE_CLOUD_PROJECT": world.project,
        "HF_TOKEN": "hf_sandbox",
        "HF_ENDPOINT": hub,
    }
    variables |= {f"LLMD_GKE_API_ENDPOINT_{service.upper()}": endpoint(service, base_url) for service in SERVICES}
    return variables | gcloud_environment(world, paths.credentials / "access-token", paths.state / "gcloud", base_url)


def gcloud_environment(world: World, token_file: Path, config: Path, base_url: str = BASE_URL) -> dict[str, str]:
    """What makes a real gcloud talk to the emulator and to nobody else."""
    overrides = {
        f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}": endpoint(service, base_url) + version
        for service, version in _GCLOUD.items()
    }
    return {
        "CLOUDSDK_CONFIG": str(config),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token_file),
        "CLOUDSDK_CORE_PROJECT": world.project,
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "0",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_CORE_SURVEY_DISABLE_PROMPTS": "1",
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "USE_GKE_GCLOUD_AUTH_PLUGIN": "True",
        **overrides,
    }


def proxy_environment(paths: sandbox_paths.Paths, base_url: str = BASE_URL) -> dict[str, str]:
    """Variables of a client without overrides: Google's own URLs through the proxy, with our CA."""
    authority = str(paths.credentials / "proxy-ca.pem")
    inside = "localhost,127.0.0.1,10.0.0.0/8,172.16.0.0/12,192.0.2.0/24,203.0.113.0/24"
    return {
        "HTTPS_PROXY": base_url,
        "https_proxy": base_url,
        "NO_PROXY": inside,
        "no_proxy": inside,
        "REQUESTS_CA_BUNDLE": authority,
        "SSL_CERT_FILE": authority,
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": authority,
    }


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as output:
        output.write(text)
    temporary.rename(path)
