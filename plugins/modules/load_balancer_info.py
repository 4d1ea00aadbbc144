#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer_info
short_description: Show what a Gateway's load balancer is made of
version_added: 0.1.0
description:
  - Reads the regional load balancer behind a Gateway as Google has it. The chain from the forwarding rule over target
    proxy, URL map and backend services to network endpoint groups and health checks is followed.
  - Says which load balancer by the Gateway's annotations, its address, or a prefix of names; all of the region
    otherwise. What several of them name is shown together.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  region:
    description: Region of the load balancer.
    type: str
    required: true
  annotations:
    description: Annotations of the Gateway object, as Kubernetes gives them (C(metadata.annotations)).
    type: dict
    default: {}
  address:
    description: Address of the Gateway (C(status.addresses)).
    type: str
  prefix:
    description: Beginning of names, for example V(gkegw1-). Firewall rules are read only with it.
    type: str
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Changes nothing.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: What stands behind the Gateway's address
  llmd.gke.load_balancer_info:
    project: my-project
    region: us-central1
    address: 203.0.113.10
  register: balancer

- name: What is left of any Gateway
  llmd.gke.load_balancer_info:
    project: my-project
    region: us-central1
    prefix: gkegw1-
"""

RETURN = r"""
found:
  description: Whether there is anything of it.
  returned: success
  type: bool
forwarding_rules:
  description: Forwarding rules, each with its address and port.
  returned: success
  type: list
  elements: dict
target_proxies:
  description: HTTP target proxies.
  returned: success
  type: list
  elements: dict
target_https_proxies:
  description: HTTPS target proxies.
  returned: success
  type: list
  elements: dict
url_maps:
  description: URL maps.
  returned: success
  type: list
  elements: dict
backend_services:
  description: Backend services with their groups and health checks.
  returned: success
  type: list
  elements: dict
health_checks:
  description: Health checks.
  returned: success
  type: list
  elements: dict
network_endpoint_groups:
  description: Zonal network endpoint groups with their size.
  returned: success
  type: list
  elements: dict
firewalls:
  description: Firewall rules whose names begin with O(prefix).
  returned: success
  type: list
  elements: dict
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {compute.forwardingRules.list: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: ZONE_NOT_FOUND, what: "...", remedy: "..."}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import balancers
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, run


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            region={"type": "str", "required": True},
            annotations={"type": "dict", "default": {}},
            address={"type": "str"},
            prefix={"type": "str"},
        ),
        supports_check_mode=True,
    )
    params = module.params
    query = balancers.Query(
        params["region"], params["prefix"] or "", params["address"] or "", params["annotations"] or {}
    )
    run(module, lambda session: {"changed": False, **balancers.read(session, query)}, deadline=120.0)


if __name__ == "__main__":
    main()
