# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine as a Job in the cluster: with resource limits of ours, without a GPU, gone when it is over or we are."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.engines.local import last_words
from ansible_collections.llmd.gke.plugins.module_utils.engines.order import Recipe, placed
from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, InferenceError
from ansible_collections.llmd.gke.plugins.module_utils.kube.client import ApiProblem, KubeClient, Manifest
from ansible_collections.llmd.gke.plugins.module_utils.kube.conditions import of_object
from ansible_collections.llmd.gke.plugins.module_utils.kube.kinds import CONFIG_MAP, POD, SECRET, Kind
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import explain_pod, progress_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem, Steady
from ansible_collections.llmd.gke.plugins.module_utils.waiting import Clock, Verdict, wait_until

JOB = Kind("batch/v1", "Job", "jobs")
MOUNT = "/llmd"
WORK = "/tmp"
MARK = "LLMD-RESULT"
MOST_INPUT = 900_000  # a ConfigMap holds 1 MiB
KEPT_SECONDS = 600
GRACE = 30.0
# Runs in the engine's image, so it knows nothing of ours: run the command, hand its files out through the log.
RUNNER = f"""import base64, gzip, json, subprocess, sys
order = json.load(open("{MOUNT}/order.json"))
code = subprocess.run(order["command"]).returncode
for label, path in order["outputs"].items():
    try:
        data = open(path, "rb").read()
    except OSError:
        continue
    if order["drop"]:
        kept = {{key: value for key, value in json.loads(data).items() if key not in order["drop"]}}
        data = json.dumps(kept).encode()
    text = base64.b64encode(gzip.compress(data)).decode()
    for start in range(0, len(text), 4000):
        print("{MARK}", label, text[start:start + 4000], flush=True)
sys.exit(code)
"""


@dataclass(frozen=True)
class Room:
    """Where the Job runs and what it may use. environment: entries of a container's env, as Kubernetes writes them."""

    namespace: str
    name: str
    image: str
    labels: Mapping[str, str]
    resources: Mapping[str, Any]
    environment: list[Manifest] = field(default_factory=list)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    timeout: float = 600.0


def manifests(room: Room, recipe: Recipe) -> dict[str, Manifest]:
    """job, and what it reads: config_map or, where something is secret, secret. Raises ConfigurationError."""
    order = {
        "command": [placed(word, MOUNT, WORK) for word in recipe.command],
        "outputs": {label: placed(path, MOUNT, WORK) for label, path in recipe.outputs.items()},
        "drop": list(recipe.drop),
    }
    files = {name: placed(text, MOUNT, WORK) for name, text in recipe.files.items()}
    data = {**files, "order.json": json.dumps(order), "run.py": RUNNER}
    size = sum(len(text.encode()) for text in data.values())
    if size > MOST_INPUT:
        raise ConfigurationError(
            "The prompts are too large for a Job.",
            code="ENGINE_UNFIT",
            why=f"{size} bytes; a ConfigMap takes {MOST_INPUT}",
            remedy="Ask for fewer requests or shorter prompts, or run the engine on the control node.",
        )
    metadata = {"name": room.name, "namespace": room.namespace, "labels": dict(room.labels)}
    # a configuration may hold what is secret, so with a secret all of it is one
    held: Manifest = {"config_map": {"metadata": dict(metadata), "data": data}}
    if recipe.secrets:
        held = {"secret": {"metadata": dict(metadata), "stringData": {**data, **recipe.secrets}}}
    return {"job": _job(room, recipe, metadata), **held}


def _job(room: Room, recipe: Recipe, metadata: Manifest) -> Manifest:
    environment = [*room.environment, *({"name": name, "value": value} for name, value in recipe.environment.items())]
    environment += [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": room.name, "key": name}}} for name in recipe.secrets
    ]
    source = {"secret": {"secretName": room.name}} if recipe.secrets else {"configMap": {"name": room.name}}
    container = {
        "name": "engine",
        "image": room.image,
        "command": ["python3", f"{MOUNT}/run.py"],
        "env": [{"name": "HOME", "value": WORK}, *environment],
        "resources": dict(room.resources),
        "workingDir": WORK,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "order", "mountPath": MOUNT, "readOnly": True}],
    }
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "order", **source}],
    }
    if room.node_selector:
        pod["nodeSelector"] = dict(room.node_selector)
    if room.service_account:
        pod["serviceAccountName"] = room.service_account
    return {
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": max(1, round(room.timeout)),
            # if this process dies: the cluster takes the Job away by itself, and with it what it reads
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "suspend": True,
            "template": {"metadata": {"labels": dict(room.labels)}, "spec": pod},
        },
    }


def run(
    client: KubeClient, room: Room, recipe: Recipe, *, clock: Clock, progress: Callable[[str], Any]
) -> dict[str, str]:
    """Run the engine as a Job and return its outputs by label; Job, ConfigMap and Secret are gone afterwards.

    Raises InferenceError ENGINE_FAILED, ENGINE_TIMEOUT, or the pod's own problem (image, no node, ...).
    """
    wanted = manifests(room, recipe)
    gone(client, room)  # what an earlier run of this name left
    refuse_foreign(client, room)
    try:
        # suspended first, so that what it needs is there, and owned by it, before its pod starts
        job = client.apply(JOB, wanted["job"])
        owner = {"apiVersion": JOB.api_version, "kind": JOB.kind, "name": room.name, "uid": job["metadata"]["uid"]}
        for key, kind in (("config_map", CONFIG_MAP), ("secret", SECRET)):
            if key in wanted:
                wanted[key]["metadata"]["ownerReferences"] = [owner]
                client.apply(kind, wanted[key])
        wanted["job"]["spec"]["suspend"] = False
        client.apply(JOB, wanted["job"])
        log = _await_end(client, room, clock, progress)
    finally:
        gone(client, room)
    return results(log)


def ours(found: Manifest, room: Room) -> bool:
    """Whether an object carries the labels that we give."""
    return (found["metadata"].get("labels") or {}).items() >= dict(room.labels).items()


def gone(client: KubeClient, room: Room) -> None:
    """Take away what is ours of this name."""
    for kind in (JOB, CONFIG_MAP, SECRET):
        found = client.get(kind, room.name, room.namespace)
        if found is not None and ours(found, room):
            client.delete(kind, room.name, room.namespace)


def refuse_foreign(client: KubeClient, room: Room) -> None:
    """Overwrite nothing that somebody else made. Raises ConfigurationError ENGINE_UNFIT."""
    for kind in (JOB, CONFIG_MAP, SECRET):
        found = client.get(kind, room.name, room.namespace)
        if found is not None and not ours(found, room):
            raise ConfigurationError(
                f"There is a {kind.kind} {room.namespace}/{room.name} that is not ours.",
                code="ENGINE_UNFIT",
                where=f"{kind.kind} {room.namespace}/{room.name}",
                why=f"its labels are {found['metadata'].get('labels') or 'none'}",
                remedy="Give the Job another name.",
            )


def _await_end(client: KubeClient, room: Room, clock: Clock, progress: Callable[[str], Any]) -> str:
    steady = Steady(clock, GRACE)

    def observe() -> tuple[Manifest, list[Manifest], list[Manifest]]:
        try:
            job = client.get(JOB, room.name, room.namespace) or {}
            pods = client.objects(POD, room.namespace, labels=f"job-name={room.name}")
            events = client.events(pods[0]["metadata"]["name"], room.namespace) if pods and not _over(job) else []
        except ApiProblem as problem:
            if not problem.transient:
                raise
            return {}, [], []
        return job, pods, events

    def judge(seen: tuple[Manifest, list[Manifest], list[Manifest]]) -> Verdict:
        job, pods, events = seen
        if _over(job):
            return Verdict(True)
        problem = _problem(pods, events)
        if steady.seen(problem.code if problem and problem.fatal else None) and problem is not None:
            raise problem.error(InferenceError)
        return Verdict(False, progress_of(pods[0]) if pods else "no pod yet")

    job, pods, _unused = wait_until(
        observe, judge, what=f"Job {room.namespace}/{room.name}", timeout=room.timeout + GRACE, interval=1.0,
        clock=clock, progress=progress,
    )  # fmt: skip
    log = client.logs(pods[0]["metadata"]["name"], room.namespace) if pods else ""
    if of_object(job, "Complete").true:
        return log
    failed = of_object(job, "Failed")
    late = failed.reason == "DeadlineExceeded"
    raise InferenceError(
        f"The engine's Job did not end within {room.timeout:.0f} s." if late else "The engine's Job failed.",
        code="ENGINE_TIMEOUT" if late else "ENGINE_FAILED",
        where=f"Job {room.namespace}/{room.name}",
        why=last_words(without_results(log)) or failed.message,
        remedy="Ask for fewer requests, or raise duration." if late else "Read its last words above.",
    )


def _over(job: Manifest) -> bool:
    return of_object(job, "Complete").true or of_object(job, "Failed").true


def _problem(pods: list[Manifest], events: list[Manifest]) -> Problem | None:
    return explain_pod(pods[0], events) if pods and (pods[0].get("status") or {}).get("phase") == "Pending" else None


def results(log: str) -> dict[str, str]:
    """The outputs that the runner wrote into the log, by label."""
    parts: dict[str, list[str]] = {}
    for line in log.splitlines():
        mark, _unused, rest = line.partition(" ")
        if mark == MARK:
            label, _unused, text = rest.partition(" ")
            parts.setdefault(label, []).append(text)
    found = {}
    for label, texts in parts.items():
        try:
            found[label] = gzip.decompress(base64.b64decode("".join(texts), validate=True)).decode()
        except (OSError, EOFError, ValueError):
            continue  # a log that was cut: the reader of the result says that there is none
    return found


def without_results(log: str) -> str:
    """What the engine itself said."""
    return "\n".join(line for line in log.splitlines() if not line.startswith(MARK + " "))
