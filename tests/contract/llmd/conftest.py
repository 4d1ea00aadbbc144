"""A real API server (etcd and kube-apiserver, nothing else) on the loopback: releases are installed, pods never run."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import paths
from sandbox.charts.package import package

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "loopback-only"
PROGRAMS = ("etcd", "kube-apiserver", "kubectl", "helm")


@dataclass(frozen=True)
class Api:
    """The server: kubectl with JSON out, and the environment for programs that talk to it."""

    kubeconfig: Path
    environment: dict[str, str]

    def kubectl(self, *words: str, stdin: str = "") -> str:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(
            command, input=stdin, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.kubectl(*words, "-o", "json"))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the API server says it is ready."""
    context = ssl._create_unverified_context()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=2)
        try:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture(scope="module")
def tools() -> Path:
    folder = paths.current().bin
    missing = [name for name in PROGRAMS if not (folder / name).exists()]
    if missing or shutil.which("ansible-playbook") is None:
        pytest.skip(f"not built or not on PATH: {', '.join(missing) or 'ansible-playbook'}")
    return folder


@pytest.fixture(scope="module")
def charts(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts")
    package(folder, tools / "helm")
    return folder


@pytest.fixture
def api(tools: Path, tmp_path: Path) -> Iterator[Api]:
    """A server with nothing in it, for one test."""
    ports = [free_port() for _ in range(3)]
    key = tmp_path / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (tmp_path / "tokens").write_text(f'{TOKEN},admin,1,"system:masters"\n')
    peer = f"http://127.0.0.1:{ports[1]}"
    client = f"http://127.0.0.1:{ports[0]}"
    store = [
        *(str(tools / "etcd"), "--data-dir", str(tmp_path / "etcd"), "--unsafe-no-fsync"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    ]
    server = [
        *(str(tools / "kube-apiserver"), "--etcd-servers", client, "--cert-dir", str(tmp_path / "certificates")),
        *("--bind-address", "127.0.0.1", "--secure-port", str(ports[2]), "--authorization-mode", "AlwaysAllow"),
        *("--token-auth-file", str(tmp_path / "tokens"), "--service-cluster-ip-range", "10.96.0.0/16"),
        *("--service-account-issuer", "https://loopback", "--service-account-key-file", str(key)),
        *("--service-account-signing-key-file", str(key), "--disable-admission-plugins", "ServiceAccount"),
    ]
    logs = [tmp_path / "etcd.log", tmp_path / "apiserver.log"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command, log in zip((store, server), logs, strict=True):
            processes.append(subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT))
        wait_ready(ports[2], processes[1], logs[1])
        cluster = {"server": f"https://127.0.0.1:{ports[2]}", "insecure-skip-tls-verify": True}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "c", "user": {"token": TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        }  # fmt: skip
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_", "KUBE"))},
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks/collections"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_NOCOLOR": "1",
        }
        yield Api(kubeconfig, environment)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(20)
