#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: layout_proof
short_description: Prove that groups of pods serve as one, or that prefill is done apart from decode
version_added: 0.2.0
description:
  - With O(layout=multinode) it shows that every group of a LeaderWorkerSet has all its pods, each on a node of its own,
    that requests are answered, and that every pod has answered some. With O(restart=true) one pod is deleted and the
    whole group must be replaced.
  - With O(layout=disaggregated) it shows that the picker chooses a prefill and a decode server for each prompt, that
    the prefill servers read the prompts, and that their KV caches are handed over.
  - Every prompt is a different one, so that nothing is cached.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
  - llmd.gke.endpoint
options:
  layout:
    description: What is to be shown.
    type: str
    required: true
    choices: [multinode, disaggregated]
  namespace:
    description: Namespace of the servers.
    type: str
    required: true
  model:
    description: Model to ask.
    type: str
    required: true
  group:
    description: Name of the LeaderWorkerSet, with O(layout=multinode).
    type: str
    default: ''
  labels:
    description: Labels of the pool's pods, with O(layout=disaggregated).
    type: dict
    default: {}
  picker_selector:
    description: Label selector of the picker's pods, with O(layout=disaggregated).
    type: str
    default: ''
  picker_metrics_port:
    description: Port of the picker's metrics.
    type: int
    default: 9090
  names:
    description: Names of metrics and labels and numbers of ports, which belong to the version. Take them from the
      profile.
    type: dict
    required: true
  requests:
    description: Prompts in all.
    type: int
    default: 24
  characters:
    description: Length of a prompt.
    type: int
    default: 1200
  restart:
    description: Delete one pod of a group and see the group replaced. Needs O(confirm).
    type: bool
    default: false
  deployment:
    description: Name of the deployment.
    type: str
    default: ''
  confirm:
    description: The same name, to allow O(restart).
    type: str
    default: ''
  timeout:
    description: Seconds until a group must be back.
    type: int
    default: 900
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
    description: Asks all the same, but takes no pod away; without an address it is skipped.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Prove that prompts are read apart
  llmd.gke.layout_proof:
    layout: disaggregated
    base_url: http://203.0.113.7
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    model: google/gemma-2b-it
    labels: {llm-d.ai/model: gemma-2b-it}
    picker_selector: inferencepool=gaie-pattern1-epp
    names:
      finished: "{{ profile.model_server.metrics.finished }}"
      role_label: "{{ profile.labels.role }}"
      transfers: "{{ profile.sidecar.transfers }}"
      failed_transfers: "{{ profile.sidecar.failed_transfers }}"
      decisions: "{{ profile.picker.disaggregated.decision_counter }}"
      decode_port: "{{ profile.sidecar.target_port }}"
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
    - {name: prefill_reads, ok: true, detail: prefill servers have read 24 of 24 prompts, code: "", remedy: ""}
passed:
  description: Whether everything was shown.
  returned: always
  type: bool
error:
  description: What was not shown, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: PREFILL_IDLE, what: "...", remedy: "..."}
"""

from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.inference.http import ENDPOINT_ARGUMENTS, sender
from ansible_collections.llmd.gke.plugins.module_utils.inference.layout import LAYOUTS, Apart, Groups, Names, Plan
from ansible_collections.llmd.gke.plugins.module_utils.inference.picker import Picker
from ansible_collections.llmd.gke.plugins.module_utils.inference.routing import Claim
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def names_of(given: dict[str, Any]) -> Names:
    """Raises ConfigurationError where a name is unknown or ``finished`` is missing."""
    try:
        whole = {key: int(value) if key.endswith("port") else str(value) for key, value in given.items()}
        return Names(**whole)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            "names are not those that this proof reads.",
            code="PROBE_OPTIONS_MISSING",
            why=str(error),
            remedy="Take them from the version's profile, as role llmd.gke.layout_proof does.",
        ) from error


def claims_of(module: Any) -> tuple[list[Claim], bool]:
    """The claims, and whether a pod was taken away for them."""
    params, client = module.params, client_from_params(module.params)
    plan = Plan(params["model"], params["requests"], params["characters"], request_timeout=params["request_timeout"])
    shared = (sender(params, params["host_header"]), client, params["namespace"], plan, names_of(params["names"]))
    if params["layout"] == "disaggregated":
        picker = Picker(client, params["namespace"], params["picker_selector"], params["picker_metrics_port"])
        return Apart(*shared).run(params["labels"], picker), False
    groups = Groups(*shared)
    claims = groups.run(params["group"])
    restart = params["restart"] and not module.check_mode
    if restart:
        claims.append(groups.restart(params["group"], params["timeout"]))
    return claims, restart


def work(module: Any, report: dict[str, Any]) -> dict[str, Any]:
    params = module.params
    if params["restart"] and (not params["deployment"] or params["confirm"] != params["deployment"]):
        raise ConfigurationError(
            "A restart interrupts the deployment; that was not confirmed.",
            code="ROUTING_NOT_CONFIRMED",
            remedy=f"Set llmd_confirm={params['deployment'] or 'NAME'} if requests may fail for a while.",
        )
    if module.check_mode and not urlsplit(params["base_url"]).hostname:
        return {**report, "skipped": True, "passed": True}
    claims, changed = claims_of(module)
    failed = [claim for claim in claims if not claim.ok]
    report.update(changed=changed, claims=[claim.as_dict() for claim in claims], passed=not failed)
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
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            **ENDPOINT_ARGUMENTS,
            layout={"type": "str", "required": True, "choices": list(LAYOUTS)},
            namespace={"type": "str", "required": True},
            model={"type": "str", "required": True},
            group=text,
            labels={"type": "dict", "default": {}},
            picker_selector=text,
            picker_metrics_port={"type": "int", "default": 9090},
            names={"type": "dict", "required": True},
            requests={"type": "int", "default": 24},
            characters={"type": "int", "default": 1200},
            restart={"type": "bool", "default": False},
            deployment=text,
            confirm=text,
            timeout={"type": "int", "default": 900},
            request_timeout={"type": "float", "default": 60},
            fail={"type": "bool", "default": True},
        ),
        required_if=[("layout", "multinode", ["group"]), ("layout", "disaggregated", ["labels", "picker_selector"])],
        supports_check_mode=True,
    )
    report: dict[str, Any] = {"changed": False, "claims": [], "passed": False}
    run(module, lambda: work(module, report), lambda: report)


if __name__ == "__main__":
    main()
