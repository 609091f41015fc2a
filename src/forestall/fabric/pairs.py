"""Ways of pairs of interfaces through a network of switches, planned; the network may change at any time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from forestall.fabric.network import Network
from forestall.fabric.paths import Paths, paths_of
from forestall.fabric.planner import PlannerSettings, TrafficPlanner
from forestall.fabric.rules import Ways
from forestall.fabric.wiring import Route, Wiring
from forestall.model.samples import FloatArray, IntArray

PairName = tuple[str, str]
SwitchPair = tuple[int, int]


class Demand(NamedTuple):
    """What a pair of interfaces sends: from a switch to another, bytes per second; and what it may send (scenario,)."""

    switches: SwitchPair
    bytes_per_s: float
    ahead: FloatArray | None = None


class PairPlanner:
    """Plans for pairs of interfaces that are named by two addresses.

    Parameters
    ----------
    settings
        How.
    ways
        What was in force before, if anything was.
    """

    def __init__(self, settings: PlannerSettings, ways: Mapping[PairName, Ways] | None = None) -> None:
        self._settings = settings
        self._wiring = Wiring((), {})
        self._network = Network.of((), ())
        self._base = paths_of(self._network, [])
        self._index: dict[SwitchPair, int] = {}
        self._equal: dict[SwitchPair, Ways] = {}
        self._pairs: tuple[PairName, ...] = ()
        self._between: tuple[SwitchPair, ...] = ()
        self._paths = self._base
        self._routes: tuple[Route, ...] = ()
        self._planner = TrafficPlanner(self._base, settings)
        self._traffic: FloatArray = np.zeros(0)
        self._before = dict(ways or {})

    def rewire(self, wiring: Wiring, bytes_per_s: Mapping[tuple[int, int], float]) -> None:
        """The network is another one: links that are up, and what each carries."""
        self._wiring = wiring
        cables = [(str(a), str(b), bytes_per_s[a, b]) for a, b in sorted(wiring.port) if a < b]
        self._network = Network.of([str(switch) for switch in wiring.switches], cables)
        self._base, self._index, self._equal = paths_of(self._network, []), {}, {}
        self._settle(self._pairs, self._between)
        if self._before and wiring.port:
            self._take_up(self._before)
            self._before = {}

    def _take_up(self, before: Mapping[PairName, Ways]) -> None:
        """Go on with ways that were in force before, as far as the network has them."""
        between = {pair: (ways[0][0][0], ways[0][0][-1]) for pair, ways in before.items() if ways}
        self._settle(tuple(between), tuple(between.values()))
        share_of = {(pair, route): share for pair, ways in before.items() for route, share in ways}
        of = zip(self._paths.pair.tolist(), self._routes, strict=True)
        self._planner.take_up(np.array([share_of.get((self._pairs[k], route), 0.0) for k, route in of]))

    def equal_ways(self, between: Collection[SwitchPair]) -> dict[SwitchPair, Ways]:
        """All shortest ways from a switch to another, as equal splitting uses them; a pair without any is left out."""
        if between != self._equal.keys():
            self._know(list(between))
            begins = np.searchsorted(self._base.pair, np.arange(len(self._index) + 1))
            found = {
                pair: self._ways(self._base, np.arange(begins[k], begins[k + 1]), self._base.equal)
                for pair, k in self._index.items()
                if pair in between
            }
            self._equal = {pair: found[pair] for pair in between}
        return {pair: ways for pair, ways in self._equal.items() if ways}

    def decide(self, demand: Mapping[PairName, Demand]) -> dict[PairName, Ways]:
        """Ways of each pair for the next interval; a pair that nothing connects is left out."""
        there = set(self._wiring.switches)
        pairs = tuple(sorted(pair for pair, of in demand.items() if there.issuperset(of.switches)))
        between = tuple(demand[pair].switches for pair in pairs)
        if pairs != self._pairs or between != self._between:
            self._settle(pairs, between)
        self._traffic = np.array([demand[pair].bytes_per_s for pair in pairs])
        ahead = [demand[pair].ahead for pair in pairs]
        scenarios = np.stack([each for each in ahead if each is not None], axis=1) if _are_all(ahead) else None
        self._planner.decide(self._traffic, scenarios)
        return self.in_force()

    def in_force(self) -> dict[PairName, Ways]:
        """Ways of each pair, as they were decided last, or as they are without links that are gone."""
        share = self._planner.share
        begins = np.searchsorted(self._paths.pair, np.arange(len(self._pairs) + 1))
        found = {}
        for k, pair in enumerate(self._pairs):
            if ways := self._ways(self._paths, np.arange(begins[k], begins[k + 1]), share):
                found[pair] = ways
        return found

    @property
    def planner(self) -> TrafficPlanner:
        """What plans."""
        return self._planner

    def utilisation(self) -> tuple[dict[SwitchPair, float], dict[SwitchPair, float]]:
        """Of each link, as planned and as equal splitting would have it, for what was sent last."""
        names = [int(name) for name in self._network.nodes]
        ends = list(zip(self._network.start.tolist(), self._network.end.tolist(), strict=True))

        def of(share: FloatArray) -> dict[SwitchPair, float]:
            used = self._paths.utilisation(share, self._traffic).tolist()
            return {(names[a], names[b]): ratio for (a, b), ratio in zip(ends, used, strict=True)}

        return of(self._planner.share), of(self._paths.equal)

    def _ways(self, paths: Paths, chosen: IntArray, share: FloatArray) -> Ways:
        return tuple((self._route(paths.nodes[k]), float(share[k])) for k in chosen.tolist() if share[k] > 0.0)

    def _route(self, nodes: tuple[int, ...]) -> Route:
        return tuple(self._wiring.switches[node] for node in nodes)

    def _know(self, pairs: list[SwitchPair]) -> None:
        """Have candidates of pairs of switches."""
        if new := sorted(set(pairs) - self._index.keys()):
            known = [*self._index, *new]
            place = {switch: k for k, switch in enumerate(self._wiring.switches)}
            self._base = paths_of(self._network, [(place[a], place[b]) for a, b in known])
            self._index = {pair: k for k, pair in enumerate(known)}

    def _settle(self, pairs: tuple[PairName, ...], between: tuple[SwitchPair, ...]) -> None:
        """Go on with these pairs in this network."""
        there = set(self._wiring.switches)
        kept = [k for k, ends in enumerate(between) if there.issuperset(ends)]
        pairs, between = tuple(pairs[k] for k in kept), tuple(between[k] for k in kept)
        self._know(list(between))
        paths = self._base.repeated(np.array([self._index[ends] for ends in between], np.int64))
        routes = tuple(self._route(nodes) for nodes in paths.nodes)
        pair_before = {pair: k for k, pair in enumerate(self._pairs)}
        path_before = {
            (self._pairs[k], route): place
            for place, (k, route) in enumerate(zip(self._paths.pair.tolist(), self._routes, strict=True))
        }
        pair = np.array([pair_before.get(name, -1) for name in pairs], np.int64)
        of = zip(paths.pair.tolist(), routes, strict=True)
        path = np.array([path_before.get((pairs[k], route), -1) for k, route in of], np.int64)
        self._planner.adopt(paths, pair, path)
        self._traffic = np.where(pair >= 0, self._traffic[pair] if len(self._traffic) else 0.0, 0.0)
        self._pairs, self._between, self._paths, self._routes = pairs, between, paths, routes


def _are_all(ahead: list[FloatArray | None]) -> bool:
    return bool(ahead) and all(each is not None for each in ahead)
