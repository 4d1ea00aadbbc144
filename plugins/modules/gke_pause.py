#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gke_pause
short_description: Take a deployment's GPU nodes away for a while, and give them back
version_added: 0.1.0
description:
  - With O(state=paused) node pools with GPUs get no nodes and their autoscaler is switched off. What they had is
    written into labels of the cluster first, so that any later run, on any machine, can give it back.
  - With O(state=running) every pool gets exactly what it had, and the labels go.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  state:
    description: What the node pools should be.
    type: str
    choices: [paused, running]
    required: true
  cpu_nodes:
    description: Nodes (in each zone) that a pool without GPUs keeps while paused. All of them if not set.
    type: int
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  location:
    description: Zone or region of the cluster.
    type: str
    required: true
  deployment:
    description: Name of the deployment. A cluster that it did not make is refused.
    type: str
    required: true
  timeout:
    description: Seconds for all of it.
    type: int
    default: 1800
attributes:
  check_mode:
    support: full
    description: Says what would change, calls nothing that writes.
  diff_mode:
    support: full
    description: The state before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: No GPU node for the night
  llmd.gke.gke_pause:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    deployment: pattern1
    state: paused
"""

RETURN = r"""
paused:
  description: Whether the node pools are paused now.
  returned: success
  type: bool
since:
  description: When the pause began, as the label C(llmd-paused-since) says; empty where there was none.
  returned: success
  type: str
  sample: 20261123t163500z
seconds:
  description: How long the pause has lasted.
  returned: success
  type: int
pools:
  description: Nodes and autoscaler limits that each pool has now (in check mode, would have).
  returned: success
  type: dict
  sample: {gpu-pool: {size: 0, autoscaling: null}}
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
  sample: {code: CLUSTER_NOT_OURS, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import pausing
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    where, deployment = Where(params["location"], params["cluster"]), params["deployment"]
    timeout = float(params["timeout"])
    if params["state"] == "paused":
        outcome = pausing.pause(
            session,
            where,
            deployment,
            cpu_nodes=params["cpu_nodes"],
            timeout=timeout,
            check_mode=module.check_mode,
        )
    else:
        outcome = pausing.resume(session, where, deployment, timeout=timeout, check_mode=module.check_mode)
    before = {name: scale.as_result() for name, scale in outcome.before.items()}
    after = {name: scale.as_result() for name, scale in outcome.after.items()}
    return {
        "changed": outcome.changed,
        "paused": outcome.paused,
        "since": outcome.since,
        "seconds": outcome.seconds,
        "pools": after,
        "operations": outcome.operations,
        "diff": diff(before, after) if outcome.changed else diff(None, None),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            state={"type": "str", "choices": ["paused", "running"], "required": True},
            cpu_nodes={"type": "int"},
            cluster={"type": "str", "required": True},
            location={"type": "str", "required": True},
            deployment={"type": "str", "required": True},
            timeout={"type": "int", "default": 1800},
        ),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=float(module.params["timeout"]))


if __name__ == "__main__":
    main()
