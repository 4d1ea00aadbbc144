#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_leftovers
short_description: Find, and delete on demand, what a deployment left in a cluster that stays
version_added: 0.1.0
description:
  - Looks for workloads, Services, roles and bindings, service accounts, ConfigMaps, Secrets and volume claims of a
    deployment in every namespace. Of all of them only the metadata is read, never what a Secret holds.
  - An object is the deployment's where its labels say so, or where helm's annotations name a release of its family.
    Names alone say nothing.
  - M(llmd.gke.orphan_scan) does the same for Google Cloud.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
options:
  deployment:
    description: Name of the deployment.
    type: str
    required: true
  namespace:
    description: Namespace of its releases.
    type: str
    default: llm-d
  family:
    description: What the names of its releases end with (V(pattern1) for C(infra-pattern1)).
    type: str
    default: ""
  delete:
    description: Delete what is the deployment's.
    type: bool
    default: false
  confirm:
    description: The deployment's name, to allow O(delete).
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Says what would be deleted.
  diff_mode:
    support: full
    description: The list before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: See what is left in a cluster that others use too
  llmd.gke.cluster_leftovers:
    kubeconfig: /tmp/kubeconfig
    deployment: pattern1
    family: pattern1
"""

RETURN = r"""
leftovers:
  description: What is left of the deployment, with the reason why it is known to be its.
  returned: success
  type: list
  elements: dict
  sample: [{kind: Secret, scope: namespaces/llm-d, name: huggingface-token, why: its labels name the deployment}]
deleted:
  description: What was deleted (in check mode, would be).
  returned: success
  type: list
  elements: dict
refused:
  description: What could not be deleted, with code and reason.
  returned: success
  type: list
  elements: dict
unread:
  description: Kinds that could not be read; nothing is proven about them.
  returned: success
  type: list
  elements: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: CONFIRM_WRONG, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.kube import leftovers
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params


def work(module: Any) -> dict[str, Any]:
    params = module.params
    if params["delete"] and params["confirm"] != params["deployment"]:
        raise ConfigurationError(
            "Leftovers are deleted only on the deployment's own name",
            code="CONFIRM_WRONG",
            where=f"deployment {params['deployment']}",
            why=f"confirm is {params['confirm']!r}",
            remedy=f"Read the list first, then give llmd_confirm={params['deployment']}.",
        )
    client = client_from_params(params)
    found = leftovers.scan(
        client, deployment=params["deployment"], namespace=params["namespace"], family=params["family"]
    )
    before = list(found.left)
    if params["delete"] and module.check_mode:
        found.deleted, found.left = found.left, []
    elif params["delete"]:
        leftovers.delete(client, found)
    return {
        "changed": bool(found.deleted),
        "leftovers": found.left,
        "deleted": found.deleted,
        "refused": found.refused,
        "unread": found.unread,
        "diff": {"before": {"leftovers": before}, "after": {"leftovers": found.left}},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            deployment={"type": "str", "required": True},
            namespace={"type": "str", "default": "llm-d"},
            family={"type": "str", "default": ""},
            delete={"type": "bool", "default": False},
            confirm={"type": "str", "default": ""},
        ),
        supports_check_mode=True,
    )
    try:
        result = work(module)
    except LlmdError as error:
        fail(module, error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
