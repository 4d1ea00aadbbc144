#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Say how a deployment is doing, in figures
version_added: 0.1.0
description:
  - Endpoint, models, replicas wanted and ready, requests, queue, KV cache use and tokens a second, from the objects and
    from the metrics of the picker and the model servers, which are read through the API server at the ports that the
    pods themselves declare.
  - What cannot be read is none, never zero. Findings of M(llmd.gke.diagnose) are named by code.
extends_documentation_fragment:
  - llmd.gke.gcp
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
  - llmd.gke.deployment
options:
  window:
    description: Seconds between the two looks at the counters that give the tokens a second.
    type: float
    default: 1
  metrics:
    description: Names of the model server's metrics (C(waiting), C(running), C(kv_cache_usage), C(generated),
      C(finished)), as the profile has them.
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
- name: See how it is doing
  llmd.gke.status:
    project: my-project
    region: us-central1
    location: us-central1-a
    cluster: llm-d-cluster
    gateway: infra-pattern1-inference-gateway
    route: llm-d-pattern1-inference-scheduling
    pool: gaie-pattern1
    model: google/gemma-2b-it
    request_counter: "{{ profile.picker.request_counter }}"
    response_header: "{{ profile.picker.response_header }}"
    metrics: "{{ profile.model_server.metrics }}"
  vars:
    profile: "{{ lookup('llmd.gke.profile', 'llm-d-0.4') }}"
"""

RETURN = r"""
status:
  description: The figures; none where unknown.
  returned: success
  type: dict
  sample:
    endpoint: http://203.0.113.10
    models: [google/gemma-2b-it]
    replicas: {wanted: 1, ready: 1}
    picker: {ready: 1, pods: 1}
    queue: 0.0
    running: 1.0
    kv_cache_use: 0.031
    requests: {picker: 17.0, model_servers: 19.0}
    tokens_per_second: 121.5
    window_seconds: 1.0
    pools:
      - model: google/gemma-2b-it
        pool: gaie-pattern1
        release: ms-pattern1
        replicas: {wanted: 1, ready: 1}
        picker: {ready: 1, pods: 1}
        autoscaler: {min: 1, max: 3, wanted: 1}
        queue: 0.0
        running: 1.0
        tokens_per_second: 121.5
    nodes: {default-pool: 2, nvidia-t4-pool: 1}
    lease: {state: running, until: "2026-11-24T08:00:00+00:00", hours_left: 7.9, expired: false, paused_since: ""}
    findings: []
screen:
  description: The same as lines for a person.
  returned: success
  type: list
  elements: str
api_calls:
  description: Number of requests to Google Cloud by API method.
  returned: always
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: UNAUTHENTICATED, what: "...", remedy: "..."}
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.observe import Pass
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.parallel import read_all
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.read_cluster import second_reads
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.redact import redact, redact_text
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.running import observation_spec, observe
from ansible_collections.llmd.gke.plugins.module_utils.llmd.status import screen, status_of


def second_look(look: Pass, window: float) -> tuple[dict[str, str], float]:
    """The same metrics ``window`` seconds later, and how much later it really was."""
    if look.client is None or not look.seen.cluster.metrics:
        return {}, 0.0
    started = look.clock.now()
    look.clock.sleep(window)
    reads = {name: read for name, read in second_reads(look.client, look.seen).items() if name.startswith("metrics/")}
    later, _errors = read_all(reads, seconds=5.0)
    return {name.partition("/")[2]: text for name, text in later.items()}, look.clock.now() - started


def main() -> None:
    module = AnsibleModule(
        argument_spec=observation_spec(
            window={"type": "float", "default": 1},
            metrics={"type": "dict", "required": True},
        ),
        supports_check_mode=True,
    )
    try:
        # no token of our own: it would be counted
        seen, look = observe(module.params, generate=False)
        later, seconds = second_look(look, module.params["window"])
    except LlmdError as error:
        fail(module, error, api_calls={})
    now = datetime.datetime.now(datetime.UTC)
    status: dict[str, Any] = redact(status_of(seen, diagnose(seen), later, seconds, module.params["metrics"], now))
    calls = dict(look.session.calls) if look.session is not None else {}
    lines = [redact_text(line) for line in screen(status)]
    module.exit_json(changed=False, status=status, screen=lines, api_calls=calls)


if __name__ == "__main__":
    main()
