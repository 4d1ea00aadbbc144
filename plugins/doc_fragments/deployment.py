# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which deployment the modules that look at all of it look at."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that name one deployment; shared by diagnose and status."""

    DOCUMENTATION = r"""
options:
  region:
    description: Region of the load balancer.
    type: str
    required: true
  location:
    description: Zone or region of the cluster.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  network:
    description: VPC network.
    type: str
    default: default
  namespace:
    description: Namespace of the deployment.
    type: str
    default: llm-d
  release:
    description: Suffix of the three helm releases.
    type: str
    default: pattern1
  gateway:
    description: Name of the Gateway.
    type: str
    required: true
  route:
    description: Name of the HTTPRoute.
    type: str
    required: true
  pool:
    description: Name of the InferencePool, which is also the name of its release.
    type: str
    required: true
  model:
    description: Model that is to be served, the first of O(servers).
    type: str
    required: true
  servers:
    description: Every model server with its pool. Empty means the one of O(model) and O(pool).
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Model that it serves; a canary has the name of the model that it is to replace.
        type: str
        required: true
      pool:
        description: Name of its InferencePool, which is also the name of that one's release.
        type: str
        required: true
      release:
        description: Name of its own release.
        type: str
        required: true
  body_router:
    description: Name of the GCPRoutingExtension that reads the model's name out of the body; empty for none.
    type: str
    default: ""
  role_label:
    description: Label that tells prefill servers from decode servers; empty where there are none.
    type: str
    default: ""
  hf_secret:
    description: Name of the Secret with the Hugging Face token; only the names of its keys are read.
    type: str
    default: ""
  hf_secret_key:
    description: Key that the model server reads.
    type: str
    default: HF_TOKEN
  services:
    description: APIs that must be enabled.
    type: list
    elements: str
    default: []
  crds:
    description: CRDs that must be there.
    type: list
    elements: str
    default: []
  picker_label:
    description: Label of the picker's pods.
    type: str
    default: inferencepool
  request_counter:
    description: The picker's counter of requests.
    type: str
    required: true
  response_header:
    description: Header that the picker adds to answers.
    type: str
    required: true
  scorers:
    description: Scorers and weights that the picker must have; empty for no check.
    type: dict
    default: {}
  minimum_version:
    description: Oldest GKE version that will do.
    type: str
    default: ""
  base_url:
    description: Scheme and address of the endpoint; empty means the Gateway's own.
    type: str
    default: ""
  host_header:
    description: Host header to send, for routes that are bound to a hostname.
    type: str
    default: ""
  ca_file:
    description: CA certificates (PEM) to check an https endpoint against, by default the system's.
    type: path
  probe:
    description: Ask the endpoint itself for its models (M(llmd.gke.diagnose) also for one token).
    type: bool
    default: true
  timeout:
    description: Seconds for the whole look; what does not answer in time is reported as unread.
    type: float
    default: 9
notes:
  - Without O(kubeconfig) or O(host) the way into the cluster is found through the Google API, and nothing is written to
    disk.
  - Metrics are read through the API server's pod proxy, at the ports that the pods themselves declare.
"""
