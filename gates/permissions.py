"""``make permissions``: which IAM permissions the playbooks need, found out by running them, written down as a role.

A sandbox is started whose only caller holds a role of everything. The emulated Google notes the permission that each
request needs, to Google's APIs and (as the clusters' authorizer) to API servers. What the runs needed becomes
``permissions.py`` of the collection, which the preflight asks for, ``docs/iam-role.yaml`` and ``docs/permissions.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gates.running import GateError, Tools
from sandbox.paths import PROJECT_ID, REPOSITORY
from sandbox.toolchain.progress import Progress

MODULE = REPOSITORY / "plugins/module_utils/gcp/permissions.py"
ROLE = REPOSITORY / "docs/iam-role.yaml"
PAGE = REPOSITORY / "docs/permissions.md"
OPERATOR = f"llmd-operator@{PROJECT_ID}.iam.gserviceaccount.com"
CONTROL = "http://192.0.2.10/control"
CONFIRM = {"llmd_confirm": "pattern1"}
# What is done, by which playbooks with which variables; in an order in which each finds what it needs.
JOBS: dict[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    "deploy": (("pattern1", {"llmd_network_policies": True}), ("pattern1", {})),
    "look": (("verify", {}), ("status", {}), ("diagnose", {}), ("drift", {})),
    "change": (
        ("lease", {"llmd_lease_hours": 2, "lease_renew": True}),
        ("scale", {"llmd_replicas": 2}),
        ("pause", CONFIRM),
        ("resume", {}),
    ),
    "remove": (("teardown", CONFIRM),),
}
# What only an option asks for, told apart by the beginning of its permissions; an empty project is made once more.
OPTIONS = {
    "llmd_node_service_account": ("iam.serviceAccounts.create", "iam.serviceAccounts.get", "iam.serviceAccounts.delete",
                                  "resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy"),
    "llmd_address": ("compute.addresses.create", "compute.addresses.delete", "compute.addresses.get",
                     "compute.addresses.setLabels", "compute.addresses.use"),
    "llmd_network_policies": ("container.networkPolicies.",),
    "llmd_autoscaling": ("container.horizontalPodAutoscalers.create", "container.horizontalPodAutoscalers.delete",
                         "container.horizontalPodAutoscalers.get", "container.horizontalPodAutoscalers.update"),
}  # fmt: skip
# What the sandbox does not ask for; Google's page of GKE API permissions (the first) and the iam-dataset name it:
# permission -> job, method that needs it.
BESIDES = {
    "container.clusters.getCredentials": ("deploy", "container.projects.locations.clusters.get"),
    "compute.addresses.createInternal": ("llmd_address", "compute.addresses.insert"),
    "compute.addresses.deleteInternal": ("llmd_address", "compute.addresses.delete"),
    "compute.subnetworks.use": ("llmd_address", "compute.addresses.insert"),
    # No run has had an autoscaler: helm makes, reads, changes and removes it like everything else.
    "container.horizontalPodAutoscalers.create": ("llmd_autoscaling", "kubernetes: create horizontalpodautoscalers"),
    "container.horizontalPodAutoscalers.delete": ("llmd_autoscaling", "kubernetes: delete horizontalpodautoscalers"),
    "container.horizontalPodAutoscalers.get": ("llmd_autoscaling", "kubernetes: get horizontalpodautoscalers"),
    "container.horizontalPodAutoscalers.update": ("llmd_autoscaling", "kubernetes: patch horizontalpodautoscalers"),
}
WITH_OPTIONS = {"llmd_node_service_account": "pattern1-nodes", "llmd_address": "pattern1-address"}
GOOGLE_HALF = """\
- hosts: llmd
  gather_facts: false
  roles: [llmd.gke.gcp_network, llmd.gke.gke_gpu_cluster]
"""
Needed = dict[str, dict[str, list[str]]]  # permission -> {job: by which requests}


@dataclass
class Box:
    """The sandbox of a recording."""

    tools: Tools
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {"HOME": str(self.home), "LLMD_SANDBOX_NAME": os.environ.get("LLMD_SANDBOX_NAME", "llmd")[:7] + "p"}
        own["ANSIBLE_COLLECTIONS_PATH"] = str(REPOSITORY / "playbooks/collections")
        self.environment = self.tools.environment("ansible", ANSIBLE_CONFIG=str(REPOSITORY / "ansible.cfg"), **own)

    def run(self, command: list[str]) -> str:
        done = subprocess.run(command, env=self.environment, cwd=self.home, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise GateError(
                f"{' '.join(command)}: exit code {done.returncode}", details=(done.stdout + done.stderr)[-4000:]
            )
        return done.stdout

    def cli(self, *words: str) -> str:
        return self.run([str(REPOSITORY / "sandbox/sandbox"), *words])

    def control(self, verb: str, route: str, body: Any = None) -> dict[str, Any]:
        data = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        answer: dict[str, Any] = json.loads(self.cli("exec", "curl", "-sf", "-X", verb, *data, f"{CONTROL}/{route}"))
        return answer

    def playbook(self, name: str, variables: Mapping[str, Any]) -> dict[str, list[str]]:
        """Run one of the collection's, or ``google_half``; which permissions its requests needed."""
        self.control("DELETE", "permissions")
        book = str(REPOSITORY / f"playbooks/{name}.yml")
        if name == "google_half":
            Path(self.home, "google_half.yml").write_text(GOOGLE_HALF, encoding="utf-8")
            book = str(self.home / "google_half.yml")
        inventory = str(REPOSITORY / "inventories/sandbox")
        self.run(["ansible-playbook", "-i", inventory, book, "-e", json.dumps(dict(variables))])
        needed: dict[str, list[str]] = self.control("GET", "permissions")["needed"].get(OPERATOR, {})
        return needed


def record(tools: Tools, progress: Progress) -> Needed:
    """Run every job on a fresh sandbox."""
    found: Needed = {}
    kept = tools.folder / "permissions.json"  # whatever happens later, so much is known
    kept.parent.mkdir(parents=True, exist_ok=True)

    def note(job: str, name: str, variables: Mapping[str, Any]) -> None:
        with progress.step(f"{job}: {name}"):
            needed = box.playbook(name, variables)
        for permission, requests in needed.items():
            option = next((one for one, those in OPTIONS.items() if permission.startswith(those)), job)
            before = found.setdefault(permission, {}).setdefault(option, [])
            before += [request for request in requests if request not in before]
        kept.write_text(json.dumps(found, indent=1), encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="llmd-permissions-") as home:
        box = Box(tools, Path(home))
        box.cli("up", "--speed", "0", "--port", "0")
        try:
            members = [f"serviceAccount:{OPERATOR}"]
            bindings = [{"role": f"projects/{PROJECT_ID}/roles/everything", "members": members}]
            box.control("POST", "seed", {"roles": {"everything": ["*"]}, "policy": {"bindings": bindings}})
            for job, runs in JOBS.items():
                for name, variables in runs:
                    note(job, name, variables)
            note("deploy", "google_half", WITH_OPTIONS)
            note("remove", "teardown", {**WITH_OPTIONS, **CONFIRM})
        finally:
            box.cli("down")
    for permission, (job, method) in BESIDES.items():
        found.setdefault(permission, {}).setdefault(job, [method])
    return found


def write(found: Needed) -> None:
    MODULE.write_text(module_text(found), encoding="utf-8")
    ROLE.write_text(role_text(found), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(found)}\n{END}{tail}", encoding="utf-8")


BEGIN, END = "<!-- written by make permissions -->", "<!-- end -->"
_HEAD = '''# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks need to be allowed, and for what: written by ``make permissions`` from recorded requests."""

from __future__ import annotations

# Permission on the project -> jobs: deploy, look, change, remove, or the variable that alone asks for it.
NEEDED: dict[str, tuple[str, ...]] = {
'''


def module_text(found: Needed) -> str:
    """The collection's own list, as ruff formats it."""
    lines = []
    for permission, jobs in sorted(found.items()):
        names = ", ".join(f'"{job}"' for job in (*JOBS, *OPTIONS) if job in jobs)
        lines.append(f'    "{permission}": ({names}{"," if names.count(chr(34)) == 2 else ""}),\n')
    return _HEAD + "".join(lines) + "}\n"


def role_text(found: Needed) -> str:
    """The custom role for what no option asks for, as ``gcloud iam roles create --file`` takes it."""
    wanted = sorted(permission for permission, jobs in found.items() if set(jobs) & set(JOBS))
    head = (
        "---\n"
        "# Written by make permissions. gcloud iam roles create llmdGke --project=PROJECT --file=docs/iam-role.yaml\n"
        "title: llmd.gke\n"
        "description: Deploys llm-d on GKE, looks at it, changes it and takes it away; nothing else\n"
        "stage: GA\n"
        "includedPermissions:\n"
    )
    return head + "".join(f"  - {permission}\n" for permission in wanted)


def table(found: Needed) -> str:
    """The page's table: permission, when, by what."""
    rows = ["| permission | for | asked by |", "| --- | --- | --- |"]
    for permission, jobs in sorted(found.items()):
        askers = sorted({asker for requests in jobs.values() for asker in requests})
        shown = [f"`{one.removeprefix('kubernetes: ')}`" if ": " in one else f"`{one}`" for one in askers]
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        when = ", ".join(f"`{job}`" if job in OPTIONS else job for job in (*JOBS, *OPTIONS) if job in jobs)
        rows.append(f"| `{permission}` | {when} | {', '.join(shown[:3])}{more} |")
    return "\n".join(rows) + "\n"
