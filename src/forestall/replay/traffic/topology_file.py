"""Topology files: the node-link form of networkx, with ``capacity_bps`` at each link."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.fabric.network import Network
from forestall.model.errors import BadInput, WrongUse

BITS = 8
MOST_BPS = 1e18
Warn = Callable[[str], None]


def read_topology(path: Path, warn: Warn) -> Network:
    """Read a network; links are named ``edges`` or, as older versions of networkx do, ``links``.

    An undirected link carries its capacity each way. Several links between two nodes are one that carries as much.

    Parameters
    ----------
    path
        The file.
    warn
        Takes one line for what was left out.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text says where.
    """
    document = _document(path)
    links = document.get("edges", document.get("links"))
    if not isinstance(links, list) or not links:
        raise BadInput("has no list 'edges', or an empty one", path=path)
    one_way = bool(document.get("directed"))
    nodes = [_name(path, k, node) for k, node in enumerate(document["nodes"])]
    cables: dict[tuple[str, str], float] = {}
    useless = 0
    for k, link in enumerate(links):
        source, target, capacity = _cable(path, k, link)
        if source == target or capacity == 0:
            useless += 1
            continue
        key = (source, target) if one_way or (target, source) not in cables else (target, source)
        cables[key] = cables.get(key, 0.0) + capacity
    if not cables:
        raise BadInput("has no link that carries anything", path=path)
    if useless:
        warn(f"repair: {path}: {useless} links carry nothing, or lead from a node to itself, left out")
    try:
        return Network.of(nodes, [(*key, capacity) for key, capacity in cables.items()], one_way=one_way)
    except WrongUse as error:
        raise BadInput(str(error), path=path) from error


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(error.strerror or str(error), path=path) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is not JSON: {error}", path=path) from error
    if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
        raise BadInput("is not the node-link form of networkx: it has no list 'nodes'", path=path)
    return document


def _name(path: Path, k: int, node: Any) -> str:
    name = node.get("id") if isinstance(node, dict) else None
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise BadInput(f"node {k + 1} has no 'id'", path=path)
    return str(name)


def _cable(path: Path, k: int, link: Any) -> tuple[str, str, float]:
    where = f"link {k + 1}"
    if not isinstance(link, dict) or not {"source", "target"} <= link.keys():
        raise BadInput(f"{where} has no 'source' or no 'target'", path=path)
    where = f"{where}, from {link['source']!r} to {link['target']!r},"
    capacity = link.get("capacity_bps")
    if isinstance(capacity, bool) or not isinstance(capacity, int | float):
        raise BadInput(f"{where} has no 'capacity_bps'", path=path)
    if not 0 <= capacity <= MOST_BPS:
        raise BadInput(f"{where} cannot carry {str(capacity)[:20]} bits per second", path=path)
    return str(link["source"]), str(link["target"]), capacity / BITS
