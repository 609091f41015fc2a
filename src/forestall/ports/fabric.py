"""The network between VMs: switches that do as they are told, cables between them, and whose interfaces they serve."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from forestall.model.switching import Change, Flow, Rules


class Place(NamedTuple):
    """A port of a switch: the switch by its datapath id, and the number of the port there."""

    switch: int
    port: int


class Port(NamedTuple):
    """What is known of a port.

    Attributes
    ----------
    name
        Of the device.
    up
        Whether its other end is there.
    bytes_per_s
        How fast it says that it is; 0: it does not say.
    """

    name: str
    up: bool
    bytes_per_s: float


class Switch(NamedTuple):
    """A switch that is connected.

    Attributes
    ----------
    name
        Of the bridge.
    ports
        By number.
    connection
        Another one whenever it has connected anew: it may have forgotten what it was told.
    """

    name: str
    ports: Mapping[int, Port]
    connection: int = 0


class Cable(NamedTuple):
    """Two ports that are connected with each other."""

    one: Place
    other: Place


class Interface(NamedTuple):
    """A network interface of a VM.

    Attributes
    ----------
    address
        Its address of Ethernet, lower case with colons.
    vm_id
        Whose it is.
    place
        Which port it is connected to.
    """

    address: str
    vm_id: str
    place: Place


@dataclass(frozen=True)
class FabricView:
    """The network as it is now: switches by datapath id, cables that are known, interfaces of VMs."""

    switches: Mapping[int, Switch]
    cables: tuple[Cable, ...]
    interfaces: tuple[Interface, ...]

    def is_up(self, place: Place) -> bool:
        """Whether a port is there and up."""
        switch = self.switches.get(place.switch)
        return switch is not None and place.port in switch.ports and switch.ports[place.port].up


class PortCount(NamedTuple):
    """Bytes and packets that went through a port since it is there, and packets that were lost."""

    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int
    dropped_packets: int


class FlowCount(NamedTuple):
    """Packets and bytes that an entry of a flow table has applied to."""

    packets: int
    bytes: int


class Queue(NamedTuple):
    """A queue of a port.

    Attributes
    ----------
    dscp
        Classes whose packets wait in it.
    least_bytes_per_s, most_bytes_per_s
        What it gets if it has so much to send, whatever others want; and what it never exceeds.
    """

    dscp: tuple[int, ...]
    least_bytes_per_s: int
    most_bytes_per_s: int


class PortQueues(NamedTuple):
    """How a port sends: so fast altogether, out of these queues; the first takes what no other does."""

    bytes_per_s: int
    queues: tuple[Queue, ...]


class Fabric(Protocol):
    """Switches. Errors are :class:`~forestall.model.errors.FabricError`."""

    def believe(self, cables: Collection[Cable]) -> None:
        """Take cables for there that were there before, until it turns out that they are not."""
        ...

    def view(self) -> FabricView:
        """The network as it is now."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait until a switch or a port comes or goes, but no longer; whether one did since the last call."""
        ...

    def rules(self, switch: int) -> Rules:
        """What a switch has been told by us, as far as it is in force. What others told it is not looked at.

        Raises
        ------
        FabricError
            The switch is gone, or does not answer.
        """
        ...

    def change(self, changes: Mapping[int, Sequence[Change]]) -> None:
        """Change rules of switches, in order; returns when all have done so.

        Raises
        ------
        FabricError
            A switch refused a change, does not answer, or is gone. The others have done theirs.
        """
        ...

    def flow_counts(self, switch: int, table: int) -> Mapping[Flow, FlowCount]:
        """What our entries of a table have applied to."""
        ...

    def port_counts(self, switch: int) -> Mapping[int, PortCount]:
        """What went through the ports of a switch."""
        ...

    def queues(self) -> Mapping[Place, PortQueues]:
        """Queues of ours, of all ports that have any; where they are not in force, not those that were set."""
        ...

    def set_queues(self, place: Place, queues: PortQueues | None) -> None:
        """Let a port send so; None: as it did before.

        Raises
        ------
        FabricError
            The port is gone, or has queues of somebody else.
        """
        ...


class PairWays(NamedTuple):
    """Ways of what one interface sends to another, by their addresses.

    Attributes
    ----------
    source, target
        The interfaces.
    ways
        Switches along each way, by datapath id, and its share of the traffic; shares add up to 1.
    """

    source: str
    target: str
    ways: tuple[tuple[tuple[int, ...], float], ...]


@dataclass(frozen=True)
class Remembered:
    """What must stay the same when the loop is started anew.

    Attributes
    ----------
    numbers
        Numbers of paths, interfaces, groups and meters, by kind and name.
    switches
        Switches that were there.
    cables
        And how they were connected.
    ways
        Ways of pairs of interfaces.
    """

    numbers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    switches: Mapping[int, Switch] = field(default_factory=dict)
    cables: tuple[Cable, ...] = ()
    ways: tuple[PairWays, ...] = ()


class FabricBook(Protocol):
    """Where that is written down."""

    def load(self) -> Remembered:
        """What was saved last; nothing where nothing, or nothing legible, was."""
        ...

    def save(self, remembered: Remembered) -> None:
        """Write it down; returns when that will last.

        Raises
        ------
        StoreError
            It cannot be written.
        """
        ...
