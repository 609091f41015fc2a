"""Where switches and links stand on a map of the network: those that VMs are at below, and others above them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import networkx as nx  # type: ignore[import-untyped]

from forestall.service.api.documents import Fabric, FabricLink

WIDTH, LAYER, MARGIN, OF_A_ROW = 960.0, 120.0, 60.0, 12
"""In the units of the drawing, and how many switches stand in a row at most."""
BUSY, FULL = 0.5, 0.8


@dataclass(frozen=True)
class Spot:
    """A switch on the map; ``vms`` are at it."""

    name: str
    x: float
    y: float
    connected: bool
    vms: int


@dataclass(frozen=True)
class Line:
    """A link on the map, both directions as one; ``level`` is ``down``, ``full``, ``busy`` or ``calm``."""

    name: str
    x1: float
    y1: float
    x2: float
    y2: float
    level: str
    used: float


@dataclass(frozen=True)
class Map:
    """A drawing of a network."""

    width: float
    height: float
    spots: Sequence[Spot]
    lines: Sequence[Line]


def drawn(fabric: Fabric) -> Map:
    """The map of a network; the same for the same switches and links."""
    ends = {link.name: (*link.name.split(":"), "")[:2] for link in fabric.links}
    names = tuple(sorted(switch.name for switch in fabric.switches))
    known = set(names)
    edges = tuple(sorted((a, b) for a, b in ends.values() if {a, b} <= known))
    at = Counter(each.switch for each in fabric.interfaces)
    places, height = _places(names, edges, frozenset(at))
    spots = [Spot(s.name, *places[s.name], s.connected, at[s.name]) for s in fabric.switches]
    busiest: dict[frozenset[str], FabricLink] = {}
    for link in fabric.links:
        key = frozenset(ends[link.name])
        if key <= places.keys() and (key not in busiest or _used(link) > _used(busiest[key])):
            busiest[key] = link
    lines = [
        Line(link.name, *places[ends[link.name][0]], *places[ends[link.name][1]], _level(link), _used(link))
        for link in busiest.values()
    ]
    return Map(WIDTH, height, spots, lines)


@lru_cache(maxsize=8)
def _places(
    names: tuple[str, ...], edges: tuple[tuple[str, str], ...], leaves: frozenset[str]
) -> tuple[dict[str, tuple[float, float]], float]:
    """Where each switch stands, and how high the map is; layers of many are broken into rows."""
    graph = nx.Graph(edges)
    graph.add_nodes_from(names)
    known = leaves & set(graph)
    far = dict(nx.multi_source_dijkstra_path_length(graph, known)) if known else {}
    deepest = max(far.values(), default=0)
    layers: dict[int, list[str]] = {}
    for name in names:
        layers.setdefault(int(far.get(name, deepest)), []).append(name)
    if len(layers) < 2:
        return _in_a_circle(names)
    rows = [layer[k : k + OF_A_ROW] for _, layer in sorted(layers.items()) for k in range(0, len(layer), OF_A_ROW)]
    height = 2 * MARGIN + LAYER * (len(rows) - 1)
    return {
        name: (MARGIN + (WIDTH - 2 * MARGIN) * (k + 0.5) / len(row), height - MARGIN - LAYER * depth)
        for depth, row in enumerate(rows)
        for k, name in enumerate(row)
    }, height


def _in_a_circle(names: tuple[str, ...]) -> tuple[dict[str, tuple[float, float]], float]:
    height = WIDTH * 0.6
    angles = [2.0 * math.pi * k / len(names) for k in range(len(names))]
    return {
        name: (
            WIDTH / 2 + math.cos(angle) * (WIDTH / 2 - MARGIN),
            height / 2 + math.sin(angle) * (height / 2 - MARGIN),
        )
        for name, angle in zip(names, angles, strict=True)
    }, height


def _used(link: FabricLink) -> float:
    return link.sent_bytes_per_s / link.capacity_bytes_per_s if link.capacity_bytes_per_s else 0.0


def _level(link: FabricLink) -> str:
    if not link.up or link.flapping:
        return "down"
    return "full" if _used(link) > FULL else "busy" if _used(link) > BUSY else "calm"
