"""What each switch must be told so that traffic goes where it is meant to.

A packet gets a label where it enters the network: the address that it goes to becomes the number of a path and that of
the interface at its end, and is put back where it leaves. Switches on the way look at the number of the path alone. So
a packet follows one path from end to end, whatever is being changed: there are no loops, and what is new is in place
before anything is sent along it. Each switch knows a way around each of its links, too, and takes it by itself when the
link dies.

Sources: Agarwal et al., Shadow MACs: scalable label-switching for commodity Ethernet, HotSDN 2014; Reitblatt et al.,
Abstractions for network update, SIGCOMM 2012.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from forestall.fabric.labels import HOST_MASK, label, name_of, path_of
from forestall.fabric.laying import ARRIVAL, DELIVERY, DESTINATION, TRANSIT, Layer
from forestall.fabric.numbers import Numbered, Numbers
from forestall.fabric.wiring import Route, Wiring
from forestall.model.switching import (
    CONTROLLER,
    Action,
    Bucket,
    FieldValue,
    Flow,
    Group,
    GroupKind,
    Match,
    Meter,
    Output,
    Rules,
    SetClass,
    SetPath,
    SetTarget,
    ToGroup,
    matching,
)
from forestall.ports.fabric import Interface

IPV4, LLDP = 0x0800, 0x88CC
FOR_ALL = 5_000
_DISCOVERY, _SENDER, _REFUSED = 30_000, 10_000, 1_000
_SENDER_OTHER = 9_000
_PAIR, _ANYBODY, _EVERYBODY = 20_000, 10_000, 5_000
_GROUP_ADDRESS = ("01:00:00:00:00:00", "01:00:00:00:00:00")
_WHOLE = 100
BITS = 8
BURST_SECONDS = 1.0
"""A meter lets as much through at once: with less TCP gets half of it."""


@dataclass(frozen=True)
class Admission:
    """How an interface is let into the network.

    Attributes
    ----------
    dscp
        Class of what it sends; None: as it says itself.
    most_bytes_per_s
        It may send so much; 0: no limit.
    """

    dscp: int | None = None
    most_bytes_per_s: float = 0.0


Ways = tuple[tuple[Route, float], ...]
"""Routes and their shares, which add up to 1."""


@dataclass(frozen=True)
class Intent:
    """What the network is to do.

    Attributes
    ----------
    wiring
        Switches and links that are up.
    interfaces
        Who is connected.
    ways
        From one switch to another, for whom nothing else is said.
    pair_ways
        From one interface to another, by their addresses.
    admission
        By address; one that is not named is let in as it is.
    listened
        Ports at which neighbours are listened for, by switch.
    tree
        Links along which goes what is for everybody; None: the tree of the wiring.
    """

    wiring: Wiring
    interfaces: tuple[Interface, ...]
    ways: Mapping[tuple[int, int], Ways]
    pair_ways: Mapping[tuple[str, str], Ways] = field(default_factory=dict)
    admission: Mapping[str, Admission] = field(default_factory=dict)
    listened: Mapping[int, Sequence[int]] = field(default_factory=dict)
    tree: frozenset[tuple[int, int]] | None = None


class RuleWriter:
    """Writes rules, again and again; what follows from the network alone is written anew only when that changes.

    Parameters
    ----------
    numbers
        Of paths, interfaces, groups and meters; those that are not in use any more are let go.
    """

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._layer = Layer(numbers)
        self._base: _Sheet | None = None

    def rules(self, intent: Intent) -> dict[int, Rules]:
        """What each switch must be told."""
        if self._base is None or not self._base.serves(intent):
            self._layer.rewire(intent.wiring)
            self._base = _Sheet(intent, self._numbers, self._layer)
            self._base.write_network()
        sheet = self._base.copy(intent)
        sheet.write_traffic()
        return sheet.rules()


def paths_laid(flows: Iterable[Flow]) -> set[int]:
    """Numbers of the paths that these rules are about, at switches along them."""
    return {path_of(value[0]) for flow in flows if (value := _label_of(flow)) is not None}


def _label_of(flow: Flow) -> tuple[str, str] | None:
    if flow.table != ARRIVAL or flow.priority != TRANSIT:
        return None
    value = dict(flow.match).get("eth_dst")
    return value if isinstance(value, tuple) else None


def without_paths(rules: Rules, paths: Set[int]) -> Rules:
    """Rules by which no packet is sent along these paths, as far as there are others."""
    groups = {}
    for number, group in rules.groups.items():
        kept = tuple(bucket for bucket in group.buckets if _path_in(bucket) not in paths)
        groups[number] = replace(group, buckets=kept) if kept and len(kept) < len(group.buckets) else group
    return Rules(rules.flows, groups, rules.meters)


def _path_in(bucket: Bucket) -> int:
    return next((action.path for action in bucket.actions if isinstance(action, SetPath)), 0)


def pair_of(match: Match) -> tuple[str, str] | None:
    """The two interfaces that a rule of the table of destinations is about; None for one that is about many."""
    fields = dict(match)
    source, target = fields.get("eth_src"), fields.get("eth_dst")
    return (source, target) if isinstance(source, str) and isinstance(target, str) else None


class _Sheet:
    """Rules as they are being written, switch by switch."""

    def __init__(self, intent: Intent, numbers: Numbers, layer: Layer) -> None:
        self._intent, self._numbers, self._layer, self._wiring = intent, numbers, layer, intent.wiring
        self._flows: dict[int, dict[tuple[int, int, Match], Flow]] = {s: {} for s in intent.wiring.switches}
        self._groups: dict[int, dict[int, Group]] = {s: {} for s in intent.wiring.switches}
        self._meters: dict[int, dict[int, Meter]] = {s: {} for s in intent.wiring.switches}
        self._laid: dict[Route, bool] = {}
        self._names: dict[Numbered, set[str]] = {kind: set() for kind in Numbered}

    def serves(self, intent: Intent) -> bool:
        """Whether what follows from the network is the same for another intent."""
        ours = self._intent
        return ours.wiring is intent.wiring and (ours.interfaces, ours.ways, ours.listened, ours.tree) == (
            intent.interfaces,
            intent.ways,
            intent.listened,
            intent.tree,
        )

    def copy(self, intent: Intent) -> _Sheet:
        """The same, to write on for another intent."""
        sheet = _Sheet(intent, self._numbers, self._layer)
        sheet._flows = {switch: dict(flows) for switch, flows in self._flows.items()}
        sheet._groups = {switch: dict(groups) for switch, groups in self._groups.items()}
        sheet._laid = dict(self._laid)
        sheet._names = {kind: set(names) for kind, names in self._names.items()}
        return sheet

    def write_network(self) -> None:
        """What follows from who is connected, and how: everybody reaches everybody by all shortest ways."""
        for switch in self._wiring.switches:
            self._common(switch)
        for interface in self._intent.interfaces:
            if interface.place.switch in self._flows:
                self._deliver(interface)
        ends = {each.place.switch for each in self._intent.interfaces} & set(self._wiring.switches)
        for interface in self._intent.interfaces:
            self._lead_to(interface, ends)

    def write_traffic(self) -> None:
        """What is decided: who is let in how, and pairs that have ways of their own."""
        for interface in self._intent.interfaces:
            if interface.place.switch in self._flows:
                self._admit(interface)
        self._lead_pairs()

    def rules(self) -> dict[int, Rules]:
        """What is written."""
        for kind, names in self._names.items():
            self._numbers.keep(kind, names)
        self._layer.keep(self._laid)
        return {s: Rules(self._flows[s], self._groups[s], self._meters[s]) for s in self._wiring.switches}

    def _number(self, kind: Numbered, name: str) -> int:
        self._names[kind].add(name)
        return self._numbers.of(kind, name)

    def _flow(
        self,
        switch: int,
        table: int,
        priority: int,
        match: Match,
        actions: Iterable[Action] = (),
        meter: int = 0,
        then: int = 0,
    ) -> None:
        flow = Flow(table, priority, match, tuple(actions), meter, then)
        self._flows[switch][flow.key] = flow

    def _group(self, switch: int, name: str, kind: GroupKind, buckets: Iterable[Bucket]) -> ToGroup:
        number = self._number(Numbered.GROUP, f"{switch:x} {name}")
        self._groups[switch][number] = Group(number, kind, tuple(buckets))
        return ToGroup(number)

    def _common(self, switch: int) -> None:
        """What is for all, and what comes from where it should not."""
        wiring = self._wiring
        tree = wiring.tree if self._intent.tree is None else self._intent.tree
        links = {wiring.port[switch, other]: (switch, other) in tree for other in wiring.next_to[switch]}
        hosts = [each.place.port for each in self._intent.interfaces if each.place.switch == switch]
        onward = sorted({*(port for port, in_tree in links.items() if in_tree), *hosts})
        everybody = self._group(switch, "all", GroupKind.ALL, (Bucket((Output(port),)) for port in onward))
        self._flow(switch, DESTINATION, _EVERYBODY, matching(eth_dst=_GROUP_ADDRESS), [everybody])
        for port, in_tree in links.items():
            if in_tree:
                self._flow(switch, ARRIVAL, FOR_ALL, matching(in_port=port, eth_dst=_GROUP_ADDRESS), [everybody])
        for port in {*links, *hosts}:
            self._flow(switch, ARRIVAL, _REFUSED, matching(in_port=port))
        for port in hosts:  # what a guest sends as if it were a switch goes nowhere
            self._flow(switch, ARRIVAL, _DISCOVERY, matching(in_port=port, eth_type=LLDP))
        for port in self._intent.listened.get(switch, ()):
            self._flow(switch, ARRIVAL, _DISCOVERY, matching(in_port=port, eth_type=LLDP), [Output(CONTROLLER)])

    def _admit(self, interface: Interface) -> None:
        """What an interface sends, under its own address alone."""
        switch, port = interface.place
        admission = self._intent.admission.get(interface.address, Admission())
        meter = 0
        if admission.most_bytes_per_s > 0:
            meter = self._number(Numbered.METER, f"{switch:x} {interface.address}")
            kilobits = max(round(admission.most_bytes_per_s * BITS / 1e3), 1)
            self._meters[switch][meter] = Meter(meter, kilobits, max(round(kilobits * BURST_SECONDS), 1))
        sender: dict[str, FieldValue] = {"in_port": port, "eth_src": interface.address}
        self._flow(switch, ARRIVAL, _SENDER_OTHER, matching(**sender), meter=meter, then=DESTINATION)
        if admission.dscp is not None:
            mark = [SetClass(admission.dscp)]
            self._flow(switch, ARRIVAL, _SENDER, matching(**sender, eth_type=IPV4), mark, meter, DESTINATION)

    def _deliver(self, interface: Interface) -> None:
        switch, port = interface.place
        match = matching(eth_dst=(label(0, self._host(interface)), HOST_MASK))
        actions = (SetTarget(interface.address), Output(port))
        self._flow(switch, DELIVERY, _ANYBODY, match, actions)

    def _host(self, interface: Interface) -> int:
        return self._number(Numbered.HOST, interface.address)

    def _lead_to(self, interface: Interface, ends: set[int]) -> None:
        """From everywhere to an interface."""
        end, port = interface.place
        for switch in ends:
            match = matching(eth_dst=interface.address)
            if switch == end:
                self._flow(switch, DESTINATION, _ANYBODY, match, [Output(port)])
            elif ways := self._intent.ways.get((switch, end)):
                group = self._spread(f"to {end:x}", ways)
                actions = (SetTarget(label(0, self._host(interface))), group)
                self._flow(switch, DESTINATION, _ANYBODY, match, actions)

    def _lead_pairs(self) -> None:
        at = {interface.address: interface for interface in self._intent.interfaces}
        for (source, target), ways in self._intent.pair_ways.items():
            if source not in at or target not in at:
                continue
            switch, end = at[source].place.switch, at[target].place.switch
            if switch == end or switch not in self._flows or end not in self._flows:
                continue
            name = " ".join(f"{name_of(route)}*{_weight(share)}" for route, share in ways)
            actions = (SetTarget(label(0, self._host(at[target]))), self._spread(name, ways))
            self._flow(switch, DESTINATION, _PAIR, matching(eth_src=source, eth_dst=target), actions)

    def _spread(self, name: str, ways: Ways) -> ToGroup:
        """A group that sends packets along some routes; one whose first link dies is left out at once."""
        start = ways[0][0][0]
        number = self._number(Numbered.GROUP, f"{start:x} {name}")
        if number in self._groups[start]:
            return ToGroup(number)
        buckets = [self._first(route, _weight(share)) for route, share in ways]
        kind = GroupKind.SELECT
        if len(ways) == 1:
            kind, route = GroupKind.FAILOVER, ways[0][0]
            around = self._wiring.detour(route, 0)
            buckets = [self._first(each, 0) for each in (route, around) if each is not None]
        self._groups[start][number] = Group(number, kind, tuple(buckets))
        return ToGroup(number)

    def _first(self, route: Route, weight: int) -> Bucket:
        self._lay(route)
        port = self._wiring.port[route[0], route[1]]
        return Bucket((SetPath(self._path(route)), Output(port)), weight, port)

    def _path(self, route: Route) -> int:
        return self._number(Numbered.PATH, name_of(route))

    def _lay(self, route: Route, protected: bool = True) -> None:
        """Tell the switches along a route about it, but for the first."""
        if self._laid.get(route, False) or (route in self._laid and not protected):
            return
        self._laid[route] = protected
        laid = self._layer.laid(route, protected)
        for switch, key, flow in laid.flows:
            self._flows[switch][key] = flow
        for switch, group in laid.groups:
            self._groups[switch][group.number] = group
        for kind, name in laid.names:
            self._names[kind].add(name)
        for around in laid.around:
            if around is not None:
                self._lay(around, protected=False)


def _weight(share: float) -> int:
    return max(round(share * _WHOLE), 1)
