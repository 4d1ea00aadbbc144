# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A regional static address for a Gateway: found, adopted, made, labelled, deleted if it is ours and free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.llmd.gke.plugins.module_utils.errors import ConfigurationError, GoogleApiError, OperationError
from ansible_collections.llmd.gke.plugins.module_utils.gcp import operations, ownership
from ansible_collections.llmd.gke.plugins.module_utils.gcp.session import GoogleSession, Json, segment
from ansible_collections.llmd.gke.plugins.module_utils.waiting import report_progress

IN_USE_INTERVAL = 5.0
# an internal address that several forwarding rules may have: a Gateway makes one for every port
GATEWAY_PURPOSE = "SHARED_LOADBALANCER_VIP"


@dataclass(frozen=True)
class Address:
    """A wanted address. ``type`` is external or internal; the latter needs ``subnetwork``. ``timeout`` in seconds."""

    name: str
    region: str
    type: str = "external"
    address: str = ""
    subnetwork: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    deployment: str = ""
    force: bool = False
    timeout: float = 300.0

    @property
    def collection(self) -> str:
        return f"regions/{segment(self.region)}/addresses"

    def path(self, project: str) -> str:
        return f"projects/{segment(project)}/{self.collection}"


@dataclass
class Outcome:
    """What was found or done. ``kept`` says why something was not deleted."""

    changed: bool
    before: Json | None
    after: Json | None
    adopted: bool = False
    kept: str = ""
    warnings: list[str] = field(default_factory=list)


def view(found: Json | None) -> Json | None:
    """An address in the words of our options."""
    if found is None:
        return None
    return {
        "name": found.get("name"),
        "region": _short(found.get("region")),
        "address": found.get("address", ""),
        "type": str(found.get("addressType") or "EXTERNAL").lower(),
        "subnetwork": _short(found.get("subnetwork")),
        "status": found.get("status", ""),
        "labels": dict(found.get("labels") or {}),
        "users": sorted(_short(user) for user in found.get("users") or []),
        "self_link": found.get("selfLink", ""),
    }


def _short(url: object) -> str:
    return str(url or "").rsplit("/", 1)[-1]


def request_body(want: Address, project: str) -> Json:
    """Body of compute.addresses.insert."""
    body: Json = {
        "name": want.name,
        "description": ownership.description("Address of an llm-d gateway", want.deployment),
        "addressType": want.type.upper(),
        "labels": ownership.labels(want.deployment, want.labels),
    }
    if want.type == "internal":
        body["purpose"] = GATEWAY_PURPOSE
    if want.address:
        body["address"] = want.address
    if want.subnetwork:
        name = want.subnetwork
        body["subnetwork"] = name if "/" in name else f"projects/{project}/regions/{want.region}/subnetworks/{name}"
    return body


def _get(session: GoogleSession, want: Address) -> Json | None:
    try:
        return session.call("compute.addresses.get", "GET", f"{want.path(session.project)}/{segment(want.name)}")
    except GoogleApiError as error:
        if error.code in ("NOT_FOUND", "API_DISABLED") and error.status in (403, 404):
            return None
        raise


def _owned(found: Json, deployment: str) -> bool:
    """By label, or by description where another tool has taken the labels away."""
    labelled = ownership.owned(found.get("labels"), deployment)
    return labelled or ownership.owned_by_description(str(found.get("description", "")), deployment)


def ensure_present(session: GoogleSession, want: Address, *, check_mode: bool) -> Outcome:
    """Find, adopt or make the address. Raises ConfigurationError ADDRESS_IMMUTABLE, GoogleApiError, OperationError."""
    if want.subnetwork and want.type != "internal":
        raise ConfigurationError(
            f"Address {want.name}: only an internal address lies in a subnet",
            code="ADDRESS_INVALID",
            remedy="Leave out subnetwork, or set type: internal.",
        )
    found = _get(session, want)
    if found is None:
        return _create(session, want, check_mode=check_mode)
    _refuse_immutable(want, found)
    before = view(found) or {}
    ours = _owned(found, want.deployment)
    labels = {**before["labels"], **ownership.labels(want.deployment, want.labels)} if ours else before["labels"]
    if labels == before["labels"]:
        return Outcome(False, before, before, adopted=not ours)
    after = {**before, "labels": labels}
    if not check_mode:
        body = {"labels": labels, "labelFingerprint": found.get("labelFingerprint", "")}
        path = f"{want.path(session.project)}/{segment(want.name)}/setLabels"
        operation = session.call("compute.addresses.setLabels", "POST", path, body=body)
        operations.wait(session, operation, what=f"Labels of address {want.name}", timeout=want.timeout)
        after = view(_get(session, want)) or after
    return Outcome(True, before, after)


def _refuse_immutable(want: Address, found: Json) -> None:
    seen = view(found) or {}
    wrong = [
        f"{name} is {seen[name] or 'none'}, not {value}"
        for name, value in (("type", want.type), ("address", want.address), ("subnetwork", _short(want.subnetwork)))
        if value and seen[name] != value
    ]
    if wrong:
        raise ConfigurationError(
            f"Address {want.name} exists and differs in what Google cannot change",
            code="ADDRESS_IMMUTABLE",
            where=str(found.get("selfLink", "")),
            why="; ".join(wrong),
            remedy="Ask for what is there, take another name, or delete it first (gcp_address with state: absent).",
        )


def _create(session: GoogleSession, want: Address, *, check_mode: bool) -> Outcome:
    body = request_body(want, session.project)
    if check_mode:
        return Outcome(True, None, view({**body, "region": want.region, "status": "RESERVED"}))
    target = f"{want.collection}/{want.name}"
    under_way = operations.compute_under_way(session, session.project, f"regions/{segment(want.region)}", target)
    try:
        operation = under_way or session.call("compute.addresses.insert", "POST", want.path(session.project), body=body)
        operations.wait(session, operation, what=f"Reservation of address {want.name}", timeout=want.timeout)
    except (GoogleApiError, OperationError) as error:
        if error.code != "ALREADY_EXISTS" and "ALREADY_EXISTS" not in str(error.evidence):
            raise  # otherwise another run was quicker: that one is used
    made = _get(session, want) or {}
    _refuse_immutable(want, made)
    return Outcome(under_way is None, None if under_way is None else view(made), view(made))


def ensure_absent(session: GoogleSession, want: Address, *, check_mode: bool) -> Outcome:
    """Release the address if we made it (or ``force``); what still uses it is waited for until the timeout."""
    found = _get(session, want)
    if found is None:
        return Outcome(False, None, None)
    seen = view(found)
    if not want.force and not _owned(found, want.deployment):
        mark = ownership.MARKER
        reason = f"Address {want.name} is kept: its labels do not say that this deployment made it ({mark})."
        return Outcome(False, seen, seen, adopted=True, kept=reason, warnings=[reason])
    if not check_mode:
        _delete(session, want)
    return Outcome(True, seen, None)


def _delete(session: GoogleSession, want: Address) -> None:
    started = session.clock.now()
    path = f"{want.path(session.project)}/{segment(want.name)}"
    while True:
        try:
            operation = session.call("compute.addresses.delete", "DELETE", path)
            operations.wait(session, operation, what=f"Release of address {want.name}", timeout=want.timeout)
            return
        except (GoogleApiError, OperationError) as error:
            if error.code == "NOT_FOUND":
                return
            waited = session.clock.now() - started
            if error.code != "RESOURCE_IN_USE" or waited + IN_USE_INTERVAL > want.timeout:
                raise
            report_progress(f"Address {want.name} is still in use ({waited:.0f} s): {error.why}")
            session.clock.sleep(IN_USE_INTERVAL)
