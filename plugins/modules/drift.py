#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drift
short_description: Say where a deployment is no longer what was asked for
version_added: 0.1.0
description:
  - Takes what the deployment's own modules would change (their results in check mode), adds the sizes of the node pools
    and the labels of the cluster, and tells the differences apart. Is it helm's record that differs from the inventory,
    a live object from what helm installed, or Google Cloud from both?
  - Reads only.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  location:
    description: Zone or region of the cluster.
    type: str
    required: true
  deployment:
    description: Name of the deployment.
    type: str
    required: true
  pools:
    description: The node pools as they were asked for, as in M(llmd.gke.gke_cluster).
    type: list
    elements: dict
    default: []
  releases:
    description: The result C(releases) of M(llmd.gke.helm_releases) in check mode.
    type: list
    elements: dict
    default: []
  objects:
    description: Results in check mode of whatever else makes objects in the cluster.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is.
        type: str
        required: true
      result:
        description: The registered result, with C(changed) and C(diff).
        type: dict
        required: true
  google:
    description: Results in check mode of whatever makes resources in Google Cloud.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is.
        type: str
        required: true
      result:
        description: The registered result, with C(changed) and C(diff).
        type: dict
        required: true
attributes:
  check_mode:
    support: full
    description: Reads as always.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Tell the differences apart
  llmd.gke.drift:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    deployment: pattern1
    releases: "{{ checked.releases }}"
    objects:
      - {name: HTTPRoute, result: "{{ route }}"}
"""

RETURN = r"""
differences:
  description: Every difference. C(layer) is helm, cluster or google.
  returned: success
  type: list
  elements: dict
  sample:
    - layer: cluster
      what: Deployment llm-d/ms-pattern1-llm-d-modelservice-decode
      wanted: as helm installed it
      found: "changed: spec.replicas"
      remedy: "..."
paused:
  description: Since when the deployment is paused; its model servers and GPU nodes are away on purpose then.
  returned: success
  type: str
screen:
  description: The same as lines for a person.
  returned: success
  type: list
  elements: str
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: UNAUTHENTICATED, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import cluster_labels, clusters, node_pools, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession
from ansible_collections.llmd.gke.plugins.module_utils.llmd import differences as drift


def work(params: dict[str, Any], session: GoogleSession) -> dict[str, Any]:
    found = clusters.get(session, Where(params["location"], params["cluster"]))
    result = [difference for entry in params["google"] for difference in _tree(drift.GOOGLE, entry)]
    paused = ""
    if found is not None:
        labels = dict(found.get("resourceLabels") or {})
        paused = labels.get(cluster_labels.PAUSED_SINCE, "")
        sizes = {str(pool["name"]): node_pools.current_size(session, pool) for pool in found.get("nodePools") or []}
        result += drift.of_sizes(params["pools"], sizes)
        # An adopted cluster carries none of our labels, and is to carry none.
        if ownership.owned(labels) or params["deployment"] in labels.values():
            result += drift.of_labels(labels, ownership.labels(params["deployment"]))
    result = drift.of_releases(params["releases"]) + _objects(params["objects"]) + result
    lines = drift.table(result)
    if paused:
        lines.append(f"paused since {paused}: model servers and GPU nodes are away on purpose")
    return {
        "changed": False,
        "differences": [difference.as_result() for difference in result],
        "paused": paused,
        "screen": lines,
    }


def _objects(entries: list[dict[str, Any]]) -> list[drift.Difference]:
    return [difference for entry in entries for difference in _tree(drift.CLUSTER, entry)]


def _tree(layer: str, entry: dict[str, Any]) -> list[drift.Difference]:
    return drift.of_tree(layer, entry["name"], entry["result"])


def main() -> None:
    results = {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "result": {"type": "dict", "required": True}},
    }
    module = AnsibleModule(
        argument_spec=argument_spec(
            cluster={"type": "str", "required": True},
            location={"type": "str", "required": True},
            deployment={"type": "str", "required": True},
            pools={"type": "list", "elements": "dict", "default": []},
            releases={"type": "list", "elements": "dict", "default": []},
            objects=results,
            google=results,
        ),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module.params, session))


if __name__ == "__main__":
    main()
