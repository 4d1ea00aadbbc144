#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_proxy_subnet
short_description: Make sure that a region has its proxy-only subnet
version_added: 0.1.0
description:
  - Regional load balancers (and so the GKE gateway classes that can serve an InferencePool) need one ACTIVE
    subnet of purpose
    C(REGIONAL_MANAGED_PROXY) for each network and region. If there is one, under whatever name, it is used as it is.
  - Otherwise the range is judged before anything is sent, against the network's mode and all its subnets, and the
    subnet is made.
  - Subnets have no labels. One that this module made says so in its description, and only such a one is deleted.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  name:
    description: Name of the subnet to make or delete.
    type: str
    default: proxy-only-subnet
  network:
    description: Network by name, or C(projects/HOST/global/networks/NAME) of a shared VPC.
    type: str
    default: default
  region:
    description: Region, the one of the cluster.
    type: str
    required: true
  range:
    description:
      - IPv4 range of the subnet, /26 or larger, /23 recommended. On an auto-mode network it must lie outside
        10.128.0.0/9.
      - Needed only where the region has no proxy-only subnet yet.
    type: str
  adopt:
    description: Use an ACTIVE one of another name or range. With V(false) such a one is an error.
    type: bool
    default: true
  deployment:
    description:
      - Name of the deployment, recorded in the description. With it, O(state=absent) deletes only that deployment's
        subnet.
    type: str
    default: ''
  force:
    description: With O(state=absent), delete the proxy-only subnet even if it does not say that we made it.
    type: bool
    default: false
  state:
    description: V(absent) deletes, and waits while a load balancer still uses the subnet.
    type: str
    choices: [present, absent]
    default: present
  wait:
    description:
      - With V(false) a subnet that has to be made is only asked for, and RV(subnetwork) says C(CREATING). Other work
        can go on meanwhile; the same task with V(true) later waits for it, and tells where it failed.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for all of it.
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
- name: Make sure that the region has a proxy-only subnet
  llmd.gke.gcp_proxy_subnet:
    project: my-project
    region: us-central1
    range: 192.168.0.0/23

- name: Insist on this one, where others shall not be used
  llmd.gke.gcp_proxy_subnet:
    project: my-project
    region: us-central1
    network: projects/my-host-project/global/networks/shared
    name: llm-d-proxies
    range: 192.168.0.0/23
    deployment: pattern1
    adopt: false

- name: Delete it, if we made it
  llmd.gke.gcp_proxy_subnet:
    project: my-project
    region: us-central1
    state: absent
"""

RETURN = r"""
subnetwork:
  description: The region's proxy-only subnet.
  returned: success
  type: dict
  sample:
    name: proxy-only-subnet
    ipCidrRange: 192.168.0.0/23
    purpose: REGIONAL_MANAGED_PROXY
    role: ACTIVE
    state: READY
adopted:
  description: True where the subnet is used but was not made by us.
  returned: success
  type: bool
kept:
  description: Why a subnet was not deleted, empty otherwise.
  returned: success
  type: str
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {compute.subnetworks.insert: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: CIDR_CONFLICT, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import subnetworks
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    want = subnetworks.ProxySubnet(
        name=params["name"],
        network=params["network"],
        region=params["region"],
        cidr=params["range"] or "",
        deployment=params["deployment"],
        adopt=params["adopt"],
        force=params["force"],
        timeout=float(params["timeout"]),
        wait=params["wait"],
    )
    ensure = subnetworks.ensure_present if params["state"] == "present" else subnetworks.ensure_absent
    outcome = ensure(session, want, check_mode=module.check_mode)
    return {
        "changed": outcome.changed,
        "subnetwork": outcome.subnetwork,
        "adopted": outcome.adopted,
        "kept": outcome.kept,
        "diff": diff(outcome.before, outcome.after),
        "warnings": outcome.warnings,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            name={"type": "str", "default": "proxy-only-subnet"},
            network={"type": "str", "default": "default"},
            region={"type": "str", "required": True},
            range={"type": "str"},
            adopt={"type": "bool", "default": True},
            deployment={"type": "str", "default": ""},
            force={"type": "bool", "default": False},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            wait={"type": "bool", "default": True},
            timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=float(module.params["timeout"]))


if __name__ == "__main__":
    main()
