#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_services
short_description: Enable the APIs of a Google Cloud project
version_added: 0.1.0
description:
  - Enables (or disables) APIs, several with one call, and waits until it is done.
  - Compute and container are then asked until they really answer, because enabling takes a while to spread.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  services:
    description: APIs, with or without C(.googleapis.com).
    type: list
    elements: str
    required: true
  state:
    description: V(present) enables, V(absent) disables. Services that depend on a disabled one are never taken along.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds to wait for all of it.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: Says what would change, calls nothing that writes.
  diff_mode:
    support: full
    description: The fields that this module manages, before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Enable what an inference gateway on GKE needs
  llmd.gke.gcp_services:
    project: my-project
    services: [compute, container, networkservices]

- name: Wait up to five minutes until they really answer
  llmd.gke.gcp_services:
    project: my-project
    services: [compute.googleapis.com]
    timeout: 300

- name: Disable an API that nothing else needs
  llmd.gke.gcp_services:
    project: my-project
    services: [networkservices]
    state: absent
"""

RETURN = r"""
services:
  description: State of each API after the task.
  returned: success
  type: dict
  sample: {compute.googleapis.com: ENABLED}
enabled:
  description: APIs that this task enabled (in check mode, would enable).
  returned: success
  type: list
  elements: str
disabled:
  description: APIs that this task disabled (in check mode, would disable).
  returned: success
  type: list
  elements: str
operations:
  description: Google's operations that were waited for, with their seconds.
  returned: success
  type: list
  elements: dict
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {serviceusage.services.batchGet: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: SERVICE_UNKNOWN, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import services
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    present = params["state"] == "present"
    outcome = services.ensure(
        session, params["services"], enabled=present, timeout=float(params["timeout"]), check_mode=module.check_mode
    )
    turned = sorted(name for name, state in outcome.after.items() if outcome.before[name] != state)
    return {
        "changed": outcome.changed,
        "services": outcome.after,
        "enabled": turned if present else [],
        "disabled": [] if present else turned,
        "operations": outcome.operations,
        "diff": diff(outcome.before, outcome.after),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            services={"type": "list", "elements": "str", "required": True},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            timeout={"type": "int", "default": 600},
        ),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=float(module.params["timeout"]))


if __name__ == "__main__":
    main()
