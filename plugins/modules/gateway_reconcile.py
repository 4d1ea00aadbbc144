#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_reconcile
short_description: Nudge a GKE Gateway where needed and wait until it and its routes work
version_added: 0.1.0
description:
  - Waits until the Gateway is Accepted, Programmed and (networking.gke.io/GatewayHealthy) healthy and has an
    address, and
    until the named HTTPRoutes are Accepted, ResolvedRefs and Reconciled.
  - An annotation makes GKE's controller look again, after what it missed was put in place. It is written only where it
    can help (O(reconcile=auto)).
  - When it fails, it says why in the controller's own words, taken from its newest Warning events that no later success
    has answered, under a stable code (PROXY_ONLY_SUBNET_MISSING, NETWORK_SERVICES_API_DISABLED, ROUTE_REJECTED, ...).
  - Where the Gateway of a public GKE class has no HTTPS listener, it warns (ENDPOINT_UNENCRYPTED).
  - A clear failure that somebody must mend ends the wait early, once it was seen steadily for O(failure_grace) seconds.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  name:
    description: Name of the Gateway.
    type: str
    required: true
  namespace:
    description: Namespace of the Gateway and its routes.
    type: str
    required: true
  routes:
    description: HTTPRoutes that must be bound.
    type: list
    elements: str
    default: []
  annotation:
    description: Annotation to write (the time of day) in order to have the Gateway looked at again.
    type: str
    default: force-reconcile
  reconcile:
    description: V(auto) writes the annotation only while the Gateway is not ready.
    type: str
    choices: [auto, always, never]
    default: auto
  timeout:
    description: Seconds to wait for all of it.
    type: int
    default: 900
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
  failure_grace:
    description: Seconds for which a clear failure must last before it ends the wait.
    type: float
    default: 90
  api_just_enabled:
    description:
      - The Network Services API was enabled a moment ago; the controller's complaint about it may be old and
        is waited out for O(failure_grace) seconds. Otherwise it is believed once the controller has tried again.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Looks and says whether it would write the annotation; does not wait. A Gateway that is not there
      yet counts
      as one to annotate.
  diff_mode:
    support: full
    description: The annotation before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Wait until the Gateway serves the route
  llmd.gke.gateway_reconcile:
    kubeconfig: "{{ kubeconfig }}"
    name: infra-pattern1-inference-gateway
    namespace: llm-d
    routes: [llm-d-pattern1]

- name: Have it looked at again in any case
  llmd.gke.gateway_reconcile:
    kubeconfig: "{{ kubeconfig }}"
    name: infra-pattern1-inference-gateway
    namespace: llm-d
    reconcile: always
"""

RETURN = r"""
ready:
  description: Whether Gateway and routes are as they should be (false only in check mode).
  returned: success
  type: bool
detail:
  description: The state in words.
  returned: success
  type: str
  sample: ready
address:
  description: The Gateway's address, empty if it has none yet.
  returned: success
  type: str
  sample: 203.0.113.7
endpoint:
  description: Scheme and address for clients (https where a listener terminates TLS), empty without an address.
  returned: success
  type: str
  sample: http://203.0.113.7
conditions:
  description: The Gateway's conditions, type to status and reason.
  returned: success
  type: dict
  sample: {Programmed: True (Programmed), networking.gke.io/GatewayHealthy: True (Healthy)}
annotations:
  description: What GKE's controller recorded on the Gateway (networking.gke.io/...).
  returned: success
  type: dict
backend_services:
  description: Backend services of the load balancer, from those annotations.
  returned: success
  type: list
  elements: str
  sample: [/projects/123456789012/regions/us-central1/backendServices/gkegw1-on7z-llm-d-gaie-pattern1-ips-54321-x]
routes:
  description: For each route whether it is bound, and its conditions.
  returned: success
  type: dict
  sample: {llm-d-pattern1: {ready: true, detail: "accepted, resolved and reconciled"}}
reconciled:
  description: How often the annotation was written.
  returned: success
  type: int
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence with the newest events).
  returned: on failure
  type: dict
  sample: {code: PROXY_ONLY_SUBNET_MISSING, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.reconcile import Reconciler, Target, as_result
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def work(module: Any, report: dict[str, Any]) -> dict[str, Any]:
    params = module.params
    target = Target(
        name=params["name"],
        namespace=params["namespace"],
        routes=tuple(params["routes"]),
        annotation=params["annotation"],
        reconcile=params["reconcile"],
        timeout=params["timeout"],
        interval=params["interval"],
        grace=params["failure_grace"],
        api_just_enabled=params["api_just_enabled"],
    )
    reconciler = Reconciler(client_from_params(params), target)
    try:
        outcome = reconciler.run(check_mode=module.check_mode)
    finally:
        report.update(changed=reconciler.nudged > 0, reconciled=reconciler.nudged)
    result = as_result(outcome, target)
    result["diff"] = {
        "before": {target.annotation: outcome.before} if outcome.before else {},
        "after": {target.annotation: outcome.after} if outcome.after else {},
    }
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            name={"type": "str", "required": True},
            namespace={"type": "str", "required": True},
            routes={"type": "list", "elements": "str", "default": []},
            annotation={"type": "str", "default": "force-reconcile"},
            reconcile={"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
            timeout={"type": "int", "default": 900},
            interval={"type": "float", "default": 1},
            failure_grace={"type": "float", "default": 90},
            api_just_enabled={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    report: dict[str, Any] = {"changed": False}
    run(module, lambda: work(module, report), lambda: report)


if __name__ == "__main__":
    main()
