#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gcp_dashboard
short_description: Show a deployment on a dashboard of Cloud Monitoring
version_added: 0.1.0
description:
  - Makes a dashboard of Cloud Monitoring from a Grafana one, panel by panel, with the same PromQL. Managed Prometheus
    answers it there.
  - It is found again by its labels. Dashboards of others are left alone.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  deployment:
    description: Name of the deployment; there is one dashboard for each.
    type: str
    required: true
  title:
    description: Title of the dashboard. If not set, C(llm-d) and the deployment's name.
    type: str
  grafana:
    description: The Grafana dashboard. Needed for O(state=present).
    type: dict
  namespace:
    description: Namespace that replaces C($namespace) in its expressions.
    type: str
    default: llm-d
  state:
    description: Whether the dashboard shall be there.
    type: str
    choices: [present, absent]
    default: present
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
- name: Show the deployment
  llmd.gke.gcp_dashboard:
    project: my-project
    deployment: pattern1
    grafana: "{{ lookup('ansible.builtin.file', 'grafana.json') | from_json }}"
"""

RETURN = r"""
name:
  description: Google's name of the dashboard. Empty where there is none (yet).
  returned: success
  type: str
  sample: projects/123456789012/dashboards/4815162342
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {monitoring.projects.dashboards.list: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: API_DISABLED, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.gcp import dashboards
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    deployment = params["deployment"]
    if params["state"] == "absent":
        outcome = dashboards.absent(session, deployment, check_mode=module.check_mode)
    else:
        title = params["title"] or f"llm-d {deployment}"
        wanted = dashboards.from_grafana(
            params["grafana"], title=title, deployment=deployment, namespace=params["namespace"]
        )
        outcome = dashboards.present(session, wanted, check_mode=module.check_mode)
    return {"changed": outcome.changed, "name": outcome.name, "diff": diff(outcome.before, outcome.after)}


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            deployment={"type": "str", "required": True},
            title={"type": "str"},
            grafana={"type": "dict"},
            namespace={"type": "str", "default": "llm-d"},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        ),
        required_if=[("state", "present", ["grafana"])],
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session))


if __name__ == "__main__":
    main()
