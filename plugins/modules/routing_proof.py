#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: routing_proof
short_description: Prove by numbers that the endpoint picker routes by prefix and by load
version_added: 0.2.0
description:
  - Sends requests through the endpoint and looks which pod answers each. With two or more replicas it shows that
    different prefixes are spread, that the same long prefix comes back to the pod that has it cached, and that a loaded
    pod is avoided. Each claim is a statistical test with the significance level O(alpha) and fails where a picker
    without that property could well have given the same answers.
  - Spread is tested against a picker that gives 90 % of different prefixes to one pod (exact binomial), affinity
    against one that ignores prefixes (permutation test), avoidance against one that ignores load (Fisher's exact test).
  - Which pod answered is read from O(pod_header) where answers carry it, else from the pods' own request counters
    through the API server; these also bear the header out. Counters need a pool without other traffic.
  - The load goes straight to one pod through the API server and is bounded by O(load_concurrency), O(load_seconds) and
    a number of tokens a request.
  - O(disruptions) take a pod away and show what clients see. They need O(confirm).
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
  - llmd.gke.endpoint
options:
  model:
    description: Model to ask.
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
  claims:
    description: What to prove. V(picker) means that every answer passed the picker.
    type: list
    elements: str
    choices: [picker, spread, affinity, avoidance]
    default: [picker, spread, affinity, avoidance]
  disruptions:
    description:
      - V(kill_pod) deletes the pod that a prefix belongs to, counts errors, and wants the next answers from another
        one.
      - V(kill_picker) deletes the picker's pod and shows what failureMode does until it is back.
    type: list
    elements: str
    choices: [kill_pod, kill_picker]
    default: []
  deployment:
    description: Name of the deployment, for O(confirm).
    type: str
    default: ''
  confirm:
    description: Must be O(deployment) for O(disruptions).
    type: str
    default: ''
  alpha:
    description: Significance level of each claim.
    type: float
    default: 0.01
  prefix_characters:
    description: Length of a prefix. The picker compares blocks of 64 characters; keep below the model's context.
    type: int
    default: 1024
  load_concurrency:
    description: Requests at once on the loaded pod.
    type: int
    default: 16
  load_seconds:
    description: Longest duration of the load.
    type: int
    default: 60
  pod_header:
    description: Response header that names the pod, where model servers send one.
    type: str
    default: ''
  response_header:
    description: Header (with value V(true)) that the picker adds to every answer that it has handled.
    type: str
    required: true
  success_counter:
    description: The model servers' counter of finished requests.
    type: str
    required: true
  running_gauge:
    description: The model servers' gauge of requests in work.
    type: str
    required: true
  picker_selector:
    description: Label selector of the picker's pods.
    type: str
    required: true
  picker_metrics_port:
    description: Port of the picker's metrics.
    type: int
    default: 9090
  request_counter:
    description: Name of the picker's request counter, the witness where a load balancer does not
      pass O(response_header) on.
    type: str
    default: ''
  request_timeout:
    description: Seconds to wait for one answer.
    type: float
    default: 60
  timeout:
    description: Seconds that each disruption may take to heal.
    type: int
    default: 600
  fail:
    description: With V(false) claims that were not shown are reported without failing.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: The same as without, but no disruption; skipped where O(base_url) names no host.
  diff_mode:
    support: none
    description: Nothing is changed but by O(disruptions).
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Prove that requests are routed by prefix and load
  llmd.gke.routing_proof:
    base_url: http://203.0.113.7
    model: google/gemma-2b-it
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    pool: gaie-pattern1

- name: And what happens when pods go away
  llmd.gke.routing_proof:
    base_url: http://203.0.113.7
    model: google/gemma-2b-it
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    pool: gaie-pattern1
    disruptions: [kill_pod, kill_picker]
    deployment: pattern1
    confirm: pattern1
"""

RETURN = r"""
claims:
  description: The claims, in order, then the disruptions.
  returned: always
  type: list
  elements: dict
  sample:
    - name: affinity
      ok: true
      detail: 30 of 30 requests with a prefix seen before went to the pod that had answered it; p = 0.0001, below 0.01
      p_value: 0.0001
      code: ""
      remedy: ""
      numbers: {stayed: 30, possible: 30, prefixes: 10, "null": the prefix does not matter}
passed:
  description: Whether everything was shown.
  returned: always
  type: bool
pods:
  description: The model-server pods that could be picked.
  returned: always
  type: list
  elements: str
alpha:
  description: The significance level.
  returned: always
  type: float
evidence:
  description: How the answering pod was known, and whether the pods' counters agree with the header.
  returned: always
  type: dict
requests:
  description: How many requests were sent through the endpoint for the claims.
  returned: always
  type: int
error:
  description: What was not shown, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: ROUTING_IGNORES_LOAD, what: "...", remedy: "..."}
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import ENDPOINT_ARGUMENTS, sender
from ansible_collections.llmd.gke.plugins.module_utils.inference.picker import Picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import (
    CLAIMS,
    Claim,
    Plan,
    Proof,
    pods_or_error,
)
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_disruption import DISRUPTIONS, Disruption
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_load import Limits
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool, Witness
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def failure(claims: list[Claim], base_url: str) -> InferenceError:
    """All claims that were not shown in one error, under the first one's code."""
    failed = [claim for claim in claims if not claim.ok]
    return InferenceError(
        f"{len(failed)} of {len(claims)} claims about routing were not shown: "
        + ", ".join(claim.name for claim in failed),
        code=failed[0].code,
        where=base_url,
        why="; ".join(f"{claim.name}: {claim.detail}" for claim in failed),
        remedy=" ".join(dict.fromkeys(claim.remedy for claim in failed if claim.remedy)),
        evidence=[claim.as_dict() for claim in claims],
    )


def disruptions_of(params: dict[str, Any], check_mode: bool) -> list[str]:
    """The disruptions to make; they need the deployment's name as consent."""
    wanted = [name for name in DISRUPTIONS if name in params["disruptions"]]
    if wanted and (not params["deployment"] or params["confirm"] != params["deployment"]):
        raise ConfigurationError(
            f"{', '.join(wanted)} interrupt the deployment; that was not confirmed.",
            code="ROUTING_NOT_CONFIRMED",
            remedy=f"Set llmd_confirm={params['deployment'] or 'NAME'} if requests may fail for a while.",
        )
    return [] if check_mode else wanted


def counter_of(picker: Picker, params: dict[str, Any]) -> Callable[[], float | None]:
    """How many requests the picker has counted, where the options name its counter and it can be read."""

    def count() -> float | None:
        try:
            return picker.count(params["request_counter"], params["model"]) if params["request_counter"] else None
        except InferenceError:
            return None

    return count


def work(module: Any, report: dict[str, Any]) -> dict[str, Any]:
    params = module.params
    disruptions = disruptions_of(params, module.check_mode)
    if module.check_mode and not urlsplit(params["base_url"]).hostname:
        return {**report, "skipped": True, "passed": True}
    client, send = client_from_params(params), sender(params, params["host_header"])
    pool = Pool.read(client, params["namespace"], params["pool"], params["success_counter"], params["running_gauge"])
    pods = pods_or_error(pool)
    plan = Plan(
        model=params["model"],
        claims=tuple(params["claims"]),
        alpha=params["alpha"],
        characters=params["prefix_characters"],
        request_timeout=params["request_timeout"],
        header=params["response_header"],
        load=Limits(concurrency=params["load_concurrency"], seconds=params["load_seconds"]),
    )
    report.update(pods=pods, alpha=plan.alpha)
    witness = Witness(pool, pods, params["pod_header"])
    picker = Picker(client, pool.namespace, params["picker_selector"], params["picker_metrics_port"])
    proof = Proof(send, plan, pool, pods, witness, picker_count=counter_of(picker, params))
    claims = proof.run() if plan.claims else []
    report.update(evidence=witness.evidence(), requests=proof.asked, claims=[claim.as_dict() for claim in claims])
    if disruptions:
        disruption = Disruption(send, plan, pool, picker, params["pod_header"], params["timeout"])
        for name in disruptions:
            claims.append(getattr(disruption, name)())
            report.update(changed=disruption.changed, claims=[claim.as_dict() for claim in claims])
    report["passed"] = all(claim.ok for claim in claims)
    if not report["passed"] and params["fail"]:
        raise failure(claims, params["base_url"])
    return dict(report)


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            **ENDPOINT_ARGUMENTS,
            model={"type": "str", "required": True},
            namespace={"type": "str", "required": True},
            pool={"type": "str", "required": True},
            claims={"type": "list", "elements": "str", "choices": list(CLAIMS), "default": list(CLAIMS)},
            disruptions={"type": "list", "elements": "str", "choices": list(DISRUPTIONS), "default": []},
            deployment={"type": "str", "default": ""},
            confirm={"type": "str", "default": ""},
            alpha={"type": "float", "default": 0.01},
            prefix_characters={"type": "int", "default": 1024},
            load_concurrency={"type": "int", "default": 16},
            load_seconds={"type": "int", "default": 60},
            pod_header={"type": "str", "default": ""},
            response_header={"type": "str", "required": True},
            success_counter={"type": "str", "required": True},
            running_gauge={"type": "str", "required": True},
            picker_selector={"type": "str", "required": True},
            picker_metrics_port={"type": "int", "default": 9090},
            request_counter={"type": "str", "default": ""},
            request_timeout={"type": "float", "default": 60},
            timeout={"type": "int", "default": 600},
            fail={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    report: dict[str, Any] = {
        "changed": False,
        "claims": [],
        "passed": False,
        "pods": [],
        "alpha": module.params["alpha"],
        "evidence": {},
        "requests": 0,
    }
    run(module, lambda: work(module, report), lambda: report)


if __name__ == "__main__":
    main()
