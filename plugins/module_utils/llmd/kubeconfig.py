# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cluster access for helm, from the options that kubernetes.core takes. Secrets only go into a 0600 file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# option -> environment names, as kubernetes.core reads them
ENVIRONMENT = {
    "kubeconfig": ("K8S_AUTH_KUBECONFIG",),
    "context": ("K8S_AUTH_CONTEXT",),
    "host": ("K8S_AUTH_HOST",),
    "api_key": ("K8S_AUTH_API_KEY",),
    "ca_cert": ("K8S_AUTH_CA_CERT", "K8S_AUTH_SSL_CA_CERT"),
    "client_cert": ("K8S_AUTH_CLIENT_CERT", "K8S_AUTH_CERT_FILE"),
    "client_key": ("K8S_AUTH_CLIENT_KEY", "K8S_AUTH_KEY_FILE"),
    "validate_certs": ("K8S_AUTH_VALIDATE_CERTS", "K8S_AUTH_VERIFY_SSL"),
    "proxy": ("K8S_AUTH_PROXY",),
}


@dataclass(frozen=True)
class Access:
    """How helm reaches the cluster: additions to its environment, and a context name ("" = the current one)."""

    environment: dict[str, str]
    context: str = ""


def effective(params: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The options with their environment fallbacks."""
    found = {}
    for option, names in ENVIRONMENT.items():
        value = params.get(option)
        if value is None:
            value = next((environ[name] for name in names if environ.get(name)), None)
        if value is not None:
            found[option] = value
    return found


def build(options: Mapping[str, Any]) -> dict[str, Any]:
    """A kubeconfig document for host + token or client certificate."""
    cluster: dict[str, Any] = {"server": str(options["host"]).rstrip("/")}
    if str(options.get("validate_certs", "true")).lower() in ("false", "no", "0"):
        cluster["insecure-skip-tls-verify"] = True
    elif options.get("ca_cert"):
        cluster["certificate-authority"] = str(options["ca_cert"])
    if options.get("proxy"):
        cluster["proxy-url"] = str(options["proxy"])
    user = {
        key: str(options[option])
        for option, key in (("api_key", "token"), ("client_cert", "client-certificate"), ("client_key", "client-key"))
        if options.get(option)
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
        "current-context": "context",
    }


@contextmanager
def helm_access(params: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Iterator[Access]:
    """Access for helm while the block lasts; a kubeconfig that had to be written is gone afterwards."""
    options = effective(params, os.environ if environ is None else environ)
    kubeconfig, context = options.get("kubeconfig"), str(options.get("context") or "")
    direct = options.get("host") and (options.get("api_key") or options.get("client_cert"))
    document = build(options) if direct else kubeconfig if isinstance(kubeconfig, dict) else None
    if document is None:
        yield Access({"KUBECONFIG": os.path.expanduser(str(kubeconfig))} if kubeconfig else {}, context)
        return
    with TemporaryDirectory(prefix="llmd-gke-") as folder:
        path = Path(folder) / "kubeconfig"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(document, stream)
        yield Access({"KUBECONFIG": str(path)}, "" if direct else context)
