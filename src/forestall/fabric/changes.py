"""From what switches do to what they should: in which order that is changed so that nothing is lost on the way.

First what is new and nobody uses yet, then what decides who uses it, and at last what nobody uses any more. All
switches have done one step before any is told the next.

What is for everybody goes along a tree. Links that leave it are closed first and links that join it are opened last, so
that at no moment the links that are open make a circle.

Source: Reitblatt et al., Abstractions for network update, SIGCOMM 2012 (two-phase update).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forestall.fabric.laying import ARRIVAL, DELIVERY
from forestall.fabric.rules import FOR_ALL
from forestall.model.switching import Change, Flow, Group, Operation, Rules

Step = Mapping[int, Sequence[Change]]
"""Changes by switch."""


Steps = tuple[Step, Step, Step]


def steps(installed: Mapping[int, Rules], wanted: Mapping[int, Rules]) -> Steps:
    """Changes that make the one of the other; empty where nothing is to be done."""
    prepare: dict[int, list[Change]] = {}
    switch_over: dict[int, list[Change]] = {}
    clean: dict[int, list[Change]] = {}
    for switch, rules in wanted.items():
        before = installed.get(switch, Rules())
        for step, changes in zip((prepare, switch_over, clean), _of_switch(before, rules), strict=True):
            if changes:
                step[switch] = changes
    return prepare, switch_over, clean


def _of_switch(before: Rules, after: Rules) -> tuple[list[Change], list[Change], list[Change]]:
    prepare: list[Change] = []
    over: list[Change] = []
    clean: list[Change] = []
    for number, meter in after.meters.items():
        if number not in before.meters:
            prepare.append(Change(Operation.ADD, meter))
        elif _differ(before.meters[number], meter):
            over.append(Change(Operation.CHANGE, meter))
    for number, group in after.groups.items():
        if number not in before.groups:
            prepare.append(Change(Operation.ADD, group))
        elif _differ(before.groups[number], group):
            over.append(Change(Operation.CHANGE, group))  # those along paths never change: others take their place
    for key, flow in after.flows.items():
        if key not in before.flows:
            step = clean if flow.priority == FOR_ALL else prepare if _is_inner(flow) else over
            step.append(Change(Operation.ADD, flow))
        elif _differ(before.flows[key], flow):
            (prepare if _is_inner(flow) else over).append(Change(Operation.CHANGE, flow))
    for key, flow in before.flows.items():
        if key not in after.flows:
            step = prepare if flow.priority == FOR_ALL else clean if _is_inner(flow) else over
            step.append(Change(Operation.REMOVE, flow))
    clean += [Change(Operation.REMOVE, group) for n, group in before.groups.items() if n not in after.groups]
    clean += [Change(Operation.REMOVE, meter) for n, meter in before.meters.items() if n not in after.meters]
    return prepare, over, clean


def _differ(one: object, other: object) -> bool:
    """Most are the very same, and need not be compared."""
    return one is not other and one != other


def _is_inner(flow: Flow) -> bool:
    """Whether it is about what is in the network already: along a path, or at its end."""
    return flow.table == DELIVERY or (flow.table == ARRIVAL and isinstance(dict(flow.match).get("eth_dst"), tuple))


def after(installed: Rules, changes: Sequence[Change]) -> Rules:
    """What a switch does after changes."""
    flows, groups, meters = dict(installed.flows), dict(installed.groups), dict(installed.meters)
    for operation, rule in changes:
        held: dict[Any, Any] = flows if isinstance(rule, Flow) else groups if isinstance(rule, Group) else meters
        key = rule.key if isinstance(rule, Flow) else rule.number
        if operation is Operation.REMOVE:
            held.pop(key, None)
        else:
            held[key] = rule
    return Rules(flows, groups, meters)
