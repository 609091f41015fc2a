"""The network in plain values, for commands and pages: what there is, what is sent, what is decided and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from forestall.fabric.changes import Step
from forestall.fabric.driver import FabricDriver, Plan
from forestall.fabric.rules import Ways
from forestall.model.errors import WrongUse
from forestall.model.switching import (
    BACK,
    CONTROLLER,
    Action,
    Change,
    Flow,
    Group,
    Meter,
    Output,
    SetClass,
    SetPath,
    SetTarget,
    ToGroup,
)
from forestall.ports.fabric import Place, PortQueues

STEPS = ("prepare", "switch over", "finish")
_BITS = 8


@dataclass(frozen=True)
class LinkView:
    """One direction of a link: what it carries, and what it was sent of late, bytes per second; packets lost each s.

    ``planned_ratio`` and ``equal_ratio`` say how much of it the pairs that ways are planned for use, as they are, and
    if all shortest paths were used alike.
    """

    name: str
    port: str
    up: bool
    flapping: bool
    capacity_bytes_per_s: float
    sent_bytes_per_s: float
    dropped_per_s: float
    planned_ratio: float | None
    equal_ratio: float | None


def show(driver: FabricDriver) -> dict[str, Any]:
    """Everything that there is."""
    state, names = driver.state, _Names(driver)
    return {
        "switches": [
            {
                "name": switch.name,
                "id": f"{number:016x}",
                "connected": number not in driver.away,
                "ports": len(switch.ports),
                "rules": driver.told(number),
            }
            for number, switch in state.view.switches.items()
        ],
        "links": [vars(link) for link in _links(driver)],
        "interfaces": [
            {
                "vm": each.vm_id,
                "address": each.address,
                "switch": names.switch(each.place.switch),
                "port": names.port(each.place),
                "class": claim.traffic_class if (claim := state.claims.get(each.vm_id)) else None,
                "limit_bytes_per_s": state.limits.get(each.address, 0.0),
                "sent_bytes_per_s": state.traffic.sent.get(each.address, 0.0),
                "received_bytes_per_s": state.traffic.received.get(each.address, 0.0),
            }
            for each in state.view.interfaces
        ],
        "pairs": [
            {
                "source": names.vm(pair[0]),
                "target": names.vm(pair[1]),
                "bytes_per_s": state.traffic.pairs.get(pair, 0.0),
                "ways": names.ways(ways),
            }
            for pair, ways in sorted(state.pair_ways.items())
        ],
        "changes": driver.changes,
        "faults": dict(driver.faults),
    }


def show_plan(driver: FabricDriver, plan: Plan) -> dict[str, Any]:
    """What would be done, step by step, in words of ovs-ofctl(8)."""
    names = _Names(driver)
    return {
        "steps": [
            {"step": name, "switch": names.switch(switch), "change": change.operation, "rule": words(change)}
            for name, step in zip(STEPS, plan.steps, strict=True)
            for switch, changes in _in_order(step)
            for change in changes
        ],
        "queues": [
            {"switch": names.switch(place.switch), "port": names.port(place), "queues": _queue_words(queues)}
            for place, queues in plan.queues.items()
        ],
    }


def explain(driver: FabricDriver, link: str) -> dict[str, Any]:
    """Who uses a link, and why.

    Parameters
    ----------
    link
        Two switches, as ``leaf1:spine2``, in the direction of the traffic.

    Raises
    ------
    WrongUse
        There is no such link.
    """
    state, names = driver.state, _Names(driver)
    found = next((each for each in _links(driver) if each.name == link), None)
    if found is None:
        known = ", ".join(sorted(each.name for each in _links(driver))) or "none"
        raise WrongUse(f"no link {link!r} is known; there are: {known}")
    users: list[dict[str, Any]] = []
    for pair, ways in state.pair_ways.items():
        share = sum(share for route, share in ways if link in names.links(route))
        if share > 0.0:
            bytes_per_s = state.traffic.pairs.get(pair, 0.0)
            users.append(
                {
                    "source": names.vm(pair[0]),
                    "target": names.vm(pair[1]),
                    "share": share,
                    "bytes_per_s": bytes_per_s * share,
                    "estimated": pair not in state.traffic.counted,
                    "ways": names.ways(ways),
                }
            )
    users.sort(key=lambda user: -user["bytes_per_s"])
    planned, equal = driver.utilisation()
    return {
        "link": vars(found),
        "users": users,
        "worst_planned_ratio": max(planned.values(), default=0.0),
        "worst_equal_ratio": max(equal.values(), default=0.0),
        "why": _why(driver, found),
    }


def _why(driver: FabricDriver, link: LinkView) -> str:
    if link.flapping:
        return "it has come and gone several times of late, and is not used until it is steady"
    if not link.up:
        return "it is down; what used it goes other ways"
    costs = driver.costs()
    if costs is None:
        return "nothing has been planned yet: all shortest paths are used alike"
    planned, equal = costs
    if driver.plan_is_in_force():
        return (
            f"the plan is in force: the worst link was used {planned:.1%} by it of late, and would have been "
            f"{equal:.1%} if all shortest paths were used alike"
        )
    return (
        f"all shortest paths are used alike: the worst link was used {equal:.1%} of late so, and would have been "
        f"{planned:.1%} by the plan, which is not worth it"
    )


def _links(driver: FabricDriver) -> list[LinkView]:
    state, names = driver.state, _Names(driver)
    planned, equal = driver.utilisation()
    flapping = driver.flapping()
    found = []
    for cable in state.view.cables:
        for one, other in (cable, (cable.other, cable.one)):
            ends = one.switch, other.switch
            found.append(
                LinkView(
                    name=f"{names.switch(one.switch)}:{names.switch(other.switch)}",
                    port=names.port(one),
                    up=state.wiring.port.get(ends) == one.port,
                    flapping=cable in flapping,
                    capacity_bytes_per_s=driver.speed(one),
                    sent_bytes_per_s=state.traffic.links.get(one, 0.0),
                    dropped_per_s=state.traffic.dropped.get(one, 0.0),
                    planned_ratio=planned.get(ends),
                    equal_ratio=equal.get(ends),
                )
            )
    return found


class _Names:
    """Names of things, for people."""

    def __init__(self, driver: FabricDriver) -> None:
        self._view = driver.state.view
        self._vm = {each.address: each.vm_id for each in self._view.interfaces}

    def switch(self, number: int) -> str:
        found = self._view.switches.get(number)
        return found.name if found is not None else f"{number:016x}"

    def port(self, place: Place) -> str:
        switch = self._view.switches.get(place.switch)
        port = switch.ports.get(place.port) if switch is not None else None
        return port.name if port is not None else str(place.port)

    def vm(self, address: str) -> str:
        return self._vm.get(address, address)

    def ways(self, ways: Ways) -> list[dict[str, Any]]:
        return [{"path": [self.switch(switch) for switch in route], "share": share} for route, share in ways]

    def links(self, route: tuple[int, ...]) -> set[str]:
        return {f"{self.switch(a)}:{self.switch(b)}" for a, b in pairwise(route)}


def _in_order(step: Step) -> list[tuple[int, Any]]:
    return sorted(step.items())


def words(change: Change) -> str:
    """A rule as ovs-ofctl(8) would print it."""
    match change.rule:
        case Flow() as flow:
            match_words = [_field(name, value) for name, value in flow.match]
            does = [f"meter:{flow.meter}"] * bool(flow.meter) + [_action(action) for action in flow.actions]
            does += [f"goto_table:{flow.then}"] * bool(flow.then)
            start = f"table={flow.table},priority={flow.priority}"
            return f"{','.join([start, *match_words])} actions={','.join(does) or 'drop'}"
        case Group() as group:
            ways = (
                f"bucket=weight:{bucket.weight},watch_port:{bucket.watch or 'any'},"
                f"actions={','.join(map(_action, bucket.actions))}"
                for bucket in group.buckets
            )
            return f"group_id={group.number},type={group.kind}," + ",".join(ways)
        case Meter() as meter:
            return f"meter={meter.number},kbps,burst,band=drop,rate={meter.kilobits_per_s},burst={meter.burst_kilobits}"


def _field(name: str, value: Any) -> str:
    return f"{name}={'/'.join(value)}" if isinstance(value, tuple) else f"{name}={value}"


def _action(action: Action) -> str:
    match action:
        case Output(port):
            return {BACK: "in_port", CONTROLLER: "controller"}.get(port, f"output:{port}")
        case SetTarget(address):
            return f"set_field:{address}->eth_dst"
        case SetPath(path):
            return f"load:{path:#x}->eth_dst[16..39]"
        case SetClass(dscp):
            return f"set_field:{dscp}->ip_dscp"
        case ToGroup(group):
            return f"group:{group}"


def _queue_words(queues: PortQueues | None) -> str:
    if queues is None:
        return "as it was"
    parts: Mapping[str, str] = {
        f"{','.join(map(str, queue.dscp)) or 'others'}": f"{queue.least_bytes_per_s * _BITS / 1e6:g}"
        for queue in queues.queues
    }
    each = ", ".join(f"DSCP {dscp}: at least {rate} Mbit/s" for dscp, rate in parts.items())
    return f"{queues.bytes_per_s * _BITS / 1e6:g} Mbit/s; {each}"
