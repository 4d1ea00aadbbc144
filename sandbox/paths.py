"""Where the sandbox keeps things and how its network is laid out. The only place that knows either.

Two folders matter: the *cache* (built tools, virtual environments; shared by every checkout, keyed by content) and
the *state* of one running sandbox. Several sandboxes can run side by side under different names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# Names, all overridable by environment so that tests run beside a person's own sandbox.
ENV_NAME = "LLMD_SANDBOX_NAME"
ENV_CACHE = "LLMD_SANDBOX_CACHE"
ENV_STATE = "LLMD_SANDBOX_STATE"

PROJECT_ID = "llmd-sandbox"
PROJECT_NUMBER = "123456789012"

# --- the network, all of it inside namespaces that the sandbox makes ---------------------------------------------
# Fabric: the "VPC". Addresses below live only there; documentation ranges (RFC 5737) stand for public ones.
VPC_SUBNET = "10.128.0.0/20"  # the auto-mode "default" subnet of us-central1
VPC_GATEWAY = "10.128.0.1"
API_ADDRESS = "192.0.2.10"  # googleapis.com, by path prefix and as a forward proxy
API_PORT = 80
HUB_ADDRESS = "192.0.2.11"  # huggingface.co
HUB_PORT = 80
LOAD_BALANCER_RANGE = "203.0.113.0/24"  # external addresses of load balancers
CONTROL_PLANE_RANGE = "172.16.0.0/16"  # cluster n: 172.16.n.0/28, API server at .2 port 443
SERVICE_RANGE = "34.118.224.0/20"  # GKE's own default for Services
CLUSTER_DNS = "34.118.224.10"


@dataclass(frozen=True)
class Paths:
    """Folders of one sandbox. ``name`` is a DNS label of at most 8 characters: interface names are short."""

    name: str
    cache: Path
    state: Path

    @property
    def bin(self) -> Path:
        """Built tools (etcd, kube-*, helm, ...): a link that the toolchain points at the current build."""
        return self.cache / "bin"

    @property
    def venvs(self) -> Path:
        return self.cache / "venv"

    @property
    def envoy(self) -> Path:
        """Envoy: inside the wheel of the ``envoy`` virtual environment, else that environment's command."""
        home = self.venvs / "envoy"
        inside = sorted(home.glob("lib/python*/site-packages/envoy/_bin/envoy"))
        return inside[0] if inside else home / "bin" / "envoy"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def credentials(self) -> Path:
        return self.state / "credentials"

    @property
    def clusters(self) -> Path:
        return self.state / "clusters"

    @property
    def environment_file(self) -> Path:
        """``KEY=value`` lines: what a client of the emulated Google Cloud needs in its environment."""
        return self.state / "environment"

    @property
    def proxy_environment_file(self) -> Path:
        """The same for a client without endpoint overrides: Google's own URLs, through the sandbox's proxy."""
        return self.state / "environment.proxy"

    def namespace(self, role: str) -> str:
        """Name of a network namespace: ``fabric``, ``cp1`` (control plane of cluster 1), ``n1-3`` (its node 3)."""
        return f"{self.name}-{role}"

    @property
    def fabric(self) -> str:
        return self.namespace("fabric")


def current() -> Paths:
    """Paths of the sandbox that the environment names (default ``llmd``)."""
    name = os.environ.get(ENV_NAME) or "llmd"
    if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", name):
        raise ValueError(f"{ENV_NAME}={name!r}: a sandbox name is 1 to 8 lowercase letters and digits, a letter first")
    cache = Path(os.environ.get(ENV_CACHE) or "/var/cache/llmd-gke")
    state = Path(os.environ.get(ENV_STATE) or "/var/lib/llmd-gke") / name
    return Paths(name=name, cache=cache, state=state)
