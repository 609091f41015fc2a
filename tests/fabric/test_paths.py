"""Networks, and the paths through them."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import MB, all_paths, leaf_spine, square

from forestall.fabric.network import Network
from forestall.fabric.paths import paths_of
from forestall.model.errors import WrongUse


def test_a_cable_is_a_link_each_way() -> None:
    network = square()
    assert len(network) == 8
    for link in range(len(network)):
        assert network.link[int(network.start[link]), int(network.end[link])] == link
    assert (network.capacity == 10 * MB).all()


@pytest.mark.parametrize(
    ("nodes", "cables", "why"),
    [
        ("aa", [], "a node is there twice"),
        ("ab", [("a", "c", 1.0)], "leads to a node that is not there"),
        ("ab", [("a", "a", 1.0)], "carries nothing"),
        ("ab", [("a", "b", 0.0)], "carries nothing"),
        ("ab", [("a", "b", float("nan"))], "carries nothing"),
        ("ab", [("a", "b", 1.0), ("b", "a", 2.0)], "is there twice"),
    ],
)
def test_what_is_no_network(nodes: str, cables: list[tuple[str, str, float]], why: str) -> None:
    with pytest.raises(WrongUse, match=why):
        Network.of(nodes, cables)


def test_shortest_paths_come_first_and_longer_ones_where_there_are_few() -> None:
    paths = all_paths(square(), ("a", "c"), ("a", "b"))
    assert [paths.nodes[k] for k in np.flatnonzero(paths.pair == 0)] == [(0, 1, 2), (0, 3, 2)]
    assert [paths.nodes[k] for k in np.flatnonzero(paths.pair == 1)] == [(0, 1), (0, 3, 2, 1)]
    assert paths.equal.tolist() == [0.5, 0.5, 1.0, 0.0]


def test_switches_split_equally_at_each_node() -> None:
    """s has two ways on, one of which splits again: a half, and two quarters."""
    edges = [("s", "x"), ("s", "y"), ("x", "t1"), ("y", "t1"), ("y", "t2"), ("t1", "t"), ("t2", "t")]
    nodes = sorted({node for edge in edges for node in edge})
    network = Network.of(nodes, [(*edge, 1.0) for edge in edges])
    paths = all_paths(network, ("s", "t"), most=1)
    by_name = {tuple(network.nodes[n] for n in p): s for p, s in zip(paths.nodes, paths.equal, strict=True)}
    assert by_name == {("s", "x", "t1", "t"): 0.5, ("s", "y", "t1", "t"): 0.25, ("s", "y", "t2", "t"): 0.25}


def test_a_pair_that_nothing_connects_has_no_path() -> None:
    network = Network.of("abcd", [("a", "b", 1.0), ("c", "d", 1.0)])
    paths = paths_of(network, [(0, 2), (0, 1)])
    assert paths.pair.tolist() == [1]


def test_traffic_adds_up_on_links() -> None:
    network = leaf_spine()
    paths = all_paths(network, ("leaf0", "leaf1"), ("leaf2", "leaf1"))
    use = paths.utilisation(paths.equal, np.array([4 * MB, 8 * MB]))
    into = [use[network.link[network.index[f"spine{k}"], network.index["leaf1"]]] for k in range(2)]
    assert into == pytest.approx([0.6, 0.6])
    assert use.sum() == pytest.approx(2 * 1.2)


@given(seed=st.integers(0, 10_000), most=st.integers(1, 6))
def test_every_path_leads_from_source_to_target(seed: int, most: int) -> None:
    graph = nx.connected_watts_strogatz_graph(10, 4, 0.4, seed=seed)
    network = Network.of(map(str, graph), [(str(a), str(b), 1.0) for a, b in graph.edges])
    pairs = [(a, b) for a in range(0, 10, 3) for b in range(10) if a != b]
    paths = paths_of(network, pairs, most)
    assert (np.diff(paths.pair) >= 0).all()
    np.testing.assert_allclose(np.bincount(paths.pair, paths.equal), 1.0)
    for k, nodes in enumerate(paths.nodes):
        assert (nodes[0], nodes[-1]) == pairs[paths.pair[k]]
        assert len(set(nodes)) == len(nodes)
        assert paths.uses[:, [k]].sum() == len(nodes) - 1
    assert len(set(paths.nodes)) == len(paths.nodes)
