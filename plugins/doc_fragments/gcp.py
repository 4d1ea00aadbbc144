# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that every module of this collection that talks to Google Cloud takes."""

    DOCUMENTATION = r"""
options:
  project:
    description:
      - Id of the Google Cloud project (not its display name).
      - If not set, the environment variables E(GCP_PROJECT) and E(GOOGLE_CLOUD_PROJECT) are used.
    type: str
    required: true
  auth_kind:
    description:
      - Where the credentials come from. V(application) takes what Google's libraries find by themselves, in this order
        E(GOOGLE_APPLICATION_CREDENTIALS) (a service account key, or a workload identity federation file), the file of
        C(gcloud auth application-default login), the metadata server.
      - If not set, the environment variable E(GCP_AUTH_KIND) is used.
    type: str
    choices: [application, machineaccount, serviceaccount, accesstoken]
    default: application
  service_account_file:
    description:
      - Path of a service account's JSON key, for O(auth_kind=serviceaccount).
      - If not set, the environment variable E(GCP_SERVICE_ACCOUNT_FILE) is used.
    type: path
  service_account_contents:
    description:
      - Contents of a service account's JSON key, as text or dictionary, for O(auth_kind=serviceaccount).
      - If not set, the environment variable E(GCP_SERVICE_ACCOUNT_CONTENTS) is used.
    type: jsonarg
  service_account_email:
    description:
      - Which service account of the machine to use, for O(auth_kind=machineaccount). Its default account if not set.
      - If not set, the environment variable E(GCP_SERVICE_ACCOUNT_EMAIL) is used.
    type: str
  access_token:
    description:
      - An OAuth access token, for O(auth_kind=accesstoken). It lives an hour at most and cannot be renewed by
        the module.
      - If not set, the environment variable E(GCP_ACCESS_TOKEN) is used.
    type: str
  impersonate_service_account:
    description:
      - E-mail of a service account to act as. Its short-lived tokens are minted with the identity that O(auth_kind)
        gives, which needs C(roles/iam.serviceAccountTokenCreator) on it. They are renewed during long waits.
      - If not set, the first of the environment variables E(GCP_IMPERSONATE_SERVICE_ACCOUNT),
        E(GOOGLE_IMPERSONATE_SERVICE_ACCOUNT) and E(CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT) is used.
    type: str
  scopes:
    description:
      - OAuth scopes to ask for. The default, C(cloud-platform) and C(userinfo.email), is what Google Cloud and the
        cluster's RBAC need.
      - If not set, the environment variable E(GCP_SCOPES) is used.
    type: list
    elements: str
  api_endpoint_overrides:
    description:
      - Other addresses of Google's APIs, for private endpoints or an emulator. Keys are V(compute), V(container),
        V(serviceusage), V(cloudresourcemanager), V(cloudbilling), V(iam), V(iamcredentials) and V(monitoring);
        values are addresses without the API's version,
        for example C(https://compute-example.p.googleapis.com/).
      - If an API is not named, the environment variable C(LLMD_GKE_API_ENDPOINT_<API>) is used, then Google's address.
      - Proxy and certificates come from E(HTTPS_PROXY), E(NO_PROXY) and E(REQUESTS_CA_BUNDLE).
    type: dict
    default: {}
  api_propagation_timeout:
    description:
      - For how many seconds an API that says that it is disabled is asked again. An API that was enabled moments ago
        can say so for some minutes. With V(0) it is believed at once.
    type: int
    default: 0
requirements:
  - google-auth
  - requests
notes:
  - Requests that Google asks to repeat (rate limits, server errors, lost connections, a busy cluster) are repeated with
    growing waits.
  - Every result has C(api_calls), the number of requests by API method.
"""

    NODE_POOL = r"""
options:
  machine_type:
    description:
      - Machine type of the nodes. On an existing pool another one makes GKE replace the nodes one after the other.
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
  placement:
    description:
      - Put the pool's nodes close to each other, for groups of pods that talk a lot. Cannot be changed on an existing
        pool. A zone may lack room for many machines side by side when it has room for them apart.
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
"""
