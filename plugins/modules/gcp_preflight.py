#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_preflight
short_description: Find out what would stop a deployment, before anything is made or spent
version_added: 0.1.0
description:
  - Checks credentials, project, billing, permissions, APIs, zone, machine types, accelerators, the quota of all nodes
    together, GKE versions, GatewayClass, subnet and proxy-only range, the Hugging Face token with the model, whether
    the model fits the GPU, helm and Python libraries. All findings come at once, each with status, code, evidence and
    remedy; no finding hides another.
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
      - Permissions on the project that the deployment needs. A built-in list that fits the main job if not set, with
        those for O(service_account) where one is to be made; what only later jobs need is then a warning.
    type: list
    elements: str
  permission_options:
    description: Variables in use that ask for permissions of their own.
    type: list
    elements: str
    choices: [llmd_address, llmd_network_policies, llmd_autoscaling]
    default: []
  subnetwork:
    description: Subnet of the nodes, which must be in the region. Not checked if not set.
    type: str
    default: ''
  node_pools:
    description:
      - Pools that will be made, in the words of M(llmd.gke.gke_cluster). Only name, machine_type, node_count,
        accelerator, autoscaling, locations, spot, disk_type, disk_size_gb and fallbacks are looked at; other keys may
        be there.
      - Each fallback is judged as if it had to be taken. One that cannot be had is a warning. Where quota is short for
        the first choice and a fallback has room, that is a warning too, as the run takes the fallback.
    type: list
    elements: dict
    default: []
  release_channel:
    description: Release channel of the cluster to be.
    type: str
    default: ''
  minimum_version:
    description: Least GKE version that the deployment works with.
    type: str
    default: ''
  gateway_class:
    description: GatewayClass, which must be able to route to an InferencePool.
    type: str
    default: ''
  cluster:
    description:
      - Name of the cluster to be. If it exists already, short quota is a warning, because its own nodes are among
        the used ones.
    type: str
    default: ''
  service_account:
    description:
      - Whom the nodes will run as. An address must be there; for a name (without C(@)) the rights to make it are
        checked. Not checked if not set.
    type: str
    default: ''
  private_nodes:
    description: Nodes have no external addresses, so that those are not asked for.
    type: bool
    default: false
  static_addresses:
    description: External addresses that will be reserved in the region.
    type: int
    default: 0
  proxy_subnet_range:
    description: Range for the proxy-only subnet, judged only where the region has none yet.
    type: str
  proxy_subnet_name:
    description: Name for the proxy-only subnet.
    type: str
    default: proxy-only-subnet
  hf_token:
    description: Hugging Face token. Never shown. If not set, the environment variable E(HF_TOKEN) is used.
    type: str
  hf_token_optional:
    description:
      - The deployment does not need O(hf_token), because the weights lie on a volume or somebody else keeps the Secret.
        None is no error then, and one that is refused is a warning.
    type: bool
    default: false
  model:
    description: Model that the token must be able to read, C(owner/name).
    type: str
  hf_endpoint:
    description:
      - Address of the Hugging Face hub or a mirror. If not set, the environment variable E(HF_ENDPOINT) is used,
        then the public hub.
    type: str
  serving:
    description:
      - How the model server will be started. With O(model), O(gpus) and a pool with GPUs it is judged whether the model
        starts there.
    type: dict
    suboptions:
      dtype:
        description: Type of the weights, as vLLM names them.
        type: str
        default: auto
      gpu_memory_utilization:
        description: Share of the GPU's memory.
        type: float
        default: 0.9
      max_num_seqs:
        description: Sequences at the same time.
        type: int
        default: 256
      max_model_len:
        description: Longest request in tokens, V(0) for the model's own.
        type: int
        default: 0
      tensor_parallel:
        description: GPUs that share one replica.
        type: int
        default: 1
      volume:
        description: Size of the volume for the model's files, as Kubernetes quantity.
        type: str
        default: ''
  models:
    description:
      - Models to judge instead of O(model), each with how it will be served (as O(serving)) and on which accelerator.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Model on the hub, C(owner/name).
        type: str
        required: true
      accelerator:
        description: Accelerator type that it will run on; that of the first pool with GPUs if not set.
        type: str
        default: ''
      dtype:
        description: As in O(serving).
        type: str
        default: auto
      gpu_memory_utilization:
        description: As in O(serving).
        type: float
        default: 0.9
      max_num_seqs:
        description: As in O(serving).
        type: int
        default: 256
      max_model_len:
        description: As in O(serving).
        type: int
        default: 0
      tensor_parallel:
        description: As in O(serving).
        type: int
        default: 1
      volume:
        description: As in O(serving).
        type: str
        default: ''
  gpus:
    description: GPUs by accelerator type, each with C(title), C(gib) and C(capability).
    type: dict
    default: {}
  cost:
    description: Estimate to show among the findings, as filter P(llmd.gke.hourly_cost#filter) makes it.
    type: dict
  skip:
    description: Codes of findings that shall not stop the task. They are shown as skipped.
    type: list
    elements: str
    default: []
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
    node_pools:
      - {machine_type: n1-standard-4, node_count: 2}
      - {machine_type: n1-standard-4, node_count: 1, accelerator: {type: nvidia-tesla-t4, count: 1}}
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
      description: ok, warning, unknown, error or skipped.
      type: str
    status:
      description: OK, WARN, FAIL or SKIP.
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
    evidence:
      description: What the finding rests on.
      type: raw
msg:
  description: All findings as a table, with what to do about those that are not well.
  returned: always
  type: str
summary:
  description: How many findings there are of each status.
  returned: always
  type: dict
  sample: {OK: 20, WARN: 1, FAIL: 0, SKIP: 0}
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

import functools
import os
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.gcp import arguments, findings, iam, preflight, preflight_local
from ansible_collections.llmd.gke.plugins.module_utils.gcp.findings import OK, Check
from ansible_collections.llmd.gke.plugins.module_utils.gcp.locations import region_of_zone
from ansible_collections.llmd.gke.plugins.module_utils.gcp.plan import NodePlan, Plan, node_plans
from ansible_collections.llmd.gke.plugins.module_utils.llmd import fit, fit_checks


def pools_of(params: dict[str, Any]) -> tuple[NodePlan, ...]:
    """Nodes from ``node_pools``. Raises ConfigurationError PREFLIGHT_OPTION."""
    try:
        return node_plans(params["node_pools"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            "node_pools have a form that is not understood",
            code="PREFLIGHT_OPTION",
            why=f"{type(error).__name__}: {error}",
            remedy="node_pools: [{machine_type: n1-standard-4, node_count: 1, "
            "accelerator: {type: nvidia-tesla-t4, count: 1}}]",
        ) from error


def google_checks(params: dict[str, Any], nodes: tuple[NodePlan, ...]) -> tuple[list[Check], dict[str, int]]:
    """Google's side; a session that cannot be opened is a finding like any other."""
    needed = iam.needed_permissions(params["service_account"], params["permission_options"])
    given = params["permissions"]
    zone = params["zone"] or ""
    plan = Plan(
        region=params["region"] or region_of_zone(zone),
        zone=zone,
        network=params["network"],
        subnetwork=params["subnetwork"],
        services=tuple(params["services"]),
        permissions=needed if given is None else tuple(given),
        later_permissions=iam.later_permissions() if given is None else (),
        nodes=nodes,
        proxy_range=params["proxy_subnet_range"] or "",
        proxy_name=params["proxy_subnet_name"],
        cluster=params["cluster"],
        gateway_class=params["gateway_class"],
        release_channel=params["release_channel"],
        minimum_version=params["minimum_version"],
        private_nodes=params["private_nodes"],
        static_addresses=params["static_addresses"],
        service_account=params["service_account"],
    )
    try:
        session = arguments.open_session(params, deadline=60.0)
    except LlmdError as error:
        return [findings.failed("credentials", error)], {}
    return preflight.check_project(session, plan), dict(session.calls)


def local_checks(module: Any, nodes: tuple[NodePlan, ...]) -> list[Check]:
    params = module.params
    checks = [preflight_local.python_libraries()]
    if params["require_helm"]:

        def version(path: str) -> str:
            return str(module.run_command([path, "version", "--short"])[1])

        checks.append(preflight_local.helm(lambda: module.get_bin_path("helm"), version))
    single = {"model": params["model"] or "", "accelerator": "", **(params["serving"] or {})}
    models = params["models"] or ([single] if params["model"] or params["hf_token"] else [])
    for model in models:
        checks += model_checks(params, model, nodes, named=len(models) > 1)
    if params["cost"]:
        checks.append(preflight_local.cost(params["cost"]))
    return checks


def model_checks(
    params: dict[str, Any], given: dict[str, Any], nodes: tuple[NodePlan, ...], *, named: bool = False
) -> list[Check]:
    """Access first; sizes only of a model that can be read. Both ask for config.json: it is fetched once.

    given: the model and how it is served (not, where it has no dtype). named: its name belongs into the checks' names.
    """
    endpoint = params["hf_endpoint"] or os.environ.get("HF_ENDPOINT", "")
    ask = functools.cache(preflight_local.ask_hub)
    model, token = given["model"], params["hf_token"] or ""
    checks = list(preflight_local.model_access(model, token, endpoint, ask, needed=not params["hf_token_optional"]))
    readable = model and token and all(check.severity == OK for check in checks)
    if not readable or "dtype" not in given or not params["gpus"]:
        return called(checks, model, named=named)

    def read() -> fit.Model:
        return fit_checks.read_model(model, token, endpoint, ask)

    wanted = given["accelerator"]
    planned = next((node for node in nodes if node.accelerator and wanted in ("", node.accelerator)), None)
    node = planned or (NodePlan("", 0, wanted) if wanted else None)
    return called(checks + fit_checks.check_node(read, node, params["gpus"], given), model, named=named)


def called(checks: list[Check], model: str, *, named: bool) -> list[Check]:
    """The checks with the model's name in theirs, where there are several models."""
    return [replace(check, name=f"{check.name} {model}") for check in checks] if named else checks


SERVING = {
    "dtype": {"type": "str", "default": "auto"},
    "gpu_memory_utilization": {"type": "float", "default": 0.9},
    "max_num_seqs": {"type": "int", "default": 256},
    "max_model_len": {"type": "int", "default": 0},
    "tensor_parallel": {"type": "int", "default": 1},
    "volume": {"type": "str", "default": ""},
}


def options() -> dict[str, dict[str, Any]]:
    text = {"type": "str", "default": ""}
    return arguments.argument_spec(
        region={"type": "str"},
        zone={"type": "str"},
        network={"type": "str", "default": "default"},
        subnetwork=text,
        services={"type": "list", "elements": "str", "default": ["compute", "container", "networkservices"]},
        permissions={"type": "list", "elements": "str"},
        permission_options={"type": "list", "elements": "str", "default": [], "choices": list(iam.OPTIONS)},
        node_pools={"type": "list", "elements": "dict", "default": []},
        release_channel=text,
        minimum_version=text,
        gateway_class=text,
        cluster=text,
        service_account=text,
        private_nodes={"type": "bool", "default": False},
        static_addresses={"type": "int", "default": 0},
        proxy_subnet_range={"type": "str"},
        proxy_subnet_name={"type": "str", "default": "proxy-only-subnet"},
        hf_token={"type": "str", "no_log": True, "fallback": (env_fallback, ["HF_TOKEN"])},
        hf_token_optional={"type": "bool", "default": False},
        model={"type": "str"},
        hf_endpoint={"type": "str"},
        serving={"type": "dict", "options": SERVING},
        models={
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "model": {"type": "str", "required": True},
                "accelerator": {"type": "str", "default": ""},
                **SERVING,
            },
        },
        gpus={"type": "dict", "default": {}},
        cost={"type": "dict"},
        skip={"type": "list", "elements": "str", "default": []},
        require_helm={"type": "bool", "default": True},
        fail_on={"type": "str", "choices": ["error", "never"], "default": "error"},
    )


def main() -> None:
    module = AnsibleModule(argument_spec=options(), supports_check_mode=True)
    try:
        nodes = pools_of(module.params)
        checks, calls = google_checks(module.params, nodes)
        checks += local_checks(module, nodes)
    except LlmdError as error:
        fail(module, error, api_calls={})
    checks = findings.skip(checks, set(module.params["skip"]))
    bad = [check for check in checks if not check.ok]
    statuses = [check.status for check in checks]
    result = {
        "checks": [check.as_result() for check in checks],
        "summary": {status: statuses.count(status) for status in ("OK", "WARN", "FAIL", "SKIP")},
        "passed": not bad,
        "api_calls": calls,
    }
    if bad and module.params["fail_on"] == "error":
        verdict = ConfigurationError(
            f"Preflight found {len(bad)} of {len(checks)} checks that will stop the deployment",
            code=bad[0].code if len(bad) == 1 else "PREFLIGHT_FAILED",
            why="\n" + findings.table(bad),
            remedy="Correct what is listed and run again; the preflight itself changes nothing.",
            evidence=[check.as_result() for check in bad],
        )
        fail(module, verdict, **result)
    module.exit_json(changed=False, msg=findings.overview(checks), **result)


if __name__ == "__main__":
    main()
