# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way into a cluster without any plugin binary: endpoint, CA, a short-lived token; and the kubeconfig for it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import clusters
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json

MARK = "# Written by llmd.gke.gke_credentials; holds a short-lived token. Run the task again for a fresh one."
LEAST_TOKEN_SECONDS = 1800.0


@dataclass(frozen=True)
class ClusterAccess:
    """``host`` is an https URL; ``ca_cert`` PEM text, empty for an endpoint with a public certificate."""

    host: str
    ca_cert: str
    context: str
    token: str = field(repr=False)
    expires_at: str


def cluster_access(session: GoogleSession, where: Where, *, endpoint: str = "auto") -> ClusterAccess:
    """Access to a cluster. endpoint: ip, dns or auto (ip where there is one).

    Raises LlmdError CLUSTER_NOT_FOUND, CLUSTER_NOT_READY; GoogleApiError.
    """
    cluster = clusters.get(session, where)
    if cluster is None:
        raise LlmdError(
            f"There is no cluster {where.cluster} in {where.location}",
            code="CLUSTER_NOT_FOUND",
            where=where.path(session.project),
            remedy="Create it first (role gke_gpu_cluster), or check llmd_cluster_name and llmd_zone.",
        )
    return of_cluster(session, where, cluster, endpoint=endpoint)


def of_cluster(session: GoogleSession, where: Where, cluster: Json, *, endpoint: str = "auto") -> ClusterAccess:
    """The same for a cluster that was read already. Raises LlmdError CLUSTER_NOT_READY; GoogleApiError."""
    host, ca = _address(cluster, endpoint)
    if not host:
        raise LlmdError(
            f"Cluster {where.cluster} has no usable endpoint",
            code="CLUSTER_NOT_READY",
            where=where.path(session.project),
            why=f"status {cluster.get('status')}, endpoint option {endpoint}",
            remedy="Wait until it is RUNNING (llmd.gke.gke_cluster waits), or choose another endpoint option.",
        )
    token = session.access_token(min_seconds=LEAST_TOKEN_SECONDS)
    context = f"gke_{session.project}_{where.location}_{where.cluster}"
    return ClusterAccess(host, ca, context, token.value, token.expires_at)


def _address(cluster: Json, endpoint: str) -> tuple[str, str]:
    ip = str(cluster.get("endpoint") or "")
    encoded = str((cluster.get("masterAuth") or {}).get("clusterCaCertificate") or "")
    if endpoint in ("auto", "ip") and ip and encoded:
        return f"https://{ip}", base64.b64decode(encoded).decode()
    dns = (cluster.get("controlPlaneEndpointsConfig") or {}).get("dnsEndpointConfig") or {}
    if endpoint in ("auto", "dns") and dns.get("endpoint") and dns.get("allowExternalTraffic"):
        return f"https://{dns['endpoint']}", ""  # served with a public certificate
    return "", ""


def render_kubeconfig(access: ClusterAccess) -> str:
    """A kubeconfig with one context. JSON strings are YAML strings, so no YAML library is needed."""
    name = json.dumps(access.context)
    ca = ""
    if access.ca_cert:
        ca = f"\n    certificate-authority-data: {json.dumps(base64.b64encode(access.ca_cert.encode()).decode())}"
    expiry = f"\n# Token expires: {access.expires_at}" if access.expires_at else ""
    return f"""{MARK}{expiry}
apiVersion: v1
kind: Config
current-context: {name}
clusters:
- name: {name}
  cluster:
    server: {json.dumps(access.host)}{ca}
users:
- name: {name}
  user:
    token: {json.dumps(access.token)}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
"""


def without_token(kubeconfig: str) -> str:
    """What matters of a kubeconfig of ours: everything but the token and its expiry."""
    lines = kubeconfig.splitlines()
    return "\n".join(
        line for line in lines if not line.startswith("    token: ") and not line.startswith("# Token expires:")
    )


def read_own(path: str, *, force: bool) -> str | None:
    """The kubeconfig at ``path``, None where there is none. Refuses (KUBECONFIG_FOREIGN) a file that is not ours."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, error) from error
    if not text.startswith(MARK) and not force:
        raise ConfigurationError(
            f"{path} exists and was not written by this module",
            code="KUBECONFIG_FOREIGN",
            where=path,
            remedy="Give a path of its own, or force: true to replace the file.",
        )
    return text


def write_private(path: str, text: str) -> None:
    """Replace ``path`` in one step by a file that only its owner can read."""
    folder = os.path.dirname(path) or "."
    temporary = ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".kubeconfig-", dir=folder)  # mkstemp makes it 0600
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise _unusable(path, error) from error


def mode_of(path: str) -> int:
    """Permission bits of a file."""
    return os.stat(path).st_mode & 0o777


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"The kubeconfig {path} cannot be used",
        code="KUBECONFIG_UNUSABLE",
        where=path,
        why=str(error),
        remedy="Choose another path, or make this one writable.",
    )
