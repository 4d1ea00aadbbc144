#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gke_cluster
short_description: Make, adopt, update or delete a GKE cluster
version_added: 0.1.0
description:
  - Creates a VPC-native cluster with its node pools, Gateway API and labels in one call, and waits until it is RUNNING.
  - An existing cluster is changed as little as possible, one operation at a time. What GKE cannot change is
    refused by name.
  - A cluster that is still being made, by an interrupted run or by somebody else, is waited for. There is never a
    second one.
  - A cluster or node pool without our labels is used as it is (adopted, see O(change_adopted)) and never deleted. Node
    pools that are not named are left alone.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  location:
    description: Zone (or region) of the cluster.
    type: str
    required: true
  network:
    description: VPC network.
    type: str
    default: default
  subnetwork:
    description: Subnet of the nodes. The network's subnet of the region if not set.
    type: str
  release_channel:
    description: Release channel. Google's default at creation, left alone afterwards, if not set.
    type: str
    choices: [RAPID, REGULAR, STABLE, EXTENDED]
  version:
    description:
      - Version of the control plane, for example V(1.36). A cluster of ours that has an older one is upgraded. Another
        one, and one that is newer, is left alone with a warning. Nodes follow by GKE's own upgrades.
    type: str
  private_nodes:
    description:
      - Whether nodes have no external addresses. They need Cloud NAT then. Cannot be changed on an existing cluster.
      - Google's default at creation, left alone afterwards, if not set.
    type: bool
  dataplane_v2:
    description:
      - Whether the network is Dataplane V2, which enforces network policies and which O(multi_networking) needs. Cannot
        be changed on a cluster.
    type: bool
  multi_networking:
    description: Whether pods may have networks beside the ordinary one, for RDMA. Cannot be changed on a cluster.
    type: bool
  authorized_networks:
    description:
      - Who may reach the control plane's address. An empty list lets everybody. Left alone if not set.
    type: list
    elements: dict
    suboptions:
      cidr:
        description: Address range.
        type: str
        required: true
      name:
        description: What to call it.
        type: str
        default: ''
  maintenance_window:
    description: When GKE may upgrade and repair by itself. Exclusions that are set stay. Left alone if not set.
    type: dict
    suboptions:
      start:
        description: V(HH:MM) in GMT for a daily window, else the first window's start in RFC 3339.
        type: str
        required: true
      end:
        description: End of the first window in RFC 3339, four hours after its start at least.
        type: str
      recurrence:
        description: When it comes again, an RRULE, for example V(FREQ=WEEKLY;BYDAY=SA,SU).
        type: str
  gateway_api:
    description: Whether GKE's Gateway API controller is on.
    type: str
    choices: [standard, disabled]
    default: standard
  workload_identity:
    description: Turn on workload identity. On an existing cluster only if it is ours.
    type: bool
    default: true
  labels:
    description: Resource labels besides our own. On an existing cluster they are added, if it is ours.
    type: dict
    default: {}
  creation_labels:
    description:
      - Resource labels that only a cluster that is made gets. An existing one is not compared with them.
      - For what changes later, such as who makes it (see M(llmd.gke.run_lock)) or its lease.
    type: dict
    default: {}
  deployment:
    description:
      - Name of the deployment, kept as label C(llmd-deployment). With it, O(state=absent) deletes only that
        deployment's cluster.
    type: str
    default: ''
  node_pools:
    description: Node pools that the cluster must have.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the pool.
        type: str
        required: true
      machine_type:
        description:
          - Machine type of the nodes. On an existing pool another one makes GKE replace the nodes one
            after the other.
        type: str
      node_count:
        description: Nodes in each zone that the pool is created with. It says nothing about a pool that exists.
        type: int
      accelerator:
        description: GPUs of each node. They cannot be changed on an existing pool, only the driver can.
        type: dict
        suboptions:
          type:
            description: Accelerator type, for example V(nvidia-tesla-t4).
            type: str
            required: true
          count:
            description: GPUs of each node. V(0) means no accelerator.
            type: int
            default: 1
          driver_version:
            description: Which GPU driver GKE installs.
            type: str
            choices: [default, latest, disabled]
            default: default
      autoscaling:
        description: Cluster autoscaler's limits, in nodes of each zone. Left alone if not set.
        type: dict
        suboptions:
          enabled:
            description: V(false) turns the autoscaler off for the pool.
            type: bool
            default: true
          min:
            description: Fewest nodes.
            type: int
            default: 0
          max:
            description: Most nodes.
            type: int
          location_policy:
            description:
              - How new nodes are spread over the zones. V(any) takes the zone that has capacity, the right one for
                GPUs that are scarce.
            type: str
            choices: [balanced, any]
      locations:
        description: Zones of the nodes, within the cluster's region. The cluster's zones if not set.
        type: list
        elements: str
      reservation:
        description: Which reserved machines the nodes may take. Cannot be changed on an existing pool.
        type: dict
        suboptions:
          affinity:
            description: V(specific) takes machines of the named reservation only, V(any) any that fits, V(none) none.
            type: str
            choices: [none, any, specific]
            required: true
          name:
            description: Name of the reservation, for V(specific).
            type: str
      upgrade_settings:
        description: How many nodes are replaced at a time. Left alone if not set.
        type: dict
        suboptions:
          max_surge:
            description: Nodes that are made in addition. With V(0) no GPU beyond the pool's own is needed.
            type: int
            default: 1
          max_unavailable:
            description: Nodes that may be away at a time.
            type: int
            default: 0
      spot:
        description: Use Spot VMs. Cannot be changed on an existing pool.
        type: bool
      labels:
        description: Kubernetes labels of the nodes. Labels that are there already and not named here stay.
        type: dict
      taints:
        description: Kubernetes taints of the nodes. GKE's own taint for GPU nodes need not be named.
        type: list
        elements: dict
        suboptions:
          key:
            description: Key of the taint.
            type: str
            required: true
          value:
            description: Value of the taint.
            type: str
            default: ''
          effect:
            description: Effect of the taint.
            type: str
            choices: [NoSchedule, PreferNoSchedule, NoExecute]
            required: true
      disk_size_gb:
        description: Size of the boot disk.
        type: int
      disk_type:
        description: Type of the boot disk, for example V(pd-balanced).
        type: str
      service_account:
        description:
          - Service account of the nodes, the project's default compute account if not set.
          - Cannot be changed on an existing pool.
        type: str
      placement:
        description:
          - Put the pool's nodes close to each other, for groups of pods that talk a lot. Cannot be changed on an
            existing pool. A zone may lack room for many machines side by side when it has room for them apart.
        type: dict
        suboptions:
          type:
            description: How they are placed.
            type: str
            choices: [compact]
            default: compact
          policy:
            description: Name of a resource policy of your own in the region; empty lets GKE make one.
            type: str
            default: ''
      accelerator_network_profile:
        description:
          - V(auto) lets GKE make the networks that the machine type has for its accelerators, RDMA among them, for
            A3 Ultra, A4 and the like. Cannot be changed on an existing pool.
        type: str
        choices: [auto]
      gvnic:
        description: Use Google's virtual network card, as fast networks ask for. Cannot be changed on an existing pool.
        type: bool
      additional_networks:
        description:
          - VPC networks of your own beside the ordinary one, in the order of the cards, for GPU and RDMA traffic. The
            cluster must have multi-networking. Cannot be changed on an existing pool.
        type: list
        elements: dict
        suboptions:
          network:
            description: Name of the network.
            type: str
            required: true
          subnetwork:
            description: Name of its subnetwork in the region.
            type: str
            required: true
      fallbacks:
        description:
          - What to take where the zone is out of stock or quota is short, tried in this order in the same run. Each may
            name another zone of the cluster's region, another GPU type with its machine type, or Spot VMs; what it does
            not name stays. A pool that came up as a fallback is left as it is by later runs.
        type: list
        elements: dict
        default: []
        suboptions:
          zone:
            description: Zone of the nodes. It must be in the cluster's region; the control plane stays where it is.
            type: str
          machine_type:
            description: Machine type.
            type: str
          type:
            description: Accelerator type.
            type: str
          count:
            description: GPUs of each node, with another type.
            type: int
            default: 1
          spot:
            description: Use Spot VMs.
            type: bool
  change_adopted:
    description:
      - Bring a cluster and node pools of the names in O(node_pools) that were there before to what is asked, too. By
        default the release channel of such a cluster and everything of such a pool stay as they are, with a warning
        that names the differences. HTTP load balancing and the Gateway API are turned on and missing pools are made in
        any case, and what only a wish names (O(authorized_networks), O(maintenance_window)) is set.
    type: bool
    default: false
  force:
    description: With O(state=absent), delete the cluster even if its labels do not say that we made it.
    type: bool
    default: false
  state:
    description: V(absent) deletes the cluster and waits until it is gone.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds for all of it. What Google is doing then goes on, unless O(cancel_on_timeout).
    type: int
    default: 2400
  cancel_on_timeout:
    description:
      - Cancel the operation that was given up on, because of the timeout or because its node pool is out of stock.
        GKE does so for work on node pools, not for the making of a cluster.
    type: bool
    default: false
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
- name: Make a cluster with a CPU pool and an autoscaled T4 pool
  llmd.gke.gke_cluster:
    project: my-project
    name: llm-d-cluster
    location: us-central1-a
    release_channel: REGULAR
    deployment: pattern1
    node_pools:
      - name: default-pool
        machine_type: n1-standard-4
        node_count: 2
      - name: gpu-pool
        machine_type: n1-standard-4
        node_count: 1
        accelerator: {type: nvidia-tesla-t4, count: 1, driver_version: default}
        autoscaling: {min: 0, max: 3}

- name: Make a private cluster whose nodes run as an account of their own
  llmd.gke.gke_cluster:
    project: my-project
    name: llm-d-private
    location: us-central1-a
    deployment: pattern1
    private_nodes: true
    authorized_networks:
      - {cidr: 203.0.113.0/24, name: office}
    maintenance_window: {start: "03:00"}
    node_pools:
      - name: default-pool
        machine_type: n1-standard-4
        node_count: 2
        service_account: pattern1-nodes@my-project.iam.gserviceaccount.com

- name: See what would change on a cluster that is there
  llmd.gke.gke_cluster:
    project: my-project
    name: llm-d-cluster
    location: us-central1-a
    release_channel: STABLE
    labels: {team: ai}
  check_mode: true
  diff: true

- name: Delete it
  llmd.gke.gke_cluster:
    project: my-project
    name: llm-d-cluster
    location: us-central1-a
    state: absent
"""

RETURN = r"""
cluster:
  description: The cluster, in the words of this module's options. No secrets are in it.
  returned: success
  type: dict
  contains:
    status:
      description: Google's status of it, RUNNING where all is well.
      type: str
    endpoint:
      description: Address of the Kubernetes API.
      type: str
    version:
      description: Version of the control plane.
      type: str
    labels:
      description: Resource labels, our own among them.
      type: dict
    node_pools:
      description: All pools, as M(llmd.gke.gke_node_pool) returns one.
      type: list
      elements: dict
  sample: {name: llm-d-cluster, location: us-central1-a, status: RUNNING, gateway_api: standard, endpoint: 203.0.113.7}
exists:
  description: Whether the cluster is there after the task (in check mode, now).
  returned: success
  type: bool
adopted:
  description: True where the cluster is used but was not made by this deployment.
  returned: success
  type: bool
kept:
  description: Why a cluster was not deleted, empty otherwise.
  returned: success
  type: str
operations:
  description: Google's operations that were waited for, with their seconds.
  returned: success
  type: list
  elements: dict
  sample: [{name: operation-1, type: CREATE_CLUSTER, seconds: 391.2}]
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {container.projects.locations.clusters.create: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: STOCKOUT, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import cluster_changes, cluster_settings, clusters
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, cluster_options, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import pool_from_options
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def wanted(params: dict[str, Any]) -> clusters.Cluster:
    return clusters.Cluster(
        name=params["name"],
        location=params["location"],
        network=params["network"],
        subnetwork=params["subnetwork"] or "",
        release_channel=params["release_channel"] or "",
        version=params["version"] or "",
        gateway_api=params["gateway_api"],
        workload_identity=params["workload_identity"],
        labels=params["labels"] or {},
        creation_labels=params["creation_labels"] or {},
        deployment=params["deployment"],
        pools=tuple(pool_from_options(pool) for pool in params["node_pools"]),
        timeout=float(params["timeout"]),
        private_nodes=params.get("private_nodes"),
        dataplane_v2=params.get("dataplane_v2"),
        multi_networking=params.get("multi_networking"),
        authorized_networks=cluster_settings.authorized_networks(params.get("authorized_networks")),
        maintenance_window=cluster_settings.maintenance_window(params.get("maintenance_window")),
        change_adopted=params["change_adopted"],
    )


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    want = wanted(module.params)
    if module.params["state"] == "present":
        outcome = cluster_changes.ensure_present(session, want, check_mode=module.check_mode)
    else:
        force = module.params["force"]
        outcome = cluster_changes.ensure_absent(session, want, force=force, check_mode=module.check_mode)
    return {
        "changed": outcome.changed,
        "cluster": outcome.cluster,
        "exists": outcome.exists,
        "adopted": outcome.adopted,
        "kept": outcome.kept,
        "operations": outcome.operations,
        "diff": diff(outcome.before, outcome.after),
        "warnings": outcome.warnings,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(**cluster_options()),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=float(module.params["timeout"]))


if __name__ == "__main__":
    main()
