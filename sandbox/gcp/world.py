"""The emulated Google Cloud project: everything that has a state, under one lock.

The API handlers, the cluster backend's callers and the Gateway controller all work on this. Whoever changes
something does it inside ``world.mutate()``; when the outermost such block ends, the callbacks given to
``on_change`` run, without the lock.
"""

from __future__ import annotations

import base64
import copy
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sandbox import paths
from sandbox.gcp import catalog, roles
from sandbox.gcp.faults import Faults
from sandbox.gcp.identity import Accounts, Identity, Token
from sandbox.gcp.store import ComputeStore

Json = dict[str, Any]

OPERATOR = "llmd-operator"
EDITOR = "llmd-editor"
EVERYTHING = "*"  # in a role that only /control/seed can make: for finding out what a run needs
PROXY_PURPOSES = ("REGIONAL_MANAGED_PROXY", "INTERNAL_HTTPS_LOAD_BALANCER")
MANAGED_SCHEMES = ("EXTERNAL_MANAGED", "INTERNAL_MANAGED")


class World:
    """One project. ``enabled``: services that are on at the start; ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        project: str = paths.PROJECT_ID,
        number: str = paths.PROJECT_NUMBER,
        *,
        enabled: Iterable[str] = catalog.BASE_SERVICES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.project, self.number, self.clock = project, number, clock
        self.lock = threading.RLock()
        self._depth = 0
        self._callbacks: list[Callable[[], None]] = []
        self._ids = itertools.count(4_815_162_342_108_150_000, 7)
        self.faults = Faults()
        self.accounts = Accounts(clock)
        self.compute = ComputeStore(
            project, number, lock=self.lock, mutate=self.mutate, new_id=self.new_id, clock=clock
        )
        self.clusters: dict[str, Json] = {}  # "<project>/<location>/<name>" -> Cluster as the API gives it
        self.dashboards: dict[str, Json] = {}  # "projects/<number>/dashboards/<id>" -> Dashboard
        self.services: set[str] = set()
        self.secrets: dict[str, list[str]] = {}  # name -> versions (base64), oldest first
        self._enabled_at: dict[str, float] = {}
        self.region_quotas = {region: dict(catalog.REGION_QUOTAS) for region in catalog.REGIONS}
        self.project_quotas = dict(catalog.PROJECT_QUOTAS)
        # (backend service, URL of one of its groups) -> healthStatus entries. The Gateway controller sets it.
        self.group_health: Callable[[Json, str], list[Json]] = lambda service, group: []
        self.group_errors: dict[str, list[Json]] = {}  # scope/name of an instance group -> its recent errors
        self.policy: Json = {"version": 1, "etag": "", "bindings": []}
        self.custom_roles: dict[str, Json] = {}  # "projects/<project>/roles/<id>" -> Role as the API gives it
        # E-mail -> permission -> by what it was needed (method id, or request to a cluster): what the generator of
        # docs/iam-role.yaml reads.
        self.needed: dict[str, dict[str, set[str]]] = {}
        self._seed_accounts()
        self.enable(enabled)

    # --- changes -----------------------------------------------------------------------------------------------

    @contextmanager
    def mutate(self) -> Iterator[None]:
        """Hold the lock for a change. Callbacks run after the outermost block, so they may call anything."""
        self.lock.acquire()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            outermost = self._depth == 0
            self.lock.release()
            if outermost:
                for callback in list(self._callbacks):
                    callback()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after every change, from the thread that made it: it should only set an event."""
        self._callbacks.append(callback)

    def new_id(self) -> str:
        """A numeric id of 19 digits, unique in this world."""
        with self.lock:
            return str(next(self._ids))

    # --- identities --------------------------------------------------------------------------------------------

    def email(self, account: str) -> str:
        return f"{account}@{self.project}.iam.gserviceaccount.com"

    @property
    def default_service_account(self) -> str:
        return f"{self.number}-compute@developer.gserviceaccount.com"

    def _seed_accounts(self) -> None:
        operator = self.accounts.add(self.email(OPERATOR), display_name="Runs the playbooks")
        editor = self.accounts.add(self.email(EDITOR), display_name="Has roles/editor only")
        nodes = self.accounts.add(self.default_service_account, display_name="Compute Engine default service account")
        bindings = [
            {"role": "roles/container.admin", "members": [operator.member]},
            {"role": "roles/editor", "members": sorted([editor.member, nodes.member])},
            {"role": "roles/owner", "members": [operator.member]},
        ]
        self.set_policy({"version": 1, "bindings": bindings})

    def set_policy(self, policy: Json) -> Json:
        """Replace the project's IAM policy; the new one with its new etag."""
        with self.mutate():
            content = copy.deepcopy({key: value for key, value in policy.items() if key != "etag"})
            self.policy = {"version": 1, "bindings": []} | content
            self.policy["etag"] = base64.b64encode(b"\x07\x06" + secrets.token_bytes(6)).decode()
            return copy.deepcopy(self.policy)

    def roles_of(self, email: str) -> frozenset[str]:
        """Roles that the policy binds to a user or service account (conditions are not evaluated).

        A planted fault ``roles`` takes the policy's place.
        """
        planted = self.faults.roles(email)
        if planted is not None:
            return planted
        members = {f"user:{email}", f"serviceAccount:{email}", "allAuthenticatedUsers"}
        with self.lock:
            bindings = self.policy.get("bindings", [])
            return frozenset(binding["role"] for binding in bindings if members & set(binding.get("members", [])))

    def identity_of(self, token: Token) -> Identity:
        account = self.accounts.get(token.email)
        unique = account.unique_id if account else "0"
        return Identity(token.email, self.roles_of(token.email), unique, token.scopes)

    def identity(self, token: str) -> Identity | None:
        """Whom a bearer token stands for, None where it is unknown or expired."""
        found = self.accounts.token(token)
        return None if found is None or self.accounts.expired(found) else self.identity_of(found)

    def allowed(self, identity: Identity, permission: str) -> bool:
        """Whether the caller holds the permission, by a predefined role or by a custom one."""
        if self.faults.missing(permission):
            return False
        own = (self.custom_roles.get(name, {}) for name in identity.roles if not name.startswith("roles/"))
        listed = any(
            not role.get("deleted") and not {permission, EVERYTHING}.isdisjoint(role.get("includedPermissions", []))
            for role in own
        )
        return listed or roles.holds(identity.roles, permission)

    def permits(self, email: str, permission: str, *, asked_by: str) -> bool:
        """The same for a request that needs it, which is noted: held or not."""
        with self.lock:
            self.needed.setdefault(email, {}).setdefault(permission, set()).add(asked_by)
        return self.allowed(Identity(email, self.roles_of(email), ""), permission)

    # --- services ----------------------------------------------------------------------------------------------

    def enable(self, services: Iterable[str]) -> None:
        """Enable services and what they need. Compute brings the ``default`` network, as in a real new project."""
        with self.mutate():
            wanted = set(services)
            for service in list(wanted):
                wanted.update(catalog.SERVICE_NEEDS.get(service, ()))
            fresh = wanted - self.services
            self.services |= wanted
            self._enabled_at.update(dict.fromkeys(fresh, time.monotonic()))
            if "compute.googleapis.com" in fresh and not self.compute.list("networks"):
                self._default_network()

    def disable(self, service: str) -> None:
        with self.mutate():
            self.services.discard(service)

    def service_enabled(self, service: str) -> bool:
        """Whether a service can be used: it is enabled, that has spread, and no planted fault says otherwise."""
        with self.lock:
            if service not in self.services or self.faults.disabled(service):
                return False
            since = time.monotonic() - self._enabled_at.get(service, 0.0)
            return since >= self.faults.propagation(service)

    def _default_network(self) -> None:
        body = {"name": "default", "autoCreateSubnetworks": True, "description": "Default network for the project"}
        link = self.compute.insert("networks", "global", network_defaults(body))["selfLink"]
        self.add_auto_subnets("default")
        rules: list[tuple[str, list[Json], str, str]] = [
            ("icmp", [{"IPProtocol": "icmp"}], "0.0.0.0/0", "Allow ICMP from anywhere"),
            ("internal", [{"IPProtocol": "tcp", "ports": ["0-65535"]}, {"IPProtocol": "udp", "ports": ["0-65535"]},
                          {"IPProtocol": "icmp"}], catalog.AUTO_RANGE, "Allow internal traffic on the default network"),
            ("rdp", [{"IPProtocol": "tcp", "ports": ["3389"]}], "0.0.0.0/0", "Allow RDP from anywhere"),
            ("ssh", [{"IPProtocol": "tcp", "ports": ["22"]}], "0.0.0.0/0", "Allow SSH from anywhere"),
        ]  # fmt: skip
        for name, allowed, source, description in rules:
            rule = {"name": f"default-allow-{name}", "network": link, "description": description, "priority": 65534,
                    "sourceRanges": [source], "allowed": allowed, "direction": "INGRESS", "disabled": False,
                    "logConfig": {"enable": False}}  # fmt: skip
            self.compute.insert("firewalls", "global", rule)

    def add_auto_subnets(self, network: str) -> None:
        """The subnet of every region that an auto-mode network has."""
        link = self.compute.link("networks", "global", network)
        for region, (_, cidr) in catalog.REGIONS.items():
            body = subnet_defaults({"name": network, "ipCidrRange": cidr, "network": link})
            self.compute.insert("subnetworks", f"regions/{region}", body)

    # --- network questions -------------------------------------------------------------------------------------

    def active_proxy_subnet(self, region: str, network: str = "default") -> Json | None:
        """The subnet that the region's Envoy load balancers of a network run in, if there is one.

        None also while the fault ``proxy-subnet-missing`` is planted.
        """
        if self.faults.named("proxy-subnet-missing"):
            return None
        for subnet in self.compute.list("subnetworks", f"regions/{region}"):
            if (
                subnet.get("purpose") in PROXY_PURPOSES
                and subnet.get("role") == "ACTIVE"
                and subnet["network"].rsplit("/", 1)[-1] == network.rsplit("/", 1)[-1]
            ):
                return subnet
        return None

    def subnet_users(self, name: str, region: str) -> list[str]:
        """Paths of what keeps a subnet from being deleted: instances, addresses, clusters, forwarding rules.

        A proxy-only subnet is used by every managed forwarding rule of its network and region.
        """
        scope = f"regions/{region}"
        subnet = self.compute.get("subnetworks", scope, name)
        if subnet is None:
            return []
        found = self.compute.users(subnet["selfLink"])
        if subnet.get("purpose") in PROXY_PURPOSES and subnet.get("role") == "ACTIVE":
            default = self.compute.link("networks", "global", "default")
            for rule in self.compute.list("forwardingRules", scope):
                path = self.compute.path("forwardingRules", scope, rule["name"])
                managed = rule.get("loadBalancingScheme") in MANAGED_SCHEMES
                if managed and rule.get("network", default) == subnet["network"] and path not in found:
                    found.append(path)
        return found

    def snapshot(self) -> Json:
        """Every resource. Two equal snapshots: nothing was left and nothing was lost."""
        with self.lock:
            return {
                "project": self.project,
                "services": sorted(self.services),
                "policy": copy.deepcopy(self.policy["bindings"]),
                "serviceAccounts": [account.email for account in self.accounts.all()],
                "clusters": copy.deepcopy(self.clusters),
                "compute": self.compute.everything(),
                "dashboards": copy.deepcopy(self.dashboards),
            }


def network_defaults(body: Json) -> Json:
    return {
        "autoCreateSubnetworks": False,
        "routingConfig": {"routingMode": "REGIONAL"},
        "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
        **body,
    }


def subnet_defaults(body: Json) -> Json:
    """What the server fills into a subnetwork, ordinary or proxy-only."""
    first = body["ipCidrRange"].partition("/")[0].rsplit(".", 1)
    full: Json = {
        "gatewayAddress": f"{first[0]}.{int(first[1]) + 1}",
        "privateIpGoogleAccess": False,
        "purpose": "PRIVATE",
        "stackType": "IPV4_ONLY",
        **body,
    }
    if full["purpose"] == "PRIVATE":
        full.setdefault("privateIpv6GoogleAccess", "DISABLE_GOOGLE_ACCESS")
        full.setdefault("enableFlowLogs", False)
        full.setdefault("allowSubnetCidrRoutesOverlap", False)
    else:
        full["state"] = "READY"
    return full
