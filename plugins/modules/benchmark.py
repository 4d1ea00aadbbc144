#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ``benchmark``: a measured load on an OpenAI endpoint, with the error of the measuring client itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: benchmark
author:
  - The llmd.gke contributors (@llmd-gke)
short_description: Measure an OpenAI-compatible endpoint by streaming requests
version_added: 0.1.0
description:
  - Sends a bounded load of streaming requests and reports time to first token, inter-token latency, whole latency,
    generated tokens a second and failures by cause, each with a 95 % interval.
  - Before it does, it measures itself against a server of known latency on the loopback interface, reports its own
    error, and withholds percentiles that it cannot measure or for which there are too few answers.
  - Every load ends by itself, on count, on time, or when the error budget is spent. Redirects are not followed.
  - Inter-token latency is (last - first) / (tokens - 1). Tokens are counted by the server's usage.
  - Needs nothing but Python; no tokenizer. Prompt lengths are therefore given in words.
  - A reader; it never reports a change, although it writes the files that it is told to write.
requirements:
  - Python 3.11 or newer, a system with fork (Linux, macOS)
attributes:
  check_mode:
    support: full
    description: In check mode nothing is sent; RV(plan) says what would be.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  base_url:
    description: Address of the endpoint, such as V(http://203.0.113.10). The API's path is added.
    type: str
    required: true
  label:
    description: Name of the endpoint in the report and in the history.
    type: str
    default: endpoint
  model:
    description: Model to ask for.
    type: str
    required: true
  api:
    description: Which of the two APIs is used.
    type: str
    choices: [completions, chat]
    default: completions
  api_key:
    description: Bearer token, where the endpoint wants one.
    type: str
  host_header:
    description: Host header, for a route that is bound to a hostname.
    type: str
    default: ""
  headers:
    description: Further header fields.
    type: dict
    default: {}
  validate_certs:
    description: Whether a certificate must be valid.
    type: bool
    default: true
  ca_file:
    description: PEM file of CA certificates to trust instead of the system's.
    type: path
  against:
    description:
      - A second endpoint to compare with, interleaved (ABBA) in the same minutes. Closed loop only.
      - The difference is O(base_url) minus this one.
    type: dict
    suboptions:
      base_url:
        description: Its address.
        type: str
        required: true
      label:
        description: Its name.
        type: str
        default: other
      host_header:
        description: Its Host header.
        type: str
        default: ""
      model:
        description: Its model, where that is another one (pattern against pattern). If not set, O(model).
        type: str
  groups:
    description: Groups of four blocks (ABBA) in a comparison.
    type: int
    default: 5
  concurrency:
    description: Requests in flight; one load after the other for each number. Used unless O(rate) is given.
    type: list
    elements: int
    default: [4]
  rate:
    description:
      - Requests a second instead of O(concurrency) (open loop); one load for each number.
      - Latencies are then told from the intended send time too, so a slow endpoint cannot hide by being asked less.
    type: list
    elements: float
    default: []
  arrivals:
    description: How requests of an open loop are spread.
    type: str
    choices: [poisson, constant]
    default: poisson
  max_in_flight:
    description: Most requests in flight in an open loop; others wait, and their waiting counts.
    type: int
    default: 256
  requests:
    description: Requests of each load, for each endpoint; the load ends there.
    type: int
    default: 100
  duration:
    description: Seconds that each load may take, for each endpoint; the load ends there.
    type: float
    default: 120
  warmup:
    description: Requests before each load that do not count.
    type: int
    default: 8
  error_budget:
    description: Share of failures (0 to 1) that ends the benchmark, looked at after 20 requests.
    type: float
    default: 0.2
  request_timeout:
    description: Seconds that one request may take.
    type: float
    default: 120
  first_token_timeout:
    description: Seconds until its first token.
    type: float
    default: 60
  stall_timeout:
    description: Seconds between two pieces of an answer.
    type: float
    default: 30
  workload:
    description: What is asked.
    type: dict
    suboptions:
      kind:
        description:
          - V(synthetic) asks random words; V(shared_prefix) puts one of a few long prefixes before them;
            V(multi_turn) holds conversations that carry the answers on; V(dataset) reads prompts from a file.
        type: str
        choices: [synthetic, shared_prefix, multi_turn, dataset]
        default: synthetic
      prompt:
        description:
          - Words of a prompt, a number or a dictionary with C(kind) (fixed, uniform, normal, lognormal), C(mean),
            C(min), C(max), C(deviation).
        type: raw
        default: 64
      output:
        description: Tokens of an answer, in the same way.
        type: raw
        default: 64
      prefix_words:
        description: Words of a shared prefix.
        type: int
        default: 256
      prefix_groups:
        description: How many different shared prefixes.
        type: int
        default: 4
      turns:
        description: Questions of a conversation.
        type: int
        default: 4
      dataset:
        description: File of JSON lines (C(prompt), C(max_tokens)) or in ShareGPT's shape.
        type: path
      unique:
        description: Whether every prompt begins with a word of its own, so that only a wanted prefix is cached.
        type: bool
        default: true
      ignore_eos:
        description: Send C(ignore_eos) (vLLM), so that answers have the wanted length. Off for servers that refuse it.
        type: bool
        default: true
      temperature:
        description: Sampling temperature.
        type: float
        default: 0
      extra:
        description: Further fields of the request body.
        type: dict
        default: {}
  seed:
    description: Seed of lengths, arrivals and statistics. Words change with every run, or a prefix cache would answer.
    type: int
    default: 1
  slo:
    description: Seconds that a good request keeps, for goodput.
    type: dict
    suboptions:
      ttft:
        description: Time to first token.
        type: float
      itl:
        description: Inter-token latency.
        type: float
      e2e:
        description: Whole latency.
        type: float
  expectations:
    description:
      - What to hold the figures against. Each has C(metric) (such as V(ttft.p50), V(itl.p50), V(success),
        V(output_tokens_per_second), V(goodput.share)), C(at_least) and/or C(at_most), C(better) (lower or higher),
        optionally C(concurrency), C(supported) (yes, partly, no) and C(why).
    type: list
    elements: dict
    default: []
  gate:
    description:
      - V(supported) fails only on expectations that their own source's data support; V(all) on every one; V(off) never.
    type: str
    choices: [supported, all, "off"]
    default: supported
  calibrate:
    description: Measure this client's own error first.
    type: bool
    default: true
  tolerance:
    description: Own error, as a share of a measured percentile, above which that percentile is withheld.
    type: float
    default: 0.05
  artifacts_dir:
    description: Folder for C(benchmark.json), C(benchmark.html) and C(requests.jsonl). Nothing is written without it.
    type: path
  history:
    description: File to which the figures are added, and with whose last like run they are compared.
    type: path
  baseline:
    description:
      - Folder of an earlier run (O(artifacts_dir) of then) to compare with, such as one from before an upgrade.
      - The two were not measured in turns, so a difference is no proof of its cause; the report says so.
    type: path
"""

EXAMPLES = r"""
- name: Measure the Gateway with four requests in flight
  llmd.gke.benchmark:
    base_url: http://203.0.113.10
    model: google/gemma-2b-it
    artifacts_dir: "{{ playbook_dir }}/results"

- name: See where throughput stops growing
  llmd.gke.benchmark:
    base_url: http://203.0.113.10
    model: google/gemma-2b-it
    concurrency: [1, 2, 4, 8, 16]
    workload:
      prompt: {kind: lognormal, mean: 120, deviation: 0.6, max: 1000}
      output: 100

- name: Compare the Gateway with the model server behind it
  llmd.gke.benchmark:
    base_url: http://203.0.113.10
    label: gateway
    against: {base_url: "http://10.0.0.6:8000", label: direct}
    model: google/gemma-2b-it
    requests: 200

- name: Compare with the run that was kept before the upgrade
  llmd.gke.benchmark:
    base_url: http://203.0.113.10
    model: google/gemma-2b-it
    baseline: "{{ playbook_dir }}/results-before"

- name: Offer two requests a second, whatever the endpoint does
  llmd.gke.benchmark:
    base_url: http://203.0.113.10
    model: google/gemma-2b-it
    rate: [2]
    duration: 300
    requests: 1000
    slo: {ttft: 1.0, itl: 0.05}
"""

RETURN = r"""
plan:
  description: What is sent at most, and for how long at most.
  returned: always
  type: dict
  sample: {requests_at_most: 108, seconds_at_most: 294}
benchmark:
  description: The report, without its per-request part. Its C(results) have one entry for each load and endpoint.
  returned: when something was sent; in a failure only where no file holds it
  type: dict
calibration:
  description: This client's own error, in words.
  returned: when something was sent
  type: str
summary:
  description: One line for each load and endpoint, and one for each comparison.
  returned: when something was sent
  type: list
  elements: str
passed:
  description: Whether every expectation that counts was met and the run was not cut short.
  returned: when something was sent
  type: bool
files:
  description: Paths of the files written.
  returned: when something was sent
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import report
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.arguments import ARGUMENTS, plan_from
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.job import run
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.verdict import failure_of, lines_of
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.waiting import report_progress


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    result: dict[str, Any] = {}
    try:
        plan = plan_from(module.params)
        plan.check()
        result["plan"] = plan.describe()
        if module.check_mode:
            module.exit_json(changed=False, **result)
        outcome = run(plan, progress=report_progress, keep=lambda part: report.write(part, plan.directory))
        result["files"] = report.write(outcome, plan.directory)
        error = failure_of(outcome.report)
        result.update(benchmark=outcome.report, calibration=outcome.report["calibration_text"])
        result.update(summary=lines_of(outcome.report), passed=error is None)
    except LlmdError as problem:
        fail(module, problem, changed=False, **result)
    if error is not None:
        if result["files"]:
            del result["benchmark"]  # a failure is printed whole; the report is in the file
        fail(module, error, changed=False, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
