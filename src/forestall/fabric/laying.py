"""What the switches along a route are told of it; kept, for when a link dies most routes are as they were.

Switches look at the number of the path alone. Each knows a way around the link that comes next, too, and takes it by
itself while that is down.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from forestall.fabric.labels import PATH_MASK, label, name_of
from forestall.fabric.numbers import Numbered, Numbers
from forestall.fabric.wiring import Route, Wiring
from forestall.model.switching import (
    BACK,
    Action,
    Bucket,
    Flow,
    Group,
    GroupKind,
    Match,
    Output,
    SetPath,
    ToGroup,
    matching,
)

ARRIVAL, DESTINATION, DELIVERY = 0, 70, 71
"""Tables: who is it that sends, or along which path does it come; where is it for; and it has arrived."""
TRANSIT = 20_000
"""Priority of what comes along a path."""


class Laid(NamedTuple):
    """What there is of one route.

    Attributes
    ----------
    flows, groups
        With the switch that each is for; flows with their keys.
    names
        What has a number because of it.
    around
        The detour at each switch between its ends; None where there is none, and of one that is not protected.
    """

    flows: tuple[tuple[int, tuple[int, int, Match], Flow], ...]
    groups: tuple[tuple[int, Group], ...]
    names: tuple[tuple[Numbered, str], ...]
    around: tuple[Route | None, ...]


class Layer:
    """Lays routes through a network that changes.

    Parameters
    ----------
    numbers
        Of paths and groups.
    """

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._wiring = Wiring((), {})
        self._known: dict[tuple[Route, bool], Laid] = {}

    def rewire(self, wiring: Wiring) -> None:
        """The network is another one: forget routes that are not laid as they were."""
        old, self._wiring = self._wiring, wiring
        if old is wiring:
            return
        changed = {end for link in old.port.items() ^ wiring.port.items() for end in (link[0], link[0][::-1])}
        self._known = {
            key: laid
            for key, laid in self._known.items()
            if changed.isdisjoint(pairwise(key[0])) and self._around(*key) == laid.around
        }

    def keep(self, used: Mapping[Route, bool]) -> None:
        """Forget all others, whose numbers may be given to somebody else."""
        if self._known.keys() != used.items():
            self._known = {key: laid for key, laid in self._known.items() if used.get(key[0]) is key[1]}

    def laid(self, route: Route, protected: bool) -> Laid:
        """What the switches along a route must be told of it; the first of them, nothing."""
        found = self._known.get((route, protected))
        if found is None:
            found = self._known[route, protected] = self._lay(route, self._around(route, protected))
        return found

    def _around(self, route: Route, protected: bool) -> tuple[Route | None, ...]:
        inner = range(1, len(route) - 1)
        return tuple(self._wiring.detour(route, at) if protected else None for at in inner)

    def _lay(self, route: Route, around: tuple[Route | None, ...]) -> Laid:
        port = self._wiring.port
        names = [(Numbered.PATH, name_of(route))]
        seen_as = (label(self._path(route), 0), PATH_MASK)
        flows, groups = [], []
        for before, switch, after, detour in zip(route, route[1:], route[2:], around, strict=False):
            came_by, leave_by = port[switch, before], port[switch, after]
            action: Action = Output(leave_by)
            if detour is not None:
                name, buckets = self._either(leave_by, detour, came_by)
                number = self._numbers.of(Numbered.GROUP, name)
                names += [(Numbered.GROUP, name), (Numbered.PATH, name_of(detour))]
                groups.append((switch, Group(number, GroupKind.FAILOVER, buckets)))
                action = ToGroup(number)
            flows.append((switch, Flow(ARRIVAL, TRANSIT, matching(in_port=came_by, eth_dst=seen_as), (action,))))
        came_by = port[route[-1], route[-2]]
        flows.append((route[-1], Flow(ARRIVAL, TRANSIT, matching(in_port=came_by, eth_dst=seen_as), then=DELIVERY)))
        return Laid(tuple((switch, flow.key, flow) for switch, flow in flows), tuple(groups), tuple(names), around)

    def _either(self, leave_by: int, around: Route, came_by: int) -> tuple[str, tuple[Bucket, ...]]:
        """Out of the port that comes next, or around it while it is down; and the name of a group that does so."""
        first = self._wiring.port[around[0], around[1]]
        back = first == came_by
        buckets = (
            Bucket((Output(leave_by),), 0, leave_by),
            Bucket((SetPath(self._path(around)), Output(BACK if back else first)), 0, first),
        )
        return f"{around[0]:x} {leave_by} around {name_of(around)}{' back' if back else ''}", buckets

    def _path(self, route: Route) -> int:
        return self._numbers.of(Numbered.PATH, name_of(route))
