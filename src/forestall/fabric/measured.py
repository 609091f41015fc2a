"""What is sent through the network, from what its counters say at two instants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from forestall.fabric.completion import complete
from forestall.fabric.rules import pair_of
from forestall.model.samples import FloatArray
from forestall.model.switching import Flow
from forestall.ports.fabric import FlowCount, Interface, Place, PortCount

PairName = tuple[str, str]
MOST_ESTIMATED = 128
"""Whom interfaces send to is estimated for so many, of which least is known; pairs are the square of that."""


@dataclass(frozen=True)
class Traffic:
    """What was sent in an interval, bytes per second.

    Attributes
    ----------
    pairs
        From one interface to another, by their addresses; estimated where it has not been counted.
    counted
        Pairs of which it has.
    sent, received
        By interface.
    links
        Out of each port.
    dropped
        Packets per second that were lost at each port.
    """

    pairs: Mapping[PairName, float] = field(default_factory=dict)
    counted: frozenset[PairName] = frozenset()
    sent: Mapping[str, float] = field(default_factory=dict)
    received: Mapping[str, float] = field(default_factory=dict)
    links: Mapping[Place, float] = field(default_factory=dict)
    dropped: Mapping[Place, float] = field(default_factory=dict)


class Gauge:
    """Remembers what counters said."""

    def __init__(self) -> None:
        self._at = float("nan")
        self._ports: dict[Place, PortCount] = {}
        self._pairs: dict[PairName, int] = {}

    def read(
        self,
        now: float,
        interfaces: tuple[Interface, ...],
        ports: Mapping[Place, PortCount],
        flows: Mapping[Flow, FlowCount],
    ) -> Traffic | None:
        """What was sent since the last reading; None at the first.

        A counter that is less than it was has begun anew.

        Parameters
        ----------
        now
            Monotonic time, seconds.
        interfaces
            Who is there.
        ports
            What went through ports.
        flows
            What entries of the tables of destinations have applied to.
        """
        pairs = {pair: count.bytes for flow, count in flows.items() if (pair := pair_of(flow.match))}
        seconds, before_ports, before_pairs = now - self._at, self._ports, self._pairs
        self._at, self._ports, self._pairs = now, dict(ports), pairs
        if not seconds > 0.0:
            return None
        none = PortCount(0, 0, 0, 0, 0)

        def rate(count: int, before: int) -> float:
            return (count - before if count >= before else count) / seconds

        def of_port(place: Place, what: str) -> float:
            if place not in ports or place not in before_ports:
                return 0.0
            return rate(getattr(ports[place], what), getattr(before_ports.get(place, none), what))

        sent = {each.address: of_port(each.place, "received_bytes") for each in interfaces}
        received = {each.address: of_port(each.place, "sent_bytes") for each in interfaces}
        # a rule of a switch that was not heard of the last time may be there for long
        seen = {each.address for each in interfaces if each.place in before_ports}
        counted = {
            pair: rate(count, before_pairs.get(pair, 0))
            for pair, count in pairs.items()
            if pair in before_pairs or pair[0] in seen
        }
        return Traffic(
            pairs=_completed(interfaces, sent, received, counted),
            counted=frozenset(counted),
            sent=sent,
            received=received,
            links={place: of_port(place, "sent_bytes") for place in ports},
            dropped={place: of_port(place, "dropped_packets") for place in ports},
        )


def _completed(
    interfaces: tuple[Interface, ...],
    sent: Mapping[str, float],
    received: Mapping[str, float],
    counted: Mapping[PairName, float],
) -> dict[PairName, float]:
    """All pairs that send anything: counted, else estimated."""
    left = {name: sent.get(name, 0.0) + received.get(name, 0.0) for name in (each.address for each in interfaces)}
    for (source, target), bytes_per_s in counted.items():
        for name in (source, target):
            left[name] = left.get(name, 0.0) - bytes_per_s
    here = sent.keys()
    names = sorted((name for name in left if name in here), key=lambda name: (-left[name], name))[:MOST_ESTIMATED]
    place = {name: k for k, name in enumerate(names)}
    known: FloatArray = np.full((len(names), len(names)), np.nan)
    for (source, target), bytes_per_s in counted.items():
        if source in place and target in place:
            known[place[source], place[target]] = bytes_per_s
    rows, columns = (np.array([found[name] for name in names]) for found in (sent, received))
    matrix = complete(rows, columns, known)
    found = {(names[a], names[b]): float(matrix[a, b]) for a, b in zip(*np.nonzero(matrix > 0.0), strict=True)}
    return found | {pair: rate for pair, rate in counted.items() if rate > 0.0}
