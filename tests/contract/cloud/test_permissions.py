"""Every permission of the custom role, left out one at a time: the preflight names it, before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.llmd.gke.plugins.module_utils.gcp import iam
from ansible_collections.llmd.gke.plugins.module_utils.gcp.permissions import NEEDED

REPOSITORY = Path(__file__).resolve().parents[3]
ROLE = yaml.safe_load((REPOSITORY / "docs/iam-role.yaml").read_text(encoding="utf-8"))
MEMBER = "serviceAccount:llmd-operator@llmd-sandbox.iam.gserviceaccount.com"
# Without these two the project cannot be seen at all, which has a code of its own.
OWN_CODES = {"resourcemanager.projects.get": "PROJECT_NOT_FOUND"}
LOOK = {"require_helm": False, "hf_token": "", "services": [], "fail_on": "never"}
Module = Callable[..., dict[str, Any]]


def grant(emulated: Any, permissions: list[str]) -> None:
    """Leave the caller nothing but a custom role with these."""
    bindings = [{"role": "projects/llmd-sandbox/roles/llmdGke", "members": [MEMBER]}]
    emulated.control("seed", {"roles": {"llmdGke": permissions}, "policy": {"bindings": bindings}})


def findings(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (one["code"], one["severity"], one["name"])
        for one in result["checks"]
        if one["severity"] in ("error", "warning")
    ]


def test_the_role_is_what_the_preflight_asks_for() -> None:
    assert ROLE["includedPermissions"] == sorted({*iam.needed_permissions(), *iam.later_permissions()})
    assert set(ROLE["includedPermissions"]) <= set(NEEDED)
    assert set(NEEDED) - set(ROLE["includedPermissions"]) == {
        *iam.needed_permissions("nodes", [iam.ADDRESS, iam.POLICIES, iam.AUTOSCALING])
    } - set(ROLE["includedPermissions"])


def test_each_one_left_out_is_named(emulated: Any, module: Module, figure: Callable[[str], None]) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    everything = list(ROLE["includedPermissions"])
    grant(emulated, everything)
    base = findings(module("gcp_preflight", **LOOK))
    assert not any(code == "PERMISSION_MISSING" for code, _severity, _name in base), base
    table, wrong = [], []
    for permission in everything:
        grant(emulated, [one for one in everything if one != permission])
        found = set(findings(module("gcp_preflight", **LOOK))) - set(base)
        severity = "error" if permission in iam.needed_permissions() else "warning"
        code = OWN_CODES.get(permission, "PERMISSION_MISSING")
        table.append(f"{permission:<48} {severity:<8} {', '.join(sorted(one[0] for one in found))}")
        named = ("PERMISSION_MISSING", severity, f"permission {permission}") in found
        if not named and code not in {one[0] for one in found}:
            wrong.append(f"{permission}: {found}")
    print("\n".join(table))
    assert wrong == []
    errors = sum(" error " in line for line in table)
    figure(f"{len(table)} permissions left out one at a time, {len(table) - len(wrong)} named ({errors} stop the run)")


def test_who_lacks_many_is_told_by_role(emulated: Any, module: Module) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    grant(emulated, ["resourcemanager.projects.get", "compute.networks.get", "compute.subnetworks.list"])
    found = module("gcp_preflight", **{**LOOK, "fail_on": "error"})
    assert found["failed"]
    missing = [one for one in found["checks"] if one["code"] == "PERMISSION_MISSING" and one["severity"] == "error"]
    assert {one["name"] for one in missing} >= {"permissions of roles/container.admin"}
    assert len(missing) < 10
    shown = " ".join(one["detail"] for one in missing)
    held = {"resourcemanager.projects.get", "compute.networks.get", "compute.subnetworks.list"}
    assert all(name in shown for name in set(iam.needed_permissions()) - held)


@pytest.mark.parametrize(
    ("options", "permission"),
    [
        ({"service_account": "d-nodes"}, "iam.serviceAccounts.create"),
        ({"permission_options": [iam.ADDRESS]}, "compute.addresses.create"),
        ({"permission_options": [iam.POLICIES]}, "container.networkPolicies.create"),
        ({"permission_options": [iam.AUTOSCALING]}, "container.horizontalPodAutoscalers.create"),
    ],
)
def test_what_an_option_asks_for_is_named_where_it_is_used(
    emulated: Any, module: Module, options: dict[str, Any], permission: str
) -> None:
    emulated.control("services", {"enable": ["compute.googleapis.com", "container.googleapis.com"]})
    grant(emulated, list(ROLE["includedPermissions"]))
    assert permission not in module("gcp_preflight", **LOOK)["msg"]
    names = " ".join(f"{one['name']} {one['detail']}" for one in module("gcp_preflight", **LOOK, **options)["checks"])
    assert permission in names
