"""Pattern 1 from an empty project to nothing left, by the playbooks that a real project gets.

The tests build on one another, in this order; each leaves the deployment as the next one needs it.
"""

from __future__ import annotations

import datetime
import json
import shutil
from typing import Any

import pytest

from .conftest import REPOSITORY, Run, Sandbox

pytestmark = pytest.mark.sandbox

PATTERN1 = "playbooks/pattern1.yml"
WITHOUT_SUBNET = "tests/sandbox/playbooks/without_proxy_subnet.yml"
CRITERIA = [
    "proxy-only subnet created",
    "Network Services API enabled",
    "Gateway programmed",
    "HTTPRoute accepted",
    "backends healthy",
    "gateway accessible",
    "intelligent routing active",
]
needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="no gcloud on this machine")


def resources(snapshot: dict[str, Any]) -> str:
    """What a snapshot says about things that exist; operations and service states have a history."""
    keep = {key: value for key, value in snapshot.items() if key in ("compute", "clusters")}
    return json.dumps(keep, sort_keys=True)


@pytest.fixture(scope="module")
def found(sandbox: Sandbox) -> dict[str, Any]:
    """The emulated project as it was before the first test."""
    return sandbox.snapshot()


def failed_with(run: Run, code: str, remedy: str) -> None:
    assert run.rc != 0, run.output[-3000:]
    assert code in run.output, run.output[-3000:]
    assert remedy in run.output, run.output[-3000:]
    assert "Traceback" not in run.output


# --- before anything is there ---------------------------------------------------------------------------------------


def test_check_mode_on_an_empty_project_predicts_and_makes_nothing(sandbox: Sandbox, found: dict[str, Any]) -> None:
    run = sandbox.playbook(PATTERN1, "--check", "--diff")
    assert run.rc == 0, run.output[-3000:]
    assert run.count("changed") >= 4  # services, subnet, cluster, and what would follow on it
    assert sandbox.snapshot() == found


@pytest.mark.parametrize(
    ("variables", "code", "remedy"),
    [
        ({"llmd_project": "no-such-project"}, "PROJECT_NOT_FOUND", "llmd_project"),
        ({"llmd_zone": "us-central1-q"}, "ZONE_NOT_FOUND", "us-central1-a"),
        ({"llmd_proxy_subnet": {"name": "p", "range": "10.129.0.0/23"}}, "CIDR_RESERVED_RANGE", "10.128.0.0/9"),
        ({"llmd_proxy_subnet": {"name": "p", "range": "192.168.0.0/27"}}, "CIDR_TOO_SMALL", "/26"),
        ({"llmd_hf_token": ""}, "HF_TOKEN_MISSING", "HF_TOKEN"),
        ({"llmd_hf_token": "hf_refused"}, "HF_TOKEN_REFUSED", "token"),
        ({"llmd_hf_token": "hf_not_accepted"}, "HF_MODEL_GATED", "licen"),
    ],
)
def test_bad_input_is_named_before_anything_is_made(
    sandbox: Sandbox, variables: dict[str, Any], code: str, remedy: str
) -> None:
    run = sandbox.playbook(PATTERN1, **variables)
    failed_with(run, code, remedy)
    left = sandbox.snapshot()
    assert left["clusters"] == {}
    assert "REGIONAL_MANAGED_PROXY" not in json.dumps(left["compute"])


# --- the job ----------------------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_and_a_missing_proxy_only_subnet_is_named(sandbox: Sandbox) -> None:
    seen = sandbox.playbook_killed_when("gke_gpu_cluster : Provide the cluster", WITHOUT_SUBNET)
    assert "gke_gpu_cluster : Provide the cluster" in seen
    run = sandbox.playbook(WITHOUT_SUBNET)
    failed_with(run, "PROXY_ONLY_SUBNET_MISSING", "gcp_network")


def test_the_job(sandbox: Sandbox) -> None:
    """Also heals what the run before could not finish, because the region had no proxy-only subnet, and goes on where
    one was killed that held the lock."""
    sandbox.playbook_killed_when("TASK [Note the end of llmd_helmfile]", PATTERN1)
    run = sandbox.playbook(PATTERN1)
    assert run.rc == 0, run.output[-6000:]
    assert "was stale and is ours now" in " ".join(run.output.split())
    for criterion in CRITERIA:
        assert f"PASS  {criterion}" in run.output


def test_the_verdict_is_an_artifact(sandbox: Sandbox) -> None:
    verdict = sandbox.artifact("verify.json")
    assert verdict["passed"]
    assert [check["name"] for check in verdict["checks"]] == CRITERIA
    names = {probe["name"] for probe in verdict["probes"]}
    assert names == {"health", "models", "completions", "chat", "picker_header", "picker_counter", "scorers"}
    report = sandbox.artifact("report.json")
    assert report["passed"]
    assert report["cost"]["usd"] > 0.5
    assert [stage["name"] for stage in report["stages"]] == [
        "preflight",
        "gcp_network",
        "gke_gpu_cluster",
        "gateway_crds",
        "llmd_helmfile",
        "gateway_route",
        "verify",
    ]


def test_a_second_run_changes_nothing(sandbox: Sandbox) -> None:
    before = resources(sandbox.snapshot())
    run = sandbox.playbook(PATTERN1)
    assert run.rc == 0, run.output[-3000:]
    assert run.count("changed") == 0, run.output
    assert resources(sandbox.snapshot()) == before


def test_check_mode_on_a_finished_deployment_predicts_no_change(sandbox: Sandbox) -> None:
    run = sandbox.playbook(PATTERN1, "--check", "--diff")
    assert run.rc == 0, run.output[-3000:]
    assert run.count("changed") == 0, run.output


def test_verify_alone(sandbox: Sandbox) -> None:
    run = sandbox.playbook("playbooks/verify.yml")
    assert run.rc == 0, run.output[-3000:]
    assert run.count("changed") == 0
    for criterion in CRITERIA:
        assert f"PASS  {criterion}" in run.output


def test_no_secret_in_any_output_or_artifact(sandbox: Sandbox) -> None:
    text = "".join(run.output for run in sandbox.runs)
    files = [path for path in (sandbox.home / ".llmd").rglob("*") if path.is_file()]
    text += "".join(path.read_text(errors="replace") for path in files)
    assert "hf_sandbox" not in text
    assert "ya29." not in text
    assert not (sandbox.home / ".llmd/pattern1/.kubeconfig").exists()


def test_a_person_gets_a_completion(sandbox: Sandbox) -> None:
    endpoint = sandbox.artifact("verify.json")["endpoint"]
    body = json.dumps({"model": "google/gemma-2b-it", "prompt": "What is Kubernetes?", "max_tokens": 8})
    answer = sandbox.exec_json(
        "curl", "-s", f"{endpoint}/v1/completions", "-H", "Content-Type: application/json", "-d", body
    )
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] > 0


@needs_gcloud
def test_a_real_gcloud_sees_what_the_playbook_made(sandbox: Sandbox) -> None:
    cluster = sandbox.exec_json(
        "gcloud", "container", "clusters", "describe", "llm-d-cluster", "--zone", "us-central1-a", "--format", "json"
    )
    assert cluster["status"] == "RUNNING"
    assert cluster["networkConfig"]["gatewayApiConfig"]["channel"] == "CHANNEL_STANDARD"
    assert cluster["resourceLabels"]["managed-by"] == "llmd-gke"
    subnet = sandbox.exec_json(
        "gcloud",
        "compute",
        "networks",
        "subnets",
        "describe",
        "proxy-only-subnet",
        "--region",
        "us-central1",
        "--format",
        "json",
    )
    assert (subnet["purpose"], subnet["role"], subnet["state"]) == ("REGIONAL_MANAGED_PROXY", "ACTIVE", "READY")


@needs_gcloud
def test_a_kubeconfig_from_gcloud_works(sandbox: Sandbox) -> None:
    config = sandbox.home / "gcloud.kubeconfig"
    sandbox.exec(
        "env",
        f"KUBECONFIG={config}",
        "gcloud",
        "container",
        "clusters",
        "get-credentials",
        "llm-d-cluster",
        "--zone",
        "us-central1-a",
    )
    nodes = sandbox.exec_json(
        "sh",
        "-c",
        f'kubectl --kubeconfig {config} --token "$(cat "$CLOUDSDK_AUTH_ACCESS_TOKEN_FILE")" get nodes -o json',
    )
    assert len(nodes["items"]) == 3


# --- planted faults ---------------------------------------------------------------------------------------------------


def test_a_secret_with_the_wrong_key_is_named(sandbox: Sandbox) -> None:
    run = sandbox.playbook("tests/sandbox/playbooks/wrong_secret_key.yml")
    failed_with(run, "HF_SECRET_KEY_WRONG", "HF_TOKEN")


def test_a_disabled_api_is_named(sandbox: Sandbox) -> None:
    sandbox.cli("fault", "plant", "api-disabled", "networkservices.googleapis.com")
    run = sandbox.playbook("tests/sandbox/playbooks/route_only.yml", gateway_route_timeout=30)
    failed_with(run, "NETWORK_SERVICES_API_DISABLED", "networkservices.googleapis.com")


def test_the_playbook_heals_them(sandbox: Sandbox) -> None:
    sandbox.cli("fault", "clear")
    run = sandbox.playbook(PATTERN1)
    assert run.rc == 0, run.output[-6000:]
    assert sandbox.artifact("verify.json")["passed"]


# --- one run at a time, a lease, and refusals -------------------------------------------------------------------------


def test_every_run_leaves_a_page(sandbox: Sandbox) -> None:
    page = (sandbox.home / ".llmd/pattern1/report.html").read_text(encoding="utf-8")
    for text in (
        "Gateway programmed",
        "gke_gpu_cluster",
        "gaie-pattern1-epp",
        "Forgotten for a month",
        "not looked up",
    ):
        assert text in page
    assert len(page) < 300_000
    assert "<script" not in page


def test_a_second_run_is_refused_and_told_who_has_it(sandbox: Sandbox) -> None:
    """Held by somebody on another machine: refused until it is over. By a dead process of this one: taken over."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    holder = json.dumps({"user": "you", "host": "desk"})
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "llmd-gke-pattern1", "namespace": "default", "annotations": {"llmd.gke/holder": holder}},
        "spec": {
            "holderIdentity": "bbbbbbbbbbbb-20-222",
            "leaseDurationSeconds": 7200,
            "acquireTime": now,
            "renewTime": now,
        },
    }
    file = sandbox.home / "lease.json"
    file.write_text(json.dumps(lease))
    sandbox.exec("kubectl", "apply", "-f", str(file))
    before = resources(sandbox.snapshot())
    run = sandbox.playbook("playbooks/pause.yml")
    failed_with(run, "RUN_IN_PROGRESS", "lock_force")
    assert f"you@desk since {now}" in run.output
    assert resources(sandbox.snapshot()) == before
    taken = sandbox.playbook("playbooks/resume.yml", lock_force=True)
    assert (taken.rc, taken.count("changed")) == (0, 0), taken.output[-3000:]
    assert "was stale and is ours now" in " ".join(taken.output.split())  # a warning, wrapped to the screen
    assert "llmd-gke-pattern1" not in sandbox.exec("kubectl", "get", "leases", "-n", "default", "-o", "name")


def test_a_lease_is_set_shown_and_left_alone_while_it_runs(sandbox: Sandbox) -> None:
    failed_with(sandbox.playbook("playbooks/lease.yml", llmd_lease_hours=-1), "LEASE_INVALID", "llmd_lease_hours")
    set_now = sandbox.playbook("playbooks/lease.yml", llmd_lease_hours=2)
    assert (set_now.rc, set_now.count("changed")) == (0, 1), set_now.output[-3000:]
    reaped = sandbox.playbook("playbooks/reap.yml")
    assert (reaped.rc, reaped.count("changed")) == (0, 0), reaped.output[-3000:]
    assert "leased until" in reaped.output


def test_somebody_elses_deployment_is_refused(sandbox: Sandbox) -> None:
    before = resources(sandbox.snapshot())
    other = sandbox.playbook("playbooks/teardown.yml", llmd_deployment="pattern9", llmd_confirm="pattern9")
    failed_with(other, "TEARDOWN_FOREIGN", "llmd_namespace")
    assert "belongs to deployment pattern1" in other.output
    assert sandbox.exec("kubectl", "get", "httproutes", "-n", "llm-d", "-o", "name").strip()
    assert resources(sandbox.snapshot()) == before


def test_a_gateway_that_cannot_go_stops_where_its_cluster_stays(sandbox: Sandbox) -> None:
    """The finalizer of a controller that is not there: named, and the cluster is still whole."""
    gateway = "infra-pattern1-inference-gateway"
    patch = json.dumps([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/nobody"}])
    sandbox.exec("kubectl", "patch", "gateway", gateway, "-n", "llm-d", "--type", "json", "-p", patch)
    run = sandbox.playbook(
        "playbooks/teardown.yml", llmd_confirm="pattern1", teardown_scope="release", teardown_gateway_timeout=6
    )
    failed_with(run, "RELEASE_NOT_GONE", "cluster")
    assert len(sandbox.snapshot()["clusters"]) == 1


def test_what_is_leased_no_longer_is_reaped_and_goes_with_its_cluster(sandbox: Sandbox) -> None:
    """Also the stuck Gateway of the test before: what a cluster of ours takes along holds nothing up."""
    over = sandbox.playbook("playbooks/lease.yml", llmd_lease_hours=0.0001)
    assert over.rc == 0, over.output[-3000:]
    predicted = sandbox.playbook("playbooks/reap.yml", "--check", llmd_reap="teardown")
    assert predicted.rc == 0, predicted.output[-3000:]
    assert "LEASE_EXPIRED" in predicted.output
    assert len(sandbox.snapshot()["clusters"]) == 1


# --- and away ---------------------------------------------------------------------------------------------------------


def test_teardown_without_the_word_deletes_nothing(sandbox: Sandbox) -> None:
    before = resources(sandbox.snapshot())
    run = sandbox.playbook("playbooks/teardown.yml")
    assert run.rc == 0, run.output[-3000:]
    assert "llmd_confirm=pattern1" in run.output
    assert resources(sandbox.snapshot()) == before


def test_teardown_leaves_the_project_as_it_was_found(sandbox: Sandbox, found: dict[str, Any]) -> None:
    """By the reaper, whose word is the lease: the same teardown, with a stuck Gateway that its cluster takes along."""
    run = sandbox.playbook("playbooks/reap.yml", llmd_reap="teardown", teardown_gateway_timeout=6)
    assert run.rc == 0, run.output[-3000:]
    assert "went with its cluster: " in run.output
    assert "0 left, 0.00 USD/h" in run.output
    left = sandbox.snapshot()
    assert left["clusters"] == found["clusters"]
    made = {key: value for key, value in left["compute"].items() if value}
    default = {key for key in made if key.split("|")[0] in ("networks", "subnetworks", "firewalls")}
    assert set(made) <= default | set(found["compute"]), made
    assert "REGIONAL_MANAGED_PROXY" not in json.dumps(left)
    again = sandbox.playbook("playbooks/teardown.yml", llmd_confirm="pattern1")
    assert again.rc == 0, again.output[-3000:]
    assert again.count("changed") == 0


def test_the_repository_is_left_clean() -> None:
    assert not list(REPOSITORY.glob("*.kubeconfig"))
