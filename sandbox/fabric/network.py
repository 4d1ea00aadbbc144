"""Namespaces, the bridge ``vpc``, addresses and routes of one sandbox, by iproute2.

Every function says what shall be true and may be called again after any interruption. Links are created straight
inside namespaces, so that not even for a moment does one of them exist in the machine's own network.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sandbox import paths as layout
from sandbox.paths import Paths
from sandbox.processes import in_namespace

BRIDGE = "vpc"
NETNS_FOLDER = Path("/run/netns")  # where iproute2 pins named namespaces
_ROLE = re.compile(r"fabric|cp\d{1,3}|n\d{1,3}-\d{1,4}")


class FabricError(RuntimeError):
    """A network command failed; the text holds the command and what it said."""


def create(paths: Paths) -> None:
    """Make the fabric namespace: bridge with the VPC's gateway address, service addresses on lo, forwarding on."""
    _require_tools()
    _ensure_namespace(paths.fabric)
    if not _link_exists(paths.fabric, BRIDGE):
        _ip("-n", paths.fabric, "link", "add", BRIDGE, "type", "bridge")
    prefix = ipaddress.ip_network(layout.VPC_SUBNET).prefixlen
    _batch(
        paths.fabric,
        [
            "link set lo up",
            f"addr replace {layout.API_ADDRESS}/32 dev lo",
            f"addr replace {layout.HUB_ADDRESS}/32 dev lo",
            f"link set {BRIDGE} address {mac_address(layout.VPC_GATEWAY)}",
            f"addr replace {layout.VPC_GATEWAY}/{prefix} dev {BRIDGE}",
            f"link set {BRIDGE} up",
        ],
    )
    _forwarding_on(paths.fabric)


def destroy(paths: Paths) -> None:
    """Remove every namespace of this sandbox. Ends no process: one that still runs keeps its (nameless) namespace."""
    for name in namespaces(paths):
        _delete_namespace(name)


def namespaces(paths: Paths) -> list[str]:
    """Names of this sandbox's existing namespaces; other programs' and other sandboxes' never match."""
    if not NETNS_FOLDER.is_dir():
        return []
    return owned_names(paths.name, [entry.name for entry in NETNS_FOLDER.iterdir()])


def owned_names(sandbox: str, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that belong to the sandbox of that name, sorted."""
    prefix = f"{sandbox}-"
    return sorted(name for name in names if name.startswith(prefix) and _ROLE.fullmatch(name[len(prefix) :]))


def attach(paths: Paths, role: str, *, address: str, gateway: str, fabric_address: str | None = None) -> str:
    """Make the namespace ``role`` and connect its eth0 to the fabric; the namespace's name.

    ``address`` and ``fabric_address`` are with prefix length (``10.128.0.10/20``). Without ``fabric_address`` the
    other end is a port of the VPC bridge, with it the other end carries that address (a routed link of its own).
    Whatever was attached under that role before is replaced.
    """
    namespace = paths.namespace(role)
    detach(paths, role)
    _ensure_namespace(namespace)
    mac = mac_address(address.partition("/")[0])
    outer = [f"link add {role} type veth peer name eth0 address {mac} netns {namespace}"]
    if fabric_address is None:
        outer.append(f"link set {role} master {BRIDGE}")
    else:
        outer.append(f"addr add {fabric_address} dev {role}")
    outer.append(f"link set {role} up")
    _batch(paths.fabric, outer)
    _batch(
        namespace,
        ["link set lo up", f"addr add {address} dev eth0", "link set eth0 up", f"route add default via {gateway}"],
    )
    _forwarding_on(namespace)
    return namespace


def detach(paths: Paths, role: str) -> None:
    """Remove the namespace ``role`` and its link, if there."""
    if (NETNS_FOLDER / paths.fabric).exists() and _link_exists(paths.fabric, role):
        _ip("-n", paths.fabric, "link", "delete", role, tolerate="Cannot find device")
    _delete_namespace(paths.namespace(role))


def add_route(paths: Paths, destination: str, via: str) -> None:
    """Route ``destination`` (CIDR) to ``via`` in the fabric; replaces an older route to it."""
    _ip("-n", paths.fabric, "route", "replace", destination, "via", via)


def remove_route(paths: Paths, destination: str) -> None:
    """Remove the fabric's route to ``destination``, if there."""
    if (NETNS_FOLDER / paths.fabric).exists():
        _ip("-n", paths.fabric, "route", "delete", destination, tolerate="No such process")


def add_address(paths: Paths, address: str) -> None:
    """Let the fabric answer on ``address`` (one IPv4 address, for example a load balancer's)."""
    _ip("-n", paths.fabric, "addr", "replace", f"{ipaddress.IPv4Address(address)}/32", "dev", "lo")


def remove_address(paths: Paths, address: str) -> None:
    """The opposite of ``add_address``; an absent address is no error."""
    cidr = f"{ipaddress.IPv4Address(address)}/32"
    if (NETNS_FOLDER / paths.fabric).exists():
        # "Cannot assign" in older, "Address not found" in newer iproute2.
        _ip("-n", paths.fabric, "addr", "delete", cidr, "dev", "lo", tolerate="Cannot assign|not found")


def mac_address(address: str) -> str:
    """Compute Engine's way: 42:01 and the IPv4 address. A reused address so keeps its MAC and no ARP entry is stale."""
    return "42:01:" + ":".join(f"{octet:02x}" for octet in ipaddress.IPv4Address(address).packed)


def _require_tools() -> None:
    missing = [tool for tool in ("ip", "nsenter", "sh") if shutil.which(tool) is None]
    if missing:
        raise FabricError(f"missing programs: {', '.join(missing)} (Debian packages iproute2, util-linux)")


def _ensure_namespace(name: str) -> None:
    file = NETNS_FOLDER / name
    if file.exists() and not _is_namespace(file):
        _delete_namespace(name)  # left by a kill between making the file and pinning the namespace to it
    if not file.exists():
        _ip("netns", "add", name)


def _is_namespace(file: Path) -> bool:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    return any(line.split()[1] == str(file) for line in mounts.splitlines())


def _delete_namespace(name: str) -> None:
    if (NETNS_FOLDER / name).exists():
        _ip("netns", "delete", name, tolerate="No such file")


def _link_exists(namespace: str, link: str) -> bool:
    command = ["ip", "-n", namespace, "link", "show", link]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _forwarding_on(namespace: str) -> None:
    # /proc/sys/net shows the namespace of the process that opens the file, hence nsenter.
    _run(in_namespace(namespace, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))


def _ip(*arguments: str, tolerate: str | None = None) -> None:
    _run(["ip", *arguments], tolerate=tolerate)


def _batch(namespace: str, lines: Sequence[str]) -> None:
    _run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")


def _run(command: Sequence[str], *, stdin: str | None = None, tolerate: str | None = None) -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode == 0 or (tolerate is not None and re.search(tolerate, done.stderr)):
        return
    text = " ".join(command) + (f" <<< {stdin.strip()!r}" if stdin else "")
    raise FabricError(f"{text}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
