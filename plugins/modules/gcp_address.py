#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_address
short_description: Reserve, adopt or release a regional static address for a Gateway
version_added: 0.1.0
description:
  - Reserves a regional address, so that a Gateway that is made anew keeps its own. An address of that name that is
    there already is used as it is.
  - One that this module made says so in its labels and description, and only such a one is released.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  name:
    description: Name of the address. A Gateway takes it as an address of type C(NamedAddress).
    type: str
    required: true
  region:
    description: Region, the one of the cluster.
    type: str
    required: true
  type:
    description: External, or internal to the network. Cannot be changed on an existing address.
    type: str
    choices: [external, internal]
    default: external
  address:
    description: The address itself. Google chooses one if not set.
    type: str
  subnetwork:
    description: Subnet of an internal address.
    type: str
  labels:
    description: Labels besides our own. On an existing address they are added, if it is ours.
    type: dict
    default: {}
  deployment:
    description:
      - Name of the deployment, kept as label C(llmd-deployment). With it, O(state=absent) releases only that
        deployment's address.
    type: str
    default: ''
  force:
    description: With O(state=absent), release the address even if nothing says that we made it.
    type: bool
    default: false
  state:
    description: V(absent) releases, and waits while a load balancer still uses the address.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds for all of it.
    type: int
    default: 300
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
- name: Reserve the Gateway's address
  llmd.gke.gcp_address:
    project: my-project
    region: us-central1
    name: llm-d-gateway
  register: address

- name: Release it, if we made it
  llmd.gke.gcp_address:
    project: my-project
    region: us-central1
    name: llm-d-gateway
    state: absent
"""

RETURN = r"""
address:
  description: The address, in the words of this module's options. None after its release.
  returned: success
  type: dict
  sample:
    name: llm-d-gateway
    region: us-central1
    address: 203.0.113.250
    type: external
    status: RESERVED
    users: []
adopted:
  description: True where the address is used but was not made by us.
  returned: success
  type: bool
kept:
  description: Why an address was not released, empty otherwise.
  returned: success
  type: str
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {compute.addresses.get: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: ADDRESS_IMMUTABLE, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import addresses
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    want = addresses.Address(
        name=params["name"],
        region=params["region"],
        type=params["type"],
        address=params["address"] or "",
        subnetwork=params["subnetwork"] or "",
        labels=params["labels"],
        deployment=params["deployment"],
        force=params["force"],
        timeout=float(params["timeout"]),
    )
    ensure = addresses.ensure_present if params["state"] == "present" else addresses.ensure_absent
    outcome = ensure(session, want, check_mode=module.check_mode)
    return {
        "changed": outcome.changed,
        "address": outcome.after,
        "adopted": outcome.adopted,
        "kept": outcome.kept,
        "diff": diff(outcome.before, outcome.after),
        "warnings": outcome.warnings,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            name={"type": "str", "required": True},
            region={"type": "str", "required": True},
            type={"type": "str", "choices": ["external", "internal"], "default": "external"},
            address={"type": "str"},
            subnetwork={"type": "str"},
            labels={"type": "dict", "default": {}},
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
