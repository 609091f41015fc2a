"""Small networks for tests."""

from __future__ import annotations

from forestall.fabric.network import Network
from forestall.fabric.paths import Paths, paths_of

MB = 1e6


def square(capacity: float = 10 * MB) -> Network:
    """a and c are two hops apart, by b or by d."""
    edges = [("a", "b"), ("b", "c"), ("a", "d"), ("d", "c")]
    return Network.of("abcd", [(*edge, capacity) for edge in edges])


def leaf_spine(leaves: int = 4, spines: int = 2, capacity: float = 10 * MB) -> Network:
    """Every leaf has a link to every spine."""
    nodes = [*(f"leaf{k}" for k in range(leaves)), *(f"spine{k}" for k in range(spines))]
    return Network.of(nodes, [(f"leaf{i}", f"spine{k}", capacity) for i in range(leaves) for k in range(spines)])


def all_paths(network: Network, *pairs: tuple[str, str], most: int = 4) -> Paths:
    return paths_of(network, [(network.index[a], network.index[b]) for a, b in pairs], most)
