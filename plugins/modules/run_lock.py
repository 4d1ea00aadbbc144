#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Let one run at a time work on a deployment
version_added: 0.1.0
description:
  - Takes a Lease object (coordination.k8s.io) in namespace C(default) of the deployment's cluster, or gives it back.
    A second run is refused and told who has it and since when.
  - While the cluster is still being made there is no Lease. Then the labels count that whoever makes it has put into
    the create call (RV(creation_labels)).
  - A lock is stale and is taken over when its O(duration) is over, and at once when the run that took it was on this
    machine and its process is gone, for example after a kill. Runs on other machines, and each AWX job in its
    container, are only known by their time.
  - A cluster that does not answer, or that does not let us write a Lease, does not stop the run; a warning says that
    there is no lock.
  - Also tells until when the deployment is wanted (see M(llmd.gke.gke_lease)), which costs nothing more here.
  - An action plugin on the control node adds who runs; the module itself does the rest.
extends_documentation_fragment:
  - llmd.gke.gcp
options:
  state:
    description: Take the lock (again), give it back, or only look.
    type: str
    choices: [held, free, looked_at]
    default: held
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  location:
    description: Zone or region of the cluster.
    type: str
    required: true
  deployment:
    description: Name of the deployment.
    type: str
    required: true
  duration:
    description: Seconds after which a lock that nobody gave back is stale. Longer than any run takes.
    type: int
    default: 7200
  force:
    description: Take the lock whoever holds it.
    type: bool
    default: false
  endpoint:
    description: Which of the cluster's endpoints to talk to.
    type: str
    choices: [auto, ip, dns]
    default: auto
  replace:
    description: A run that is known to be dead. Filled in by the action plugin.
    type: str
    default: ""
  holder:
    description: Who runs. Filled in by the action plugin.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: In check mode nothing is taken, and nobody is refused.
  diff_mode:
    support: none
    description: Who runs is no part of the deployment, so RV(ignore:changed) is always false.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Work alone
  block:
    - name: Take the lock
      llmd.gke.run_lock:
        project: my-project
        cluster: llm-d-cluster
        location: us-central1-a
        deployment: pattern1
  always:
    - name: Give the lock back
      llmd.gke.run_lock:
        project: my-project
        cluster: llm-d-cluster
        location: us-central1-a
        deployment: pattern1
        state: free
"""

RETURN = r"""
held:
  description: Whether this run holds the lock now.
  returned: success
  type: bool
holder:
  description: Who holds it; empty where nobody does.
  returned: success
  type: dict
  sample: {user: me, host: laptop, pid: 4711, play: Pause a deployment, since: "2026-11-27T19:00:00.000000Z"}
taken_over:
  description: Whose stale lock was taken over; empty where there was none.
  returned: success
  type: dict
cluster_exists:
  description: Whether the cluster is there.
  returned: success
  type: bool
cluster_status:
  description: What Google says of the cluster; empty where it is not there.
  returned: success
  type: str
  sample: RUNNING
creation_labels:
  description: Labels that a create call of this run gives the cluster.
  returned: success
  type: dict
lease:
  description: Until when the deployment is wanted, as M(llmd.gke.gke_lease) says it.
  returned: success
  type: dict
  sample: {state: running, until: "2026-11-27T20:00:00+00:00", hours_left: 1.0, expired: false, owned: true}
api_calls:
  description: Number of requests to Google Cloud by API method.
  returned: always
  type: dict
error:
  description: What went wrong, in parts (code, what, where, why, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: RUN_IN_PROGRESS, what: "...", remedy: "..."}
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import access, clusters, leases, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import argument_spec, run
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json
from ansible_collections.llmd.gke.plugins.module_utils.llmd import run_lock


def lock(module: Any, session: GoogleSession, where: Where, cluster: Json, now: datetime.datetime) -> run_lock.Outcome:
    """Take, give back or look, by the way that the cluster's state allows. Raises LlmdError RUN_IN_PROGRESS."""
    params = module.params
    me, deployment = run_lock.Holder.from_options(params["holder"]), params["deployment"]
    dry = module.check_mode or params["state"] == "looked_at"
    if cluster.get("status") in ("PROVISIONING", "STOPPING", "ERROR"):
        # Being made: its labels say by whom. On its way out: whoever comes joins the deletion, which is one operation.
        maker = run_lock.maker(cluster.get("resourceLabels") or {}, now, params["duration"])
        alone = maker is None or maker.run in (me.run, params["replace"]) or params["force"]
        if cluster["status"] != "PROVISIONING" or alone or params["state"] == "free":
            return run_lock.Outcome(False)
        outcome = run_lock.Outcome(False, holder=maker)
    else:
        found = access.of_cluster(session, where, cluster, endpoint=params["endpoint"])
        send = run_lock.sender(found.host, found.ca_cert, found.token)
        if dry:
            return run_lock.look(send, deployment, now)
        if params["state"] == "free":
            return run_lock.free(send, deployment, me)
        outcome = run_lock.take(
            send, deployment, me, now, duration=params["duration"], replace=params["replace"], force=params["force"]
        )
    if outcome.holder is not None and not outcome.held and not dry:
        raise run_lock.refusal(deployment, outcome.holder, now)
    return outcome


def read_cluster(session: GoogleSession, where: Where) -> Json | None:
    try:
        return clusters.get(session, where)
    except LlmdError as error:
        if error.code != "API_DISABLED":
            raise
        return None  # without the Kubernetes Engine API there are no clusters


def work(module: Any, session: GoogleSession) -> dict[str, Any]:
    params = module.params
    where, now = Where(params["location"], params["cluster"]), datetime.datetime.now(datetime.UTC)
    cluster = read_cluster(session, where)
    outcome, lease, warnings = run_lock.Outcome(False), leases.Lease("no_cluster"), []
    if cluster is not None:
        labels = dict(cluster.get("resourceLabels") or {})
        lease = leases.read(labels, now, owned=ownership.owned(labels, params["deployment"]))
        outcome = lock(module, session, where, cluster, now)
    if outcome.trouble:
        warnings.append(f"There is no lock on deployment {params['deployment']}: {outcome.trouble}")
    if outcome.over is not None:
        warnings.append(f"The lock of {outcome.over.words()}, taken at {outcome.over.since}, was stale and is ours now")
    me = run_lock.Holder.from_options(params["holder"])
    return {
        "changed": False,
        "held": outcome.held,
        "holder": outcome.holder.as_result() if outcome.holder else {},
        "taken_over": outcome.over.as_result() if outcome.over else {},
        "cluster_exists": cluster is not None,
        "cluster_status": str((cluster or {}).get("status") or ""),
        "creation_labels": run_lock.creation_labels(me, now) if me.run else {},
        "lease": lease.as_result(),
        "warnings": warnings,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(
            state={"type": "str", "choices": ["held", "free", "looked_at"], "default": "held"},
            cluster={"type": "str", "required": True},
            location={"type": "str", "required": True},
            deployment={"type": "str", "required": True},
            duration={"type": "int", "default": 7200},
            force={"type": "bool", "default": False},
            endpoint={"type": "str", "choices": ["auto", "ip", "dns"], "default": "auto"},
            replace={"type": "str", "default": ""},
            holder={"type": "dict", "default": {}},
        ),
        supports_check_mode=True,
    )
    run(module, lambda session: work(module, session), deadline=120.0)


if __name__ == "__main__":
    main()
