#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_service_account
short_description: Make a service account for GKE nodes with just the roles that they need, or take it away
version_added: 0.1.0
description:
  - Without an account of their own, GKE nodes run as the project's default compute account, which in many projects
    holds C(roles/editor). This module makes one for them and binds O(roles) on the project.
  - The project's IAM policy is read, modified and written with its etag, in version 3. Conditional bindings, audit
    settings and what others write at the same moment are kept.
  - An account of that name that this module did not make is used as it is (adopted). Roles that it lacks are warned
    about, never granted.
  - One that this module made says so in its description. Only such a one is deleted, after its bindings.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  name:
    description:
      - Name of the account, the part of its address before the C(@). 6 to 30 small letters, digits and hyphens.
    type: str
    required: true
  display_name:
    description: Name for people, the account's name if not set. Only used when the account is made.
    type: str
    default: ''
  description:
    description:
      - What it is for. The mark of this collection is put after it. Only used when the account is made.
    type: str
    default: ''
  roles:
    description:
      - Roles on the project that the account must hold. Others that it holds stay. The default is what nodes need to
        send logs and metrics. Add C(roles/artifactregistry.reader) where they pull images from the project's
        Artifact Registry.
    type: list
    elements: str
    default: [roles/container.defaultNodeServiceAccount]
  deployment:
    description:
      - Name of the deployment, kept in the account's description. With it, O(state=absent) deletes only that
        deployment's account.
    type: str
    default: ''
  force:
    description: With O(state=absent), delete the account even if nothing says that we made it.
    type: bool
    default: false
  state:
    description: V(absent) takes the account's bindings out of the project's policy, then deletes the account.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds for all of it. A new account can take a minute until Google lets roles be bound to it.
    type: int
    default: 300
attributes:
  check_mode:
    support: full
    description: Says what would change, calls nothing that writes.
  diff_mode:
    support: full
    description: The account with its roles, before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
seealso:
  - module: llmd.gke.gke_cluster
    description: Its node pools take the address as O(llmd.gke.gke_cluster#module:node_pools[].service_account).
"""

EXAMPLES = r"""
- name: Give the nodes an account that can send logs and metrics
  llmd.gke.gcp_service_account:
    project: my-project
    name: pattern1-nodes
    deployment: pattern1
  register: nodes

- name: Make a pool that uses it
  llmd.gke.gke_node_pool:
    project: my-project
    location: us-central1-a
    cluster: llm-d-cluster
    name: gpu-pool
    service_account: "{{ nodes.service_account.email }}"

- name: Let them pull from Artifact Registry as well
  llmd.gke.gcp_service_account:
    project: my-project
    name: pattern1-nodes
    deployment: pattern1
    roles:
      - roles/container.defaultNodeServiceAccount
      - roles/artifactregistry.reader

- name: Take it away with its bindings, if we made it
  llmd.gke.gcp_service_account:
    project: my-project
    name: pattern1-nodes
    deployment: pattern1
    state: absent
"""

RETURN = r"""
service_account:
  description: The account, with its unconditional roles on the project. None after its deletion.
  returned: success
  type: dict
  sample:
    name: pattern1-nodes
    email: pattern1-nodes@my-project.iam.gserviceaccount.com
    display_name: pattern1-nodes
    description: Nodes of an llm-d cluster (managed-by=llmd-gke llmd-deployment=pattern1)
    disabled: false
    roles: [roles/container.defaultNodeServiceAccount]
adopted:
  description: True where the account is used but was not made by this deployment.
  returned: success
  type: bool
missing:
  description: Roles that an adopted account lacks.
  returned: success
  type: list
  elements: str
kept:
  description: Why an account was not deleted, empty otherwise.
  returned: success
  type: str
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {iam.projects.serviceAccounts.get: 1, cloudresourcemanager.projects.getIamPolicy: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: SERVICE_ACCOUNT_INVALID, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import service_accounts
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    want = service_accounts.ServiceAccount(
        name=params["name"],
        display_name=params["display_name"],
        description=params["description"],
        roles=tuple(dict.fromkeys(params["roles"])),
        deployment=params["deployment"],
        force=params["force"],
    )
    ensure = service_accounts.ensure_present if params["state"] == "present" else service_accounts.ensure_absent
    outcome = ensure(session, want, check_mode=module.check_mode)
    return {
        "changed": outcome.changed,
        "service_account": outcome.after,
        "adopted": outcome.adopted,
        "missing": outcome.missing,
        "kept": outcome.kept,
        "diff": diff(outcome.before, outcome.after),
        "warnings": outcome.warnings,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            name={"type": "str", "required": True},
            display_name={"type": "str", "default": ""},
            description={"type": "str", "default": ""},
            roles={"type": "list", "elements": "str", "default": list(service_accounts.NODE_ROLES)},
            deployment={"type": "str", "default": ""},
            force={"type": "bool", "default": False},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=float(module.params["timeout"]))


if __name__ == "__main__":
    main()
