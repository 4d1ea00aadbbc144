"""Three deployments in one run, by a caller who has the custom role and nothing else, with secrets that are looked for.

``alpha`` is hardened (network policies, Pod Security), ``beta`` shares its region and with it the proxy-only subnet,
``gamma`` cannot be made: the hub refuses its token. The tests build on one another, in this order.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import REPOSITORY, Run, Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.long]

PATTERN1 = "playbooks/pattern1.yml"
PROJECT = "projects/llmd-sandbox"
MEMBER = "serviceAccount:llmd-operator@llmd-sandbox.iam.gserviceaccount.com"
HOSTS = ("alpha", "beta", "gamma")
TOKEN = "hf_sandbox_" + secrets.token_hex(12)
HEADER = "canary-" + secrets.token_hex(12)
RECAP = re.compile(r"^(\w+)\s+: ok=\d+\s+changed=(\d+)\s+\S+\s+failed=(\d+)", re.M)


def recap(run: Run) -> dict[str, tuple[int, int]]:
    """Host -> changed and failed tasks."""
    return {host: (int(changed), int(failed)) for host, changed, failed in RECAP.findall(run.output)}


def flat(run: Run) -> str:
    """The output without its line breaks: YAML breaks long messages."""
    return re.sub(r"\s+", " ", run.output)


def encoded(text: str) -> list[str]:
    """A secret as it is and as base64 would show it, wherever in a longer text it begins."""
    shifted = (base64.b64encode(b"x" * shift + text.encode()).decode() for shift in range(3))
    return [text, *(one[4:-4] for one in shifted)]


@dataclass
class Watcher(threading.Thread):
    """Looks for secrets in the arguments of every process and in temporary files while something runs.

    It looks ten times a second, so what is gone sooner is not seen; what Ansible itself runs is in its -vvv output.
    """

    wanted: list[str]
    folders: list[Path]
    found: set[str] = field(default_factory=set)
    looked_at: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.over.wait(0.1):
            self.look()

    def look(self) -> None:
        for process in os.listdir("/proc"):
            if process.isdigit():
                self.read(Path("/proc", process, "cmdline"), "arguments of")
        for folder in self.folders:
            for path in folder.rglob("*"):
                if path.is_file():
                    self.read(path, "temporary file")

    def read(self, path: Path, what: str) -> None:
        with contextlib.suppress(OSError):
            text = path.read_bytes()[:1_000_000].decode(errors="replace")
            self.looked_at.add(what)
            if any(one in text for one in self.wanted):
                self.found.add(f"{what} {path}: {text[:200]}")


@pytest.fixture(scope="module")
def canaries(sandbox: Sandbox) -> list[str]:
    """The token, the header, and lines of the private key with which the playbooks run."""
    key = json.loads(sandbox.exec("sh", "-c", 'cat "$GOOGLE_APPLICATION_CREDENTIALS"'))
    lines = [line for line in key["private_key"].splitlines() if "-----" not in line]
    assert len(lines) > 20
    return [*encoded(TOKEN), *encoded(HEADER), lines[1], lines[12]]


@pytest.fixture(scope="module", autouse=True)
def found(sandbox: Sandbox) -> dict[str, Any]:
    """The inventory, the caller with the custom role, and the project as it was found."""
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(REPOSITORY / "sandbox/python"),
        "llmd_cpu_pool": {"pool": "default-pool", "machine_type": "n1-standard-4", "nodes": 1},
        "llmd_crd_source": str(REPOSITORY / "sandbox/crds/upstream"),
        "llmd_hf_token": TOKEN,
    }
    hardened = {"llmd_network_policies": True, "llmd_pod_security": "baseline"}
    hosts = {
        "alpha": {**common, **hardened},
        "beta": {**common, "llmd_zone": "us-central1-b"},
        "gamma": {**common, "llmd_zone": "us-central1-c", "llmd_hf_token": "hf_refused"},
    }
    (sandbox.home / "fleet.yml").write_text(yaml.safe_dump({"llmd": {"hosts": hosts}}))
    before = sandbox.snapshot()
    role = yaml.safe_load((REPOSITORY / "docs/iam-role.yaml").read_text(encoding="utf-8"))
    role["includedPermissions"] += [
        f"container.networkPolicies.{verb}" for verb in ("create", "delete", "get", "update")
    ]
    google(sandbox, "POST", f"iam.googleapis.com/v1/{PROJECT}/roles", {"roleId": "llmdGke", "role": role})
    policy = f"cloudresourcemanager.googleapis.com/v1/{PROJECT}"
    bindings = [{"role": f"{PROJECT}/roles/llmdGke", "members": [MEMBER]}]
    google(sandbox, "POST", f"{policy}:setIamPolicy", {"policy": {"bindings": bindings}})
    return before


def google(sandbox: Sandbox, verb: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request of the operator's, as gcloud would send it."""
    script = (
        'curl -sf -X "$1" -H "Authorization: Bearer $(cat "$CLOUDSDK_AUTH_ACCESS_TOKEN_FILE")" '
        '-H "Content-Type: application/json" -d "$2" "http://192.0.2.10/$3"'
    )
    answer: dict[str, Any] = sandbox.exec_json("sh", "-c", script, "sh", verb, json.dumps(body), path)
    return answer


def play(sandbox: Sandbox, book: str, *words: str, **variables: Any) -> Run:
    """One of the playbooks on the fleet."""
    return sandbox.playbook(
        book, "-i", str(sandbox.home / "fleet.yml"), "--limit", ",".join(HOSTS), *words, **variables
    )


def artifact(sandbox: Sandbox, host: str, name: str) -> Any:
    return json.loads((sandbox.home / ".llmd" / host / name).read_text())


def kubectl(sandbox: Sandbox, zone: str, *words: str, check: bool = True) -> str:
    """With the rights of the cluster's own administrator, not the caller's."""
    clusters = sandbox.exec_json("curl", "-sf", "http://192.0.2.10/control/status")["clusters"]
    endpoint = next(one["endpoint"] for key, one in clusters.items() if f"/{zone}/" in key)
    script = (
        'state=$(dirname "$(dirname "$CLOUDSDK_AUTH_ACCESS_TOKEN_FILE")"); '
        'for one in "$state"/clusters/*/kubeconfig; do grep -q "//$1\\b" "$one" && kubeconfig=$one; done; shift; '
        'exec kubectl --kubeconfig "$kubeconfig" "$@"'
    )
    return sandbox.exec("sh", "-c", script, "sh", endpoint, *words, check=check)


def test_one_fails_and_two_are_deployed_with_exactly_the_custom_role(
    sandbox: Sandbox, canaries: list[str], found: dict[str, Any]
) -> None:
    temporary = sandbox.home / "temporary"
    temporary.mkdir()
    watcher = Watcher(canaries, [temporary, sandbox.home / "tmp"])
    more = {"TMPDIR": str(temporary), "LLMD_GKE_ENDPOINT_HEADER": f"X-Canary: {HEADER}"}
    sandbox.environment.update(more)
    watcher.start()
    try:
        run = play(sandbox, PATTERN1, "-vvv")
    finally:
        watcher.over.set()
        watcher.join()
        for name in more:
            sandbox.environment.pop(name)
    assert {host: failed for host, (_changed, failed) in recap(run).items()} == {"alpha": 0, "beta": 0, "gamma": 1}, (
        run.output[-6000:]
    )
    assert run.rc != 0
    assert "HF_TOKEN_REFUSED" in run.output
    assert watcher.looked_at == {"arguments of", "temporary file"}
    assert watcher.found == set()
    verdicts = [artifact(sandbox, host, "verify.json") for host in ("alpha", "beta")]
    assert all(one["passed"] for one in verdicts)
    assert verdicts[0]["endpoint"] != verdicts[1]["endpoint"]
    assert artifact(sandbox, "gamma", "report.json")["outcome"] == "failed"
    made = [json.dumps(one) for one in sandbox.snapshot()["compute"].values()]
    assert sum("REGIONAL_MANAGED_PROXY" in one for one in made) == 1


def test_the_secrets_are_in_one_secret_and_nowhere_else(sandbox: Sandbox, canaries: list[str]) -> None:
    shown = "".join(run.output for run in sandbox.runs)
    assert [one for one in canaries if one in shown] == []
    assert "ya29." not in shown
    files = [path for path in sandbox.home.rglob("*") if path.is_file() and path.name != "fleet.yml"]
    assert len(files) > 10
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        assert [one for one in canaries if one in text] == [], path
    for zone in ("us-central1-a", "us-central1-b"):
        everything = json.loads(
            kubectl(
                sandbox,
                zone,
                "get",
                "secrets,configmaps,pods,deployments,events,httproutes,gateways,leases",
                "-A",
                "-o",
                "json",
            )
        )["items"]
        holders = set()
        for item in everything:
            text = json.dumps(item)
            if item["kind"] == "Secret" and item.get("type") == "helm.sh/release.v1":
                packed = base64.b64decode(base64.b64decode(item["data"]["release"]))
                text += gzip.decompress(packed).decode()
            if any(one in text for one in canaries):
                holders.add(f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}")
        assert holders == {"Secret llm-d/huggingface-token"}


def test_the_hardened_one_is_hard(sandbox: Sandbox) -> None:
    zone = "us-central1-a"
    policies = json.loads(kubectl(sandbox, zone, "get", "networkpolicies", "-n", "llm-d", "-o", "json"))["items"]
    assert {one["metadata"]["name"] for one in policies} == {"llm-d-pattern1-model-servers", "llm-d-pattern1-pickers"}
    pods = json.loads(kubectl(sandbox, zone, "get", "pods", "-n", "llm-d", "-o", "json"))["items"]
    server = next(one for one in pods if one["metadata"]["name"].startswith("ms-"))
    context = server["spec"]["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["capabilities"]) == (2000, {"drop": ["ALL"]})
    user = kubectl(sandbox, zone, "exec", "-n", "llm-d", server["metadata"]["name"], "-c", "vllm", "--", "id", "-u")
    assert user.strip() == "2000"
    refused = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bad"},
        "spec": {"hostNetwork": True, "containers": [{"name": "x", "image": "x"}]},
    }
    overrides = json.dumps(refused)
    kubectl(sandbox, zone, "run", "bad", "-n", "llm-d", "--image", "x", "--overrides", overrides, check=False)
    names = kubectl(sandbox, zone, "get", "pods", "-n", "llm-d", "-o", "name").split()
    assert names
    assert "pod/bad" not in names
    other = json.loads(kubectl(sandbox, "us-central1-b", "get", "namespace", "llm-d", "-o", "json"))
    assert "pod-security.kubernetes.io/enforce" not in other["metadata"]["labels"]


def test_the_fleet_on_one_page(sandbox: Sandbox) -> None:
    run = play(sandbox, "playbooks/fleet.yml", fleet_fail=True)
    document = json.loads((sandbox.home / ".llmd/fleet.json").read_text())
    seen = {one["name"]: one for one in document["deployments"]}
    assert {name: one["state"] for name, one in seen.items()} == {
        "alpha": "serving",
        "beta": "serving",
        "gamma": "absent",
    }, run.output[-6000:]
    assert run.rc == 0, run.output[-6000:]
    for name in ("alpha", "beta"):
        assert (seen[name]["verified"], seen[name]["drift"]) == ("passed", 0), seen[name]
        assert seen[name]["endpoint"].startswith("http://203.0.113.")
        assert seen[name]["usd"] > 0.5
    assert document["usd"] == pytest.approx(seen["alpha"]["usd"] + seen["beta"]["usd"])
    assert all(changed == 0 for changed, _failed in recap(run).values())
    assert "3 deployments: 1 absent, 2 serving; 2 verified, 0 drifted" in flat(run)
    page = (sandbox.home / ".llmd/fleet.html").read_text(encoding="utf-8")
    assert all(text in page for text in (*HOSTS, seen["alpha"]["endpoint"], "alpha/report.html"))
    assert not list((sandbox.home / ".llmd").rglob(".kubeconfig"))


def test_the_first_leaves_the_subnet_and_the_last_takes_it_away(sandbox: Sandbox, found: dict[str, Any]) -> None:
    first = play(sandbox, "playbooks/teardown.yml", "--limit", "alpha", llmd_confirm="alpha")
    assert first.rc == 0, first.output[-6000:]
    assert "kept for the other deployments of the region: beta" in flat(first)
    last = play(sandbox, "playbooks/teardown.yml", "--limit", "beta", llmd_confirm="beta")
    assert last.rc == 0, last.output[-6000:]
    left = sandbox.snapshot()
    assert left["clusters"] == found["clusters"]
    assert "REGIONAL_MANAGED_PROXY" not in json.dumps(left["compute"])
