"""The loop over the network: sees what is connected, reads what is sent, decides ways, classes and limits, and tells
switches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from forestall.fabric.candidates import SENT, Candidates
from forestall.fabric.changes import Steps
from forestall.fabric.classes import DSCP, queues_of
from forestall.fabric.faults import Faults
from forestall.fabric.laying import DESTINATION
from forestall.fabric.limits import Asker, Claim, limits_of
from forestall.fabric.measured import Gauge, PairName, Traffic
from forestall.fabric.numbers import Numbered, Numbers
from forestall.fabric.outlook import Outlook, Series
from forestall.fabric.pairs import Demand, PairPlanner
from forestall.fabric.rules import Admission, Intent, RuleWriter, Ways
from forestall.fabric.settings import FabricSettings
from forestall.fabric.sight import Sight
from forestall.fabric.telling import Telling
from forestall.fabric.wiring import Wiring
from forestall.model.switching import Flow
from forestall.ports.fabric import (
    Cable,
    Fabric,
    FabricBook,
    FabricView,
    FlowCount,
    Interface,
    PairWays,
    Place,
    PortQueues,
    Remembered,
)

DEFAULT_BYTES_PER_S = 125e6
"""Of a link of which nobody says what it carries: a gigabit per second."""


class Plan(NamedTuple):
    """What is to be done to make the network do as it should."""

    steps: Steps
    queues: Mapping[Place, PortQueues | None]

    def __len__(self) -> int:
        return sum(len(changes) for step in self.steps for changes in step.values()) + len(self.queues)


@dataclass
class State:
    """What the loop last saw and decided."""

    view: FabricView = field(default_factory=lambda: FabricView({}, (), ()))
    wiring: Wiring = field(default_factory=lambda: Wiring((), {}))
    traffic: Traffic = field(default_factory=Traffic)
    pair_ways: Mapping[PairName, Ways] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


class FabricDriver:
    """The loop.

    Parameters
    ----------
    fabric
        Switches.
    settings
        How.
    book
        Where is kept what must stay the same.
    monotonic, now, sleep
        Time, seconds; ``now`` that of the calendar.
    log
        Takes the highest rates of an interval, by series, and when it began.
    claims
        What is known of VMs, by their names.
    note
        Takes one line for the operator.
    acts
        Whether switches are told anything; else it is only planned.
    luck
        From 0 to 1: where numbers begin if none are remembered.
    """

    def __init__(
        self,
        fabric: Fabric,
        settings: FabricSettings,
        book: FabricBook,
        monotonic: Callable[[], float],
        now: Callable[[], float],
        sleep: Callable[[float], None],
        log: Callable[[Mapping[Series, float], int], None],
        claims: Callable[[tuple[str, ...]], Mapping[str, Claim]],
        note: Callable[[str], None],
        acts: bool = True,
        luck: float = 0.0,
    ) -> None:
        self._fabric, self._settings, self._book, self._monotonic = fabric, settings, book, monotonic
        self._now = now
        self._log, self._claims, self._note, self._acts = log, claims, note, acts
        remembered = book.load()
        self._numbers, self._saved = Numbers(remembered.numbers, luck), remembered
        fabric.believe(remembered.cables)
        self._faults = Faults(note)
        laid_before = remembered.numbers.get(Numbered.PATH, {}).values()
        self._telling = Telling(fabric, self._faults, sleep, settings.drain_seconds, list(laid_before))
        self._writer = RuleWriter(self._numbers)
        self._sight = Sight(remembered.switches, remembered.cables, monotonic(), note)
        before = {(source, target): ways for source, target, ways in remembered.ways}
        self._planner = PairPlanner(settings.planner, before)
        self._gauge = Gauge()
        self._outlook = Outlook()
        self._candidates = Candidates(settings.most_pairs)
        self._queued: dict[Place, PortQueues] | None = None
        self._tree: frozenset[tuple[int, int]] = frozenset()
        self._place_of: dict[str, Place] = {}
        self._here: tuple[Interface, ...] = ()
        self.state = State()

    def look(self) -> Plan:
        """See what is connected, and have the network do what was decided last; what had to be done is returned."""
        plan = self.plan()
        if self._acts:
            self.carry_out(plan)
        return plan

    def beat(self) -> Plan:
        """Read what was sent, decide anew, and have it done."""
        self._see()
        self.state.claims = self._claims(tuple(sorted({each.vm_id for each in self.state.view.interfaces})))
        self._look_again()
        traffic = self._read()
        if traffic is not None:
            self.state.traffic = traffic
            self._foresee(traffic)
            self.state.pair_ways = self._planner.decide(self._demand(traffic))
        if self._settings.limits:
            self.state.limits = self._limits()
        return self.look()

    def _look_again(self) -> None:
        """See whether what was set is still so."""
        with self._faults.minding("queues"):
            self._queued = dict(self._fabric.queues())
        if (name := self._telling.look_again(self._name)) and self._acts:
            self._note(f"switch {name} does not do what it was told, and is told again")

    def take_over(self, outlook: Outlook) -> None:
        """Foresee by what was learned from the past elsewhere."""
        self._outlook = outlook

    def plan(self) -> Plan:
        """What would have to be done now."""
        self._see()
        intent = self._intent()
        return Plan(self._telling.steps(self._writer.rules(intent)), self._queue_changes(intent))

    def carry_out(self, plan: Plan) -> None:
        """Do it, step by step."""
        state = self.state
        ways = tuple(PairWays(*pair, ways) for pair, ways in sorted(state.pair_ways.items()))
        remembered = Remembered(self._numbers.known(), state.view.switches, state.view.cables, ways)
        if remembered != self._saved:
            with self._faults.minding("state"):  # without it a restart begins anew, which is no reason to stop now
                self._book.save(remembered)
                self._saved = remembered
        self._telling.carry_out(plan.steps)
        self._faults.keep("port ", {self._port(place) for place in plan.queues})
        for place, queues in plan.queues.items():
            with self._faults.minding(self._port(place)):
                self._fabric.set_queues(place, queues)
                if self._queued is not None:
                    self._queued.pop(place, None)
                    if queues is not None:
                        self._queued[place] = queues

    def withdraw(self) -> int:
        """Take back everything that switches were told, and queues of ports; how much it was."""
        self._see()
        plan = Plan(self._telling.steps(self._telling.nothing()), dict.fromkeys(self._fabric.queues()))
        self.carry_out(plan)
        return len(plan)

    @property
    def away(self) -> frozenset[int]:
        """Switches that are taken for there, and are not connected."""
        return self._sight.away

    @property
    def restless(self) -> bool:
        """Whether something may change though nothing comes or goes: a look is due soon."""
        told = self._telling.knows(self.state.view.switches.keys() - self.away)
        return bool(self._faults.now or self.away or self._sight.suppressed() or not told)

    def told(self, switch: int) -> int:
        """How many rules of ours a switch has, as far as it is known."""
        return self._telling.count(switch)

    @property
    def changes(self) -> int:
        """How many rules were changed since we were started."""
        return self._telling.changes

    @property
    def faults(self) -> Mapping[str, str]:
        """What is wrong just now, by where it is."""
        return dict(self._faults.now)

    def utilisation(self) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
        """Of each link, from switch to switch, by the pairs that ways are planned for: so, and by equal splitting."""
        return self._planner.utilisation()

    def costs(self) -> tuple[float, float] | None:
        """What the worst link was used of late by the plan, and by equal splitting; None before the first plan."""
        return self._planner.planner.costs

    def plan_is_in_force(self) -> bool:
        """Whether the plan is, and not equal splitting."""
        return self._planner.planner.in_force

    def flapping(self) -> frozenset[Cable]:
        """Links that come and go."""
        return self._sight.suppressed()

    def speed(self, place: Place) -> float:
        """What a port carries, bytes per second."""
        return self._speed(self.state.view, place)

    def _see(self) -> None:
        """Take in what is connected now."""
        view, wiring = self._sight.see(self._fabric.view(), self._monotonic())
        if wiring.switches != self.state.wiring.switches or wiring.port != self.state.wiring.port:
            self._planner.rewire(wiring, self._speeds(view, wiring))
            self.state.pair_ways = self._planner.in_force()
            self.state.wiring = wiring
        self.state.view = view
        self._take_in(view)
        self._telling.see(view.switches, self._sight.away)

    def _speeds(self, view: FabricView, wiring: Wiring) -> dict[tuple[int, int], float]:
        return {
            (a, b): min(self._speed(view, Place(a, port)), self._speed(view, Place(b, wiring.port[b, a])))
            for (a, b), port in wiring.port.items()
        }

    def _speed(self, view: FabricView, place: Place) -> float:
        if self._settings.link_bytes_per_s:
            return self._settings.link_bytes_per_s
        switch = view.switches.get(place.switch)
        port = switch.ports.get(place.port) if switch is not None else None
        return (port.bytes_per_s if port is not None else 0.0) or DEFAULT_BYTES_PER_S

    def _intent(self) -> Intent:
        state = self.state
        wiring, interfaces = state.wiring, self._here
        self._tree = self._tree_of(wiring)
        ends = {each.place.switch for each in interfaces}
        ways = self._planner.equal_ways({(a, b) for a in ends & set(wiring.switches) for b in ends if a != b})
        return Intent(
            wiring=wiring,
            interfaces=interfaces,
            ways=ways,
            pair_ways=state.pair_ways,
            admission={each.address: self._admission(each) for each in interfaces},
            listened=self._listened(interfaces) if self._settings.listens else {},
            tree=self._tree,
        )

    def _tree_of(self, wiring: Wiring) -> frozenset[tuple[int, int]]:
        """The tree for what is for everybody; near a switch that is away, and goes on by the old one, none joins it."""
        moved = wiring.tree ^ self._tree
        if self._tree and any({a, b} & self._sight.away for a, b in moved):
            return frozenset(link for link in self._tree if link in wiring.port)
        return wiring.tree

    def _take_in(self, view: FabricView) -> None:
        """Who is connected to switches that are there; of two with one address who had it first keeps it."""
        found: dict[str, Interface] = {}
        twice: dict[str, str] = {}
        for each in view.interfaces:
            if each.place.switch not in view.switches:
                continue
            other = found.get(each.address)
            if other is None or self._place_of.get(each.address) == each.place:
                found[each.address] = each
            if other is not None:
                names = sorted((other.vm_id, each.vm_id))
                twice[f"address {each.address}"] = f"{names[0]} and {names[1]} have it; who had it first keeps it"
        self._faults.keep("address ", twice)
        for where, what in twice.items():
            self._faults.found(where, what)
        self._place_of = {address: each.place for address, each in found.items()}
        self._here = tuple(sorted(found.values()))

    def _admission(self, interface: Interface) -> Admission:
        claim = self.state.claims.get(interface.vm_id, Claim())
        return Admission(
            dscp=None if claim.traffic_class is None else DSCP[claim.traffic_class],
            most_bytes_per_s=self.state.limits.get(interface.address, 0.0),
        )

    def _listened(self, interfaces: tuple[Interface, ...]) -> dict[int, list[int]]:
        taken = {each.place for each in interfaces}
        return {
            number: [port for port in sorted(switch.ports) if Place(number, port) not in taken]
            for number, switch in self.state.view.switches.items()
        }

    def _queue_changes(self, intent: Intent) -> dict[Place, PortQueues | None]:
        if self._queued is None:
            with self._faults.minding("queues"):
                self._queued = dict(self._fabric.queues())
        if self._queued is None or not (self._settings.queues or self._queued):
            return {}
        if not self._settings.queues:
            return dict.fromkeys(self._queued)
        view = self.state.view
        places = {place for cable in view.cables for place in cable} | {each.place for each in intent.interfaces}
        there = (place for place in places if place.port in view.switches[place.switch].ports)
        wanted = {place: queues_of(self._speed(view, place)) for place in there}
        queued = self._queued
        changes: dict[Place, PortQueues | None] = {
            place: queues for place, queues in wanted.items() if queued.get(place) != queues
        }
        return changes | dict.fromkeys(queued.keys() - wanted.keys())

    def _read(self) -> Traffic | None:
        ports, flows = {}, dict[Flow, FlowCount]()
        for number, switch in self.state.view.switches.items():
            if number in self._sight.away:
                continue
            with self._faults.minding(f"switch {switch.name}"):
                ports.update({Place(number, k): count for k, count in self._fabric.port_counts(number).items()})
                flows.update(self._fabric.flow_counts(number, DESTINATION))
        return self._gauge.read(self._monotonic(), self._here, ports, flows)

    def _foresee(self, traffic: Traffic) -> None:
        """Learn from what was sent; once an interval of the forecast has ended, write it down."""
        rates: dict[Series, float] = {pair: traffic.pairs.get(pair, 0.0) for pair in self.state.pair_ways}
        rates |= {(SENT, address): rate for address, rate in traffic.sent.items()}
        ended = self._outlook.take_in(rates, self._now())
        if ended is not None:
            here = traffic.sent.keys()
            self._outlook.keep(lambda series: series[-1] in here and (series[0] == SENT or series[0] in here))
            with self._faults.minding("log of traffic"):
                self._log(*ended)

    def _demand(self, traffic: Traffic) -> dict[PairName, Demand]:
        """What pairs send and will send, of those for which ways are planned."""
        at = {each.address: each.place.switch for each in self._here}
        narrowest = min(self._speeds(self.state.view, self.state.wiring).values(), default=0.0)
        chosen = self._candidates.chosen(traffic, self._outlook, at, narrowest, self.state.pair_ways.keys())
        scenarios = self._outlook.scenarios(chosen)
        return {
            pair: Demand((at[pair[0]], at[pair[1]]), traffic.pairs.get(pair, 0.0), scenarios[:, k])
            for k, pair in enumerate(chosen)
        }

    def _limits(self) -> dict[str, float]:
        """What each interface may send; one that nothing holds down has none."""
        state = self.state
        capacity = dict.fromkeys(state.wiring.switches, 0.0)
        for (switch, _), rate in self._speeds(state.view, state.wiring).items():
            capacity[switch] += rate
        askers = [
            Asker(
                each,
                state.claims.get(each.vm_id, Claim()),
                self._speed(state.view, each.place),
                state.traffic.sent.get(each.address, 0.0),
                self._outlook.quantiles((SENT, each.address)),
            )
            for each in self._here
        ]
        return limits_of(askers, capacity, state.limits)

    def _port(self, place: Place) -> str:
        return f"port {place.port} of {self._name(place.switch)}"

    def _name(self, switch: int) -> str:
        found = self.state.view.switches.get(switch)
        return found.name if found is not None else f"{switch:016x}"
