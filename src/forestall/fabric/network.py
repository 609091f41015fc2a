"""The network as the decision core sees it: nodes, and links that each go one way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forestall.model.errors import WrongUse
from forestall.model.samples import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes and links.

    Attributes
    ----------
    nodes
        Their names.
    start, end
        Arrays (link,): index of the node that a link comes from, and of that which it leads to.
    capacity
        Array (link,): bytes per second.
    """

    nodes: tuple[str, ...]
    start: IntArray
    end: IntArray
    capacity: FloatArray

    @classmethod
    def of(cls, nodes: Iterable[str], cables: Iterable[tuple[str, str, float]], *, one_way: bool = False) -> Network:
        """A network of cables (from a node, to a node, bytes per second each way, or only this way).

        Raises
        ------
        WrongUse
            A node or cable is there twice, a cable leads nowhere, from a node to itself, or carries nothing.
        """
        names = tuple(nodes)
        index = {name: k for k, name in enumerate(names)}
        if len(index) < len(names):
            raise WrongUse("a node is there twice")
        start, end, capacity, seen = [], [], [], set[tuple[str, str]]()
        for one, other, bytes_per_s in cables:
            if not {one, other} <= index.keys():
                raise WrongUse(f"the link from {one!r} to {other!r} leads to a node that is not there")
            if one == other or not 0 < bytes_per_s < np.inf:
                raise WrongUse(f"the link from {one!r} to {other!r} carries nothing")
            for source, target in [(one, other)] if one_way else [(one, other), (other, one)]:
                if (source, target) in seen:
                    raise WrongUse(f"the link from {one!r} to {other!r} is there twice")
                seen.add((source, target))
                start.append(index[source])
                end.append(index[target])
                capacity.append(float(bytes_per_s))
        return cls(names, np.array(start, np.int64), np.array(end, np.int64), np.array(capacity))

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each node by its name."""
        return {name: k for k, name in enumerate(self.nodes)}

    @cached_property
    def link(self) -> dict[tuple[int, int], int]:
        """Index of each link by its two nodes."""
        return {(a, b): k for k, (a, b) in enumerate(zip(self.start.tolist(), self.end.tolist(), strict=True))}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its nodes and links."""
        found = hashlib.sha256(repr(self.nodes).encode())
        for array in (self.start, self.end, self.capacity):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def __len__(self) -> int:
        return len(self.capacity)
