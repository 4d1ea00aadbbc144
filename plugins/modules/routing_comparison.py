#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: routing_comparison
short_description: Measure what routing by prefix is worth against dealing requests out in turn
version_added: 0.2.0
description:
  - Sends the same kind of workload (many prefixes, each asked about several times) through the endpoint picker, and
    past it through a route that leads to a plain Service, both through the same load balancer. Says for each how much
    of the prompts the servers found in their caches (their own counters), and the time to the first token.
  - The second route is known by its host name, O(round_robin_host). Role P(llmd.gke.routing_proof#role) makes it for
    the time of the comparison (C(tasks_from=comparison)).
  - The time to the first token is measured as the time to an answer of one token.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
  - llmd.gke.endpoint
options:
  round_robin_host:
    description: Host header of the route that leads past the picker.
    type: str
    required: true
  namespace:
    description: Namespace of the pool.
    type: str
    required: true
  pool:
    description: Name of the InferencePool.
    type: str
    required: true
  model:
    description: Model to ask.
    type: str
    required: true
  groups:
    description: Different prefixes. Together they should not fit one server's cache, but fit all of them.
    type: int
    default: 80
  repeats:
    description: Requests for each prefix.
    type: int
    default: 7
  characters:
    description: Length of a prefix.
    type: int
    default: 2400
  concurrency:
    description: Requests at once.
    type: int
    default: 3
  hits_counter:
    description: The servers' counter of prompt tokens found in the cache.
    type: str
    required: true
  queries_counter:
    description: The servers' counter of prompt tokens looked up.
    type: str
    required: true
  success_counter:
    description: The servers' counter of finished requests.
    type: str
    required: true
  running_gauge:
    description: The servers' metric of requests in work.
    type: str
    required: true
  request_timeout:
    description: Seconds that one request may take.
    type: float
    default: 60
attributes:
  check_mode:
    support: full
    description: It only asks; without an address it is skipped.
  diff_mode:
    support: none
    description: Nothing is changed, so there is nothing to compare.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Compare the picker with taking turns
  llmd.gke.routing_comparison:
    base_url: http://203.0.113.7
    round_robin_host: round-robin.internal
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    pool: gaie-pattern1
    model: google/gemma-2b-it
    hits_counter: "{{ profile.model_server.metrics.prefix_hits }}"
    queries_counter: "{{ profile.model_server.metrics.prefix_queries }}"
    success_counter: "{{ profile.model_server.metrics.finished }}"
    running_gauge: "{{ profile.model_server.metrics.running }}"
  vars:
    profile: "{{ lookup('llmd.gke.profile', 'llm-d-0.4') }}"
"""

RETURN = r"""
picker:
  description: Figures through the picker. Times in seconds; pods says how many requests each has finished.
  returned: success
  type: dict
  sample: {requests: 270, hit_ratio: 0.83, ttft_p50: 0.021, ttft_p90: 0.12, pods: {ms-a: 92, ms-b: 90, ms-c: 88}}
round_robin:
  description: The same figures for requests that are dealt out in turn.
  returned: success
  type: dict
ttft_p50_ratio:
  description: Median time to the first token of taking turns, divided by the picker's. Above 1 the picker is faster.
  returned: success
  type: float
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: COMPARISON_FAILED, what: "...", remedy: "..."}
"""

from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.inference.comparison import Comparison, Way, Workload
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import ENDPOINT_ARGUMENTS, sender
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import pods_or_error
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def work(module: Any) -> dict[str, Any]:
    params = module.params
    if module.check_mode and not urlsplit(params["base_url"]).hostname:
        return {"changed": False, "skipped": True}
    client = client_from_params(params)
    pool = Pool.read(client, params["namespace"], params["pool"], params["success_counter"], params["running_gauge"])
    workload = Workload(
        params["model"],
        params["groups"],
        params["repeats"],
        params["characters"],
        params["concurrency"],
        params["request_timeout"],
    )
    counters = (params["hits_counter"], params["queries_counter"])
    ways = [
        Way("round_robin", sender(params, params["round_robin_host"])),
        Way("picker", sender(params, params["host_header"])),
    ]
    found = Comparison(pool, pods_or_error(pool), counters, workload).run(ways)
    fast, slow = found["picker"]["ttft_p50"], found["round_robin"]["ttft_p50"]
    return {"changed": False, **found, "ttft_p50_ratio": round(slow / fast, 2) if fast else 0.0}


def main() -> None:
    name = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            **ENDPOINT_ARGUMENTS,
            round_robin_host=name,
            namespace=name,
            pool=name,
            model=name,
            groups={"type": "int", "default": 80},
            repeats={"type": "int", "default": 7},
            characters={"type": "int", "default": 2400},
            concurrency={"type": "int", "default": 3},
            hits_counter=name,
            queries_counter=name,
            success_counter=name,
            running_gauge=name,
            request_timeout={"type": "float", "default": 60},
        ),
        supports_check_mode=True,
    )
    run(module, lambda: work(module), lambda: {"changed": False})


if __name__ == "__main__":
    main()
