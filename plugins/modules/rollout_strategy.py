#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_strategy
short_description: Set the order in which a model server's pods are replaced
version_added: 0.1.0
description:
  - Sets C(spec.strategy) of Deployments whose chart does not name one. helm and the drift check leave such a field
    alone, so nothing is put back and nothing is restarted by it.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  namespace:
    description: Namespace of the Deployments.
    type: str
    required: true
  names:
    description: Names of the Deployments. Those that do not exist are passed over.
    type: list
    elements: str
    required: true
  strategy:
    description:
      - V(recreate) takes all old pods away before the first new one comes, V(one_at_a_time) replaces one after the
        other without a pod more than before, V(surge) starts a new one before an old one goes.
    type: str
    choices: [recreate, one_at_a_time, surge]
    required: true
attributes:
  check_mode:
    support: full
    description: Says what would change, changes nothing.
  diff_mode:
    support: full
    description: The strategies before and after.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: The only GPU has to be free before the new pod comes
  llmd.gke.rollout_strategy:
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    names: [ms-pattern1-llm-d-modelservice-decode]
    strategy: recreate
"""

RETURN = r"""
deployments:
  description: The Deployments that were changed (in check mode, would be).
  returned: success
  type: list
  elements: str
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: KUBERNETES_FORBIDDEN, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import DEPLOYMENT
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run
from ansible_collections.llmd.gke.plugins.module_utils.llmd.upgrades import BODIES, STRATEGIES


def plain(strategy: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that a patch removes."""
    return {key: value for key, value in strategy.items() if value is not None}


def work(module: Any, client: KubeClient) -> dict[str, Any]:
    params, wanted = module.params, BODIES[module.params["strategy"]]
    before, after = {}, {}
    for name in params["names"]:
        live = client.get(DEPLOYMENT, name, params["namespace"])
        found = ((live or {}).get("spec") or {}).get("strategy") or {}
        if live is None or found == plain(wanted):
            continue
        before[name], after[name] = found, plain(wanted)
        if not module.check_mode:
            client.merge(DEPLOYMENT, name, params["namespace"], {"spec": {"strategy": wanted}})
    return {"changed": bool(after), "deployments": sorted(after), "diff": {"before": before, "after": after}}


def main() -> None:
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            namespace={"type": "str", "required": True},
            names={"type": "list", "elements": "str", "required": True},
            strategy={"type": "str", "choices": list(STRATEGIES), "required": True},
        ),
        supports_check_mode=True,
    )
    run(module, lambda: work(module, client_from_params(module.params)))


if __name__ == "__main__":
    main()
