# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment is doing, in figures: from an observation and a second look at its counters. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.gcp import leases
from ansible_collections.llmd.gke.plugins.module_utils.inference.metrics import total
from ansible_collections.llmd.gke.plugins.module_utils.kube.gateways import endpoint_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.pods import is_ready, progress_of
from ansible_collections.llmd.gke.plugins.module_utils.kube.workloads import pod_labels_of, pods_wanted
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.observe import MODELS
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.read_cluster import (
    autoscaler_of,
    is_model_server,
    is_picker,
    pool_of,
    selected,
    server_of,
)
from ansible_collections.llmd.gke.plugins.module_utils.llmd.diagnosis.shapes import Finding, Json, Observation, Server

Texts = Mapping[str, str]


def status_of(
    seen: Observation,
    findings: list[Finding],
    later: Texts,
    seconds: float,
    names: Mapping[str, str],
    now: datetime.datetime,
) -> Json:
    """The status as a JSON object. ``later``: metrics read ``seconds`` after the observation's; None = unknown.

    names: the model server's metrics as the profile names them: waiting, running, kv_cache_usage, generated, finished.
    """
    servers = [_server(pod, seen, later, seconds, names) for pod in _pods(seen, is_model_server)]
    pools = [_pool(server, seen, servers) for server in seen.scope.served]
    wanted = [pool["replicas"]["wanted"] for pool in pools]
    # Prefill and decode servers both count a request that they have shared.
    answering = [server for server in servers if server["role"] != "prefill"]
    pickers = [pod for pod in seen.cluster.pods or [] if is_picker(pod, seen.scope)]
    counted = [total(seen.cluster.metrics.get(_name(pod), ""), seen.scope.request_counter) for pod in pickers]
    routed = [value for value in counted if value is not None]
    return {
        "endpoint": _endpoint(seen),
        "models": _models(seen),
        "release": seen.scope.release,
        "cluster": seen.scope.cluster,
        "replicas": {
            "wanted": None if None in wanted else sum(wanted),
            "ready": sum(bool(server["ready"]) for server in servers),
        },
        "picker": {"ready": sum(map(is_ready, pickers)), "pods": len(pickers)},
        "queue": _sum(servers, "waiting"),
        "running": _sum(servers, "running"),
        "kv_cache_use": _mean(servers, "kv_cache_usage"),
        "requests": {"picker": sum(routed) if routed else None, "model_servers": _sum(answering, "finished")},
        "tokens_per_second": _sum(servers, "tokens_per_second"),
        "window_seconds": round(seconds, 2),
        "pools": pools,
        "servers": servers,
        "nodes": seen.google.pool_sizes,
        "lease": _lease(seen, now),
        "findings": [{"code": f.problem.code, "severity": f.severity, "what": f.problem.what} for f in findings],
    }


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])


def _pods(seen: Observation, which: Callable[[Json, Observation], bool]) -> list[Json]:
    return [pod for pod in seen.cluster.pods or [] if which(pod, seen)]


def _server(pod: Json, seen: Observation, later: Texts, seconds: float, names: Mapping[str, str]) -> Json:
    before, after = seen.cluster.metrics.get(_name(pod), ""), later.get(_name(pod), "")
    values = {key: total(after or before, metric) for key, metric in names.items()}
    start, rate = total(before, names["generated"]), None
    if start is not None and values["generated"] is not None and after and seconds > 0 and values["generated"] >= start:
        rate = round((values["generated"] - start) / seconds, 1)
    labels = pod["metadata"].get("labels") or {}
    server = server_of(labels, seen)
    return {
        "pod": _name(pod),
        "model": server.model if server else None,
        "pool": server.pool if server else None,
        "role": labels.get(seen.scope.role_label),
        "node": (pod.get("spec") or {}).get("nodeName"),
        "ready": is_ready(pod),
        "state": progress_of(pod),
        "tokens_per_second": rate,
        **values,
    }


def _pool(server: Server, seen: Observation, servers: list[Json]) -> Json:
    """One model server's pool: its pods wanted and ready, its picker, its load."""
    mine = [entry for entry in servers if entry["pool"] == server.pool]
    label = f"{server.pool}-epp"
    pickers = [
        pod
        for pod in seen.cluster.pods or []
        if (pod["metadata"].get("labels") or {}).get(seen.scope.picker_label) == label
    ]
    return {
        "model": server.model,
        "pool": server.pool,
        "release": server.release,
        "replicas": {"wanted": _wanted(server, seen), "ready": sum(bool(entry["ready"]) for entry in mine)},
        "picker": {"ready": sum(map(is_ready, pickers)), "pods": len(pickers)},
        "autoscaler": _autoscaler(server, seen),
        "queue": _sum(mine, "waiting"),
        "running": _sum(mine, "running"),
        "tokens_per_second": _sum(mine, "tokens_per_second"),
    }


def _autoscaler(server: Server, seen: Observation) -> Json | None:
    """Between which bounds the number of servers follows the load, and what it is to be now; None: it is fixed."""
    found = autoscaler_of(server, seen)
    if found is None:
        return None
    spec, status = found.get("spec") or {}, found.get("status") or {}
    return {"min": spec.get("minReplicas", 1), "max": spec.get("maxReplicas"), "wanted": status.get("desiredReplicas")}


def _wanted(server: Server, seen: Observation) -> int | None:
    """Pods that the workloads ask for whose pods the pool takes. What a LeaderWorkerSet makes is counted with it."""
    if seen.cluster.workloads is None or seen.cluster.pools is None:
        return None
    pool = pool_of(seen, server.pool)
    return sum(
        pods_wanted(workload)
        for workload in seen.cluster.workloads
        if selected(pool, pod_labels_of(workload)) and not workload["metadata"].get("ownerReferences")
    )


def _sum(servers: list[Json], key: str) -> float | None:
    known = [float(server[key]) for server in servers if server.get(key) is not None]
    return round(sum(known), 2) if known else None


def _mean(servers: list[Json], key: str) -> float | None:
    known = [float(server[key]) for server in servers if server.get(key) is not None]
    return round(sum(known) / len(known), 4) if known else None


def _endpoint(seen: Observation) -> str:
    return endpoint_of(seen.cluster.gateway or {})


def _lease(seen: Observation, now: datetime.datetime) -> Json | None:
    """Until when the deployment is wanted, from the cluster's labels; None where Google could not be asked."""
    if seen.google.cluster is None:
        return None
    if not seen.google.cluster:
        return leases.Lease("no_cluster").as_result()
    return leases.read(dict(seen.google.cluster.get("resourceLabels") or {}), now).as_result()


def _models(seen: Observation) -> list[str] | None:
    answer = seen.answers.get(MODELS)
    if answer is None or answer.status != 200:
        return None
    return [str(entry.get("id")) for entry in answer.document().get("data") or [] if isinstance(entry, dict)]


def screen(status: Json) -> list[str]:
    """The status as lines for a person; what is unknown shows as a question mark."""
    replicas, picker, requests = status["replicas"], status["picker"], status["requests"]
    models = status["models"]
    lines = [
        f"endpoint    {status['endpoint'] or 'none'}",
        f"models      {'?' if models is None else ', '.join(models) or 'none'}",
        f"replicas    {replicas['ready']} of {_show(replicas['wanted'])} ready; picker {picker['ready']} of"
        f" {picker['pods']} ready",
        f"requests    {_show(requests['picker'])} routed, {_show(requests['model_servers'])} answered,"
        f" {_show(status['running'])} running, {_show(status['queue'])} queued",
        f"tokens      {_show(status['tokens_per_second'])} a second over the last {status['window_seconds']:.1f} s",
        f"KV cache    {_percent(status['kv_cache_use'])} in use",
    ]
    if len(status["pools"]) > 1:
        for pool in status["pools"]:
            have = pool["replicas"]
            lines.append(
                f"  {pool['model']} ({pool['pool']})  {have['ready']} of {_show(have['wanted'])} ready, picker"
                f" {pool['picker']['ready']} of {pool['picker']['pods']}, {_show(pool['running'])} running,"
                f" {_show(pool['queue'])} queued, {_show(pool['tokens_per_second'])} tokens/s"
            )
    for pool in status["pools"]:
        follows = pool["autoscaler"]
        if follows:
            bounds = f"{follows['min']} to {follows['max']}, now {_show(follows['wanted'])}"
            lines.append(f"  {pool['model']} follows the load: {bounds}")
    for server in status["servers"]:
        lines.append(
            f"  {server['pod']}  {server['state']}, {_show(server['running'])} running, {_show(server['waiting'])}"
            f" queued, KV {_percent(server['kv_cache_usage'])}, {_show(server['tokens_per_second'])} tokens/s"
        )
    nodes = status["nodes"]
    if nodes is not None:
        lines.append("nodes       " + ", ".join(f"{name} {size}" for name, size in sorted(nodes.items())))
    lines.append(f"lease       {_show_lease(status['lease'])}")
    found = [f"{entry['severity']} {entry['code']}" for entry in status["findings"]]
    lines.append("health      " + ("; ".join(found) + " (playbooks/diagnose.yml says more)" if found else "no finding"))
    return lines


def _show_lease(lease: Json | None) -> str:
    if lease is None:
        return "?"
    text = {
        "none": "none: nothing takes this deployment away by itself",
        "no_cluster": "there is no cluster",
        "running": f"until {lease['until']}, {lease['hours_left']:g} h left",
        "expired": f"OVER since {lease['until']} (playbooks/lease.yml extends it, playbooks/reap.yml ends it)",
    }[str(lease["state"])]
    return text + (f"; paused since {lease['paused_since']}" if lease["paused_since"] else "")


def _show(value: Any) -> str:
    return "?" if value is None else f"{value:g}"


def _percent(value: Any) -> str:
    return "?" if value is None else f"{100 * value:.1f} %"
