"""Paths that traffic between two nodes may take, and how it is spread over them where nobody decides.

Candidates are all shortest paths, as switches that know nothing but distances would use them (equal-cost multipath),
and where those are few the next shortest ones (Yen, 1971).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import networkx as nx  # type: ignore[import-untyped]
import numpy as np
import scipy.sparse as sp

from forestall.fabric.network import Network
from forestall.model.samples import FloatArray, IntArray

MOST_EQUAL = 32
"""Of shortest paths no more are used."""


@dataclass(frozen=True, eq=False)
class Paths:
    """Candidate paths of pairs of nodes.

    Attributes
    ----------
    pairs
        Source and target of each pair, by index.
    nodes
        Nodes along each path.
    pair
        Array (path,): whose it is; paths of a pair stand together.
    uses
        Matrix (link, path): 1 where a path uses a link.
    first
        Array (path,): the link that it begins with.
    equal
        Array (path,): share of its pair's traffic on each path if at each node it is split equally among the links that
        lead on by a shortest path.
    capacity
        Array (link,), bytes per second.
    """

    pairs: tuple[tuple[int, int], ...]
    nodes: tuple[tuple[int, ...], ...]
    pair: IntArray
    uses: Any
    first: IntArray
    equal: FloatArray
    capacity: FloatArray

    def repeated(self, of: IntArray) -> Paths:
        """For pairs that take the paths of others: ``of`` (pair,) says whose, so that many may share a pair's paths."""
        count = np.bincount(self.pair, minlength=len(self.pairs))
        begins = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)
        pair = np.repeat(np.arange(len(of)), count[of])
        within = np.arange(len(pair)) - np.repeat(np.cumsum(count[of]) - count[of], count[of])
        column = begins[of][pair] + within
        return Paths(
            pairs=tuple(self.pairs[k] for k in of.tolist()),
            nodes=tuple(self.nodes[k] for k in column.tolist()),
            pair=pair,
            uses=sp.csc_matrix(self.uses)[:, column].tocsr(),
            first=self.first[column],
            equal=self.equal[column],
            capacity=self.capacity,
        )

    def drawn(self, share: FloatArray, luck: FloatArray) -> FloatArray:
        """Shares (path,) in which each pair takes one path, the one that ``luck`` (pair,), from 0 to 1, falls on."""
        ends = np.cumsum(share)
        first = np.searchsorted(self.pair, np.arange(len(self.pairs)))
        begins = np.concatenate([[0.0], ends])[first]
        whole = np.bincount(self.pair, share, minlength=len(self.pairs))
        chosen = np.searchsorted(ends, begins + np.clip(luck, 1e-9, 1 - 1e-9) * whole)
        found = np.zeros(len(share))
        has = np.bincount(self.pair, minlength=len(self.pairs)) > 0
        found[np.minimum(chosen[has], len(share) - 1)] = 1.0
        return found

    def utilisation(self, share: FloatArray, traffic: FloatArray) -> FloatArray:
        """Utilisation of each link (link,) by traffic (pair,) in bytes per second, spread by shares (path,)."""
        loads: FloatArray = self.uses @ (share * traffic[self.pair])
        return loads / self.capacity

    def worst(self, share: FloatArray, traffic: FloatArray) -> FloatArray:
        """Utilisation of the worst link for each matrix of traffic (time, pair); array (time,)."""
        loads = self.uses @ (share[:, None] * traffic[:, self.pair].T)
        worst: FloatArray = np.max(loads / self.capacity[:, None], axis=0, initial=0.0)
        return worst


def paths_of(network: Network, pairs: Sequence[tuple[int, int]], most: int = 4) -> Paths:
    """All shortest paths of each pair, and more until there are ``most``; a pair that nothing connects has none."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(network.nodes)))
    graph.add_edges_from(network.link)
    nodes: list[tuple[int, ...]] = []
    pair: list[int] = []
    equal: list[float] = []
    before: dict[int, dict[int, list[int]]] = {}
    for k, (source, target) in enumerate(pairs):
        if source not in before:
            before[source] = nx.predecessor(graph, source)
        shortest = list(islice(_leading_to(target, before[source]), MOST_EQUAL))
        if not shortest:
            continue
        longer = _longer(graph, source, target, most, set(shortest)) if len(shortest) < most else []
        shares = _equal_shares(shortest)
        nodes += [*shortest, *longer]
        equal += [*shares, *(0.0 for _ in longer)]
        pair += [k] * (len(shortest) + len(longer))
    return Paths(
        pairs=tuple(pairs),
        nodes=tuple(nodes),
        pair=np.array(pair, np.int64),
        uses=_uses(network, nodes),
        first=np.array([network.link[each[0], each[1]] for each in nodes], np.int64),
        equal=np.array(equal),
        capacity=network.capacity,
    )


def _leading_to(target: int, before: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """All shortest paths to a node, by the nodes that come before each."""
    if target in before and not before[target]:
        yield (target,)
    for node in before.get(target, ()):
        for path in _leading_to(node, before):
            yield (*path, target)


def _longer(graph: Any, source: int, target: int, most: int, shortest: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    found = islice(nx.shortest_simple_paths(graph, source, target), most)
    return [tuple(path) for path in found if tuple(path) not in shortest]


def _equal_shares(shortest: Sequence[tuple[int, ...]]) -> list[float]:
    """Share of each of the shortest paths of a pair; of those alone, if there were too many."""
    following: dict[int, set[int]] = {}
    for path in shortest:
        for a, b in pairwise(path):
            following.setdefault(a, set()).add(b)
    shares = [math.prod(1.0 / len(following[node]) for node in path[:-1]) for path in shortest]
    total = sum(shares)
    return [share / total for share in shares]


def _uses(network: Network, nodes: Sequence[tuple[int, ...]]) -> Any:
    links = [network.link[hop] for path in nodes for hop in pairwise(path)]
    path = np.repeat(np.arange(len(nodes)), [len(each) - 1 for each in nodes])
    return sp.csr_matrix((np.ones(len(links)), (links, path)), shape=(len(network), len(nodes)))
