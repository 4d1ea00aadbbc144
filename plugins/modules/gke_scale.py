#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gke_scale
short_description: See whether there is room for N model servers, and make the GPU pool's maximum fit
version_added: 0.1.0
description:
  - Counts the GPUs that the pool has and that others hold, the nodes that would have to come, the pool's autoscaler
    limits, the quotas and what the zone offers. Where something is in the way it says all of it, before anything is
    changed.
  - Changes nothing but the autoscaler's maximum, and that only with O(raise_pool_max). The nodes themselves are bought
    by the autoscaler, once there are pods that need them; the replicas are a helm value (role C(llmd_helmfile)).
extends_documentation_fragment:
  - llmd.gke.gcp
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  location:
    description: Zone or region of the cluster.
    type: str
    required: true
  pool:
    description: Name of the GPU node pool.
    type: str
    required: true
  namespace:
    description: Namespace of the model servers.
    type: str
    required: true
  selector:
    description: Labels of the model servers' pods.
    type: dict
    required: true
  replicas:
    description: Model servers that are wanted.
    type: int
    required: true
  gpus:
    description: GPUs of one model server.
    type: int
    default: 1
  raise_pool_max:
    description: Raise the autoscaler's maximum where the replicas need more nodes than it allows.
    type: bool
    default: false
  timeout:
    description: Seconds for all of it.
    type: int
    default: 900
attributes:
  check_mode:
    support: full
    description: Judges as always, calls nothing that writes.
  diff_mode:
    support: full
    description: Replicas, nodes and the pool's maximum, before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Is there room for three?
  llmd.gke.gke_scale:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    pool: nvidia-t4-pool
    namespace: llm-d
    selector: {llm-d.ai/inferenceServing: "true"}
    replicas: 3
"""

RETURN = r"""
plan:
  description: What the replicas need and what is there.
  returned: success
  type: dict
  sample:
    direction: out
    replicas: {now: 1, wanted: 3}
    gpus: {each: 1, free: 0}
    nodes: {now: 1, needed: 3, new: 2}
    pool_max: {now: 3, wanted: 3}
    quotas: [{metric: NVIDIA_T4_GPUS, scope: us-central1, limit: 4.0, usage: 1.0, asked: 2.0}]
screen:
  description: The same as lines for a person.
  returned: success
  type: list
  elements: str
operations:
  description: Google's operations that were waited for, with their seconds.
  returned: success
  type: list
  elements: dict
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: SCALE_QUOTA, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.llmd import scaling


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    asked = scaling.Request(
        pool=params["pool"],
        namespace=params["namespace"],
        selector={str(key): str(value) for key, value in params["selector"].items()},
        replicas=params["replicas"],
        gpus=params["gpus"],
        raise_max=params["raise_pool_max"],
    )
    outcome = scaling.prepare(
        session,
        client_from_params(params),
        Where(params["location"], params["cluster"]),
        asked,
        timeout=float(params["timeout"]),
        check_mode=module.check_mode,
    )
    plan = outcome.plan.as_result()
    before = {"replicas": plan["replicas"]["now"], "nodes": plan["nodes"]["now"], "max": plan["pool_max"]["now"]}
    after = {
        "replicas": plan["replicas"]["wanted"],
        "nodes": plan["nodes"]["needed"],
        "max": plan["pool_max"]["wanted"],
    }
    return {
        "changed": outcome.changed,
        "plan": plan,
        "screen": outcome.lines,
        "operations": outcome.operations,
        "diff": diff(before, after) if before != after else diff(None, None),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **kube_argument_spec(),
            **argument_spec(
                cluster={"type": "str", "required": True},
                location={"type": "str", "required": True},
                pool={"type": "str", "required": True},
                namespace={"type": "str", "required": True},
                selector={"type": "dict", "required": True},
                replicas={"type": "int", "required": True},
                gpus={"type": "int", "default": 1},
                raise_pool_max={"type": "bool", "default": False},
                timeout={"type": "int", "default": 900},
            ),
        },
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=float(module.params["timeout"]))


if __name__ == "__main__":
    main()
