"""``sandbox status``: what is up, for people and for programs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.cli import forward, network, state
from sandbox.paths import API_ADDRESS, Paths

EXIT_CODES = {state.UP: 0, state.STARTING: 0, state.DEAD: 1, state.DOWN: 3}


@dataclass
class Status:
    """The shape of ``status --json``.

    ``state``: up, starting, dead (its daemon is gone) or down. ``daemon_error``: why the daemon did not answer.
    ``clusters``, ``gateways``, ``faults``: as the daemon tells them. ``processes``: name, count, memory_mb.
    """

    name: str
    state: str
    speed: float | None = None
    api: str = f"http://{API_ADDRESS}/"
    port: int | None = None
    clusters: list[Any] = field(default_factory=list)
    gateways: list[Any] = field(default_factory=list)
    faults: list[Any] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    memory_mb: float = 0.0
    namespaces: list[str] = field(default_factory=list)
    mounts: int = 0
    daemon_error: str = ""
    environment_file: str = ""
    logs: str = ""
    cache: str = ""
    repository: str = ""


def browser_port(paths: Paths) -> int | None:
    """The host's loopback port of the forwarder, where it runs."""
    if not state.alive(paths, state.FORWARD):
        return None
    try:
        port = json.loads(forward.record_file(paths).read_text(encoding="utf-8")).get("port")
    except (OSError, ValueError, AttributeError):
        return None
    return port if isinstance(port, int) else None


def gather(paths: Paths) -> Status:
    """Look at everything. Never raises because the daemon is gone or silent."""
    found = Status(
        name=paths.name,
        state=state.condition(paths),
        environment_file=str(paths.environment_file),
        logs=str(paths.logs),
        cache=str(paths.cache),
    )
    record = state.read_record(paths)
    if record:
        found.speed, found.repository = record.speed, record.repository
    if found.state in (state.UP, state.STARTING):
        _ask_daemon(paths, found)
    found.port = browser_port(paths)
    found.namespaces = state.namespaces(paths)
    found.mounts = len(state.mounts(paths))
    found.processes = state.usage(paths)
    found.memory_mb = round(sum(float(row["memory_mb"]) for row in found.processes), 1)
    return found


def _ask_daemon(paths: Paths, found: Status) -> None:
    if os.geteuid() != 0:
        found.daemon_error = "only root can ask it"
        return
    try:
        answer = network.control(paths, "GET", "status")
    except (OSError, ValueError, network.ControlError) as error:
        found.daemon_error = str(error)
        return
    if not isinstance(answer, dict):
        return
    for name in ("clusters", "gateways", "faults"):
        value = answer.get(name)
        setattr(found, name, _named(value) if isinstance(value, dict) else value if isinstance(value, list) else [])
    if isinstance(answer.get("speed"), int | float):
        found.speed = float(answer["speed"])


def _named(mapping: dict[str, Any]) -> list[Any]:
    """``{key: {...}}`` as a list whose items carry their key as ``name``."""
    return [{"name": key, **value} if isinstance(value, dict) else {"name": key} for key, value in mapping.items()]


def render(found: Status) -> str:
    """The text for people."""
    words = {
        state.UP: "up",
        state.STARTING: "starting, or its `up` was stopped half-way: ./sandbox/sandbox up goes on",
        state.DEAD: "dead: its daemon is gone; ./sandbox/sandbox up starts afresh, ./sandbox/sandbox down cleans up",
        state.DOWN: "down: ./sandbox/sandbox up starts it",
    }
    lines = [f"sandbox {found.name}: {words[found.state]}"]
    if found.state != state.DOWN:
        lines += _details(found)
    return "\n".join(lines)


def _details(found: Status) -> list[str]:
    lines = []
    if found.speed is not None:
        meaning = "everything at once" if found.speed == 0 else f"{found.speed:g} times as fast as the real thing"
        lines.append(f"  speed       {meaning}")
    if found.daemon_error:
        lines.append(f"  daemon      does not answer: {found.daemon_error} (./sandbox/sandbox logs)")
    lines += [f"  cluster     {_describe(cluster)}" for cluster in found.clusters] or ["  cluster     none yet"]
    lines += [f"  gateway     {_describe(gateway)}" for gateway in found.gateways]
    lines += [f"  fault       {_describe(fault)}" for fault in found.faults]
    if found.port:
        lines.append(f"  browser     http://127.0.0.1:{found.port}/")
    lines.append(f"  namespaces  {', '.join(found.namespaces) or 'none'}; mounts {found.mounts}")
    lines.append(f"  memory      {found.memory_mb:.0f} MB in {sum(row['count'] for row in found.processes)} processes")
    for row in found.processes:
        count = f" x{row['count']}" if row["count"] > 1 else ""
        lines.append(f"    {row['memory_mb']:8.1f} MB  {row['name']}{count}")
    lines.append(f"  logs        {found.logs}")
    return lines


def _describe(item: Any) -> str:
    """One line for whatever the daemon tells of a cluster, gateway or fault: name first, lists counted."""
    if not isinstance(item, dict):
        return str(item)
    shown = [str(item["name"])] if "name" in item else []
    for key, value in item.items():
        if key == "name" or value in (None, "", [], {}):
            continue
        if isinstance(value, list):
            names = [str(one.get("name", "?")) if isinstance(one, dict) else str(one) for one in value]
            value = f"{len(value)} ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
        elif isinstance(value, dict):
            value = json.dumps(value)
        shown.append(f"{key} {value}")
    return "  ".join(shown)


def as_json(found: Status) -> str:
    return json.dumps(asdict(found), indent=2)
