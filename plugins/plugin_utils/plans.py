# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a pattern, a profile and a list of models to the plan of a deployment: servers, pools, releases, rules. Pure.

A *server* is one model server release with its pool and picker. The first server carries the release's own names
(gaie-RELEASE, ms-RELEASE), so that a deployment can go from one pattern to another and back; every further one has
the model's slug in its names.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
# The pool chart cuts the picker's name to so many characters; a longer release would lose what tells it apart.
RELEASE_LENGTH = 40
LABEL_LENGTH = 63
SETTINGS = ("replicas", "max_model_len", "gpu_memory_utilization", "max_num_seqs", "dtype", "model_size")
ENTRY = frozenset(
    {"name", "model", "slug", "args", "env", "gpu", "gpus", "adapters", "canary", "values", "autoscaling", *SETTINGS}
)
CANARY = ENTRY - {"name", "slug", "canary", "adapters", "autoscaling"} | {"weight"}
# What a GPU pool takes under gke_cluster's own names; the others are translated.
FABRIC = ("placement", "accelerator_network_profile", "gvnic", "additional_networks")
POOL = ("reservation", "upgrade_settings", "labels", "taints", "disk_size_gb", "disk_type", *FABRIC)
GPU = (
    *("pool", "machine_type", "type", "count", "driver", "nodes", "min", "max", "spot", "fallbacks", "zones"),
    *("location_policy", *POOL),
)
# What belongs to one pool and says nothing about another.
BOUNDS = ("nodes", "min", "max", "fallbacks", "reservation")
# What a group of nodes, and prefill apart from decode, are like unless the settings say otherwise.
MULTINODE = {"size": 2, "expert_parallel": True, "rpc_port": 5555, "topology": ""}
DISAGGREGATION = {"prefill": 1, "threshold": 0, "connector": "nixlv2", "transport": "tcp"}
TRANSPORTS = ("tcp", "rdma")
# What a number of replicas may follow, each with the value for a replica that is aimed at unless given: requests that
# wait, requests that are being answered (what a GPU bears is the model's own, so it has to be given), KV cache in use.
AUTOSCALING = {"queue": 5.0, "running": None, "kv_cache": 0.8}
AUTOSCALERS = ("hpa", "keda")
Json = dict[str, Any]


def refuse(what: str, code: str, remedy: str, why: str = "") -> ConfigurationError:
    return ConfigurationError(what, code=code, where="llmd_models", why=why, remedy=remedy)


def label_of(model: str) -> str:
    """A model's name as a label value: its last part, in the characters and the length that a label takes."""
    short = re.sub(r"[^a-z0-9._-]+", "-", model.rsplit("/", 1)[-1].lower())[:LABEL_LENGTH]
    return re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", short)


def slug_of(model: str) -> str:
    """A model's name as part of an object's name."""
    return re.sub(r"[^a-z0-9]+", "-", model.rsplit("/", 1)[-1].lower()).strip("-")


def release_name(kind: str, release: str, slug: str = "") -> str:
    """gaie-RELEASE or gaie-RELEASE-SLUG; a long one is cut and ends in a hash of the whole."""
    whole = "-".join(part for part in (kind, release, slug) if part)
    if len(whole) <= RELEASE_LENGTH or not slug:
        return whole
    start = f"{kind}-{release}-"
    room = RELEASE_LENGTH - len(start) - 7
    if room < 1:
        raise ConfigurationError(
            f"Release {release} leaves no room for a model's name.",
            code="MODELS_INVALID",
            where="llmd_release",
            remedy=f"Choose an llmd_release of {RELEASE_LENGTH - 20} characters or less.",
        )
    return f"{start}{slug[:room].rstrip('-')}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"


def chosen_models(pattern: Mapping[str, Any], models: Sequence[Mapping[str, Any]], model: str) -> list[Json]:
    """The entries that the pattern serves. Raises ConfigurationError."""
    entries = [dict(entry) if isinstance(entry, Mapping) else {"name": str(entry)} for entry in models]
    if not entries:
        entries = [{"name": model}]
    if pattern["models"] == "several" or len(entries) == 1:
        return entries
    mine = [entry for entry in entries if entry.get("name") == model]
    if not mine:
        raise refuse(
            f"{pattern['name']} serves one model, llmd_models has {len(entries)} and none of them is {model}.",
            "MODELS_TOO_MANY",
            "Set llmd_model to the one that shall be served, or use a pattern of several models (pattern2).",
        )
    return mine


def check_entries(entries: Sequence[Mapping[str, Any]]) -> None:
    """Every entry is well formed and none is there twice. Raises ConfigurationError."""
    for entry in entries:
        name = str(entry.get("name") or "")
        for text in (name, str(entry.get("model") or name)):
            if not MODEL_NAME.fullmatch(text):
                raise refuse(
                    f"{text!r} is no name of a model.",
                    "MODELS_INVALID",
                    'Give OWNER/NAME in letters, digits, ".", "_" and "-".',
                )
        unknown = sorted(set(entry) - ENTRY) + sorted(set(entry.get("canary") or {}) - CANARY)
        if unknown:
            raise refuse(
                f"The entry of {name} has keys that nobody reads: {', '.join(unknown)}.",
                "MODELS_INVALID",
                f"An entry takes: {', '.join(sorted(ENTRY))}.",
            )
    names = [name for entry in entries for name in served_names(entry)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise refuse(
            f"Named more than once: {', '.join(twice)}.",
            "MODELS_DUPLICATE",
            "A request names its model or adapter, so every name may be there once. For more servers of one model raise"
            " its replicas; for two versions of it use canary.",
        )


def served_names(entry: Mapping[str, Any]) -> list[str]:
    """What requests may ask this entry for: the model, then its adapters."""
    return [str(entry["name"]), *(str(adapter["name"]) for adapter in entry.get("adapters") or [])]


def server_of(entry: Mapping[str, Any], settings: Mapping[str, Any], *, first: bool, canary: bool = False) -> Json:
    """One model server with the names of everything that belongs to it."""
    name, slug = str(entry["name"]), str(entry.get("slug") or slug_of(str(entry["name"])))
    label = str(entry.get("slug") or label_of(name))
    if canary:
        slug, label = f"{slug}-canary", f"{label[: LABEL_LENGTH - 7]}-canary"
    suffix = slug if canary or not first else ""
    release = str(settings["release"])
    shared = dict(settings["gpu"])
    gpu = {**shared, **(entry.get("gpu") or {})}
    own_pool = gpu.get("pool") != shared.get("pool")
    if own_pool:  # bounds of the shared pool say nothing about another
        gpu = {**gpu, **{key: (entry["gpu"] or {}).get(key) for key in BOUNDS}}
    values = {key: entry.get(key) if entry.get(key) is not None else settings[key] for key in SETTINGS}
    return {
        **values,
        "name": name,
        "model": str(entry.get("model") or name),
        "slug": slug,
        "label": label,
        "first": first,
        "canary": canary,
        "pool": release_name("gaie", release, suffix),
        "picker_release": release_name("gaie", release, suffix),
        "server_release": release_name("ms", release, suffix),
        "replicas": int(values["replicas"] or 0),
        "args": [str(word) for word in entry.get("args") or []] + adapter_arguments(entry),
        "env": list(entry.get("env") or []),
        "adapters": [dict(adapter) for adapter in entry.get("adapters") or []],
        "values": dict(entry.get("values") or {}),
        "autoscaling": dict(entry.get("autoscaling") or {}),
        "gpu": {key: gpu.get(key) for key in GPU},
        "own_pool": own_pool,
        "gpus": int(entry.get("gpus") or gpu.get("count") or 1),
    }


def adapter_arguments(entry: Mapping[str, Any]) -> list[str]:
    """vLLM's arguments for LoRA adapters."""
    adapters = entry.get("adapters") or []
    for adapter in adapters:
        if not MODEL_NAME.fullmatch(str(adapter.get("name") or "")) or not adapter.get("path"):
            raise refuse(
                f"An adapter of {entry['name']} has no name or no path.",
                "MODELS_INVALID",
                "adapters: [{name: NAME, path: OWNER/REPOSITORY or a folder in the container}].",
            )
    if not adapters:
        return []
    return ["--enable-lora", "--lora-modules", *(f"{a['name']}={a['path']}" for a in adapters)]


def laid_out(server: Json, workload: str, settings: Mapping[str, Any]) -> Json:
    """The server with what its workload adds, and how many pods it makes. Raises ConfigurationError."""
    if workload != "deployment" and (server["autoscaling"] or settings.get("autoscaling")):
        raise ConfigurationError(
            "The number of servers is fixed where they work together.",
            code="AUTOSCALING_INVALID",
            where="llmd_autoscaling",
            remedy="Use it with pattern1, pattern2 or pattern3, or leave it out.",
        )
    if workload == "multinode":
        group = {**MULTINODE, **(settings.get("multinode") or {})}
        if int(group["size"]) < 2:
            raise ConfigurationError(
                f"A group of {group['size']} nodes is no group.",
                code="GROUP_INVALID",
                where="llmd_multinode",
                remedy="Set llmd_multinode.size to 2 or more; a model that fits one node is for pattern1 or pattern3.",
            )
        return {**server, "group": group, "pods": server["replicas"] * int(group["size"])}
    if workload == "disaggregated":
        apart = {**DISAGGREGATION, **(settings.get("disaggregation") or {})}
        if int(apart["prefill"]) < 1 or apart["transport"] not in TRANSPORTS or int(apart["threshold"]) < 0:
            raise ConfigurationError(
                f"Prefill cannot be set apart with {apart}.",
                code="DISAGGREGATION_INVALID",
                where="llmd_disaggregation",
                remedy="prefill: 1 or more; threshold: tokens, 0 or more; transport: tcp or rdma.",
            )
        return {**server, "apart": apart, "pods": server["replicas"] + int(apart["prefill"])}
    bounds = autoscaled(server, settings)
    if not bounds:
        return {**server, "pods": server["replicas"]}
    start = min(max(server["replicas"], bounds["min"]), bounds["max"])
    return {**server, "autoscaling": bounds, "replicas": start, "pods": start, "pods_most": bounds["max"]}


def autoscaled(server: Json, settings: Mapping[str, Any]) -> Json:
    """What the number of replicas follows, and its bounds; {} where it is fixed. Raises ConfigurationError."""
    wanted = dict(server["autoscaling"] or settings.get("autoscaling") or {})
    if not wanted or server["canary"]:
        return {}
    metric, by = str(wanted.get("metric", "queue")), str(wanted.get("by", "hpa"))
    target = wanted.get("target") or AUTOSCALING.get(metric)
    least, most = int(wanted.get("min", 1)), int(wanted.get("max") or 0)
    unknown = set(wanted) - {"min", "max", "metric", "target", "by", "prometheus", "stabilization"}
    if metric not in AUTOSCALING or by not in AUTOSCALERS or not target or not 1 <= least <= most or unknown:
        raise ConfigurationError(
            f"The number of servers of {server['name']} cannot follow {wanted}.",
            code="AUTOSCALING_INVALID",
            where="llmd_autoscaling",
            why="With no server left nothing would tell that one is wanted: the least is 1." if least < 1 else "",
            remedy="min: 1 or more; max: min or more; metric: queue, kv_cache or running (that one with a target); by:"
            " hpa or keda; prometheus: address, for keda; stabilization: seconds. To pay for no GPU, pause.",
        )
    return {
        "min": least,
        "max": most,
        "metric": metric,
        "target": float(target),
        "by": by,
        "prometheus": str(wanted.get("prometheus") or ""),
        "stabilization": int(wanted.get("stabilization", 300)),
    }


def nodes_needed(servers: Sequence[Mapping[str, Any]], *, most: bool = False) -> int:
    """GPU nodes that one pool's servers take: a pod's GPUs are on one node. most: when all are scaled out."""
    nodes = 0
    for each in sorted({int(server["gpus"]) for server in servers}):
        mine = [server for server in servers if int(server["gpus"]) == each]
        pods = sum(int(server.get("pods_most", server["pods"]) if most else server["pods"]) for server in mine)
        fits = int(servers[0]["gpu"]["count"] or 1) // each
        if fits < 1:
            raise refuse(
                f"A pod of {', '.join(str(server['name']) for server in mine)} wants {each} GPUs, a"
                f" node of {servers[0]['gpu']['machine_type']} has {servers[0]['gpu']['count'] or 1}.",
                "GPUS_EXCEED_NODE",
                "Lower gpus of that entry, or take a machine with more (llmd_gpu.machine_type and llmd_gpu.count).",
            )
        nodes += math.ceil(pods / fits)
    return nodes


def gpu_pools(servers: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Node pools with GPUs, as gke_cluster takes them: as many nodes as the servers need, unless llmd_gpu says more."""
    pools = []
    for name in dict.fromkeys(str(server["gpu"].get("pool") or "gpu-pool") for server in servers):
        mine = [server for server in servers if str(server["gpu"].get("pool") or "gpu-pool") == name]
        gpu = mine[0]["gpu"]
        zones = list(gpu.get("zones") or [])
        needed = math.ceil(nodes_needed(mine) / max(1, len(zones)))  # a pool's numbers are of each zone
        most = math.ceil(nodes_needed(mine, most=True) / max(1, len(zones)))
        count = needed if gpu.get("nodes") is None else int(gpu["nodes"])
        policy = {"location_policy": gpu["location_policy"]} if gpu.get("location_policy") else {}
        pools.append(
            {
                "name": name,
                "machine_type": gpu["machine_type"],
                "node_count": count,
                "accelerator": {
                    "type": gpu["type"],
                    "count": int(gpu.get("count") or 1),
                    "driver_version": gpu.get("driver") or "default",
                },
                "autoscaling": {
                    "min": int(gpu.get("min") or 0),
                    "max": max(int(gpu.get("max") or 0), most, count, 1),
                    **policy,
                },
                "spot": bool(gpu.get("spot")),
                "fallbacks": list(gpu.get("fallbacks") or []),
                **({"locations": zones} if zones else {}),
                **{key: gpu[key] for key in POOL if gpu.get(key) is not None},
            }
        )
    return pools


def rules_of(entries: Sequence[Mapping[str, Any]], servers: Sequence[Mapping[str, Any]]) -> list[Json]:
    """One rule for each model: the names it answers to, and its pools by weight."""
    rules = []
    for entry in entries:
        mine = [server for server in servers if server["name"] == str(entry["name"])]
        share = int((entry.get("canary") or {}).get("weight", 0))
        weights = [share if server["canary"] else 100 - share for server in mine] if len(mine) > 1 else [1]
        backends = [{"pool": s["pool"], "weight": weight} for s, weight in zip(mine, weights, strict=True)]
        rules.append({"names": served_names(entry), "backends": backends})
    return rules


def releases_of(pattern: Mapping[str, Any], servers: Sequence[Mapping[str, Any]], release: str) -> list[Json]:
    """Releases with the kind of their chart and what they need, in the order of the needs."""
    infra = f"infra-{release}"
    found: list[Json] = [{"name": infra, "kind": "infra", "needs": [], "server": None}]
    if "bbr" in pattern["charts"]:
        found.append({"name": f"bbr-{release}", "kind": "bbr", "needs": [infra], "server": None})
    for server in servers:
        found.append({"name": server["picker_release"], "kind": "gaie", "needs": [infra], "server": server})
        found.append({"name": server["server_release"], "kind": "ms", "needs": [infra], "server": server})
    return found


def check_profile(pattern: Mapping[str, Any], profile: Mapping[str, Any]) -> None:
    """Whether this set of versions has what the pattern is made of. Raises ConfigurationError."""
    charts = [kind for kind in pattern["charts"] if kind not in profile["charts"]]
    if profile["layout"] == "helmfile" and charts:
        raise ConfigurationError(
            f"Profile {profile['name']} does not have {pattern['name']}: it names no chart for {', '.join(charts)}.",
            code="PATTERN_NOT_IN_PROFILE",
            where="llmd_pattern",
            remedy="Set llmd_profile to one that has it (llm-d-0.4, llm-d-0.6), or use another pattern.",
        )


def check_precise(pattern: Mapping[str, Any], profile: Mapping[str, Any]) -> None:
    """Whether these servers can tell the picker what they have cached. Raises ConfigurationError."""
    if "precise" in profile["picker"] and pattern["workload"] == "deployment":
        return
    raise ConfigurationError(
        f"Precise prefix routing is not to be had with {pattern['name']} and profile {profile['name']}.",
        code="PATTERN_NOT_IN_PROFILE",
        where="llmd_precise_prefix",
        remedy="Use it with llm-d-0.6 and pattern1, pattern2 or pattern3, or set llmd_precise_prefix: false.",
    )


def make_plan(
    pattern: Mapping[str, Any],
    profile: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> Json:
    """The whole plan. settings: release, model, gpu, and the defaults of an entry. Raises ConfigurationError."""
    check_profile(pattern, profile)
    precise = bool(settings.get("precise"))
    if precise:
        check_precise(pattern, profile)
    entries = chosen_models(pattern, models, str(settings["model"]))
    check_entries(entries)
    servers = []
    for entry in entries:
        servers.append(server_of(entry, settings, first=entry is entries[0]))
        if entry.get("canary"):
            other = {**entry, "adapters": [], **entry["canary"]}
            servers.append(server_of(other, settings, first=False, canary=True))
    servers = [laid_out(server, str(pattern["workload"]), settings) for server in servers]
    clashing = [s["slug"] for s in servers]
    twice = sorted({slug for slug in clashing if clashing.count(slug) > 1})
    if twice:
        raise refuse(
            f"Models whose names end alike would share their objects: {', '.join(twice)}.",
            "MODELS_DUPLICATE",
            "Give each of them a slug of its own in llmd_models.",
        )
    release = str(settings["release"])
    return {
        "pattern": pattern["name"],
        "title": pattern["title"],
        "workload": pattern["workload"],
        "router": pattern["router"],
        "precise": precise,
        "proofs": list(pattern["proofs"]),
        "release": release,
        "servers": servers,
        "rules": rules_of(entries, servers),
        "releases": releases_of(pattern, servers, release),
        "gpu_pools": gpu_pools(servers),
    }
