"""Switches that are only computed: they do what their rules say, packet by packet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from forestall.fabric.changes import after
from forestall.model.errors import FabricError
from forestall.model.switching import (
    BACK,
    CONTROLLER,
    Action,
    Bucket,
    Change,
    Flow,
    GroupKind,
    Match,
    Output,
    Rules,
    SetClass,
    SetPath,
    SetTarget,
    ToGroup,
)
from forestall.ports.fabric import (
    Cable,
    FabricView,
    FlowCount,
    Interface,
    Place,
    Port,
    PortCount,
    PortQueues,
    Remembered,
    Switch,
)

MOST_HOPS = 32
SPEED = 1.25e9


class Packet(NamedTuple):
    """What a switch sees of a packet."""

    eth_src: str
    eth_dst: str
    eth_type: int = 0x0800
    ip_dscp: int = 0


class Arrival(NamedTuple):
    """Where a packet came out of the network, and how it looked then."""

    place: Place
    packet: Packet


class SimulatedFabric:
    """Implements :class:`~forestall.ports.fabric.Fabric`.

    Parameters
    ----------
    cables
        How switches are connected; they have the ports that these name.
    interfaces
        Who is connected to which port.
    """

    def __init__(self, cables: Iterable[Cable], interfaces: Iterable[Interface]) -> None:
        self.cables, self.interfaces = tuple(sorted(cables)), tuple(sorted(interfaces))
        places = {place for cable in self.cables for place in cable} | {each.place for each in self.interfaces}
        self.down: set[Cable] = set()
        self.away: set[int] = set()
        self.connection = dict.fromkeys({place.switch for place in places}, 1)
        self._ports = {s: {p.port for p in places if p.switch == s} for s in self.connection}
        self.told: dict[int, Rules] = {switch: Rules() for switch in self.connection}
        self.refuses: Callable[[Change], bool] = lambda change: False
        self.changes = self.queue_changes = 0
        self.counts: dict[tuple[int, Flow], FlowCount] = {}
        self.ports: dict[Place, PortCount] = {}
        self._queues: dict[Place, PortQueues] = {}
        self._numbers = count(2)

    def believe(self, cables: Collection[Cable]) -> None:
        """What is heard is known here."""

    def view(self) -> FabricView:
        """The network as it is now."""
        dead = {place for cable in self.down for place in cable}
        switches = {
            s: Switch(
                f"s{s}",
                {p: Port(f"s{s}-{p}", Place(s, p) not in dead, SPEED) for p in sorted(ports)},
                self.connection[s],
            )
            for s, ports in sorted(self._ports.items())
            if s not in self.away
        }
        heard = [c for c in self.cables if c not in self.down and not self.away & {c.one.switch, c.other.switch}]
        return FabricView(switches, tuple(heard), self.interfaces)

    def wait(self, seconds: float) -> bool:
        """Time does not pass here."""
        return True

    def add_ports(self, interfaces: Iterable[Interface]) -> None:
        """Let switches have the ports that interfaces are to be connected to."""
        for each in interfaces:
            self._ports[each.place.switch].add(each.place.port)

    def forget(self, switch: int) -> None:
        """Let a switch begin anew: it knows nothing."""
        self.told[switch] = Rules()
        self.connection[switch] = next(self._numbers)

    def rules(self, switch: int) -> Rules:
        """What a switch does."""
        self._there(switch)
        return self.told[switch]

    def change(self, changes: Mapping[int, Sequence[Change]]) -> None:
        """Change rules, switch by switch."""
        for switch, of_switch in changes.items():
            self._there(switch)
            for change in of_switch:
                if self.refuses(change):
                    raise FabricError(f"switch {switch:016x} refused a change")
                self.do(switch, change)

    def do(self, switch: int, change: Change) -> None:
        """Make one change."""
        self.changes += 1
        self.told[switch] = after(self.told[switch], [change])

    def flow_counts(self, switch: int, table: int) -> Mapping[Flow, FlowCount]:
        """Counters that a test has set."""
        self._there(switch)
        flows = [flow for flow in self.told[switch].flows.values() if flow.table == table]
        return {flow: self.counts.get((switch, flow), FlowCount(0, 0)) for flow in flows}

    def port_counts(self, switch: int) -> Mapping[int, PortCount]:
        """Counters that a test has set."""
        self._there(switch)
        none = PortCount(0, 0, 0, 0, 0)
        return {port: self.ports.get(Place(switch, port), none) for port in self._ports[switch]}

    def queues(self) -> Mapping[Place, PortQueues]:
        """Queues that were set."""
        return dict(self._queues)

    def set_queues(self, place: Place, queues: PortQueues | None) -> None:
        """Remember them."""
        self.queue_changes += 1
        if queues is None:
            self._queues.pop(place, None)
        else:
            self._queues[place] = queues

    def _there(self, switch: int) -> None:
        if switch in self.away:
            raise FabricError(f"switch {switch:016x} is not connected")

    def arriving(self, place: Place, target: str) -> list[list[Arrival]]:
        """What becomes of a packet that comes in by some port."""
        return self._arrivals(place, Packet("0a:00:00:00:00:01", target), 0)

    def sent(self, source: Interface, target: str, eth_src: str = "", eth_type: int = 0x0800) -> list[list[Arrival]]:
        """Where a packet of an interface comes out, for each way that groups may choose.

        Raises
        ------
        FabricError
            It goes round in circles.
        """
        packet = Packet(eth_src or source.address, target, eth_type)
        return self._arrivals(source.place, packet, 0)

    def _arrivals(self, place: Place, packet: Packet, hops: int) -> list[list[Arrival]]:
        if hops > MOST_HOPS:
            raise FabricError(f"a packet to {packet.eth_dst} goes round in circles")
        return self._through(place, packet, 0, 0, hops)

    def _through(self, place: Place, packet: Packet, table: int, depth: int, hops: int) -> list[list[Arrival]]:
        """What becomes of a packet in a table of a switch."""
        flow = self._applies(place, packet, table)
        if flow is None:
            return [[]]
        done = self._acted(place, packet, flow.actions, hops)
        if not flow.then:
            return [arrivals for arrivals, _ in done]
        return [
            [*arrivals, *more]
            for arrivals, changed in done
            for more in self._through(place, changed, flow.then, depth + 1, hops)
        ]

    def _applies(self, place: Place, packet: Packet, table: int) -> Flow | None:
        found = [
            flow
            for flow in self.told[place.switch].flows.values()
            if flow.table == table and _matches(flow.match, place.port, packet)
        ]
        return max(found, key=lambda flow: flow.priority, default=None)

    def _acted(
        self, place: Place, packet: Packet, actions: Sequence[Action], hops: int
    ) -> list[tuple[list[Arrival], Packet]]:
        """Arrivals that follow from actions, and what the packet is then, for each way that groups may choose."""
        ways: list[tuple[list[Arrival], Packet]] = [([], packet)]
        for action in actions:
            ways = [
                ([*before, *arrivals], changed)
                for before, now in ways
                for arrivals, changed in self._one(place, now, action, hops)
            ]
        return ways

    def _one(self, place: Place, packet: Packet, action: Action, hops: int) -> list[tuple[list[Arrival], Packet]]:
        match action:
            case SetTarget(address):
                return [([], packet._replace(eth_dst=address))]
            case SetPath(path):
                digits = f"{path:06x}"
                label = [packet.eth_dst[:2], digits[:2], digits[2:4], digits[4:], packet.eth_dst[12:]]
                return [([], packet._replace(eth_dst=":".join(label)))]
            case SetClass(dscp):
                return [([], packet._replace(ip_dscp=dscp))]
            case ToGroup(number):
                return [(arrivals, packet) for arrivals in self._grouped(place, packet, number, hops)]
            case Output(port):
                return [(arrivals, packet) for arrivals in self._out(place, packet, port, hops)]

    def _grouped(self, place: Place, packet: Packet, number: int, hops: int) -> list[list[Arrival]]:
        group = self.told[place.switch].groups.get(number)
        if group is None:
            return [[]]
        live = [bucket for bucket in group.buckets if self._lives(place.switch, bucket)]

        def through(bucket: Bucket) -> list[list[Arrival]]:
            return [arrivals for arrivals, _ in self._acted(place, packet, bucket.actions, hops)]

        if group.kind is GroupKind.ALL:
            ways: list[list[Arrival]] = [[]]
            for bucket in live:
                ways = [[*before, *more] for before in ways for more in through(bucket)]
            return ways
        chosen = live if group.kind is GroupKind.SELECT else live[:1]
        return [arrivals for bucket in chosen for arrivals in through(bucket)] or [[]]

    def _lives(self, switch: int, bucket: Bucket) -> bool:
        return not bucket.watch or self._other_end(Place(switch, bucket.watch)) is not None

    def _out(self, place: Place, packet: Packet, port: int, hops: int) -> list[list[Arrival]]:
        if port == CONTROLLER or port == place.port:  # never back, unless that is said
            return [[]]
        out = Place(place.switch, place.port if port == BACK else port)
        if any(interface.place == out for interface in self.interfaces):
            return [[Arrival(out, packet)]]
        other = self._other_end(out)
        return [[]] if other is None else self._arrivals(other, packet, hops + 1)

    def _other_end(self, place: Place) -> Place | None:
        for cable in self.cables:
            if place in cable and cable not in self.down:
                return cable.other if cable.one == place else cable.one
        return None


def _matches(match: Match, port: int, packet: Packet) -> bool:
    seen: dict[str, object] = {"in_port": port, **packet._asdict()}
    for name, value in match:
        if isinstance(value, tuple):
            address, mask = (int(part.replace(":", ""), 16) for part in value)
            if int(str(seen[name]).replace(":", ""), 16) & mask != address & mask:
                return False
        elif seen.get(name) != value:
            return False
    return True


class MemoryBook:
    """A :class:`~forestall.ports.fabric.FabricBook` that forgets with the process."""

    def __init__(self) -> None:
        self.remembered = Remembered()

    def load(self) -> Remembered:
        """What was saved last."""
        return self.remembered

    def save(self, remembered: Remembered) -> None:
        """Keep it."""
        self.remembered = replace(remembered)
