#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_routing
short_description: Prove that each of several models behind one endpoint answers its own requests
version_added: 0.2.0
description:
  - Sends a shuffled mix of small requests for all models (and LoRA adapters) through one endpoint and shows that each
    is answered by the model that it names. The answer says so, and the request counters of the models' own pods bear
    it out.
  - Shows also that the list of models is whole, and that a request for a model that nobody serves is told so.
  - It only asks; the requests cost a few tokens each.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
  - llmd.gke.endpoint
options:
  namespace:
    description: Namespace of the pools.
    type: str
    required: true
  rules:
    description: Names of models and adapters, with the InferencePools that answer them.
    type: list
    elements: dict
    required: true
    suboptions:
      names:
        description: What requests may ask for.
        type: list
        elements: str
        required: true
      pools:
        description: InferencePools that answer.
        type: list
        elements: str
        required: true
  requests:
    description: Requests in all.
    type: int
    default: 500
  concurrency:
    description: Requests at once.
    type: int
    default: 16
  max_tokens:
    description: Tokens of each answer.
    type: int
    default: 4
  success_counter:
    description: The model servers' metric of finished requests.
    type: str
    required: true
  running_gauge:
    description: The model servers' metric of requests in work.
    type: str
    required: true
  models_path:
    description: Path of the list of models.
    type: str
    default: /v1/models
  request_timeout:
    description: Seconds that one request may take.
    type: float
    default: 60
  fail:
    description: Fail where a claim was not shown; else only report it.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Asks all the same, for it changes nothing; without an address it is skipped.
  diff_mode:
    support: none
    description: Nothing is changed, so there is nothing to compare.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Prove that two models are told apart
  llmd.gke.model_routing:
    base_url: http://203.0.113.7
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    rules:
      - {names: [google/gemma-2b-it], pools: [gaie-pattern1]}
      - {names: [microsoft/Phi-3-mini-4k-instruct], pools: [gaie-pattern1-phi-3-mini-4k-instruct]}
    success_counter: "{{ profile.model_server.metrics.finished }}"
    running_gauge: "{{ profile.model_server.metrics.running }}"
  vars:
    profile: "{{ lookup('llmd.gke.profile', 'llm-d-0.4') }}"
"""

RETURN = r"""
claims:
  description: The claims, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - name: right_model
      ok: true
      detail: 500 of 500 requests answered by the model that they name
      code: ""
      remedy: ""
      numbers: {requests: 500, right: 500}
passed:
  description: Whether everything was shown.
  returned: always
  type: bool
error:
  description: What was not shown, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: MODEL_ROUTED_WRONG, what: "...", remedy: "..."}
"""

from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import ENDPOINT_ARGUMENTS, sender
from ansible_collections.llmd.gke.plugins.module_utils.inference.model_routing import Plan, Proof, Rule
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing_witness import Pool
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def rules_of(params: dict[str, Any]) -> list[Rule]:
    """Rules with their pools as they are in the cluster. Raises InferenceError POOL_MISSING."""
    client = client_from_params(params)
    metrics = (params["success_counter"], params["running_gauge"])
    return [
        Rule(
            tuple(entry["names"]),
            tuple(Pool.read(client, params["namespace"], name, *metrics) for name in entry["pools"]),
        )
        for entry in params["rules"]
    ]


def work(module: Any, report: dict[str, Any]) -> dict[str, Any]:
    params = module.params
    if module.check_mode and not urlsplit(params["base_url"]).hostname:
        return {**report, "skipped": True, "passed": True}
    send = sender(params, params["host_header"])
    plan = Plan(
        requests=params["requests"],
        concurrency=params["concurrency"],
        max_tokens=params["max_tokens"],
        request_timeout=params["request_timeout"],
        models_path=params["models_path"],
    )
    claims = Proof(send, rules_of(params), plan).run()
    failed = [claim for claim in claims if not claim.ok]
    report.update(claims=[claim.as_dict() for claim in claims], passed=not failed)
    if failed and params["fail"]:
        raise InferenceError(
            f"{len(failed)} of {len(claims)} claims were not shown: {', '.join(claim.name for claim in failed)}",
            code=failed[0].code,
            where=params["base_url"],
            why="; ".join(f"{claim.name}: {claim.detail}" for claim in failed),
            remedy=" ".join(dict.fromkeys(claim.remedy for claim in failed)),
            evidence=report["claims"],
        )
    return dict(report)


def main() -> None:
    rule = {
        "names": {"type": "list", "elements": "str", "required": True},
        "pools": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            **ENDPOINT_ARGUMENTS,
            namespace={"type": "str", "required": True},
            rules={"type": "list", "elements": "dict", "required": True, "options": rule},
            requests={"type": "int", "default": 500},
            concurrency={"type": "int", "default": 16},
            max_tokens={"type": "int", "default": 4, "no_log": False},
            success_counter={"type": "str", "required": True},
            running_gauge={"type": "str", "required": True},
            models_path={"type": "str", "default": "/v1/models"},
            request_timeout={"type": "float", "default": 60},
            fail={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    report: dict[str, Any] = {"changed": False, "claims": [], "passed": False}
    run(module, lambda: work(module, report), lambda: report)


if __name__ == "__main__":
    main()
