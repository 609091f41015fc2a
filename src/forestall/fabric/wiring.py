"""Which switch leads to which by what port, and the ways that follow from it: a tree, and detours around one link."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from forestall.ports.fabric import Cable

Route = tuple[int, ...]
"""Switches along a path, by their datapath ids."""


@dataclass(frozen=True, eq=False)
class Wiring:
    """Switches and the ports that lead from one to the other.

    Attributes
    ----------
    switches
        Datapath ids, in order.
    port
        ``port[a, b]`` is the port of switch ``a`` that leads to ``b``. Of several the first: the others are spare.
    """

    switches: tuple[int, ...]
    port: Mapping[tuple[int, int], int]

    @classmethod
    def of(cls, switches: Iterable[int], cables: Iterable[Cable]) -> Wiring:
        """The wiring of switches by cables; a cable from a switch to itself leads nowhere."""
        port: dict[tuple[int, int], int] = {}
        for one, other in sorted(cables):
            if one.switch != other.switch and (one.switch, other.switch) not in port:
                port[one.switch, other.switch], port[other.switch, one.switch] = one.port, other.port
        return cls(tuple(sorted(switches)), port)

    @cached_property
    def next_to(self) -> Mapping[int, tuple[int, ...]]:
        """The neighbours of each switch, in order."""
        found: dict[int, list[int]] = {switch: [] for switch in self.switches}
        for a, b in sorted(self.port):
            found[a].append(b)
        return {switch: tuple(neighbours) for switch, neighbours in found.items()}

    @cached_property
    def tree(self) -> frozenset[tuple[int, int]]:
        """Links of a tree over all switches (of each island of them), both ways: what is for all goes along it."""
        links: set[tuple[int, int]] = set()
        seen: set[int] = set()
        for root in self.switches:
            if root in seen:
                continue
            seen.add(root)
            waiting = deque([root])
            while waiting:
                a = waiting.popleft()
                for b in self.next_to[a]:
                    if b not in seen:
                        seen.add(b)
                        links |= {(a, b), (b, a)}
                        waiting.append(b)
        return frozenset(links)

    def detour(self, route: Route, at: int) -> Route | None:
        """The shortest way from ``route[at]`` to the end of a route without its next link; None where there is none."""
        start, without, end = route[at], route[at + 1], route[-1]
        key = start, without, end
        if key not in self._detours:
            self._detours[key] = self._shortest(start, without, end)
        return self._detours[key]

    @cached_property
    def _detours(self) -> dict[tuple[int, int, int], Route | None]:
        return {}

    def _shortest(self, start: int, without: int, end: int) -> Route | None:
        before: dict[int, int] = {start: start}
        waiting = deque([start])
        while waiting:
            a = waiting.popleft()
            for b in self.next_to[a]:
                if b in before or (a == start and b == without):
                    continue
                before[b] = a
                if b == end:
                    return self._traced(before, end)
                waiting.append(b)
        return None

    @staticmethod
    def _traced(before: Mapping[int, int], end: int) -> Route:
        route = [end]
        while before[route[-1]] != route[-1]:
            route.append(before[route[-1]])
        return tuple(reversed(route))

    def leads(self, route: Route) -> bool:
        """Whether all links of a route are there."""
        return all(link in self.port for link in pairwise(route))
