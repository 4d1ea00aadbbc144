#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: orphan_scan
short_description: Find what a deployment left behind in Google Cloud, and delete it if wished
version_added: 0.1.0
description:
  - Reads forwarding rules, target proxies, URL maps, backend services, health checks, network endpoint groups, IPs,
    firewalls, instance groups and disks in every region and zone and globally, one aggregated list a kind, with
    O(scope=cluster) also service accounts, and tells what is the deployment's from everybody else's.
  - Something is the deployment's only by evidence. That is the record that was made while its Gateway was there, a
    description of GKE's that names the cluster (and, on a cluster that is not ours, the Gateway or pool), labels, or
    GKE's name prefix that such a part carries. Evidence for somebody else always wins.
  - With O(delete) the leftovers are deleted in the order of their references, service accounts last, with their
    bindings on the project. Nothing foreign is ever touched.
  - While the cluster is there its parts are RV(live), not leftovers, with O(scope=cluster).
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  deployment:
    description: Name of the deployment.
    type: str
    required: true
  location:
    description: Zone or region of the cluster.
    type: str
    required: true
  cluster:
    description: Name of the cluster, there or gone.
    type: str
    required: true
  namespace:
    description: Namespace of the release.
    type: str
    default: ""
  gateway:
    description: Name of the Gateway.
    type: str
    default: ""
  pool:
    description: Name of the InferencePool.
    type: str
    default: ""
  network:
    description: VPC network. Parts in another network are foreign. Not looked at if not set.
    type: str
    default: ""
  scope:
    description: V(release) looks for parts of this Gateway and pool, V(cluster) for all that the cluster left.
    type: str
    choices: [release, cluster]
    default: cluster
  record:
    description: RV(record) of an earlier scan, which may have been another run's.
    type: dict
    default: {}
  annotations:
    description: Annotations of the Gateway, while it is there.
    type: dict
    default: {}
  links:
    description: Links of further resources that are known to be the deployment's, such as those of its NEGs.
    type: list
    elements: str
    default: []
  delete:
    description: Delete the leftovers.
    type: bool
    default: false
  confirm:
    description: The deployment's name. Needed with O(delete).
    type: str
    default: ""
  keep:
    description: Kinds that are listed but never deleted, for example C(disks), whose data would be lost.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds for all of it.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: Says what would be deleted, calls nothing that writes.
  diff_mode:
    support: full
    description: The leftovers before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: List what the deployment left behind
  llmd.gke.orphan_scan:
    project: my-project
    deployment: pattern1
    location: us-central1-a
    cluster: llm-d-cluster
    namespace: llm-d
    gateway: infra-pattern1-inference-gateway
    pool: gaie-pattern1
  register: scan

- name: Delete it
  llmd.gke.orphan_scan:
    project: my-project
    deployment: pattern1
    location: us-central1-a
    cluster: llm-d-cluster
    record: "{{ scan.record }}"
    delete: true
    confirm: pattern1
"""

RETURN = r"""
leftovers:
  description: What is the deployment's and still there after the task, each with the reason why it is the deployment's.
  returned: success
  type: list
  elements: dict
  sample: [{kind: forwardingRules, scope: regions/us-central1, name: gkegw1-ab12-x, why: recorded, in_use: false}]
left:
  description: Number of leftovers.
  returned: success
  type: int
deleted:
  description: What was deleted (in check mode, would be).
  returned: success
  type: list
  elements: dict
refused:
  description: What could not be deleted, each with code, why and remedy.
  returned: success
  type: list
  elements: dict
  sample: [{kind: disks, scope: zones/us-central1-a, name: pvc-1, code: ORPHAN_IN_USE, why: used by x, remedy: "..."}]
live:
  description: Parts of the cluster that is still there.
  returned: success
  type: list
  elements: dict
foreign:
  description: Everybody else's, only listed, each with the reason.
  returned: success
  type: list
  elements: dict
foreign_counts:
  description: Number of foreign resources by kind.
  returned: success
  type: dict
  sample: {firewalls: 4}
scanned:
  description: Number of resources that were looked at.
  returned: success
  type: int
unread:
  description: Kinds that could not be read, with code and remedy; nothing is proven about them.
  returned: success
  type: list
  elements: dict
proven:
  description: Whether every kind was read and nothing of the deployment's was found.
  returned: success
  type: bool
cluster_exists:
  description: Whether a cluster of that name is at that location.
  returned: success
  type: bool
record:
  description: What to keep, and to give as O(record) to a later scan.
  returned: success
  type: dict
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: CONFIRM_WRONG, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.orphan_scan import Wish
from ansible_collections.llmd.gke.plugins.module_utils.gcp.orphan_scan import run as scan

PLAIN = ("deployment", "location", "cluster", "namespace", "gateway", "pool", "network", "scope", "delete", "confirm")


def wish_of(params: dict[str, Any]) -> Wish:
    return Wish(
        **{name: params[name] for name in PLAIN},
        record=params["record"] or {},
        annotations={str(key): str(value) for key, value in (params["annotations"] or {}).items()},
        links=tuple(params["links"] or ()),
        keep=tuple(params["keep"] or ()),
        timeout=float(params["timeout"]),
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            deployment={"type": "str", "required": True},
            location={"type": "str", "required": True},
            cluster={"type": "str", "required": True},
            namespace={"type": "str", "default": ""},
            gateway={"type": "str", "default": ""},
            pool={"type": "str", "default": ""},
            network={"type": "str", "default": ""},
            scope={"type": "str", "choices": ["release", "cluster"], "default": "cluster"},
            record={"type": "dict", "default": {}},
            annotations={"type": "dict", "default": {}},
            links={"type": "list", "elements": "str", "default": []},
            delete={"type": "bool", "default": False},
            confirm={"type": "str", "default": ""},
            keep={"type": "list", "elements": "str", "default": []},
            timeout={"type": "int", "default": 600},
        ),
        supports_check_mode=True,
    )
    run(
        module,
        lambda session: scan(session, wish_of(module.params), check_mode=module.check_mode),
        deadline=float(module.params["timeout"]),
    )


if __name__ == "__main__":
    main()
