#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gke_node_pool
short_description: Make, resize, update or delete a node pool of a GKE cluster
version_added: 0.1.0
description:
  - Makes a node pool, brings an existing one to what is wanted with as few calls as possible, resizes it, or
    deletes it.
  - While the cluster is busy with another operation the call is repeated until the timeout.
  - A pool that ends in ERROR (no machines in stock, quota) fails the task, whatever Google's operation said.
extends_documentation_fragment:
  - llmd.gke.gcp
  - llmd.gke.gcp.node_pool
options:
  name:
    description: Name of the pool.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  location:
    description: Zone (or region) of the cluster.
    type: str
    required: true
  size:
    description:
      - Nodes in each zone that the pool must have now. On an autoscaled pool the autoscaler may change it afterwards.
      - Compared with the instance groups' target size, read from the compute API.
    type: int
  deployment:
    description: Name of the deployment, kept as resource label.
    type: str
    default: ''
  state:
    description: V(absent) deletes the pool with its nodes.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds for all of it. What Google is doing then goes on, unless O(cancel_on_timeout).
    type: int
    default: 2400
  cancel_on_timeout:
    description:
      - Cancel the operation that was given up on, because of the timeout or because its node pool is out of stock.
        GKE does so for work on node pools, not for the making of a cluster.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Says what would change, calls nothing that writes.
  diff_mode:
    support: full
    description: The fields that this module manages, before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Give a cluster a pool of T4 nodes that grows from none to three
  llmd.gke.gke_node_pool:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    name: gpu-pool
    machine_type: n1-standard-4
    node_count: 1
    accelerator: {type: nvidia-tesla-t4, count: 1, driver_version: default}
    autoscaling: {min: 0, max: 3, location_policy: any}
    taints:
      - {key: team, value: ai, effect: NoSchedule}

- name: Take what is to be had, first in another zone, then another GPU, then Spot
  llmd.gke.gke_node_pool:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    name: gpu-pool
    machine_type: n1-standard-4
    accelerator: {type: nvidia-tesla-t4}
    fallbacks:
      - {zone: us-central1-b}
      - {type: nvidia-l4, machine_type: g2-standard-4}
      - {spot: true}

- name: Use machines that were reserved, and replace them one by one without any more
  llmd.gke.gke_node_pool:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    name: reserved-pool
    machine_type: g2-standard-4
    accelerator: {type: nvidia-l4}
    reservation: {affinity: specific, name: my-l4s}
    upgrade_settings: {max_surge: 0, max_unavailable: 1}

- name: Give the GPU pool no node for the night
  llmd.gke.gke_node_pool:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    name: gpu-pool
    size: 0
"""

RETURN = r"""
node_pool:
  description: The pool, in the words of this module's options.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the pool.
      type: str
    status:
      description: Google's status of it, RUNNING where all is well.
      type: str
    version:
      description: GKE version of the nodes.
      type: str
    size:
      description: Nodes in each zone, where O(size) was asked for.
      type: int
    machine_type:
      description: Machine type of the nodes.
      type: str
    accelerator:
      description: GPUs of each node with their driver, none without.
      type: dict
    autoscaling:
      description: Limits of the autoscaler, none where it is off.
      type: dict
    service_account:
      description: Whom the nodes run as.
      type: str
  sample: {name: gpu-pool, status: RUNNING, machine_type: n1-standard-4, size: 0}
operations:
  description: Google's operations that were waited for, with their seconds.
  returned: success
  type: list
  elements: dict
  sample: [{name: operation-1, type: CREATE_NODE_POOL, seconds: 148.3}]
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {container.projects.locations.clusters.nodePools.get: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: NODE_POOL_IMMUTABLE, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import pool_changes
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, pool_options, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where, pool_from_options
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    where = Where(params["location"], params["cluster"])
    timeout = float(params["timeout"])
    pool = pool_from_options(params)
    if params["state"] == "present":
        outcome = pool_changes.ensure_present(
            session, where, pool, deployment=params["deployment"], timeout=timeout, check_mode=module.check_mode
        )
    else:
        outcome = pool_changes.ensure_absent(session, where, pool.name, timeout=timeout, check_mode=module.check_mode)
    return {
        "changed": outcome.changed,
        "node_pool": outcome.after,
        "operations": outcome.operations,
        "diff": diff(outcome.before, outcome.after),
        "warnings": outcome.warnings,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            **pool_options(size={"type": "int"}),
            cluster={"type": "str", "required": True},
            location={"type": "str", "required": True},
            deployment={"type": "str", "default": ""},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            timeout={"type": "int", "default": 2400},
            cancel_on_timeout={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=float(module.params["timeout"]))


if __name__ == "__main__":
    main()
