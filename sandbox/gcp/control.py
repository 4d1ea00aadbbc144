"""The sandbox's own interface beside the APIs: what it is doing, faults, speed, services, snapshot, seeds.

Plain JSON over HTTP under ``/control/``, without authentication: it is reachable from inside the sandbox only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.gcp.emulator import Emulator
from sandbox.gcp.faults import BadFault
from sandbox.gcp.world import MANAGED_SCHEMES, PROXY_PURPOSES

Json = dict[str, Any]
Reply = tuple[int, Any]


class Control:
    """Serves ``/control``. ``sources`` adds fields to the status; ``on_speed`` is told of a new speed."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.sources: dict[str, Callable[[], Any]] = {}
        self.on_speed: list[Callable[[float], None]] = []
        self._routes: dict[str, Callable[[str, str, Mapping[str, list[str]], Json], Reply]] = {
            "status": self._status,
            "faults": self._faults,
            "speed": self._speed,
            "services": self._services,
            "snapshot": self._snapshot,
            "seed": self._seed,
            "operations": self._operations,
            "permissions": self._permissions,
        }

    def handle(self, verb: str, path: str, query: Mapping[str, list[str]], body: Any) -> Reply:
        """Answer ``/<route>[/<rest>]``. 400 with ``{"error": text}`` for what makes no sense."""
        route, _, rest = path.strip("/").partition("/")
        handler = self._routes.get(route)
        if handler is None:
            return 404, {"error": f"no such control: {route}; one of {', '.join(sorted(self._routes))}"}
        if body is not None and not isinstance(body, dict):
            return 400, {"error": "a JSON object is wanted"}
        try:
            return handler(verb, rest, query, body or {})
        except (ValueError, TypeError, KeyError) as error:
            return 400, {"error": str(error)}

    def _status(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        emulator, world = self.emulator, self.emulator.world
        with world.lock:
            clusters = {
                key: {
                    "status": cluster["status"],
                    "endpoint": cluster.get("endpoint", ""),
                    "version": cluster.get("currentMasterVersion", ""),
                    "nodePools": {pool["name"]: pool["status"] for pool in cluster["nodePools"]},
                }
                for key, cluster in world.clusters.items()
            }
            services = sorted(world.services)
        running = [
            op for api in ("compute", "container", "serviceusage") for op in emulator.operations.list(api, running=True)
        ]
        status = {
            "ready": True,
            "project": world.project,
            "speed": emulator.timing.speed,
            "uptimeSeconds": round(time.time() - emulator.started, 1),
            "services": services,
            "clusters": clusters,
            "gateways": self._gateways(),
            "operationsRunning": len(running),
            "faults": world.faults.planted(),
            "requests": emulator.requests,
            "schemaViolations": list(emulator.violations),
            "threads": threading.active_count(),
        }
        return 200, status | {name: source() for name, source in self.sources.items()}

    def _gateways(self) -> list[Json]:
        """Load balancers that have an address, by their forwarding rules."""
        return [
            {"name": rule["name"], "address": rule["IPAddress"], "region": rule["region"].rsplit("/", 1)[-1]}
            for rule in self.emulator.world.compute.list("forwardingRules")
            if rule.get("IPAddress") and "region" in rule and rule.get("loadBalancingScheme") in MANAGED_SCHEMES
        ]

    def _faults(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        faults = self.emulator.world.faults
        if verb == "GET":
            return 200, {"faults": faults.planted()}
        if verb == "DELETE":
            which = rest or next((values[-1] for key, values in query.items() if key in ("id", "name")), None)
            return 200, {"cleared": faults.clear(which)}
        if verb != "POST":
            return 405, {"error": f"{verb} /control/faults"}
        try:
            planted = faults.plant(body)
        except BadFault as error:
            return 400, {"error": str(error)}
        if planted.get("name") == "proxy-subnet-missing":
            self._drop_proxy_subnets()
        elif planted.get("name") == "api-disabled":
            self.emulator.world.disable(str(planted["service"]))
        with self.emulator.world.mutate():  # whoever watches must look again
            pass
        return 200, {"planted": planted}

    def _drop_proxy_subnets(self) -> None:
        """As if somebody had deleted the proxy-only subnets behind our back (those that nothing uses)."""
        world = self.emulator.world
        with world.mutate():
            for scope, subnets in world.compute.scoped("subnetworks").items():
                rules = world.compute.list("forwardingRules", scope)
                if any(rule.get("loadBalancingScheme") in MANAGED_SCHEMES for rule in rules):
                    continue
                for subnet in subnets:
                    if subnet.get("purpose") in PROXY_PURPOSES:
                        world.compute.delete("subnetworks", scope, subnet["name"])

    def _speed(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        timing = self.emulator.timing
        if verb != "GET":
            timing.speed = float(body.get("speed", rest))
            self.emulator.operations.wake()
            for told in self.on_speed:
                told(timing.speed)
        return 200, {"speed": timing.speed}

    def _services(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        world = self.emulator.world
        if verb != "GET":
            world.enable(body.get("enable", []))
            for service in body.get("disable", []):
                world.disable(service)
        return 200, {"services": sorted(world.services)}

    def _snapshot(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        return 200, self.emulator.world.snapshot()

    def _operations(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        operations = self.emulator.operations
        found = [op for api in ("compute", "container", "serviceusage") for op in operations.list(api)]
        return 200, {"operations": [operations.snapshot(op) for op in found]}

    def _permissions(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        """Which permissions requests have needed so far, by caller; DELETE forgets them."""
        world = self.emulator.world
        with world.lock:
            found = {
                email: {permission: sorted(askers) for permission, askers in sorted(needed.items())}
                for email, needed in sorted(world.needed.items())
            }
            if verb == "DELETE":
                world.needed.clear()
        return 200, {"needed": found}

    def _seed(self, verb: str, rest: str, query: Mapping[str, list[str]], body: Json) -> Reply:
        """Put things there: resources, endpoints, quotas, roles, policy, accounts, subjectTokens; end tokens."""
        world = self.emulator.world
        with world.mutate():
            for account in body.get("accounts", []):
                world.accounts.add(account["email"], human=bool(account.get("human")))
            for resource in body.get("resources", []):
                world.compute.insert(resource["collection"], resource["scope"], resource["body"])
            for item in body.get("endpoints", []):
                world.compute.set_endpoints(item["scope"], item["name"], item["endpoints"])
            for region, limits in body.get("quotas", {}).items():
                target = world.project_quotas if region == "project" else world.region_quotas[region]
                target.update({metric: float(limit) for metric, limit in limits.items()})
            for name, permissions in body.get("roles", {}).items():
                world.custom_roles[f"projects/{world.project}/roles/{name}"] = {"includedPermissions": permissions}
            if "policy" in body:
                world.set_policy(body["policy"])
            world.accounts.subject_tokens.update(body.get("subjectTokens", {}))
            if body.get("expireTokens"):
                world.accounts.expire_all()
            tokens = {email: world.accounts.issue(email) for email in body.get("tokens", [])}
        return 200, {"tokens": tokens}
