# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment drawn as SVG text, from what was read of it: once across (a screen) and once downwards (a phone)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

Json = Mapping[str, Any]
MOST_SERVERS = 8  # of a pool; the rest is counted
LETTER = 6.5  # width of a letter at 12 px, about
PAD, GAP = 12, 14
TIP = "#tip"  # each drawing has a tip of its own: one in a hidden drawing is not drawn
GOOD, BAD, UNKNOWN = "good", "bad", "unknown"


@dataclass
class Box:
    """A part of the deployment. ``state`` colours its dot; ``kind`` its edge."""

    title: str
    lines: Sequence[str] = ()
    state: str = ""
    kind: str = ""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def height(self) -> float:
        return 30 + 17 * len(self.lines)

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass
class Row:
    """One pool with its picker and its servers."""

    picker: Box
    pool: Box
    servers: list[Box] = field(default_factory=list)


def state_of(healthy: int, total: int) -> str:
    return UNKNOWN if total == 0 else GOOD if healthy == total else BAD


def is_picker(backend: Json) -> bool:
    return "-epp-" in f"{backend.get('name')}-" or any(
        one.get("port") == 9002 for one in backend.get("endpoints") or []
    )


def rows_of(topology: Json) -> list[Row]:
    """A row for every pool: its backends are those of the load balancer whose names carry its name."""
    pools = list(topology.get("pools") or [])
    backends = list(topology.get("backends") or [])
    rows = []
    for pool in pools:
        name = str(pool.get("name") or "")
        mine = [one for one in backends if len(pools) == 1 or f"-{name}-" in f"-{one.get('name')}-"]
        pickers = [one for one in mine if is_picker(one)]
        served = [one for one in mine if not is_picker(one)]
        rows.append(Row(_picker(name, pickers), _pool(pool, served), _servers(pool, served)))
    return rows


def _counts(backends: Sequence[Json]) -> tuple[int, int]:
    return sum(int(one.get("healthy") or 0) for one in backends), sum(int(one.get("total") or 0) for one in backends)


def _picker(name: str, backends: Sequence[Json]) -> Box:
    healthy, total = _counts(backends)
    text = f"{healthy} of {total} HEALTHY" if total else "health not read"
    return Box("Endpoint picker", (f"{name}-epp", text), state_of(healthy, total), "picker")


def _pool(pool: Json, backends: Sequence[Json]) -> Box:
    healthy, total = _counts(backends)
    text = f"{healthy} of {total} HEALTHY" if total else f"{pool.get('replicas', '?')} wanted, health not read"
    return Box(
        "InferencePool", (str(pool.get("name")), str(pool.get("model") or ""), text), state_of(healthy, total), "pool"
    )


def _servers(pool: Json, backends: Sequence[Json]) -> list[Box]:
    endpoints = [one for backend in backends for one in backend.get("endpoints") or []]
    boxes = [
        Box(
            f"{one.get('ip')}:{one.get('port')}",
            (str(one.get("instance") or "").rsplit("/", 1)[-1] or "node not read",),
            GOOD if one.get("state") == "HEALTHY" else BAD,
            "server",
        )
        for one in endpoints[:MOST_SERVERS]
    ]
    if len(endpoints) > MOST_SERVERS:
        boxes.append(Box(f"and {len(endpoints) - MOST_SERVERS} more", (), "", "server"))
    if boxes:
        return boxes
    if not backends:
        return [Box("Model servers", (f"{pool.get('replicas', '?')} wanted, not read",), UNKNOWN, "server")]
    return [Box("no model server", ("none is behind the pool",), BAD, "server")]


def nodes_of(topology: Json) -> list[Box]:
    """A box for every node pool."""
    boxes = []
    for pool in topology.get("node_pools") or []:
        gpu, limits = pool.get("accelerator") or {}, pool.get("autoscaling") or {}
        lines = [
            f"{pool.get('node_count', '?')} x {pool.get('machine_type', '?')}{' spot' if pool.get('spot') else ''}"
        ]
        if gpu:
            lines.append(f"{gpu.get('count', 1)} x {str(gpu.get('type')).removeprefix('nvidia-')} each")
        if limits:
            lines.append(f"autoscaler {limits.get('min', 0)} to {limits.get('max', '?')}")
        boxes.append(Box(str(pool.get("name")), lines, "", "gpu" if gpu else "nodes"))
    return boxes


def gateway_of(topology: Json) -> Box:
    gateway = topology.get("gateway") or {}
    address = str(gateway.get("address") or "")
    lines = (address or "no address", str(gateway.get("class") or ""), str(gateway.get("name") or ""))
    return Box("Gateway", lines, GOOD if gateway.get("ok") else UNKNOWN if not address else BAD, "gateway")


# --- drawing --------------------------------------------------------------------------------------------------------


def clip(text: str, width: float, letter: float = LETTER) -> str:
    """As much of a text as fits; its middle goes, since names differ at both ends."""
    room = max(4, int(width / letter))
    if len(text) <= room:
        return text
    head = (room - 1) // 2
    return f"{text[:head]}…{text[len(text) - (room - 1 - head) :]}"


def draw_box(box: Box) -> str:
    parts = [
        f'<g class="box {box.kind}"><title>{escape(" · ".join([box.title, *box.lines]))}</title>'
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="9"/>'
    ]
    room = box.width - 2 * PAD - (16 if box.state else 0)
    parts.append(
        f'<text class="name" x="{box.x + PAD:.0f}" y="{box.y + 20:.0f}">{escape(clip(box.title, room, 7.1))}</text>'
    )
    for number, line in enumerate(box.lines):
        y = box.y + 38 + 17 * number
        parts.append(f'<text x="{box.x + PAD:.0f}" y="{y:.0f}">{escape(clip(line, box.width - 2 * PAD))}</text>')
    if box.state:
        parts.append(f'<circle class="{box.state}" cx="{box.x + box.width - 15:.0f}" cy="{box.y + 16:.0f}" r="5"/>')
    return "".join(parts) + "</g>"


def across_line(start: Box, end: Box, kind: str = "") -> str:
    """From the right edge of one box to the left edge of another."""
    x1, y1, x2, y2 = start.x + start.width, start.middle, end.x - 2, end.middle
    bend = (x1 + x2) / 2
    path = f"M{x1:.0f} {y1:.0f}C{bend:.0f} {y1:.0f} {bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
    return f'<path class="link {kind}" d="{path}" marker-end="url({TIP})"/>'


def stack(boxes: Sequence[Box], x: float, y: float, width: float) -> float:
    """Place boxes below one another; where the last one ends."""
    for box in boxes:
        box.x, box.y, box.width = x, y, width
        y += box.height + GAP
    return y - GAP if boxes else y


def centre(boxes: Sequence[Box], top: float, bottom: float) -> None:
    """Shift stacked boxes into the middle between top and bottom."""
    if boxes:
        used = boxes[-1].y + boxes[-1].height - boxes[0].y
        shift = top + (bottom - top - used) / 2 - boxes[0].y
        for box in boxes:
            box.y += shift


def frame(topology: Json, x: float, y: float, width: float, height: float) -> str:
    name = f"{topology.get('cluster', '')} · {topology.get('location', '')}"
    return (
        f'<rect class="frame" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="14"/>'
        f'<text class="caption" x="{x + 14:.0f}" y="{y + 20:.0f}">GKE cluster {escape(name)}</text>'
    )


def svg(parts: Sequence[str], width: float, height: float, kind: str) -> str:
    tip = (
        f'<defs><marker id="tip-{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    return (
        f'<svg class="topology {kind}" role="img" aria-label="The deployment" viewBox="0 0 {width:.0f} {height:.0f}">'
        f"{tip}{''.join(parts).replace(TIP, f'#tip-{kind}')}</svg>"
    )


def across(topology: Json) -> str:
    """For a screen: client, Gateway, pools with pickers, model servers, from left to right."""
    client, gateway, rows = Box("Client", ("HTTP",), "", "client"), gateway_of(topology), rows_of(topology)
    inside: list[Box] = []
    top = 44.0
    for row in rows:
        left, right = [row.picker, row.pool], row.servers
        bottom = max(stack(left, 470, top, 230), stack(right, 756, top, 220))
        centre(left, top, bottom)
        centre(right, top, bottom)
        inside += [*left, *right]
        top = bottom + 26
    bottom = max(top - 26, 160.0)
    gateway.x, gateway.width, gateway.y = 176, 216, (44 + bottom - gateway.height) / 2
    client.x, client.width, client.y = 4, 104, gateway.middle - client.height / 2
    links = [across_line(client, gateway)]
    for row in rows:
        links += [across_line(gateway, row.picker, "asks"), across_line(gateway, row.pool)]
        links += [across_line(row.pool, server) for server in row.servers]
    pools, y = nodes_of(topology), bottom + 26
    each = (506 - GAP * (min(len(pools), 3) - 1)) / max(1, min(len(pools), 3))
    tallest = 0.0
    for number, box in enumerate(pools):
        if number and number % 3 == 0:
            y, tallest = y + tallest + GAP, 0.0
        box.x, box.y, box.width = 470 + (number % 3) * (each + GAP), y, each
        tallest = max(tallest, box.height)
    height = y + tallest + 20
    drawn = [frame(topology, 450, 8, 546, height - 12), *links, *map(draw_box, [client, gateway, *inside, *pools])]
    return svg(drawn, 1000, height, "wide")


def down(topology: Json) -> str:
    """For a phone: the same from top to bottom."""
    client, gateway, rows = Box("Client", ("HTTP",), "", "client"), gateway_of(topology), rows_of(topology)
    client.x, client.y, client.width = 110, 4, 140
    gateway.x, gateway.y, gateway.width = 40, client.y + client.height + 30, 280
    links = [_down_line(client, gateway)]
    top = gateway.y + gateway.height + 30
    inside: list[Box] = []
    y = top + 40
    for row in rows:
        parts = [row.picker, row.pool, *row.servers]
        bottom = stack(parts[:2], 24, y, 312)
        end = stack(row.servers, 60, bottom + 24, 276)
        links += [_down_line(row.pool, row.servers[0])]
        inside += parts
        y = end + 30
    if rows:
        links.append(_down_line(gateway, rows[0].picker, 304))
    for box in nodes_of(topology):
        stack([box], 24, y, 312)
        inside.append(box)
        y += box.height + GAP
    drawn = [frame(topology, 8, top, 344, y - top), *links, *map(draw_box, [client, gateway, *inside])]
    return svg(drawn, 360, y + 10, "tall")


def _down_line(start: Box, end: Box, x: float = 0.0) -> str:
    x = x or min(max(start.x + start.width / 2, end.x + 20), end.x + end.width - 20)
    return f'<path class="link" d="M{x:.0f} {start.y + start.height:.0f}V{end.y - 2:.0f}" marker-end="url({TIP})"/>'
