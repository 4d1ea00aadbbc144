"""The API server as a pod sees it: its ServiceAccount's token and the cluster's certificate authority."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import requests

from sandbox.gke.kubeapi import Client

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Account:
    """Where to go and as whom. Shape of ``sandbox.gke.kubeapi.Admin``; there is no client certificate."""

    server: str
    folder: Path
    cert_file: None = None
    key_file: None = None

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def namespace(self) -> str:
        return (self.folder / "namespace").read_text(encoding="ascii").strip()


class PodClient(Client):
    """A client with a token, read anew for each request since the kubelet renews it."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._account = account

    def session(self) -> requests.Session:
        session = super().session()
        token = (self._account.folder / "token").read_text(encoding="ascii").strip()
        session.headers["Authorization"] = f"Bearer {token}"
        return session


def account(folder: Path = _ACCOUNT) -> Account:
    """This pod's account. Raises OSError outside of a cluster."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise OSError("unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST must be defined")
    return Account(f"https://{host}:{port}", folder)
