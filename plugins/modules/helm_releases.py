#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_releases
short_description: Install, upgrade, heal or remove a set of helm releases as one
version_added: 0.1.0
description:
  - Compares what is installed with what is wanted (chart and version, values, rendered manifest, live objects that have
    disappeared), without the helm-diff plugin, and runs helm only for releases that differ. A second run does nothing.
  - Installs in the order of C(needs), independent releases side by side, then waits for the workloads and says what
    goes
    on. Where waiting is vain it ends early with the pod's own reason (no GPU, image, Secret, GPU memory, gated
    model ...).
  - Releases that were left failed or pending are healed. The result says how.
  - Where the selector of a workload differs, which cannot be changed in place, the release is uninstalled and installed
    anew; check mode, diff and a warning say so first. A release of the same name from another chart is never touched.
  - Live objects that somebody changed or deleted by hand are put back.
  - Writes C(helmfile.yaml) with its values files and charts into O(helmfile_dir), readable and free of secrets, so that
    the deployment can be handed over or applied by hand.
  - Credentials reach helm by a file or the environment, never by an argument.
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - llmd.gke.kube
options:
  releases:
    description: The releases.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the release.
        type: str
        required: true
      chart:
        description: Name of the chart in O(chart_source), or an C(oci://) or C(https://) address, or a path to a
          C(.tgz).
          Needed with O(state=present).
        type: str
      version:
        description: Pinned version of the chart. Needed with O(state=present).
        type: str
      repository:
        description: Address of the chart's repository, used where O(chart_source) is not given.
        type: str
        default: ''
      namespace:
        description: Namespace, by default O(namespace).
        type: str
      values:
        description: Values for the chart. No secrets belong in here.
        type: dict
        default: {}
      needs:
        description: Releases of the list that must be installed before this one.
        type: list
        elements: str
        default: []
      description:
        description: Words about the release, written as a comment into its files.
        type: str
        default: ''
      correct_health_check:
        description: Ask the cluster whether it refuses a HealthCheckPolicy with a port but without portSpecification,
          and if so, add that field to the copy of the chart that is installed. For pool charts that write such a
          policy.
        type: bool
        default: false
      leave:
        description: Fields of live objects that are set after the chart and are no drift, as
          C(GCPBackendPolicy spec.default.timeoutSec).
        type: list
        elements: str
        default: []
      autoscaled:
        description:
          - A Deployment of the release whose number of replicas an autoscaler sets. The chart's own number follows what
            is found (within the bounds) when the release is changed for another reason, and is no reason by itself.
        type: dict
        suboptions:
          deployment:
            description: Its name.
            type: str
            required: true
          value:
            description: Path of the chart's value that holds the number.
            type: str
            default: decode.replicas
          min:
            description: The autoscaler's least.
            type: int
            required: true
          max:
            description: The autoscaler's most.
            type: int
            required: true
  namespace:
    description: Namespace of releases that name none.
    type: str
    default: default
  family:
    description: What all releases of the deployment have in their names, as V(pattern1) in C(ms-pattern1) and
      C(ms-pattern1-phi). Installed ones that are not in O(releases) are named in RV(surplus) and left as they are; with
      O(state=absent) they go too.
    type: str
    default: ''
  chart_source:
    description: Where charts come from, that are given by name. A folder with packaged charts, the address of a chart
      repository, or an C(oci://) registry path.
    type: str
    default: ''
  helmfile_dir:
    description: Folder for helmfile.yaml, values and charts. Without it they are kept nowhere. Where the
      folder had none before, as on a new control node, that they are written is no change by itself.
    type: path
  use:
    description: Which program applies the releases. V(auto) takes helmfile where it is installed together with the
      helm-diff plugin, else helm. Both leave the same releases.
    type: str
    choices: [auto, helm, helmfile]
    default: auto
  state:
    description: V(absent) uninstalls in the reverse order and waits until the objects are gone.
    type: str
    choices: [present, absent]
    default: present
  wait:
    description: Wait for the workloads (or until the objects are gone).
    type: bool
    default: true
  wait_drained:
    description: With O(wait), wait also until pods that have to go have ended, thus have answered what they had begun.
      One that outlives its grace period by half a minute is stuck and is warned about.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the workloads.
    type: int
    default: 1800
  interval:
    description: Seconds between two looks.
    type: float
    default: 1
  failure_grace:
    description: Seconds for which a pod's failure must last before it ends the wait. A missing node or GPU is given six
      times as long, since nodes take minutes to come.
    type: float
    default: 45
  pending_grace:
    description: Seconds after which a pending release counts as abandoned by the helm that was at work on it.
    type: float
    default: 30
  helm_timeout:
    description: Seconds that one helm call may take.
    type: int
    default: 300
  atomic:
    description: After an upgrade that helm could not finish, go back to the revision that was deployed. A first
      installation that fails is left as it is, to be looked at; the next run replaces it.
    type: bool
    default: true
  helm_binary:
    description: helm program, by default the one on PATH.
    type: str
    default: ''
  helmfile_binary:
    description: helmfile program, by default the one on PATH.
    type: str
    default: ''
attributes:
  check_mode:
    support: full
    description: Renders and compares, changes nothing. Where the cluster does not exist yet it predicts an
      installation.
  diff_mode:
    support: full
    description: Manifests before and after, with the data of Secrets replaced by fingerprints.
author:
  - The llmd.gke contributors (@llmd-gke)
"""

EXAMPLES = r"""
- name: Deploy the three releases
  llmd.gke.helm_releases:
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    chart_source: /srv/charts
    helmfile_dir: "{{ playbook_dir }}/.deployment/pattern1"
    releases:
      - name: infra-pattern1
        chart: llm-d-infra
        version: v1.3.6
        values: {gateway: {gatewayClassName: gke-l7-regional-external-managed}}
      - name: gaie-pattern1
        chart: inferencepool
        version: v1.2.0
        needs: [infra-pattern1]
        values: {provider: {name: gke}}
      - name: ms-pattern1
        chart: llm-d-modelservice
        version: v0.3.17
        needs: [infra-pattern1, gaie-pattern1]
        values: {decode: {replicas: 1}}

- name: Remove them, the last one first
  llmd.gke.helm_releases:
    kubeconfig: "{{ kubeconfig }}"
    namespace: llm-d
    state: absent
    releases:
      - {name: infra-pattern1}
      - {name: gaie-pattern1, needs: [infra-pattern1]}
      - {name: ms-pattern1, needs: [gaie-pattern1]}
"""

RETURN = r"""
releases:
  description: What was found and done, one entry a release. C(action) is none, install, upgrade, replace, restore,
    repair or uninstall; C(healed) says what a broken release was repaired from, C(adapted) what was changed in its
    chart, C(restarts) which workloads get new pods.
  returned: always
  type: list
  elements: dict
  sample:
    - name: ms-pattern1
      namespace: llm-d
      chart: llm-d-modelservice
      version: v0.3.17
      changed: true
      action: upgrade
      reasons: [values differ (decode.replicas), Deployment ms-pattern1-llm-d-modelservice-decode changed]
      healed: ''
      adapted: ''
      restarts: []
      status: deployed
      revision: 2
surplus:
  description: Releases of O(family) that are installed and not in O(releases), for a later call with O(state=absent).
  returned: always
  type: list
  elements: str
previous:
  description: The releases as they were before, in the form of O(releases). Handed back, they are restored.
  returned: always
  type: list
  elements: dict
files:
  description: Files in O(helmfile_dir) that were written (or would be, in check mode).
  returned: always
  type: list
  elements: str
program:
  description: What applied the releases, helm or helmfile.
  returned: always
  type: str
helm_calls:
  description: How many times helm was run.
  returned: always
  type: int
error:
  description: What went wrong, in parts (code, what, where, why in helm's or the pod's own words, remedy, evidence).
  returned: on failure
  type: dict
  sample: {code: HELM_RBAC_DENIED, what: "...", remedy: "..."}
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, LlmdError
from ansible_collections.llmd.gke.plugins.module_utils.kube.arguments import kube_argument_spec
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import KubeClient, client_from_params
from ansible_collections.llmd.gke.plugins.module_utils.kube.running import run
from ansible_collections.llmd.gke.plugins.module_utils.llmd.deploy import Deployer, Settings
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import Helm, find_program, require_helm, system_runner
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helmfile import Helmfile, has_helm_diff
from ansible_collections.llmd.gke.plugins.module_utils.llmd.kubeconfig import Access, helm_access
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Release


def choose_program(params: dict[str, Any], helm: str, access: Access) -> str:
    """The path of helmfile if it is to be used, "" for helm."""
    if params["use"] == "helm" or params["state"] == "absent":
        return ""
    helmfile = find_program("helmfile", params["helmfile_binary"])
    usable = bool(helmfile) and has_helm_diff(helm, system_runner, access.environment)
    if params["use"] == "helmfile" and not usable:
        raise ConfigurationError(
            "helmfile cannot be used: " + ("helm has no diff plugin." if helmfile else "there is no helmfile program."),
            code="HELM_DIFF_MISSING" if helmfile else "HELMFILE_MISSING",
            remedy="Install helmfile and helm-diff, or set use to helm: the releases come out the same.",
        )
    return helmfile if usable else ""


def cluster(module: Any) -> KubeClient | None:
    """The cluster; in check mode it may not exist yet."""
    try:
        return client_from_params(module.params)
    except LlmdError:
        if module.check_mode:
            return None
        raise


def work(module: Any, scratch: Path, report: dict[str, Any]) -> dict[str, Any]:
    params = module.params
    releases = [Release.from_params(entry, params["namespace"]) for entry in params["releases"]]
    for release in releases:
        if params["state"] == "present" and not (release.chart and release.version):
            raise ConfigurationError(
                f"Release {release.name} has no chart or no version.",
                code="RELEASES_INVALID",
                remedy="Give both: versions are pinned.",
            )
    folder = Path(params["helmfile_dir"]) if params["helmfile_dir"] else None
    settings = Settings(
        scratch=scratch,
        folder=folder,
        check_mode=module.check_mode,
        chart_source=params["chart_source"],
        wait=params["wait"],
        drained=params["wait_drained"],
        timeout=params["timeout"],
        interval=params["interval"],
        failure_grace=params["failure_grace"],
        pending_grace=params["pending_grace"],
        helm_timeout=params["helm_timeout"],
        atomic=params["atomic"],
        family=params["family"],
    )
    binary = require_helm(params["helm_binary"])
    with helm_access(params) as access:
        helm = Helm(binary, system_runner, access.environment, access.context, params["helm_timeout"])
        program = choose_program(params, binary, access)
        helmfile = None
        if program:
            helmfile = Helmfile(
                (program, binary),
                system_runner,
                access.environment,
                scratch if module.check_mode or folder is None else folder,
                context=access.context,
                timeout=params["timeout"],
            )
        deployer = Deployer(helm, cluster(module), settings, helmfile)
        report["program"] = "helmfile" if program else "helm"
        deployer.warn = module.warn
        try:
            done = deployer.present(releases) if params["state"] == "present" else deployer.absent(releases)
        finally:
            report.update(deployer.report.as_result(), helm_calls=len(helm.calls))
    result = dict(report)
    if module._diff:
        result["diff"] = done.diff
    return result


def main() -> None:
    release_options = {
        "name": {"type": "str", "required": True},
        "chart": {"type": "str"},
        "version": {"type": "str"},
        "repository": {"type": "str", "default": ""},
        "namespace": {"type": "str"},
        "values": {"type": "dict", "default": {}},
        "needs": {"type": "list", "elements": "str", "default": []},
        "description": {"type": "str", "default": ""},
        "correct_health_check": {"type": "bool", "default": False},
        "leave": {"type": "list", "elements": "str", "default": []},
        "autoscaled": {
            "type": "dict",
            "options": {
                "deployment": {"type": "str", "required": True},
                "value": {"type": "str", "default": "decode.replicas"},
                "min": {"type": "int", "required": True},
                "max": {"type": "int", "required": True},
            },
        },
    }
    module = AnsibleModule(
        argument_spec=kube_argument_spec(
            releases={"type": "list", "elements": "dict", "required": True, "options": release_options},
            namespace={"type": "str", "default": "default"},
            family={"type": "str", "default": ""},
            chart_source={"type": "str", "default": ""},
            helmfile_dir={"type": "path"},
            use={"type": "str", "choices": ["auto", "helm", "helmfile"], "default": "auto"},
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            wait={"type": "bool", "default": True},
            wait_drained={"type": "bool", "default": False},
            timeout={"type": "int", "default": 1800},
            interval={"type": "float", "default": 1},
            failure_grace={"type": "float", "default": 45},
            pending_grace={"type": "float", "default": 30},
            helm_timeout={"type": "int", "default": 300},
            atomic={"type": "bool", "default": True},
            helm_binary={"type": "str", "default": ""},
            helmfile_binary={"type": "str", "default": ""},
        ),
        supports_check_mode=True,
    )
    report: dict[str, Any] = {
        "changed": False,
        "releases": [],
        "files": [],
        "surplus": [],
        "previous": [],
        "program": "helm",
        "helm_calls": 0,
    }
    with TemporaryDirectory(prefix="llmd-gke-") as scratch:
        run(module, lambda: work(module, Path(scratch), report), lambda: report)


if __name__ == "__main__":
    main()
