#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_plan
short_description: Say how an upgrade of the releases would go
version_added: 0.1.0
description:
  - Takes what M(llmd.gke.helm_releases) found in check mode, and says which model servers are replaced, in which order,
    for how long nothing answers, and whether a node has to be bought for it.
  - With a GPU to spare the new pod comes before the old one goes. Without, a single model server goes first
    (V(recreate)), several are replaced one after the other.
  - Reads only.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  releases:
    description: The result C(releases) of M(llmd.gke.helm_releases) in check mode.
    type: list
    elements: dict
    required: true
  previous:
    description: The result C(previous) of the same call.
    type: list
    elements: dict
    required: true
  namespace:
    description: Namespace of the model servers.
    type: str
    required: true
  selector:
    description: Labels of the model servers' pods.
    type: dict
    required: true
  strategy:
    description: The order, or V(auto) to have it chosen from the free GPUs.
    type: str
    choices: [auto, recreate, one_at_a_time, surge]
    default: auto
  drain_seconds:
    description: Seconds that a model server gets to finish its requests.
    type: float
    default: 0
  node_cost:
    description: Price of one more GPU node in USD an hour, for the plan.
    type: float
attributes:
  check_mode:
    support: full
    description: Reads as always.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: See how the upgrade would go
  llmd.gke.upgrade_plan:
    kubeconfig: "{{ kubeconfig }}"
    releases: "{{ checked.releases }}"
    previous: "{{ checked.previous }}"
    namespace: llm-d
    selector: {llm-d.ai/inferenceServing: "true"}
"""

RETURN = r"""
plan:
  description: The plan.
  returned: success
  type: dict
  sample:
    changed: true
    strategy: recreate
    why: "no GPU is free for a second pod: the old one finishes its requests and goes, then the new one comes"
    interrupts: true
    downtime_seconds: 312.0
    extra_nodes: 0
    free_gpus: 0
    node_cost: 0.54
    differences: ["ms-pattern1: values differ (decode.containers[0].args)"]
    servers: [ms-pattern1-llm-d-modelservice-decode]
    returnable: true
screen:
  description: The same as lines for a person.
  returned: success
  type: list
  elements: str
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: CLUSTER_UNREACHABLE, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import NODE, POD
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run
from ansible_collections.llmd.gke.plugins.module_utils.llmd import upgrades
from ansible_collections.llmd.gke.plugins.module_utils.llmd.capacity import gpu_nodes
from ansible_collections.llmd.gke.plugins.module_utils.llmd.scaling import model_servers


def work(params: dict[str, Any]) -> dict[str, Any]:
    client = client_from_params(params)
    namespace, selector = params["namespace"], {str(key): str(value) for key, value in params["selector"].items()}
    pods = client.objects(POD)
    here = [pod for pod in pods if pod["metadata"].get("namespace") == namespace]
    found = upgrades.plan(
        params["releases"],
        params["previous"],
        upgrades.servers_of(model_servers(client, namespace, selector), here),
        gpu_nodes(client.objects(NODE), pods, selector, namespace),
        wanted=params["strategy"],
        drain=params["drain_seconds"],
        node_cost=params["node_cost"],
    )
    return {"changed": False, "plan": found.as_result(), "screen": upgrades.screen(found)}


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            releases={"type": "list", "elements": "dict", "required": True},
            previous={"type": "list", "elements": "dict", "required": True},
            namespace={"type": "str", "required": True},
            selector={"type": "dict", "required": True},
            strategy={"type": "str", "choices": ["auto", *upgrades.STRATEGIES], "default": "auto"},
            drain_seconds={"type": "float", "default": 0},
            node_cost={"type": "float"},
        ),
        supports_check_mode=True,
    )
    run(module, lambda: work(module.params))


if __name__ == "__main__":
    main()
