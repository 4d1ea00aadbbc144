#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_preflight
short_description: Find out what would stop a deployment, before anything is made or spent
version_added: 0.1.0
description:
  - Checks credentials, project, permissions, APIs, zone, machine types, accelerators, quotas, the proxy-only
    range, the Hugging Face
    token with the model, helm and Python libraries. All findings come at once, each with a code and a remedy.
  - It only reads. Permissions are asked for one by one (C(testIamPermissions)), never guessed from the names of roles.
  - A check that needs an API which is not enabled yet is reported as unknown and does not fail the task, since
    the playbook enables the API.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  region:
    description: Region of the deployment. The zone's region if not set.
    type: str
  zone:
    description: Zone of the cluster.
    type: str
  network:
    description: VPC network.
    type: str
    default: default
  services:
    description: APIs that the deployment needs.
    type: list
    elements: str
    default: [compute, container, networkservices]
  permissions:
    description:
      - Permissions on the project that the deployment needs. A built-in list that fits the main job if not set.
    type: list
    elements: str
  machine_types:
    description: Machine types of the nodes, each as name (one node) or as dictionary with C(name) and C(nodes).
    type: list
    elements: raw
    default: []
  accelerators:
    description:
      - GPUs, as one dictionary or a list of them, each with C(type), C(count) (of each node, default 1),
        C(nodes) (default 1) and
        C(spot) (default false).
    type: raw
  cluster:
    description:
      - Name of the cluster to be. If it exists already, short quota is a warning, because its own nodes are among
        the used ones.
    type: str
    default: ''
  proxy_subnet_range:
    description: Range for the proxy-only subnet, judged only where the region has none yet.
    type: str
  hf_token:
    description: Hugging Face token. Never shown. If not set, the environment variable E(HF_TOKEN) is used.
    type: str
  model:
    description: Model that the token must be able to read, C(owner/name).
    type: str
  hf_endpoint:
    description:
      - Address of the Hugging Face hub or a mirror. If not set, the environment variable E(HF_ENDPOINT) is used,
        then the public hub.
    type: str
  require_helm:
    description: Check that helm 3.12 or newer is there.
    type: bool
    default: true
  fail_on:
    description:
      - With V(error) the task fails when a check has found an error, listing all of them. With V(never) it only
        reports.
    type: str
    choices: [error, never]
    default: error
attributes:
  check_mode:
    support: full
    description: A reader, the same in check mode.
  diff_mode:
    support: none
    description: Nothing is changed, so there is nothing to compare.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Look before anything is made
  llmd.gke.gcp_preflight:
    project: my-project
    region: us-central1
    zone: us-central1-a
    machine_types: [{name: n1-standard-4, nodes: 3}]
    accelerators: {type: nvidia-tesla-t4, count: 1, nodes: 1}
    proxy_subnet_range: 192.168.0.0/23
    model: google/gemma-2b-it
    hf_token: "{{ llmd_hf_token }}"
"""

RETURN = r"""
checks:
  description: All findings, in the order in which they were made.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: What was checked.
      type: str
    ok:
      description: False for what will stop the deployment.
      type: bool
    severity:
      description: ok, warning, unknown or error.
      type: str
    detail:
      description: What was found.
      type: str
    code:
      description: Stable code, empty where all is well.
      type: str
    remedy:
      description: What to do about it.
      type: str
passed:
  description: True where no check found an error.
  returned: always
  type: bool
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {compute.regions.get: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: PREFLIGHT_FAILED, what: "...", remedy: "..."}
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments, iam, preflight, preflight_local
from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import Check, failed, table
from ansible_collections.llmd.gke.plugins.module_utils.gcp.locations import region_of_zone


def node_plans(machine_types: list[Any], accelerators: Any) -> tuple[preflight.NodePlan, ...]:
    """Nodes from the two options. Raises ConfigurationError PREFLIGHT_OPTION."""
    given = [] if not accelerators else [accelerators] if isinstance(accelerators, dict) else accelerators
    try:
        plans = [
            preflight.NodePlan(item, 1)
            if isinstance(item, str)
            else preflight.NodePlan(str(item["name"]), int(item.get("nodes", 1)))
            for item in machine_types
        ]
        plans += [
            preflight.NodePlan(
                "",
                int(item.get("nodes", 1)),
                str(item["type"]),
                int(item.get("count", 1)),
                bool(item.get("spot", False)),
            )
            for item in given
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            "machine_types or accelerators have a form that is not understood",
            code="PREFLIGHT_OPTION",
            why=f"{type(error).__name__}: {error}",
            remedy="machine_types: [{name: n1-standard-4, nodes: 2}], "
            "accelerators: {type: nvidia-tesla-t4, count: 1, nodes: 1}",
        ) from error
    return tuple(plan for plan in plans if plan.count > 0)


def google_checks(params: dict[str, Any]) -> tuple[list[Check], dict[str, int]]:
    """Google's side; a session that cannot be opened is a finding like any other."""
    permissions = iam.NEEDED_PERMISSIONS if params["permissions"] is None else params["permissions"]
    zone = params["zone"] or ""
    plan = preflight.Plan(
        region=params["region"] or region_of_zone(zone),
        zone=zone,
        network=params["network"],
        services=tuple(params["services"]),
        permissions=tuple(permissions),
        nodes=node_plans(params["machine_types"], params["accelerators"]),
        proxy_range=params["proxy_subnet_range"] or "",
        cluster=params["cluster"],
    )
    try:
        session = arguments.open_session(params, deadline=60.0)
    except LlmdError as error:
        return [failed("credentials", error)], {}
    return preflight.check_project(session, plan), dict(session.calls)


def local_checks(module: Any) -> list[Check]:
    params = module.params
    checks = [preflight_local.python_libraries()]
    if params["require_helm"]:

        def version(path: str) -> str:
            return str(module.run_command([path, "version", "--short"])[1])

        checks.append(preflight_local.helm(lambda: module.get_bin_path("helm"), version))
    if params["model"] or params["hf_token"]:
        endpoint = params["hf_endpoint"] or os.environ.get("HF_ENDPOINT", "")
        checks += preflight_local.model_access(params["model"] or "", params["hf_token"] or "", endpoint)
    return checks


def main() -> None:
    module = AnsibleModule(
        argument_spec=arguments.argument_spec(
            region={"type": "str"},
            zone={"type": "str"},
            network={"type": "str", "default": "default"},
            services={"type": "list", "elements": "str", "default": ["compute", "container", "networkservices"]},
            permissions={"type": "list", "elements": "str"},
            machine_types={"type": "list", "elements": "raw", "default": []},
            accelerators={"type": "raw"},
            cluster={"type": "str", "default": ""},
            proxy_subnet_range={"type": "str"},
            hf_token={"type": "str", "no_log": True, "fallback": (env_fallback, ["HF_TOKEN"])},
            model={"type": "str"},
            hf_endpoint={"type": "str"},
            require_helm={"type": "bool", "default": True},
            fail_on={"type": "str", "choices": ["error", "never"], "default": "error"},
        ),
        supports_check_mode=True,
    )
    try:
        checks, calls = google_checks(module.params)
        checks += local_checks(module)
    except LlmdError as error:
        fail(module, error, api_calls={})
    bad = [check for check in checks if not check.ok]
    result = {"checks": [check.as_result() for check in checks], "passed": not bad, "api_calls": calls}
    if bad and module.params["fail_on"] == "error":
        verdict = ConfigurationError(
            f"Preflight found {len(bad)} of {len(checks)} checks that will stop the deployment",
            code=bad[0].code if len(bad) == 1 else "PREFLIGHT_FAILED",
            why="\n" + table(bad),
            remedy="Correct what is listed and run again; the preflight itself changes nothing.",
            evidence=[check.as_result() for check in bad],
        )
        fail(module, verdict, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
