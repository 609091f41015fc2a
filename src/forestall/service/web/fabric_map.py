"""Where switches and links stand on a map of the network: those that VMs are at below, and others above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx  # type: ignore[import-untyped]

from forestall.service.api.documents import Fabric, FabricLink

WIDTH, LAYER, MARGIN, LAYERED = 960.0, 120.0, 60.0, 12
"""In the units of the drawing; above so many switches in a layer a layout by springs is easier to read."""
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
    graph = nx.Graph()
    graph.add_nodes_from(sorted(switch.name for switch in fabric.switches))
    ends = {link.name: (*link.name.split(":"), "")[:2] for link in fabric.links}
    graph.add_edges_from(sorted(pair for pair in ends.values() if all(end in graph for end in pair)))
    at: dict[str, int] = {}
    for each in fabric.interfaces:
        at[each.switch] = at.get(each.switch, 0) + 1
    places, height = _places(graph, set(at))
    spots = [Spot(s.name, *places[s.name], s.connected, at.get(s.name, 0)) for s in fabric.switches]
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


def _places(graph: nx.Graph, leaves: set[str]) -> tuple[dict[str, tuple[float, float]], float]:
    """Where each switch stands, and how high the map is."""
    known = leaves & set(graph)
    far = dict(nx.multi_source_dijkstra_path_length(graph, known)) if known else {}
    deepest = max(far.values(), default=0)
    layers: dict[int, list[str]] = {}
    for name in graph:
        layers.setdefault(int(far.get(name, deepest)), []).append(name)
    if max(map(len, layers.values()), default=0) > LAYERED or len(layers) < 2:
        return _by_springs(graph)
    height = 2 * MARGIN + LAYER * (len(layers) - 1)
    return {
        name: (MARGIN + (WIDTH - 2 * MARGIN) * (k + 0.5) / len(layer), height - MARGIN - LAYER * depth)
        for depth, layer in enumerate(layers[key] for key in sorted(layers))
        for k, name in enumerate(layer)
    }, height


def _by_springs(graph: nx.Graph) -> tuple[dict[str, tuple[float, float]], float]:
    height = WIDTH * 0.6
    found = nx.spring_layout(graph, seed=1, iterations=100) if len(graph) > 1 else dict.fromkeys(graph, (0.0, 0.0))
    return {
        name: (
            WIDTH / 2 + float(x) * (WIDTH / 2 - MARGIN),
            height / 2 + float(y) * (height / 2 - MARGIN),
        )
        for name, (x, y) in found.items()
    }, height


def _used(link: FabricLink) -> float:
    return link.sent_bytes_per_s / link.capacity_bytes_per_s if link.capacity_bytes_per_s else 0.0


def _level(link: FabricLink) -> str:
    if not link.up or link.flapping:
        return "down"
    return "full" if _used(link) > FULL else "busy" if _used(link) > BUSY else "calm"
