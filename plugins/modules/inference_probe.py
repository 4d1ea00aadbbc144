#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inference_probe
short_description: Prove that an endpoint answers, and that the endpoint picker chose who answered
version_added: 0.1.0
description:
  - Asks /health, /v1/models, /v1/completions and /v1/chat/completions. While a new load balancer still answers "fault
    filter abort", "no healthy upstream" or 503, it asks again, until O(timeout).
  - Then looks for proof of routing, because a GET goes to any pod and shows nothing. The answer to a POST carries the
    endpoint picker's header; the picker's own request counter moved by our requests; the picker's start-up log
    names the
    scorers with the expected weights. Metrics and log are read through the API server.
  - It only reads, apart from the few tokens that it has generated. RV(ignore:changed) is always false.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
  - llmd.gke.endpoint
options:
  model:
    description: Model that must be served.
    type: str
    required: true
  checks:
    description: What to check, in this order whatever the order here.
    type: list
    elements: str
    choices: [health, models, completions, chat, picker_header, picker_counter, scorers]
    default: [health, models, completions, chat, picker_header, picker_counter, scorers]
  namespace:
    description: Namespace of the endpoint picker; needed for V(picker_counter) and V(scorers).
    type: str
  picker_selector:
    description: Label selector of the picker's pods; needed for V(picker_counter) and V(scorers). This and the next
      four depend on the version of llm-d; its profile knows them.
    type: str
  picker_metrics_port:
    description: Port of the picker's metrics; needed for V(picker_counter).
    type: int
  request_counter:
    description: Name of the picker's request counter; needed for V(picker_counter).
    type: str
  response_header:
    description: Header (with value V(true)) that the picker adds to every answer that it has handled; needed for
      V(picker_header).
    type: str
  scorers:
    description: Scorers that must be active, with their weights; needed for V(scorers).
    type: dict
  prompt:
    description: Prompt to complete.
    type: str
    default: Kubernetes is
  max_tokens:
    description: How many tokens to have generated at most, a request.
    type: int
    default: 16
  timeout:
    description: Seconds, for all checks together, during which answers of a load balancer that still comes up are
      retried.
    type: int
    default: 300
  interval:
    description: Seconds between two tries.
    type: float
    default: 1
  request_timeout:
    description: Seconds to wait for one answer.
    type: float
    default: 60
  fail:
    description: With V(false) failed checks are reported without failing.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: The same as without, but skipped where O(base_url) names no host, because nothing was deployed yet.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Prove that the endpoint serves the model through the picker
  llmd.gke.inference_probe:
    base_url: "http://{{ gateway.address }}"
    model: google/gemma-2b-it
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    picker_selector: inferencepool=gaie-pattern1-epp
    picker_metrics_port: "{{ profile.picker.metrics_port }}"
    request_counter: "{{ profile.picker.request_counter }}"
    response_header: "{{ profile.picker.response_header }}"
    scorers: "{{ profile.picker.scorers }}"
  vars:
    profile: "{{ lookup('llmd.gke.profile', 'llm-d-0.4') }}"

- name: Only ask whether it answers
  llmd.gke.inference_probe:
    base_url: http://203.0.113.7
    model: google/gemma-2b-it
    checks: [health, models, completions]
"""

RETURN = r"""
results:
  description: The checks, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {name: health, ok: true, detail: "200", seconds: 0.012, status: 200, code: "", remedy: ""}
passed:
  description: Whether all checks are ok.
  returned: always
  type: bool
samples:
  description: What was generated, the models served, the counter before and after, the scorers found.
  returned: always
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence); the first failed check's code.
  returned: on failure
  type: dict
  sample: {code: PICKER_BYPASSED, what: "...", remedy: "..."}
"""

from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import ENDPOINT_ARGUMENTS, sender
from ansible_collections.llmd.gke.plugins.module_utils.inference.picker import Picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.probe import CHECKS, PICKER_CHECKS, Plan, Probe, Result
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run

NEEDED = {
    "picker_header": ("response_header",),
    "picker_counter": ("namespace", "picker_selector", "picker_metrics_port", "request_counter"),
    "scorers": ("namespace", "picker_selector", "scorers"),
}


def picker_of(params: dict[str, Any]) -> Picker | None:
    """The picker to question, where a check needs it and the options say which."""
    if not PICKER_CHECKS & set(params["checks"]) or not params["picker_selector"] or not params["namespace"]:
        return None
    port = params["picker_metrics_port"] or 0
    return Picker(client_from_params(params), params["namespace"], params["picker_selector"], port)


def insist_on_options(params: dict[str, Any]) -> None:
    """Every check that was asked for has what it needs. Raises ConfigurationError."""
    missing = {
        check: absent
        for check, names in NEEDED.items()
        if check in params["checks"] and (absent := [name for name in names if not params[name]])
    }
    if missing:
        words = "; ".join(f"{check}: {', '.join(names)}" for check, names in missing.items())
        raise ConfigurationError(
            "Checks were asked for without the options that they need.",
            code="PROBE_OPTIONS_MISSING",
            why=words,
            remedy="Take them from the version's profile (lookup llmd.gke.profile), or leave these checks out.",
        )


def failure(results: list[Result], base_url: str) -> InferenceError:
    """All failed checks in one error, under the first one's code."""
    failed = [result for result in results if not result.ok]
    return InferenceError(
        f"{len(failed)} of {len(results)} checks failed: {', '.join(result.name for result in failed)}",
        code=failed[0].code or "UNEXPECTED_ANSWER",
        where=base_url,
        why="; ".join(f"{result.name}: {result.detail}" for result in failed),
        remedy=" ".join(dict.fromkeys(result.remedy for result in failed if result.remedy)),
        evidence=[result.as_dict() for result in results],
    )


def work(module: Any, report: dict[str, Any]) -> dict[str, Any]:
    params = module.params
    if module.check_mode and not urlsplit(params["base_url"]).hostname:
        return {**report, "skipped": True, "passed": True}
    insist_on_options(params)
    send = sender(params, params["host_header"])
    plan = Plan(
        model=params["model"],
        checks=tuple(params["checks"]),
        timeout=params["timeout"],
        interval=params["interval"],
        request_timeout=params["request_timeout"],
        prompt=params["prompt"],
        max_tokens=params["max_tokens"],
        counter=params["request_counter"] or "",
        header=params["response_header"] or "",
        scorers={name: float(weight) for name, weight in (params["scorers"] or {}).items()},
    )
    probe = Probe(send, plan, picker_of(params))
    results = probe.run()
    passed = all(result.ok for result in results)
    report.update(changed=False, results=[result.as_dict() for result in results], passed=passed, samples=probe.samples)
    if not passed and params["fail"]:
        raise failure(results, params["base_url"])
    return dict(report)


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            **ENDPOINT_ARGUMENTS,
            model={"type": "str", "required": True},
            checks={"type": "list", "elements": "str", "choices": list(CHECKS), "default": list(CHECKS)},
            namespace={"type": "str"},
            picker_selector={"type": "str"},
            picker_metrics_port={"type": "int"},
            request_counter={"type": "str"},
            response_header={"type": "str"},
            scorers={"type": "dict"},
            prompt={"type": "str", "default": "Kubernetes is"},
            max_tokens={"type": "int", "default": 16, "no_log": False},
            timeout={"type": "int", "default": 300},
            interval={"type": "float", "default": 1},
            request_timeout={"type": "float", "default": 60},
            fail={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    report: dict[str, Any] = {"changed": False, "results": [], "passed": False, "samples": {}}
    run(module, lambda: work(module, report), lambda: report)


if __name__ == "__main__":
    main()
