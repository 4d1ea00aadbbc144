"""The collection as users get it: the built archive, installed on a core alone, against Google's own URLs.

`ansible-playbook llmd.gke.pattern1` makes the deployment from the installed archive only. No API has another address:
all goes through the sandbox's TLS proxy, so what works here has the right addresses for a real project. Then jobs look
at the deployment as AWX would start them, by ansible-runner: extra variables and injected credentials, nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gates import artifact
from gates.running import Tools
from sandbox.paths import Paths, current
from sandbox.toolchain.runner import Runner

from .conftest import REPOSITORY, Run, Sandbox, sandbox_name

pytestmark = pytest.mark.sandbox

# The core that fits the Python of the tests, or the one that is asked for.
CORE = os.environ.get("LLMD_INSTALLED_CORE") or ("core-2.21" if sys.version_info >= (3, 12) else "core-2.19")
# What makes up the collection in a checkout: hidden while the installed archive runs, all that a job's project holds.
COLLECTION = ("playbooks", "plugins", "roles", "meta", "galaxy.yml")
DEPLOYMENT, OTHER = "pattern1", "other"
TOKEN = "hf_sandbox"
# Survey answers, as AWX hands them on: texts.
ANSWERS = {
    "llmd_project": "llmd-sandbox",
    "llmd_region": "us-central1",
    "llmd_profile": "llm-d-0.4",
    "llmd_model": "google/gemma-2b-it",
    "llmd_replicas": "1",
    "llmd_max_model_len": "2048",
    "llmd_lease_hours": "0",
}
# The sandbox's network and the proxy to the emulated Google Cloud; credentials must come from what the job was given.
INTERPRETER = """\
#!/bin/sh
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
    HTTPS_PROXY=* | https_proxy=* | NO_PROXY=* | no_proxy=* | REQUESTS_CA_BUNDLE=* | SSL_CERT_FILE=*) export "$line" ;;
    esac
done <{environment}
export PATH={traps}:{tools}:$PATH
exec nsenter --net=/run/netns/{namespace} -- {python} "$@"
"""
TRAP = """\
#!/bin/sh
echo "$0 $*" >>{called}
exit 97
"""


@dataclass(frozen=True)
class Users:
    """What a user of the archive has: a core, the collections, an inventory, an empty home."""

    sandbox: Sandbox
    tools: Tools
    collections: Path
    inventory: Path
    home: Path

    @property
    def python(self) -> Path:
        return self.tools.venv(CORE) / "bin" / "python"

    @property
    def sandbox_paths(self) -> Paths:
        """Of the tests' sandbox, which has another name than the one that a person has up."""
        paths, name = self.tools.paths, sandbox_name("test")
        return replace(paths, name=name, state=paths.state.parent / name)

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
        return {
            **kept,
            "PATH": os.pathsep.join([str(self.python.parent), kept.get("PATH", os.defpath)]),
            "HOME": str(self.home),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            **extra,
        }

    def call(self, command: list[str], environment: dict[str, str]) -> Run:
        done = subprocess.run(
            command, env=environment, cwd=self.home, text=True, timeout=900, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        run = Run(done.returncode, done.stdout, 0.0)
        self.sandbox.runs.append(run)
        return run


def in_own_mounts(script: str, *command: str) -> list[str]:
    """The command in a mount namespace of its own, after a shell script that mounts; both end together."""
    return ["unshare", "--mount", "sh", "-e", "-c", script + '\nexec "$@"', "sh", *command]


def hosts(interpreter: Path, **more: dict[str, Any]) -> str:
    """An inventory with what the sandbox's own one says, whole paths instead of neighbours."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(interpreter),
        "llmd_hf_endpoint": "http://192.0.2.11",
        "llmd_chart_source": str(current().cache / "charts"),
        "llmd_crd_source": str(REPOSITORY / "sandbox/crds/upstream"),
    }
    return yaml.safe_dump({"llmd": {"vars": variables, "hosts": {DEPLOYMENT: {}, **more}}})


@pytest.fixture(scope="module")
def users(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Users:
    tools = Tools(current(), Runner())
    if not (tools.venv(CORE) / "bin" / "ansible-playbook").exists():
        pytest.skip(f"the environment {CORE} is not built: ./sandbox/sandbox tools --only gates")
    folder = tmp_path_factory.mktemp("user")
    collections = folder / "collections"
    artifact.tree(tools, collections)
    home = folder / "home"
    home.mkdir()
    inventory = folder / "hosts.yml"
    inventory.write_text(hosts(REPOSITORY / "sandbox/python"))
    return Users(sandbox, tools, collections, inventory, home)


def test_the_archive_holds_what_users_need_and_nothing_else(users: Users) -> None:
    installed = users.collections / "ansible_collections/llmd/gke"
    top = {path.name for path in installed.iterdir()}
    assert {"playbooks", "plugins", "roles", "meta", "docs", "README.md", "LICENSE"} <= top
    assert not top & {"sandbox", "gates", "awx", "Makefile", ".github", ".ci"}
    assert not [path for path in installed.rglob("*") if path.is_symlink()]
    assert next((users.collections / "dist").glob("*.tar.gz")).stat().st_size < artifact.LIMIT


def test_pattern1_runs_from_the_installed_archive_alone(users: Users) -> None:
    given = users.sandbox_paths.proxy_environment_file.read_text(encoding="utf-8")
    assert "_ENDPOINT_" not in given
    assert "HTTPS_PROXY=" in given
    # The checkout's own roles and plugins are not there while it runs.
    hide = "\n".join(f"mount -t tmpfs none {REPOSITORY}/{name}" for name in COLLECTION if "." not in name)
    variables = json.dumps({"llmd_project": "llmd-sandbox", "llmd_hf_token": TOKEN})
    program = str(users.python.with_name("ansible-playbook"))
    command = [program, "-i", str(users.inventory), "llmd.gke.pattern1", "-e", variables]
    environment = users.environment(
        LLMD_SANDBOX_NAME=users.sandbox_paths.name,
        LLMD_SANDBOX_ACCESS="proxy",
        LLMD_SANDBOX_CACHE=str(users.tools.paths.cache),
        LLMD_ANSIBLE_PYTHON=str(users.python),
    )
    run = users.call(in_own_mounts(hide, *command), environment)
    assert run.rc == 0, run.output[-6000:]
    assert run.output.count("PASS  ") == 7
    assert json.loads((users.home / ".llmd/pattern1/verify.json").read_text())["passed"]


# --- as AWX starts jobs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """How one job ended: its exit code, its output, what it handed on by set_stats."""

    rc: int
    output: str
    artifacts: dict[str, Any]

    def changed(self, host: str) -> int:
        line = next(line for line in self.output.split("PLAY RECAP")[-1].splitlines() if line.startswith(host + " "))
        return int(line.partition("changed=")[2].split()[0])


@dataclass(frozen=True)
class Awx:
    """ansible-runner's private data, laid out as AWX does for a job. The project is mounted read-only."""

    users: Users
    folder: Path
    key: Path
    called: Path  # what was asked of programs that an execution environment does not have

    def job(self, playbook: str, *arguments: str, **answers: Any) -> Job:
        (self.folder / "env/extravars").write_text(json.dumps(ANSWERS | answers))
        (self.folder / "env/cmdline").unlink(missing_ok=True)  # the last job's arguments, which the runner keeps
        ident = f"job{len(list((self.folder / 'artifacts').iterdir()))}"
        runner = str(self.users.tools.venv("lint") / "bin" / "ansible-runner")
        command = [runner, "run", str(self.folder), "-p", f"playbooks/{playbook}", "--ident", ident, "--quiet"]
        if arguments:
            command.append("--cmdline=" + " ".join(arguments))
        # What the credential types of awx/credentials.yml inject.
        environment = self.users.environment(
            GCP_PROJECT="llmd-sandbox", GCP_AUTH_KIND="serviceaccount", GCP_SERVICE_ACCOUNT_FILE=str(self.key),
            GOOGLE_APPLICATION_CREDENTIALS=str(self.key), HF_TOKEN=TOKEN, HOME=str(self.folder / "home"),
            ANSIBLE_COLLECTIONS_PATH=str(self.folder / "requirements_collections"),
        )  # fmt: skip
        project = self.folder / "project"
        read_only = f"mount --bind {project} {project}\nmount -o remount,bind,ro {project}"
        said = self.users.call(in_own_mounts(read_only, *command), environment)
        events = self.folder / "artifacts" / ident
        handed_on: dict[str, Any] = {}
        for path in (events / "job_events").glob("*.json"):
            handed_on |= json.loads(path.read_text()).get("event_data", {}).get("artifact_data", {})
        return Job(said.rc, (events / "stdout").read_text() + said.output, handed_on)


@pytest.fixture(scope="module")
def awx(users: Users, tmp_path_factory: pytest.TempPathFactory) -> Awx:
    folder = tmp_path_factory.mktemp("awx")
    for name in ("project", "inventory", "env", "artifacts", "home", "traps", "requirements_collections"):
        (folder / name).mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in COLLECTION:
        source, target = REPOSITORY / name, folder / "project" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, target)
    # What a project update installs from collections/requirements.yml; Galaxy is not reached here.
    (folder / "requirements_collections/ansible_collections").mkdir()
    artifact.add_dependencies(users.tools, folder / "requirements_collections")
    called = folder / "called"
    for program in ("gcloud", "kubectl", "gke-gcloud-auth-plugin"):
        trap = folder / "traps" / program
        trap.write_text(TRAP.format(called=called))
        trap.chmod(0o755)
    interpreter = folder / "interpreter"
    paths = users.sandbox_paths
    interpreter.write_text(
        INTERPRETER.format(
            environment=paths.proxy_environment_file, traps=folder / "traps", tools=paths.bin,
            namespace=paths.fabric, python=users.python,
        )
    )  # fmt: skip
    interpreter.chmod(0o755)
    key = folder / "key.json"
    shutil.copy(paths.credentials / "service-account.json", key)
    key.chmod(stat.S_IRUSR)
    there = hosts(interpreter, **{OTHER: {"llmd_cluster_name": "not-there-yet"}})
    (folder / "inventory/hosts.yml").write_text(there)
    return Awx(users, folder, key, called)


def test_a_job_changes_nothing_and_hands_on_what_it_found(awx: Awx) -> None:
    job = awx.job("pattern1.yml", "--limit", DEPLOYMENT)
    assert job.rc == 0, job.output[-6000:]
    assert job.changed(DEPLOYMENT) == 0, job.output
    assert OTHER not in job.output.split("PLAY RECAP")[-1]
    assert job.artifacts["llmd_gke_verify"][DEPLOYMENT]["passed"]
    assert job.artifacts["llmd_gke_report"][DEPLOYMENT]["endpoint"].startswith("http://203.0.113.")
    assert all(name.startswith("llmd_gke_") for name in job.artifacts)


def test_a_check_job_over_two_deployments_tells_them_apart(awx: Awx) -> None:
    before = awx.users.sandbox.snapshot()
    job = awx.job("pattern1.yml", "--check")
    assert job.rc == 0, job.output[-6000:]
    assert job.changed(DEPLOYMENT) == 0, job.output
    assert job.changed(OTHER) >= 2, job.output  # its cluster, and what would go into it
    assert awx.users.sandbox.snapshot()["clusters"] == before["clusters"]


def test_bad_answers_are_all_named_with_the_way_out(awx: Awx) -> None:
    bad = {"llmd_zon": "us-central1-a", "llmd_region": "", "llmd_replicas": "many", "llmd_gpu": "nvidia-l4"}
    job = awx.job("preflight.yml", "--limit", DEPLOYMENT, **bad)
    assert job.rc != 0
    for word in (
        *("VARIABLE_MISSPELT", "llmd_zone", "VARIABLE_EMPTY", "us-central1", "VARIABLE_NOT_A_NUMBER"),
        *("VARIABLE_NOT_STRUCTURED", "llmd_gpu", "What now: "),
    ):
        assert word in job.output, job.output[-3000:]
    assert "Traceback" not in job.output


def test_jobs_left_no_secret_no_kubeconfig_and_asked_for_no_other_program(awx: Awx) -> None:
    line = json.loads(awx.key.read_text())["private_key"].splitlines()[1]
    looked_at = 0
    for path in (awx.folder / "artifacts").rglob("*"):
        # `command` is ansible-runner's own record of the environment that it was started with.
        if path.is_file() and path.name != "command":
            text = path.read_text(errors="replace")
            looked_at += 1
            assert not [secret for secret in (line, TOKEN, "ya29.") if secret in text], path
    assert looked_at > 100
    for home in (awx.folder / "home", awx.users.home):
        assert not (home / ".kube/config").exists()  # helm keeps what it discovered in .kube/cache
        assert not list(home.glob(".llmd/*/.kubeconfig"))
    assert not awx.called.exists(), awx.called.read_text()
