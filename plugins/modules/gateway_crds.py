#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_crds
short_description: Bring the CRDs that an inference gateway misses into a cluster, and nothing else
version_added: 0.1.0
description:
  - Looks at each CRD first. What the cluster manages itself (GKE from 1.34.0-gke.1626000 does so for the Gateway
    API and
    InferencePool) is never touched, never downgraded, never deleted.
  - Applies server-side what is missing, or what an earlier run of this module applied and is older now.
  - Waits until the GatewayClass is accepted, before it decides, because GKE installs its classes and CRDs together some
    minutes after the Gateway API was enabled; and until every CRD is served.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  manifests:
    description: The CRDs that must be there.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the CRD, V(inferenceobjectives.inference.networking.x-k8s.io).
        type: str
        required: true
      version:
        description: API version that it must serve, V(v1alpha2). Without it any will do.
        type: str
      definition:
        description: The CRD to apply where it is missing. Without it the CRD is only waited for.
        type: dict
  gateway_class:
    description: GatewayClass to wait for.
    type: str
  wait:
    description: Wait for the class and for the CRDs.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for the class, and again for the CRDs.
    type: int
    default: 600
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
attributes:
  check_mode:
    support: full
    description: Looks, asks the server for a dry run of what it would apply, does not wait.
  diff_mode:
    support: full
    description: Served versions of each CRD before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Bring the CRD that the endpoint picker needs, wait for the others
  llmd.gke.gateway_crds:
    kubeconfig: "{{ kubeconfig }}"
    gateway_class: gke-l7-regional-external-managed
    manifests:
      - name: gateways.gateway.networking.k8s.io
        version: v1
      - name: inferencepools.inference.networking.k8s.io
        version: v1
        definition: "{{ lookup('file', 'inferencepools.yaml') | from_yaml }}"
      - name: inferenceobjectives.inference.networking.x-k8s.io
        version: v1alpha2
        definition: "{{ lookup('file', 'inferenceobjectives.yaml') | from_yaml }}"
"""

RETURN = r"""
crds:
  description: What was found and done, one entry a CRD. C(owner) is us, others or nobody.
  returned: success
  type: list
  elements: dict
  sample:
    - name: inferencepools.inference.networking.k8s.io
      action: keep
      owner: others
      reason: managed by others, v1.2.0
      bundle_version: v1.2.0
      problem: null
gateway_class:
  description: The GatewayClass that was looked at.
  returned: when gateway_class was given
  type: dict
  sample: {name: gke-l7-regional-external-managed, accepted: true}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: CRD_VERSION_NOT_SERVED, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.crd_apply import WantedCrd, ensure_crds
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def work(module: Any) -> dict[str, Any]:
    params = module.params
    outcome = ensure_crds(
        client_from_params(params),
        [WantedCrd.from_params(entry) for entry in params["manifests"]],
        gateway_class=params["gateway_class"] or "",
        wait=params["wait"],
        timeout=params["timeout"],
        interval=params["interval"],
        check_mode=module.check_mode,
    )
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "crds": outcome.crds,
        "diff": {"before": outcome.before, "after": outcome.after},
    }
    if outcome.gateway_class is not None:
        result["gateway_class"] = outcome.gateway_class
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            manifests={
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str"},
                    "definition": {"type": "dict"},
                },
            },
            gateway_class={"type": "str"},
            wait={"type": "bool", "default": True},
            timeout={"type": "int", "default": 600},
            interval={"type": "float", "default": 1},
        ),
        supports_check_mode=True,
    )
    run(module, lambda: work(module))


if __name__ == "__main__":
    main()
