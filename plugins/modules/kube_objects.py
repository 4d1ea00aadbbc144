#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_objects
short_description: Bring objects into a cluster and take others away, in one call
version_added: 0.1.0
description:
  - Applies O(present) server-side in its order, then deletes O(absent) and waits until those have gone. One call for
    what a role has to write, because every module call costs the better part of a second.
  - Fields that somebody else has set and that no manifest names stay as they are.
  - A namespace of O(present) that is still going away, of an earlier deployment, is waited for.
  - kubernetes.core.k8s does more (templates, patches, waiting for conditions) and takes longer.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  present:
    description: Manifests of objects that must be there.
    type: list
    elements: dict
    default: []
  absent:
    description: Objects that must not be there. Of each manifest its kind, name and namespace count.
    type: list
    elements: dict
    default: []
  secret_values:
    description:
      - What goes into the Secrets among O(present), as text, by V(SECRET/KEY). Kept apart from the manifests so that it
        shows nowhere, neither in a result nor in a failure.
    type: dict
    default: {}
  timeout:
    description: Seconds to wait for what is going away.
    type: int
    default: 300
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
attributes:
  check_mode:
    support: full
    description: The server makes a dry run. What depends on a namespace or CRD that is not there yet counts as created.
  diff_mode:
    support: full
    description: The objects before and after, the values of Secrets hidden.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Provide the namespace and a Secret, remove the Service that is not wanted any more
  llmd.gke.kube_objects:
    kubeconfig: "{{ kubeconfig }}"
    present:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: llm-d
      - apiVersion: v1
        kind: Secret
        metadata:
          name: llm-d-hf-token
          namespace: llm-d
    secret_values:
      llm-d-hf-token/HF_TOKEN: "{{ lookup('env', 'HF_TOKEN') }}"
    absent:
      - apiVersion: v1
        kind: Service
        metadata:
          name: llm-d-pattern1-direct
          namespace: llm-d
"""

RETURN = r"""
objects:
  description: Of each object what was done, created, changed, none or removed. Objects that were absent are left out.
  returned: success
  type: list
  elements: dict
  sample:
    - object: Namespace llm-d
      action: created
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: NAMESPACE_TERMINATING, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.objects import (
    Outcome,
    ensure_absent,
    ensure_present,
    with_secrets,
)
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def work(module: Any) -> dict[str, Any]:
    params, outcome = module.params, Outcome()
    client = client_from_params(params)
    how = {"check_mode": module.check_mode, "timeout": params["timeout"], "interval": params["interval"]}
    ensure_present(client, with_secrets(params["present"], params["secret_values"]), outcome, **how)
    ensure_absent(client, params["absent"], outcome, **how)
    return {"changed": outcome.changed, "objects": outcome.objects, "diff": outcome.diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            present={"type": "list", "elements": "dict", "default": []},
            absent={"type": "list", "elements": "dict", "default": []},
            secret_values={"type": "dict", "default": {}, "no_log": True},
            timeout={"type": "int", "default": 300},
            interval={"type": "float", "default": 1},
        ),
        supports_check_mode=True,
    )
    run(module, lambda: work(module))


if __name__ == "__main__":
    main()
