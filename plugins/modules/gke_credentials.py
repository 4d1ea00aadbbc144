#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gke_credentials
short_description: Write a kubeconfig for a GKE cluster, without any plugin binary
version_added: 0.1.0
description:
  - Reads the cluster's endpoint and certificate, mints a short-lived token of the identity of this task, and
    writes a kubeconfig that
    only its owner can read, in one step.
  - The token lives an hour at most, so run the task again before long work. A fresh token alone is not a change.
    C(changed) says whether
    endpoint, certificate or context are others than before. The file gets the fresh token either way, except in check
    mode.
  - The token is in the file only, never in the result.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  cluster:
    description: Name of the cluster. Needed for O(state=present).
    type: str
  location:
    description: Zone (or region) of the cluster. Needed for O(state=present).
    type: str
  path:
    description: Where to write the kubeconfig. Nothing is written if not set. Its folder is made if it is missing.
    type: path
  endpoint:
    description:
      - Which endpoint of the cluster to use. V(auto) is the IP endpoint where there is one, else the DNS endpoint.
    type: str
    choices: [auto, ip, dns]
    default: auto
  missing_ok:
    description: A cluster that does not exist is no error. RV(exists) says so then, and nothing is written.
    type: bool
    default: false
  force:
    description: Replace or remove a file that this module did not write.
    type: bool
    default: false
  state:
    description: V(absent) removes the file. Google is not asked then.
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
- name: Write a kubeconfig
  llmd.gke.gke_credentials:
    project: my-project
    cluster: llm-d-cluster
    location: us-central1-a
    path: /run/user/1000/llmd/kubeconfig
  register: access

- name: Remove it
  llmd.gke.gke_credentials:
    project: my-project
    path: /run/user/1000/llmd/kubeconfig
    state: absent
"""

RETURN = r"""
exists:
  description: Whether the cluster exists. False only with O(missing_ok=true).
  returned: success with O(state=present)
  type: bool
host:
  description: Address of the Kubernetes API.
  returned: success with O(state=present)
  type: str
  sample: https://203.0.113.7
ca_cert:
  description: Certificate authority of the API server, PEM. Empty for an endpoint with a public certificate.
  returned: success with O(state=present)
  type: str
context:
  description: Name of the context in the kubeconfig, as gcloud names it.
  returned: success with O(state=present)
  type: str
  sample: gke_my-project_us-central1-a_llm-d-cluster
path:
  description: The kubeconfig, empty where none was asked for.
  returned: success
  type: str
expires_at:
  description:
    - When the token in the file stops working (RFC 3339, UTC). Empty where unknown (a token that was supplied).
  returned: success with O(state=present)
  type: str
  sample: "2026-11-23T16:00:00Z"
api_calls:
  description: Number of requests by API method, repeated ones included.
  returned: always
  type: dict
  sample: {container.projects.locations.clusters.get: 1}
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: CLUSTER_NOT_FOUND, what: "...", remedy: "..."}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError, fail
from ansible_collections.llmd.gke.plugins.module_utils.gcp import access
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, diff, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession


def present(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    path = params["path"] or ""
    where = Where(params["location"], params["cluster"])
    try:
        found = access.cluster_access(session, where, endpoint=params["endpoint"])
    except LlmdError as error:
        # Without the Kubernetes Engine API there are no clusters.
        if error.code not in ("CLUSTER_NOT_FOUND", "API_DISABLED") or not params["missing_ok"]:
            raise
        return {
            "changed": False,
            "exists": False,
            "host": "",
            "ca_cert": "",
            "context": "",
            "expires_at": "",
            "path": "",
        }
    result = {
        "changed": False,
        "exists": True,
        "host": found.host,
        "ca_cert": found.ca_cert,
        "context": found.context,
        "expires_at": found.expires_at,
        "path": path,
    }
    if not path:
        return result
    text = access.render_kubeconfig(found)
    before = access.read_own(path, force=params["force"])
    old = access.without_token(before) if before is not None else ""
    new = access.without_token(text)
    result["changed"] = old != new or access.mode_of(path) != 0o600
    result["diff"] = {"before_header": path, "after_header": path, "before": old, "after": new}
    if not module.check_mode:
        access.write_private(path, text)
    return result


def absent(module: Any) -> None:
    """No session: removing a file must work without credentials."""
    path = module.params["path"] or ""
    try:
        exists = bool(path) and access.read_own(path, force=module.params["force"]) is not None
        if exists and not module.check_mode:
            access.remove(path)
    except LlmdError as error:
        fail(module, error, api_calls={})
    module.exit_json(changed=exists, path=path, api_calls={}, diff=diff({"path": path} if exists else None, None))


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            cluster={"type": "str"},
            location={"type": "str"},
            path={"type": "path"},
            endpoint={"type": "str", "choices": ["auto", "ip", "dns"], "default": "auto"},
            missing_ok={"type": "bool", "default": False},
            force={"type": "bool", "default": False},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        ),
        required_if=[("state", "present", ("cluster", "location"))],
        supports_check_mode=True,
    )
    if module.params["state"] == "absent":
        absent(module)
    run(module, lambda session: present(module, session), deadline=120.0)


if __name__ == "__main__":
    main()
