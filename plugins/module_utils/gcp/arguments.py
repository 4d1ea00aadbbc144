# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that every Google module takes, the session they describe, and the one way a module runs and ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ansible.module_utils.basic import env_fallback
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.gcp import credentials
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, RetryPolicy, resolve_endpoints
from ansible_collections.llmd.gke.plugins.module_utils.gcp.transport import RequestsTransport


def argument_spec(**own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The shared options (fragment ``llmd.gke.gcp``) together with a module's own."""
    shared: dict[str, dict[str, Any]] = {
        "project": {
            "type": "str",
            "required": True,
            "fallback": (env_fallback, ["GCP_PROJECT", "GOOGLE_CLOUD_PROJECT"]),
        },
        "auth_kind": {
            "type": "str",
            "choices": ["application", "machineaccount", "serviceaccount", "accesstoken"],
            "default": "application",
            "fallback": (env_fallback, ["GCP_AUTH_KIND"]),
        },
        "service_account_file": {"type": "path", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_FILE"])},
        "service_account_contents": {
            "type": "jsonarg",
            "no_log": True,
            "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_CONTENTS"]),
        },
        "service_account_email": {"type": "str", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_EMAIL"])},
        "access_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["GCP_ACCESS_TOKEN"])},
        "impersonate_service_account": {
            "type": "str",
            "fallback": (
                env_fallback,
                [
                    "GCP_IMPERSONATE_SERVICE_ACCOUNT",
                    "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
                    "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
                ],
            ),
        },
        "scopes": {"type": "list", "elements": "str", "fallback": (env_fallback, ["GCP_SCOPES"])},
        "api_endpoint_overrides": {"type": "dict", "default": {}},
        "api_propagation_timeout": {"type": "int", "default": 0},
    }
    return {**shared, **own}


def pool_options(**own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options that describe a node pool, for gke_cluster (inside ``node_pools``) and gke_node_pool."""
    pool: dict[str, dict[str, Any]] = {
        "name": {"type": "str", "required": True},
        "machine_type": {"type": "str"},
        "node_count": {"type": "int"},
        "accelerator": {
            "type": "dict",
            "options": {
                "type": {"type": "str", "required": True},
                "count": {"type": "int", "default": 1},
                "driver_version": {"type": "str", "choices": ["default", "latest", "disabled"], "default": "default"},
            },
        },
        "autoscaling": {
            "type": "dict",
            "options": {
                "enabled": {"type": "bool", "default": True},
                "min": {"type": "int", "default": 0},
                "max": {"type": "int"},
                "location_policy": {"type": "str", "choices": ["balanced", "any"]},
            },
        },
        "locations": {"type": "list", "elements": "str"},
        "reservation": {
            "type": "dict",
            "options": {
                "affinity": {"type": "str", "required": True, "choices": ["none", "any", "specific"]},
                "name": {"type": "str"},
            },
        },
        "upgrade_settings": {
            "type": "dict",
            "options": {
                "max_surge": {"type": "int", "default": 1},
                "max_unavailable": {"type": "int", "default": 0},
            },
        },
        "spot": {"type": "bool"},
        "placement": {
            "type": "dict",
            "options": {
                "type": {"type": "str", "choices": ["compact"], "default": "compact"},
                "policy": {"type": "str", "default": ""},
            },
        },
        "accelerator_network_profile": {"type": "str", "choices": ["auto"]},
        "gvnic": {"type": "bool"},
        "additional_networks": {
            "type": "list",
            "elements": "dict",
            "options": {
                "network": {"type": "str", "required": True},
                "subnetwork": {"type": "str", "required": True},
            },
        },
        "labels": {"type": "dict"},
        "taints": {
            "type": "list",
            "elements": "dict",
            "options": {
                "key": {"type": "str", "required": True, "no_log": False},
                "value": {"type": "str", "default": ""},
                "effect": {"type": "str", "required": True, "choices": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            },
        },
        "disk_size_gb": {"type": "int"},
        "disk_type": {"type": "str"},
        "service_account": {"type": "str"},
        "fallbacks": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "zone": {"type": "str"},
                "machine_type": {"type": "str"},
                "type": {"type": "str"},
                "count": {"type": "int", "default": 1},
                "spot": {"type": "bool"},
            },
        },
    }
    return {**pool, **own}


def cluster_options() -> dict[str, dict[str, Any]]:
    """The options of gke_cluster."""
    return {
        "name": {"type": "str", "required": True},
        "location": {"type": "str", "required": True},
        "network": {"type": "str", "default": "default"},
        "subnetwork": {"type": "str"},
        "release_channel": {"type": "str", "choices": ["RAPID", "REGULAR", "STABLE", "EXTENDED"]},
        "version": {"type": "str"},
        "private_nodes": {"type": "bool"},
        "dataplane_v2": {"type": "bool"},
        "multi_networking": {"type": "bool"},
        "authorized_networks": {
            "type": "list",
            "elements": "dict",
            "options": {"cidr": {"type": "str", "required": True}, "name": {"type": "str", "default": ""}},
        },
        "maintenance_window": {
            "type": "dict",
            "options": {
                "start": {"type": "str", "required": True},
                "end": {"type": "str"},
                "recurrence": {"type": "str"},
            },
        },
        "gateway_api": {"type": "str", "choices": ["standard", "disabled"], "default": "standard"},
        "workload_identity": {"type": "bool", "default": True},
        "labels": {"type": "dict", "default": {}},
        "creation_labels": {"type": "dict", "default": {}},
        "deployment": {"type": "str", "default": ""},
        "node_pools": {"type": "list", "elements": "dict", "default": [], "options": pool_options()},
        "change_adopted": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "timeout": {"type": "int", "default": 2400},
        "cancel_on_timeout": {"type": "bool", "default": False},
    }


def open_session(params: Mapping[str, Any], *, deadline: float | None = None) -> GoogleSession:
    """The session that a module's parameters describe. ``deadline``: seconds for everything that may be waited for.

    Raises ConfigurationError, before anything is sent.
    """
    endpoints = resolve_endpoints(params.get("api_endpoint_overrides"), os.environ)
    settings = credentials.AuthSettings.from_params(params, iamcredentials=endpoints["iamcredentials"])
    transport = RequestsTransport(settings)
    policy = RetryPolicy(propagation=float(params.get("api_propagation_timeout") or 0))
    return GoogleSession(
        transport,
        project=params["project"],
        endpoints=endpoints,
        policy=policy,
        deadline=deadline,
        cancel_late=bool(params.get("cancel_on_timeout")),
    )


def run(module: Any, work: Callable[[GoogleSession], dict[str, Any]], *, deadline: float | None = None) -> NoReturn:
    """Open a session, do the work, end the module: result or error of the tree, always with ``api_calls``."""
    session: GoogleSession | None = None
    try:
        session = open_session(module.params, deadline=deadline)
        result = work(session)
    except LlmdError as error:
        fail(module, error, api_calls=dict(session.calls) if session is not None else {})
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result, api_calls=dict(session.calls))
    raise SystemExit(0)  # exit_json has ended the process; this says so to the type checker


def diff(before: object, after: object) -> dict[str, object]:
    """The ``diff`` of a result; what is not there shows as nothing."""
    return {"before": before or "", "after": after or ""}
