"""Rules as messages of OpenFlow 1.3, and back from what a switch says that it does.

A cookie marks what is ours among the flows. Groups and meters have none: a range of numbers is ours.
Sources: OpenFlow Switch Specification 1.3.5; ovs-actions(7) for ``load``, which sets a part of a field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from os_ken.ofproto import nicira_ext
from os_ken.ofproto import ofproto_v1_3 as ofp
from os_ken.ofproto import ofproto_v1_3_parser as parser

from forestall.model.errors import FabricError
from forestall.model.switching import (
    Action,
    Bucket,
    Change,
    Flow,
    Group,
    GroupKind,
    Match,
    Meter,
    Operation,
    Output,
    SetClass,
    SetPath,
    SetTarget,
    ToGroup,
)

COOKIE, COOKIE_MASK = 0xF0CA5741_00000000, 0xFFFFFFFF_00000000
PATH_BITS = nicira_ext.ofs_nbits(16, 39)
"""Where the number of a path stands in the address that a packet goes to: after the first byte, 24 bits."""
_KINDS = {
    GroupKind.SELECT: ofp.OFPGT_SELECT,
    GroupKind.FAILOVER: ofp.OFPGT_FF,
    GroupKind.ALL: ofp.OFPGT_ALL,
}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}
_FLOW_COMMANDS = {
    Operation.ADD: ofp.OFPFC_ADD,
    Operation.CHANGE: ofp.OFPFC_MODIFY_STRICT,
    Operation.REMOVE: ofp.OFPFC_DELETE_STRICT,
}
_GROUP_COMMANDS = {
    Operation.ADD: ofp.OFPGC_ADD,
    Operation.CHANGE: ofp.OFPGC_MODIFY,
    Operation.REMOVE: ofp.OFPGC_DELETE,
}
_METER_COMMANDS = {
    Operation.ADD: ofp.OFPMC_ADD,
    Operation.CHANGE: ofp.OFPMC_MODIFY,
    Operation.REMOVE: ofp.OFPMC_DELETE,
}


def message_of(datapath: Any, change: Change) -> Any:
    """The message that brings a change about."""
    match change.rule:
        case Flow():
            return _flow_message(datapath, change.operation, change.rule)
        case Group(number, kind, buckets):
            ways = [] if change.operation is Operation.REMOVE else [_bucket(bucket) for bucket in buckets]
            return parser.OFPGroupMod(datapath, _GROUP_COMMANDS[change.operation], _KINDS[kind], number, ways)
        case Meter(number, rate, burst):
            bands = [parser.OFPMeterBandDrop(rate, burst)]
            flags = ofp.OFPMF_KBPS | ofp.OFPMF_BURST
            return parser.OFPMeterMod(datapath, _METER_COMMANDS[change.operation], flags, number, bands)


def _flow_message(datapath: Any, operation: Operation, flow: Flow) -> Any:
    instructions = []
    if flow.meter:
        instructions.append(parser.OFPInstructionMeter(flow.meter, ofp.OFPIT_METER))
    if flow.actions:
        actions = [_action(action) for action in flow.actions]
        instructions.append(parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions))
    if flow.then:
        instructions.append(parser.OFPInstructionGotoTable(flow.then))
    return parser.OFPFlowMod(
        datapath,
        cookie=COOKIE,
        cookie_mask=0 if operation is Operation.ADD else COOKIE_MASK,
        table_id=flow.table,
        command=_FLOW_COMMANDS[operation],
        priority=flow.priority,
        match=parser.OFPMatch(**dict(flow.match)),
        instructions=instructions,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
    )


def _bucket(bucket: Bucket) -> Any:
    watch = bucket.watch or ofp.OFPP_ANY
    return parser.OFPBucket(bucket.weight, watch, ofp.OFPG_ANY, [_action(action) for action in bucket.actions])


def _action(action: Action) -> Any:
    match action:
        case Output(port):
            return parser.OFPActionOutput(port, ofp.OFPCML_NO_BUFFER if port == ofp.OFPP_CONTROLLER else 0)
        case SetTarget(address):
            return parser.OFPActionSetField(eth_dst=address)
        case SetPath(path):
            return parser.NXActionRegLoad(PATH_BITS, "eth_dst", path)
        case SetClass(dscp):
            return parser.OFPActionSetField(ip_dscp=dscp)
        case ToGroup(group):
            return parser.OFPActionGroup(group)


def flow_of(entry: Any) -> Flow:
    """A flow as a switch reports it.

    Raises
    ------
    FabricError
        It does what none of ours does.
    """
    actions: tuple[Action, ...] = ()
    meter = then = 0
    for instruction in entry.instructions:
        if isinstance(instruction, parser.OFPInstructionMeter):
            meter = instruction.meter_id
        elif isinstance(instruction, parser.OFPInstructionGotoTable):
            then = instruction.table_id
        elif isinstance(instruction, parser.OFPInstructionActions) and instruction.type == ofp.OFPIT_APPLY_ACTIONS:
            actions = _actions_of(instruction.actions)
        else:
            raise FabricError(f"unknown instruction {instruction}")
    return Flow(entry.table_id, entry.priority, _match_of(entry.match), actions, meter, then)


def _match_of(match: Any) -> Match:
    return tuple(sorted(match.items()))


def group_of(entry: Any) -> Group:
    """A group as a switch reports it."""
    buckets = (
        Bucket(_actions_of(each.actions), each.weight, 0 if each.watch_port == ofp.OFPP_ANY else each.watch_port)
        for each in entry.buckets
    )
    return Group(entry.group_id, _KIND_OF[entry.type], tuple(buckets))


def meter_of(entry: Any) -> Meter:
    """A meter as a switch reports it."""
    band = entry.bands[0]
    return Meter(entry.meter_id, band.rate, band.burst_size)


def _actions_of(actions: Iterable[Any]) -> tuple[Action, ...]:
    return tuple(_action_of(action) for action in actions)


def _action_of(action: Any) -> Action:
    match action:
        case parser.OFPActionOutput():
            return Output(action.port)
        case parser.OFPActionGroup():
            return ToGroup(action.group_id)
        case parser.OFPActionSetField(key="eth_dst"):
            return SetTarget(action.value)
        case parser.OFPActionSetField(key="ip_dscp"):
            return SetClass(action.value)
        case parser.NXActionRegLoad(ofs_nbits=bits) if bits == PATH_BITS:
            return SetPath(action.value)
        case _:
            raise FabricError(f"unknown action {action}")
