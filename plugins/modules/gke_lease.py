#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gke_lease
short_description: Say until when a deployment is wanted, and read it
version_added: 0.1.0
description:
  - Writes the label C(llmd-lease-until) on the deployment's cluster, or only reads it.
  - A lease that is there stays as it is unless O(renew=true), so that a second run changes nothing.
  - Nothing happens by itself when a lease is over. The playbook C(reap.yml), run by a scheduler, pauses or deletes.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  hours:
    description: Hours from now; V(0) takes the lease away when O(renew=true). The lease is only read if not set.
    type: float
  renew:
    description: Replace a lease that is there.
    type: bool
    default: false
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
- name: Keep the deployment for eight more hours
  llmd.gke.gke_lease:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    deployment: pattern1
    hours: 8
    renew: true
"""

RETURN = r"""
lease:
  description: The lease after the task. C(state) is C(none), C(running), C(expired) or C(no_cluster).
  returned: success
  type: dict
  sample: {state: running, until: "2026-11-24T08:00:00+00:00", hours_left: 7.9, expired: false, owned: true}
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
from ansible_collections.llmd.gke.plugins.module_utils.gcp import leases
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    changed, before, after = leases.ensure(
        session,
        Where(params["location"], params["cluster"]),
        params["deployment"],
        hours=params["hours"],
        renew=params["renew"],
        timeout=float(params["timeout"]),
        check_mode=module.check_mode,
    )
    return {"changed": changed, "lease": after.as_result(), "diff": diff(before.until, after.until)}


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            hours={"type": "float"},
            renew={"type": "bool", "default": False},
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
