"""What switches are told: rules, in the words of OpenFlow 1.3, as values that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

FieldValue = int | str | tuple[str, str]
Match = tuple[tuple[str, FieldValue], ...]
FIRST_GROUP, LAST_GROUP = 0xF0000000, 0xF0FFFFFF
FIRST_METER, LAST_METER = 0xF000, 0x1EFFF
"""Numbers of groups and meters that are ours: they carry no mark as flows do."""
BACK = 0xFFFFFFF8
"""The port that a packet came in by."""
CONTROLLER = 0xFFFFFFFD


def matching(**fields: FieldValue) -> Match:
    """A match: fields by their name in OpenFlow (``in_port``, ``eth_dst``, ...); a pair is a value and its mask."""
    return tuple(sorted(fields.items()))


class Output(NamedTuple):
    """Send a packet out of a port."""

    port: int


class SetTarget(NamedTuple):
    """Set the address of Ethernet that a packet goes to."""

    address: str


class SetPath(NamedTuple):
    """Set the number of the path in a label, and leave the rest of it as it is."""

    path: int


class SetClass(NamedTuple):
    """Set the DSCP of an IPv4 packet (RFC 2474), 0 to 63."""

    dscp: int


class ToGroup(NamedTuple):
    """Let a group decide."""

    group: int


Action = Output | SetTarget | SetPath | SetClass | ToGroup


@dataclass(frozen=True)
class Flow:
    """One entry of a flow table.

    Attributes
    ----------
    table, priority, match
        What it applies to; of two that apply the one of higher priority does.
    actions
        What is done with a packet, in order; nothing: it is dropped, if no other table follows.
    meter
        A meter that it must pass first; 0: none.
    then
        The table that it goes to afterwards; 0: none.
    """

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...] = ()
    meter: int = 0
    then: int = 0

    @property
    def key(self) -> tuple[int, int, Match]:
        """What tells it apart from others."""
        return self.table, self.priority, self.match


class GroupKind(StrEnum):
    """How a group uses its buckets."""

    SELECT = "select"
    """One for each connection, by weight, among those whose port is up."""
    FAILOVER = "failover"
    """The first whose port is up."""
    ALL = "all"
    """Every one gets a copy."""


class Bucket(NamedTuple):
    """One way of a group.

    Attributes
    ----------
    actions
        What is done.
    weight
        Its part, of a group that selects.
    watch
        It is used only while this port is up; 0: always.
    """

    actions: tuple[Action, ...]
    weight: int = 0
    watch: int = 0


@dataclass(frozen=True)
class Group:
    """A group of ways that packets may go."""

    number: int
    kind: GroupKind
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True)
class Meter:
    """Drops what comes faster.

    Attributes
    ----------
    number
        Its number in the switch.
    kilobits_per_s, burst_kilobits
        How fast, and how much at once.
    """

    number: int
    kilobits_per_s: int
    burst_kilobits: int


@dataclass(frozen=True)
class Rules:
    """All that one switch is told."""

    flows: Mapping[tuple[int, int, Match], Flow] = field(default_factory=dict)
    groups: Mapping[int, Group] = field(default_factory=dict)
    meters: Mapping[int, Meter] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.flows) + len(self.groups) + len(self.meters)


class Operation(StrEnum):
    """What is done with a rule."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


class Change(NamedTuple):
    """One change of a rule."""

    operation: Operation
    rule: Flow | Group | Meter
