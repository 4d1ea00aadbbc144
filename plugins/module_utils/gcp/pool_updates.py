# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an existing node pool differs from what is wanted: the fewest calls, or a refusal with what it would take."""

from __future__ import annotations

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import node_pools
from ansible_collections.llmd.gke.plugins.module_utils.gcp.node_pools import METHOD, Change, Pool
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import Json


def _immutable(pool: Pool, seen: Json) -> list[str]:
    """What differs and can only be had by a new pool."""
    wrong = []
    if pool.accelerator is not None:
        have = seen["accelerator"] or {"type": "none", "count": 0}
        if (have["type"], have["count"]) != (pool.accelerator.type, pool.accelerator.count):
            wrong.append(
                f"accelerator is {have['count']} x {have['type']}, "
                f"not {pool.accelerator.count} x {pool.accelerator.type}"
            )
    if pool.spot is not None and pool.spot != seen["spot"]:
        wrong.append(f"spot is {seen['spot']}, not {pool.spot}")
    if pool.service_account and pool.service_account != seen["service_account"]:
        wrong.append(f"service_account is {seen['service_account']}, not {pool.service_account}")
    if pool.reservation is not None:
        have = seen["reservation"] or {"affinity": "any", "name": ""}  # Google's default: any that fits
        if (have["affinity"], have["name"]) != pool.reservation:
            wrong.append(f"reservation is {have['affinity']} {have['name']}, not {' '.join(pool.reservation)}".rstrip())
    return wrong + pool.fabric.differences(seen)


def changes(pool: Pool, found: Json) -> list[Change]:
    """The calls that a pool needs, fewest, in order; empty where it is as wanted.

    Raises ConfigurationError NODE_POOL_IMMUTABLE for what GKE cannot change in place. Machine type and disk can be
    changed: GKE replaces the nodes one after the other.
    """
    seen = node_pools.view(found)
    wrong = _immutable(pool, seen)
    if wrong:
        raise ConfigurationError(
            f"Node pool {pool.name} differs in what GKE cannot change in place",
            code="NODE_POOL_IMMUTABLE",
            where=str(found.get("selfLink", pool.name)),
            why="; ".join(wrong),
            remedy="Give the wanted pool another name and delete this one (gke_node_pool with state: absent), "
            "or ask for what is there.",
        )
    result = []
    wanted_scaling = {"min": pool.autoscaling[0], "max": pool.autoscaling[1]} if pool.autoscaling else None
    policy = pool.location_policy or seen["location_policy"]  # the call replaces the whole setting
    moved = bool(pool.autoscaling) and policy != seen["location_policy"]
    if (pool.autoscaling or pool.autoscaling_off) and (wanted_scaling != seen["autoscaling"] or moved):
        body = {"autoscaling": node_pools.autoscaling_body(pool.autoscaling, policy)}
        result.append(
            Change(
                "autoscaling",
                METHOD + "setAutoscaling",
                "POST",
                ":setAutoscaling",
                body,
                {"autoscaling": wanted_scaling, "location_policy": policy if wanted_scaling else ""},
            )
        )
    return result + _update_changes(pool, seen)


def _update_changes(pool: Pool, seen: Json) -> list[Change]:
    """nodePools.update calls: metadata in one call without new nodes, machine shape in one that replaces nodes."""
    result = []
    body: Json = {}
    after: Json = {}
    labels = {**seen["labels"], **(pool.labels or {})}  # GKE and others may have put theirs there: those stay
    if labels != seen["labels"]:
        body["labels"] = {"labels": labels}
        after["labels"] = labels
    wanted_taints = None if pool.taints is None else [{"key": k, "value": v, "effect": e} for k, v, e in pool.taints]
    if wanted_taints is not None and wanted_taints != seen["taints"]:
        body["taints"] = {"taints": node_pools.taints_body(pool.taints or ())}
        after["taints"] = wanted_taints
    if body:
        result.append(Change(" and ".join(after), METHOD + "update", "PUT", "", body, after))
    if pool.accelerator is not None and seen["accelerator"]["driver_version"] not in (
        "",
        pool.accelerator.driver_version,
    ):
        accelerator = {**seen["accelerator"], "driver_version": pool.accelerator.driver_version}
        result.append(
            Change(
                "GPU driver",
                METHOD + "update",
                "PUT",
                "",
                {"accelerators": node_pools.accelerators_body(pool.accelerator)},
                {"accelerator": accelerator},
            )
        )
    if pool.upgrade is not None:
        wanted_upgrade = {"max_surge": pool.upgrade[0], "max_unavailable": pool.upgrade[1]}
        if wanted_upgrade != seen["upgrade_settings"]:
            settings = {"upgradeSettings": node_pools.upgrade_body(pool.upgrade)}
            after = {"upgrade_settings": wanted_upgrade}
            result.append(Change("upgrade settings", METHOD + "update", "PUT", "", settings, after))
    if pool.locations and list(pool.locations) != seen["locations"]:
        zones = list(pool.locations)
        result.append(Change("zones", METHOD + "update", "PUT", "", {"locations": zones}, {"locations": zones}))
    return result + _shape_changes(pool, seen)


def _shape_changes(pool: Pool, seen: Json) -> list[Change]:
    """Machine type and disk, in one call, because the nodes are replaced for them."""
    result = []
    shape: Json = {}
    shape_after: Json = {}
    for key, name, value in (
        ("machineType", "machine_type", pool.machine_type),
        ("diskType", "disk_type", pool.disk_type),
        ("diskSizeGb", "disk_size_gb", pool.disk_size_gb),
    ):
        if value and value != seen[name]:
            shape[key] = str(value)
            shape_after[name] = value
    if shape:
        what = f"{' and '.join(shape_after)} (nodes are replaced)"
        result.append(Change(what, METHOD + "update", "PUT", "", shape, shape_after))
    return result


def size_change(size: int) -> Change:
    return Change(f"size {size}", METHOD + "setSize", "POST", ":setSize", {"nodeCount": size}, {"size": size})
