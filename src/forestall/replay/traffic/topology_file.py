"""Topology files: the node-link form of networkx, with ``capacity_bps`` at each link."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forestall.fabric.network import Network
from forestall.model.errors import BadInput, WrongUse

BITS = 8


def read_topology(path: Path) -> Network:
    """Read a network; links are named ``edges`` or, as older versions of networkx do, ``links``.

    An undirected link carries its capacity each way.

    Raises
    ------
    BadInput
        It cannot be read or understood; the text says where.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInput(error.strerror or str(error), path=path) from error
    except ValueError as error:
        raise BadInput(f"is not JSON: {error}", path=path) from error
    if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
        raise BadInput("is not the node-link form of networkx: it has no list 'nodes'", path=path)
    if document.get("directed") or document.get("multigraph"):
        raise BadInput("is directed, or has several links between two nodes: neither can be used", path=path)
    links = document.get("edges", document.get("links"))
    if not isinstance(links, list) or not links:
        raise BadInput("has no list 'edges', or an empty one", path=path)
    nodes = [_name(path, k, node) for k, node in enumerate(document["nodes"])]
    try:
        return Network.of(nodes, [_cable(path, k, link) for k, link in enumerate(links)])
    except WrongUse as error:
        raise BadInput(str(error), path=path) from error


def _name(path: Path, k: int, node: Any) -> str:
    name = node.get("id") if isinstance(node, dict) else None
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise BadInput(f"node {k + 1} has no 'id'", path=path)
    return str(name)


def _cable(path: Path, k: int, link: Any) -> tuple[str, str, float]:
    where = f"link {k + 1}"
    if not isinstance(link, dict) or not {"source", "target"} <= link.keys():
        raise BadInput(f"{where} has no 'source' or no 'target'", path=path)
    capacity = link.get("capacity_bps")
    if isinstance(capacity, bool) or not isinstance(capacity, int | float):
        raise BadInput(f"{where}, from {link['source']!r} to {link['target']!r}, has no 'capacity_bps'", path=path)
    return str(link["source"]), str(link["target"]), capacity / BITS
