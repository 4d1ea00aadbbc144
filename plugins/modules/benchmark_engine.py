#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module ``benchmark_engine``: the benchmark by somebody else's load generator, read in our definitions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: benchmark_engine
author:
  - The llmd.gke contributors (@llmd-gke)
short_description: Measure an endpoint by guidellm, inference-perf or vllm bench serve
version_added: 0.1.0
description:
  - Runs another load generator and reads what it measured of each request in the definitions of M(llmd.gke.benchmark),
    with the same intervals, gate, history and page; the engine's own summary stands beside it.
  - V(guidellm) and V(inference-perf) run on the control node in a virtual environment of their own, which is made on
    request only, or as a Job in the cluster in an image that holds them. V(vllm) is C(vllm bench serve) in the model
    server's own image, as a Job.
  - A Job has resource limits and no GPU, and is removed with what it reads however the task ends; if this process is
    killed, the cluster removes it by itself after ten minutes.
  - Nothing vouches for an engine on this machine; M(llmd.gke.benchmark) measures its own error first.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
attributes:
  check_mode:
    support: full
    description: In check mode nothing is installed and nothing is sent; RV(plan) says what would be.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  engine:
    description: Which load generator.
    type: str
    required: true
    choices: [guidellm, inference-perf, vllm]
  where:
    description: On the control node, or as a Job in the cluster.
    type: str
    choices: [local, cluster]
    default: local
  timeout:
    description: Seconds that each load may take, the engine's start-up included.
    type: float
    default: 900
  tokenizer:
    description: Folder or Hugging Face name of a tokenizer. V(inference-perf) needs one; V(vllm) takes the model's.
    type: str
    default: ""
  venv:
    description: Folder of the engine's virtual environment, for O(where=local).
    type: path
  install:
    description: Make that environment where the engine is not in it. Several hundred megabytes.
    type: bool
    default: false
  python:
    description: Interpreter that makes the environment. If not set, the one that runs this module.
    type: str
    default: ""
  requirement:
    description: What pip installs. If not set, the version that this module was written for.
    type: str
    default: ""
  pip_arguments:
    description: Further arguments of C(pip install), such as a folder of wheels.
    type: list
    elements: str
    default: []
  namespace:
    description: Namespace of the Job.
    type: str
    default: llm-d
  name:
    description: Name of the Job and of what it reads.
    type: str
    default: benchmark-engine
  image:
    description: Image that holds the engine and python3, for O(where=cluster).
    type: str
    default: ""
  labels:
    description: Further labels of the objects.
    type: dict
    default: {}
  resources:
    description: Requests and limits of the Job's container.
    type: dict
    default: {requests: {cpu: "1", memory: 2Gi}, limits: {cpu: "2", memory: 4Gi}}
  node_selector:
    description: Labels of the nodes that may run it.
    type: dict
    default: {}
  service_account:
    description: Service account of the Job's pod; its token is not mounted.
    type: str
    default: ""
  hf_secret:
    description: Secret with the Hugging Face token, for a tokenizer that is fetched.
    type: str
    default: ""
  hf_secret_key:
    description: Its key.
    type: str
    default: HF_TOKEN
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
  request_timeout:
    description: Seconds that one request may take.
    type: float
    default: 120
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
- name: Measure from within the cluster with what the model image brings
  llmd.gke.benchmark_engine:
    engine: vllm
    where: cluster
    image: ghcr.io/llm-d/llm-d-cuda:v0.4.0
    kubeconfig: "{{ kubeconfig }}"
    base_url: http://203.0.113.10
    model: google/gemma-2b-it
    hf_secret: huggingface-token

- name: Measure with guidellm, installed on request
  llmd.gke.benchmark_engine:
    engine: guidellm
    venv: /opt/guidellm
    install: true
    base_url: http://203.0.113.10
    model: google/gemma-2b-it
    artifacts_dir: "{{ playbook_dir }}/results-guidellm"
"""

RETURN = r"""
plan:
  description: What is sent at most.
  returned: always
  type: dict
  sample: {requests_at_most: 100}
benchmark:
  description: The report, as M(llmd.gke.benchmark) returns it, with C(engine).
  returned: when something was sent; in a failure only where no file holds it
  type: dict
summary:
  description: One line for each load.
  returned: when something was sent
  type: list
  elements: str
passed:
  description: Whether every expectation that counts was met.
  returned: when something was sent
  type: bool
files:
  description: Paths of the files written.
  returned: when something was sent
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: ENGINE_MISSING, what: "...", remedy: "..."}
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.benchmark import report
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.verdict import failure_of, lines_of
from ansible_collections.llmd.gke.plugins.module_utils.engines import in_cluster, local
from ansible_collections.llmd.gke.plugins.module_utils.engines.arguments import place_of, plan_of, room_of, spec
from ansible_collections.llmd.gke.plugins.module_utils.engines.job import ENGINES, run
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import Order
from ansible_collections.llmd.gke.plugins.module_utils.errors import InferenceError, LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.waiting import SystemClock, report_progress


def interrupted(number: int, frame: Any) -> None:
    """A signal ends the engine too: it becomes an error, so that what was begun is taken away."""
    raise InferenceError(
        "The benchmark was interrupted.",
        code="BENCHMARK_INTERRUPTED",
        remedy="Run it again; with several loads, those that ended are in the report.",
    )


def runner_of(module: Any, folder: Path) -> tuple[Any, str]:
    """What runs an order, and the engine's version where it is known beforehand. Raises LlmdError."""
    params, engine, clock = module.params, ENGINES[module.params["engine"]], SystemClock()
    if params["where"] == "cluster":
        client, room = client_from_params(params), room_of(params)

        def in_job(order: Order) -> Mapping[str, str]:
            return in_cluster.run(client, room, engine.recipe(order), clock=clock, progress=report_progress)

        return in_job, ""
    place = place_of(params)
    program = local.provide(engine, place, report_progress)

    def here(order: Order) -> Mapping[str, str]:
        recipe = engine.recipe(order)
        return local.run(
            engine, program, recipe, str(folder), timeout=params["timeout"], clock=clock, progress=report_progress
        )

    return here, local.version_of(engine, place)


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(argument_spec=kube_argument_spec(**spec()), supports_check_mode=True)
    result: dict[str, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    try:
        plan = plan_of(module.params)
        result["plan"] = plan.describe()
        if module.check_mode:
            module.exit_json(changed=False, **result)
        engine = ENGINES[module.params["engine"]]
        folder = Path(plan.directory or module.tmpdir) / "engine"
        runner, version = runner_of(module, folder)
        outcome = run(
            plan, engine, runner, tokenizer=module.params["tokenizer"], version=version, where=module.params["where"],
            keep=lambda part: report.write(part, plan.directory),
        )  # fmt: skip
        result["files"] = report.write(outcome, plan.directory)
        error = failure_of(outcome.report)
        result.update(benchmark=outcome.report, summary=lines_of(outcome.report), passed=error is None)
    except LlmdError as problem:
        fail(module, problem, changed=False, **result)
    if error is not None:
        if result["files"]:
            del result["benchmark"]
        fail(module, error, changed=False, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
