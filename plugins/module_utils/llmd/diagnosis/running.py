# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a module's parameters to an observation (options: fragment ``llmd.gke.deployment``)."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp.access import cluster_access
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, open_session
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.observe import Pass
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.read_google import where_of
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Observation, Scope, Server

REQUEST_SECONDS = (2.0, 6.0)
SERVER = {name: {"type": "str", "required": True} for name in ("model", "pool", "release")}


def observation_spec(**own: Any) -> dict[str, Any]:
    """Options of Google, of the cluster, of the deployment, and a module's own."""
    required = {name: {"type": "str", "required": True} for name in ("region", "location", "cluster", "model")}
    named = {name: {"type": "str", "required": True} for name in ("gateway", "route", "pool")}
    return argument_spec(
        **kube_argument_spec(
            **required,
            **named,
            network={"type": "str", "default": "default"},
            namespace={"type": "str", "default": "llm-d"},
            release={"type": "str", "default": "pattern1"},
            servers={"type": "list", "elements": "dict", "default": [], "options": dict(SERVER)},
            body_router={"type": "str", "default": ""},
            role_label={"type": "str", "default": ""},
            hf_secret={"type": "str", "default": "", "no_log": False},
            hf_secret_key={"type": "str", "default": "HF_TOKEN", "no_log": False},
            services={"type": "list", "elements": "str", "default": []},
            crds={"type": "list", "elements": "str", "default": []},
            picker_label={"type": "str", "default": "inferencepool"},
            request_counter={"type": "str", "required": True},
            response_header={"type": "str", "required": True},
            scorers={"type": "dict", "default": {}},
            minimum_version={"type": "str", "default": ""},
            base_url={"type": "str", "default": ""},
            host_header={"type": "str", "default": ""},
            ca_file={"type": "path"},
            probe={"type": "bool", "default": True},
            timeout={"type": "float", "default": 9},
            **own,
        )
    )


def scope_of(params: Mapping[str, Any]) -> Scope:
    """The deployment that the options describe."""
    release, router = params["release"], params["body_router"]
    servers = tuple(Server(entry["model"], entry["pool"], entry["release"]) for entry in params["servers"])
    served = servers or (Server(params["model"], params["pool"], f"ms-{release}"),)
    return Scope(
        project=params["project"],
        region=params["region"],
        location=params["location"],
        cluster=params["cluster"],
        network=params["network"],
        namespace=params["namespace"],
        release=release,
        gateway=params["gateway"],
        route=params["route"],
        pool=params["pool"],
        model=params["model"],
        servers=served,
        body_router=router,
        role_label=params["role_label"],
        secret=params["hf_secret"],
        secret_key=params["hf_secret_key"],
        services=tuple(params["services"]),
        crds=tuple(params["crds"]),
        releases=(
            f"infra-{release}",
            *([f"bbr-{release}"] if router else []),
            *(name for server in served for name in (server.pool, server.release)),
        ),
        picker_label=params["picker_label"],
        scorers={name: float(weight) for name, weight in params["scorers"].items()},
        response_header=params["response_header"],
        request_counter=params["request_counter"],
        minimum_version=params["minimum_version"],
    )


def connect(params: Mapping[str, Any], session: GoogleSession | None, scope: Scope) -> KubeClient:
    """A client for the cluster: from the options, else through the Google API, the token in memory only."""
    given = any(params.get(name) for name in ("kubeconfig", "host")) or os.environ.get("K8S_AUTH_KUBECONFIG")
    if given or session is None:
        return client_from_params(dict(params), REQUEST_SECONDS, patience=0)
    access = cluster_access(session, where_of(scope))
    cluster: dict[str, str] = {"server": access.host}
    if access.ca_cert:
        cluster["certificate-authority-data"] = base64.b64encode(access.ca_cert.encode()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "c", "user": {"token": access.token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    return client_from_params({"kubeconfig": document}, REQUEST_SECONDS, patience=0)


def observe(params: Mapping[str, Any], *, generate: bool = True) -> tuple[Observation, Pass]:
    """Look at everything once. Never raises for what the deployment lacks. generate: ask the endpoint for a token."""
    scope = scope_of(params)
    session: GoogleSession | None = None
    trouble: LlmdError | None = None
    try:
        session = open_session(params, deadline=float(params["timeout"]) * 0.5)
    except LlmdError as error:
        trouble = error
    look = Pass(
        scope,
        session,
        lambda: connect(params, session, scope),
        seconds=float(params["timeout"]),
        probe=bool(params["probe"]),
        generate=generate,
        base_url=params["base_url"],
        host_header=params["host_header"],
        ca_file=params["ca_file"] or "",
    )
    if trouble is not None:
        look.seen.unread["google_cloud"] = trouble
    return look.run(), look
