"""Runs inside the sandbox: plants one symptom of the runbook after the other and asks for a diagnosis.

Started by test_diagnose.py beside a running pattern 1. Prints one JSON object: rows of (planted, expected, found), and
how long each look took. Symptoms that do not disturb each other are planted together.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ansible_collections
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ansible_collections.__path__.append(str(REPOSITORY / "playbooks/collections/ansible_collections"))

from ansible_collections.llmd.gke.plugins.module_utils.gcp.access import cluster_access, render_kubeconfig  # noqa: E402
from ansible_collections.llmd.gke.plugins.module_utils.gcp.arguments import open_session  # noqa: E402
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import Where  # noqa: E402
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.bundle import bundle  # noqa: E402
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.judge import diagnose  # noqa: E402
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.running import (  # noqa: E402
    observation_spec,
    observe,
)

SPACE, POOL, ROUTE = "llm-d", "gaie-pattern1", "llm-d-pattern1-inference-scheduling"
GATEWAY, PICKER = "infra-pattern1-inference-gateway", "gaie-pattern1-epp"
CREDENTIALS = Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]).parent
CONTROL = "http://192.0.2.10/control"
TOKENS = ("hf_sandbox", "hf_not_accepted", "hf_refused")
PATIENCE = 60.0


def kubectl(*words: str, document: Any = None, check: bool = True) -> str:
    text = None if document is None else json.dumps(document)
    done = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr}")
    return done.stdout


def get(kind: str, name: str) -> dict[str, Any]:
    return dict(json.loads(kubectl("get", kind, name, "-n", SPACE, "-o", "json")))


def patch(kind: str, name: str, change: Any, how: str = "merge") -> None:
    kubectl("patch", kind, name, "-n", SPACE, "--type", how, "-p", json.dumps(change))


def bare(item: dict[str, Any]) -> dict[str, Any]:
    """An object as it could be applied again."""
    keep = {
        key: item["metadata"][key] for key in ("name", "namespace", "labels", "annotations") if key in item["metadata"]
    }
    return {key: value for key, value in {**item, "metadata": keep}.items() if key != "status"}


def control(what: str, **body: Any) -> None:
    subprocess.run(
        ["curl", "-sf", "-X", "POST", f"{CONTROL}/{what}", "-d", json.dumps(body)], check=True, capture_output=True
    )


class Looks:
    """Diagnoses, and the rows of the report."""

    def __init__(self) -> None:
        spec = observation_spec()
        profile = yaml.safe_load((REPOSITORY / "plugins/plugin_utils/profiles/llm-d-0.4.yml").read_text())
        self.params: dict[str, Any] = {name: option.get("default") for name, option in spec.items()}
        self.params.update(
            project="llmd-sandbox",
            region="us-central1",
            location="us-central1-a",
            cluster="llm-d-cluster",
            gateway=GATEWAY,
            route=ROUTE,
            pool=POOL,
            model="google/gemma-2b-it",
            hf_secret="huggingface-token",
            services=["compute.googleapis.com", "container.googleapis.com", "networkservices.googleapis.com"],
            crds=[crd["name"] for crd in profile["crds"]],
            scorers=profile["picker"]["scorers"],
            response_header=profile["picker"]["response_header"],
            request_counter=profile["picker"]["request_counter"],
            minimum_version=profile["gke"]["minimum_version"],
        )
        # the playbooks go through Google; KUBECONFIG here is the sandbox's own and would say nothing about identity
        os.environ.pop("K8S_AUTH_KUBECONFIG", None)
        self.rows: list[dict[str, Any]] = []
        self.seconds: list[float] = []
        self.leaked: set[str] = set()

    def look(self, **other: Any) -> list[Any]:
        seen, _pass = observe({**self.params, **other})
        findings = diagnose(seen)
        self.seconds.append(seen.seconds)
        text = json.dumps(bundle(seen, findings))
        self.leaked |= {token for token in TOKENS if token in text}
        return findings

    def expect(self, planted: dict[str, str], **other: Any) -> None:
        """Look until every planted symptom (words -> code) has had its code, or patience ends.

        Not necessarily in one look: a container that crashes is for a moment just starting.
        """
        found: dict[str, Any] = {}
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE:
            found.update({finding.problem.code: finding for finding in self.look(**other)})
            if set(planted.values()) <= set(found):
                break
        codes = list(found)
        took = round(time.monotonic() - started, 1)
        for words, code in planted.items():
            self.rows.append({"planted": words, "code": code, "found": code in found, "all": codes, "seconds": took})

    def healthy(self) -> list[str]:
        """Look until nothing is found; what is still found when patience ends."""
        started = time.monotonic()
        codes = ["?"]
        while codes and time.monotonic() - started < PATIENCE:
            codes = [finding.problem.code for finding in self.look()]
        return codes


# --- symptoms ------------------------------------------------------------------------------------------------------


def server_pod(template: dict[str, Any], name: str, **changes: Any) -> dict[str, Any]:
    """One more model server beside the running one, without a GPU of its own unless asked, with one thing wrong."""
    spec = {**copy.deepcopy(template["spec"]), "restartPolicy": "Never"}
    container = spec["containers"][0]
    if not changes.get("gpu"):
        container.pop("resources", None)
        spec.pop("nodeSelector", None)
    container["args"] = [*container.get("args", []), *changes.get("args", [])]
    container["image"] = changes.get("image", container["image"])
    for variable in container.get("env", []):
        if variable["name"] == "HF_TOKEN" and changes.get("secret"):
            variable["valueFrom"]["secretKeyRef"]["name"] = changes["secret"]
    if changes.get("model"):
        text = json.dumps(container).replace("google/gemma-2b-it", changes["model"])
        spec["containers"][0] = json.loads(text)
    # What the pool selects by, the model's among them, but no pod of the Deployment: that would be its update.
    labels = {**template["metadata"]["labels"], "planted": "yes"}
    del labels["llm-d.ai/role"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def picker_pod(template: dict[str, Any]) -> dict[str, Any]:
    """A second picker that may read nothing: what is left when its Role could not be made."""
    spec = {**copy.deepcopy(template["spec"]), "restartPolicy": "Never"}
    spec["serviceAccountName"] = "default"
    spec["containers"][0].setdefault("env", []).append({"name": "LLMD_SANDBOX_PICKER_SYNC_SECONDS", "value": "1"})
    labels = {"inferencepool": PICKER, "planted": "yes"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "no-role", "labels": labels}, "spec": spec}


def secret(name: str, key: str, value: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"planted": "yes"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}}


def pods(looks: Looks) -> None:
    """Everything that a pod can die of; a few at a time, so that their starts do not starve one another."""
    template = get("deployment", "ms-pattern1-llm-d-modelservice-decode")["spec"]["template"]
    picker = get("deployment", PICKER)["spec"]["template"]

    def server(name: str, **changes: Any) -> list[dict[str, Any]]:
        return [server_pod(template, name, **changes)]

    batches: list[dict[tuple[str, str], list[dict[str, Any]]]] = [
        {
            ("picker without its Role", "PICKER_RBAC_FORBIDDEN"): [picker_pod(picker)],
            ("GPU memory 0.90 with 256 sequences", "GPU_OUT_OF_MEMORY"): server(
                "oom", args=["--gpu-memory-utilization", "0.90", "--max-num-seqs", "256"]
            ),
            ("image that does not exist", "IMAGE_PULL_FAILED"): server("image", image="ghcr.io/llm-d/none:v0"),
            ("no GPU node free", "GPU_UNAVAILABLE"): server("second", gpu=True),
            ("Secret key token instead of HF_TOKEN", "HF_SECRET_KEY_WRONG"): [
                secret("wrong-key", "token", "hf_sandbox"),
                *server("key", secret="wrong-key"),
            ],
        },
        {
            ("gated model, licence not accepted", "HF_MODEL_GATED"): [
                secret("not-accepted", "HF_TOKEN", "hf_not_accepted"),
                *server("gated", secret="not-accepted"),
            ],
            ("refused Hugging Face token", "HF_TOKEN_REFUSED"): [
                secret("refused", "HF_TOKEN", "hf_refused"),
                *server("token", secret="refused"),
            ],
            ("unknown model", "HF_MODEL_NOT_FOUND"): server("model", model="google/no-such-model"),
        },
        {
            ("bfloat16 on a T4", "GPU_DTYPE_UNSUPPORTED"): server("bfloat", args=["--dtype", "bfloat16"]),
            ("unknown argument", "MODEL_SERVER_ARGUMENTS"): server("argument", args=["--no-such-option"]),
        },
    ]
    for batch in batches:
        items = [item for planted in batch.values() for item in planted]
        kubectl("apply", "-n", SPACE, "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": items})
        looks.expect(dict(list(batch)))
        kubectl("delete", "pods,secrets", "-l", "planted=yes", "-n", SPACE, "--grace-period=0", "--force")


@contextmanager
def changed(kind: str, name: str, change: Any, back: Any, how: str = "merge") -> Iterator[None]:
    patch(kind, name, change, how)
    try:
        yield
    finally:
        patch(kind, name, back, how)


def objects(looks: Looks) -> None:
    """Objects that say the wrong thing."""
    pool = get("inferencepool", POOL)["spec"]
    with changed(
        "inferencepool",
        POOL,
        {"spec": {"targetPorts": [{"number": 8200}]}},
        {"spec": {"targetPorts": pool["targetPorts"]}},
    ):
        looks.expect({"pool with the wrong target port": "POOL_TARGET_PORT_WRONG"})
    other = {"llm-d.ai/inference-serving": "true", "llm-d.ai/inferenceServing": None}
    own = {"llm-d.ai/inference-serving": None, **pool["selector"]["matchLabels"]}
    with changed(
        "inferencepool",
        POOL,
        {"spec": {"selector": {"matchLabels": other}}},
        {"spec": {"selector": {"matchLabels": own}}},
    ):
        looks.expect({"selector of another llm-d generation": "POOL_SELECTS_NOTHING"})
    timeouts = [{"op": "add", "path": "/spec/rules/0/timeouts", "value": {"request": "30s"}}]
    with changed("httproute", ROUTE, timeouts, [{"op": "remove", "path": "/spec/rules/0/timeouts"}], "json"):
        looks.expect({"HTTPRoute with timeouts": "ROUTE_REJECTED"})
    group = "/spec/rules/0/backendRefs/0/group"
    old, new = "inference.networking.x-k8s.io", "inference.networking.k8s.io"
    wrong = [{"op": "replace", "path": group, "value": old}]
    with changed("httproute", ROUTE, wrong, [{"op": "replace", "path": group, "value": new}], "json"):
        looks.expect({"route to the older pool group": "ROUTE_BACKEND_GROUP_WRONG"})
    service = bare(get("service", PICKER))
    kubectl("delete", "service", PICKER, "-n", SPACE)
    kubectl("scale", "deployment", PICKER, "-n", SPACE, "--replicas=0")
    looks.expect({"picker's Service deleted": "PICKER_SERVICE_MISSING", "picker scaled to zero": "PICKER_NOT_READY"})
    kubectl(
        "apply",
        "-f",
        "-",
        document={**service, "spec": {key: value for key, value in service["spec"].items() if "IP" not in key}},
    )
    kubectl("scale", "deployment", PICKER, "-n", SPACE, "--replicas=1")
    route = bare(get("httproute", ROUTE))
    kubectl("delete", "httproute", ROUTE, "-n", SPACE)
    looks.expect({"HTTPRoute not applied": "ROUTE_MISSING"})
    kubectl("apply", "-f", "-", document=route)
    token = get("secret", "huggingface-token")["data"]["HF_TOKEN"]
    replaced = {"data": {"HF_TOKEN": None, "token": token}}
    with changed("secret", "huggingface-token", replaced, {"data": {"HF_TOKEN": token, "token": None}}):
        looks.expect({"the deployment's Secret under key token": "HF_SECRET_KEY_WRONG"})


def project(looks: Looks) -> None:
    """Google Cloud's half: APIs, subnet, names, identities."""
    control("services", disable=["networkservices.googleapis.com"])
    looks.expect({"Network Services API off": "NETWORK_SERVICES_API_DISABLED"})
    control("services", enable=["networkservices.googleapis.com"])
    control("faults", words=["proxy-subnet-missing"])
    patch("gateway", GATEWAY, {"metadata": {"annotations": {"planted": "subnet"}}})
    looks.expect({"no proxy-only subnet, says the Gateway": "PROXY_ONLY_SUBNET_MISSING"})
    subprocess.run(["curl", "-sf", "-X", "DELETE", f"{CONTROL}/faults"], check=True, capture_output=True)
    patch("gateway", GATEWAY, {"metadata": {"annotations": {"planted": None}}})
    looks.expect({"another region than the subnet's": "PROXY_ONLY_SUBNET_MISSING"}, region="us-east1")
    looks.expect({"another cluster name": "CLUSTER_NOT_FOUND"}, cluster="another")
    looks.expect({"expired Google token": "UNAUTHENTICATED"}, auth_kind="accesstoken", access_token="ya29.expired")
    session = open_session({**looks.params, "service_account_file": None})
    owner = cluster_access(session, Where("us-central1-a", "llm-d-cluster"))
    stale = yaml.safe_load(render_kubeconfig(owner))
    stale["users"][0]["user"]["token"] = "ya29.expired"
    looks.expect({"expired cluster token": "CLUSTER_TOKEN_EXPIRED"}, kubeconfig=stale)


def manifest() -> list[dict[str, Any]]:
    """The objects of the pool's release."""
    text = subprocess.run(["helm", "get", "manifest", POOL, "-n", SPACE], capture_output=True, text=True, check=True)
    return [item for item in yaml.safe_load_all(text.stdout) if item]


def editor(looks: Looks) -> None:
    """roles/editor: helm may not write ClusterRoles, and the diagnosis says so under either identity."""
    identity = {"auth_kind": "serviceaccount", "service_account_file": str(CREDENTIALS / "editor.json")}
    looks.expect({"identity with roles/editor only": "PERMISSION_MISSING"}, **identity)
    access = cluster_access(open_session({**looks.params, **identity}), Where("us-central1-a", "llm-d-cluster"))
    roles = [item for item in manifest() if item["kind"].startswith(("Role", "ClusterRole"))]
    document = {"apiVersion": "v1", "kind": "List", "items": roles}
    kubectl("delete", "-n", SPACE, "-f", "-", document=document)
    charts = Path(os.environ["LLMD_SANDBOX_CACHE"]) / "charts"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        path.write_text(render_kubeconfig(access))
        command = [
            "helm",
            "upgrade",
            POOL,
            str(next(charts.glob("inferencepool-*.tgz"))),
            "-n",
            SPACE,
            "--reuse-values",
        ]
        done = subprocess.run(
            command, env={**os.environ, "KUBECONFIG": str(path)}, capture_output=True, text=True, check=False
        )
    if done.returncode == 0:
        raise RuntimeError("helm was not refused")
    looks.expect({"pool release applied as roles/editor": "HELM_RBAC_DENIED"})
    kubectl("delete", "secret", "-n", SPACE, "-l", f"owner=helm,name={POOL},status=failed")
    kubectl("apply", "-n", SPACE, "-f", "-", document=document)


def main() -> None:
    looks = Looks()
    before = looks.healthy()
    steps: list[Callable[[Looks], None]] = [editor, project, objects, pods]
    for step in steps:
        step(looks)
    after = looks.healthy()
    report = {"rows": looks.rows, "before": before, "after": after, "leaked": sorted(looks.leaked)}
    json.dump({**report, "looks": len(looks.seconds), "slowest": max(looks.seconds)}, sys.stdout)


if __name__ == "__main__":
    main()
