#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_watch
short_description: Ask an endpoint on and on while it is changed, and count what got lost
version_added: 0.1.0
description:
  - Sends streaming completions, a few at a time, until a file appears. Tells apart requests that were refused (no
    answer, or another status than 200) and requests that were accepted and then lost, and says how long nothing was
    accepted.
  - Meant to run in the background (C(async), C(poll=0)) while the endpoint is upgraded or scaled.
  - Changes nothing.
options:
  base_url:
    description: Address of the endpoint.
    type: str
    required: true
  model:
    description: Model to ask.
    type: str
    required: true
  streams:
    description: Requests at a time.
    type: int
    default: 2
  tokens:
    description: Tokens of each answer. Long answers are more likely to be cut off.
    type: int
    default: 200
  pause:
    description: Seconds between an answer and the next question.
    type: float
    default: 0.2
  state_file:
    description: Written after every answer with the numbers so far; that it exists says that the watch is at work.
    type: path
    required: true
  stop_file:
    description: The watch ends when this file exists, after the answers that are under way.
    type: path
    required: true
  timeout:
    description: Seconds after which the watch ends in any case.
    type: int
    default: 3600
  request_timeout:
    description: Seconds that one answer may take.
    type: float
    default: 300
  host_header:
    description: Host header, for routes bound to a hostname.
    type: str
    default: ''
  validate_certs:
    description: Whether the endpoint's certificate is checked.
    type: bool
    default: true
  ca_file:
    description: File of CA certificates.
    type: path
attributes:
  check_mode:
    support: full
    description: Asks nothing.
  diff_mode:
    support: none
    description: Nothing is changed.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Watch the endpoint
  llmd.gke.traffic_watch:
    base_url: http://203.0.113.10
    model: google/gemma-2b-it
    state_file: /tmp/watch.json
    stop_file: /tmp/watch.stop
  async: 3600
  poll: 0
  register: watch
"""

RETURN = r"""
traffic:
  description: The figures.
  returned: success
  type: dict
  sample:
    seconds: 74.2
    sent: 201
    answered: 160
    refused: 41
    lost: 0
    causes: {unavailable: 41}
    downtime_seconds: 12.4
    outages: [{at: 20.1, seconds: 12.4, refused: 41}]
    lost_requests: []
    longest_answer_seconds: 3.1
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: BASE_URL_INVALID, what: "...", remedy: "..."}
"""

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.client import Client
from ansible_collections.llmd.gke.plugins.module_utils.benchmark.shapes import Load, Target
from ansible_collections.llmd.gke.plugins.module_utils.inference import traffic
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run


def write_state(path: Path, watch: traffic.Watch) -> None:
    """The numbers so far, by rename: who reads it never sees half of it."""
    counts = {"sent": len(watch.records), "answered": sum(bool(record.ok and record.end) for record in watch.records)}
    scratch = path.with_name(f".{path.name}.new")
    with contextlib.suppress(OSError):  # the numbers at the end are what counts
        scratch.write_text(json.dumps(counts), encoding="utf-8")
        scratch.replace(path)


async def watch(params: dict[str, Any], target: Target) -> traffic.Watch:
    plan = traffic.Plan(params["model"], params["streams"], params["tokens"], params["pause"], params["timeout"])
    seconds = params["request_timeout"]
    load = Load(request_timeout=seconds, first_token_timeout=seconds, stall_timeout=seconds)
    stop, state = params["stop_file"], Path(params["state_file"])
    async with Client(target, load) as client:
        return await traffic.keep_asking(
            client,
            plan,
            lambda: os.path.exists(stop),
            target=target.label,
            tell=lambda seen: write_state(state, seen),
        )


def work(module: Any) -> dict[str, Any]:
    params = module.params
    options: dict[str, Any] = {
        "host_header": params["host_header"],
        "verify": params["validate_certs"],
        "ca_file": params["ca_file"] or "",
    }
    target = Target.parse(params["base_url"], "endpoint", **options)
    target.tls()
    if module.check_mode:
        return {"changed": False, "traffic": traffic.summary(traffic.Watch())}
    return {"changed": False, "traffic": traffic.summary(asyncio.run(watch(params, target)))}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "base_url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "streams": {"type": "int", "default": 2},
            "tokens": {"type": "int", "default": 200, "no_log": False},
            "pause": {"type": "float", "default": 0.2},
            "state_file": {"type": "path", "required": True},
            "stop_file": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 3600},
            "request_timeout": {"type": "float", "default": 300},
            "host_header": {"type": "str", "default": ""},
            "validate_certs": {"type": "bool", "default": True},
            "ca_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    run(module, lambda: work(module))


if __name__ == "__main__":
    main()
