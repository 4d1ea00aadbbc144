#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: diagnose
short_description: Say what is wrong with a deployment, causes first
version_added: 0.1.0
description:
  - Reads in one pass, side by side where one thing does not need the other, the Google APIs, the proxy-only subnet, the
    cluster and its node pools, the health of the backends, and in the cluster the Gateway, routes, policies, pods,
    events, logs of crashed containers, releases, the picker's and the model servers' metrics; then asks the endpoint.
  - Known symptoms become findings with a stable code, the evidence and a remedy, in order of cause; what usually
    follows from an earlier finding says so. A healthy deployment has no finding.
  - What cannot be read, and what is not ready without a known reason, stays unknown and is said so; RV(bundle) holds
    all that was read, without secrets.
extends_documentation_fragment:
  - llmd.gke.gcp
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
  - llmd.gke.deployment
options:
  fail_on:
    description: From which severity on a finding makes the task fail; V(never) only tells.
    type: str
    choices: [never, error, warning]
    default: never
attributes:
  check_mode:
    support: full
    description: Reads as always; one token is asked of the endpoint unless O(probe=false).
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Say what is wrong
  llmd.gke.diagnose:
    project: my-project
    region: us-central1
    location: us-central1-a
    cluster: llm-d-cluster
    gateway: infra-pattern1-inference-gateway
    route: llm-d-pattern1-inference-scheduling
    pool: gaie-pattern1
    model: google/gemma-2b-it
    servers:
      - {model: google/gemma-2b-it, pool: gaie-pattern1, release: ms-pattern1}
      - {model: microsoft/Phi-3-mini-4k-instruct, pool: gaie-pattern1-phi-3, release: ms-pattern1-phi-3}
    request_counter: "{{ profile.picker.request_counter }}"
    response_header: "{{ profile.picker.response_header }}"
    fail_on: error
  vars:
    profile: "{{ lookup('llmd.gke.profile', 'llm-d-0.4') }}"
"""

RETURN = r"""
healthy:
  description: Whether there is no finding of severity error and nothing is unknown.
  returned: always
  type: bool
findings:
  description: What was found, causes first.
  returned: always
  type: list
  elements: dict
  sample:
    - code: PROXY_ONLY_SUBNET_MISSING
      severity: error
      layer: project
      what: The Gateway's region has no active proxy-only subnet in the cluster's VPC.
      where: network default, region us-central1
      why: none of 1 subnets is an ACTIVE REGIONAL_MANAGED_PROXY
      remedy: Run role llmd.gke.gcp_network (llmd_proxy_subnet)
      follows_from: ""
      evidence:
table:
  description: The findings as lines for a person.
  returned: always
  type: list
  elements: str
bundle:
  description: Everything that was read, without secrets.
  returned: always
  type: dict
seconds:
  description: How long it took.
  returned: always
  type: float
api_calls:
  description: Number of requests to Google Cloud by API method.
  returned: always
  type: dict
error:
  description: The first finding, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: PROXY_ONLY_SUBNET_MISSING, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.bundle import bundle
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose, table
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.redact import redact, redact_text
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.running import observation_spec, observe
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import ERROR, WARNING, Finding

FATAL = {"never": frozenset[str](), "error": frozenset({ERROR}), "warning": frozenset({ERROR, WARNING})}


def failure(findings: list[Finding], lines: list[str]) -> LlmdError:
    """The first finding as the module's error, with the whole table in its words."""
    first = findings[0].as_dict()
    return LlmdError(
        f"{first['what']}",
        code=first["code"],
        where=first["where"],
        why=redact_text("\n".join(lines)),
        remedy=first["remedy"],
        evidence=redact(first["evidence"]),
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=observation_spec(
            fail_on={"type": "str", "choices": ["never", "error", "warning"], "default": "never"}
        ),
        supports_check_mode=True,
    )
    try:
        seen, look = observe(module.params)
    except LlmdError as error:
        fail(module, error, healthy=False, findings=[], table=[], bundle={}, seconds=0.0, api_calls={})
    findings = diagnose(seen)
    lines = [redact_text(line) for line in table(findings, seen.seconds)]
    result: dict[str, Any] = {
        "changed": False,
        "healthy": not any(finding.severity != WARNING for finding in findings),
        "findings": redact([finding.as_dict() for finding in findings]),
        "table": lines,
        "bundle": bundle(seen, findings),
        "seconds": round(seen.seconds, 2),
        "api_calls": dict(look.session.calls) if look.session is not None else {},
    }
    if any(finding.severity in FATAL[module.params["fail_on"]] for finding in findings):
        fail(module, failure(findings, lines), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
