"""Switches of Open vSwitch, as the loop sees them."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from forestall.adapters.openvswitch.database import Database
from forestall.adapters.openvswitch.discovery import EVERY_SECONDS, Discovery
from forestall.adapters.openvswitch.door import Door
from forestall.adapters.openvswitch.session import Session
from forestall.model.errors import FabricError, in_one_line
from forestall.model.switching import Change, Flow, Rules
from forestall.ports.fabric import (
    Cable,
    FabricView,
    FlowCount,
    Interface,
    Place,
    PortCount,
    PortQueues,
    Switch,
)

NamedCable = tuple[str, str, str, str]
"""Switch and port, and the other switch and its port, by their names."""


class OpenVSwitchFabric:
    """Implements :class:`~forestall.ports.fabric.Fabric`.

    Parameters
    ----------
    listen
        Where switches connect: see :class:`~forestall.adapters.openvswitch.door.Door`.
    databases
        Of the hosts that the switches are on.
    monotonic
        Seconds.
    cables
        Those of a file; None: they are found by LLDP.
    context
        Certificates, where ``listen`` is ``pssl``.
    note
        Takes one line for the operator.

    Raises
    ------
    FabricError
        The address is taken.
    """

    def __init__(
        self,
        listen: str,
        databases: Sequence[Database],
        monotonic: Callable[[], float],
        cables: Sequence[NamedCable] | None = None,
        context: ssl.SSLContext | None = None,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._databases, self._cables, self._note = databases, cables, note
        self._discovery = Discovery(monotonic)
        self._changed, self._ended = threading.Event(), threading.Event()
        for database in databases:
            database.tell(self._changed.set)
        self._door = Door(listen, self._changed.set, self._heard, context, note)
        self._sender = threading.Thread(target=self._send_packets, name="lldp", daemon=True)
        if cables is None:
            self._sender.start()

    def close(self) -> None:
        """Let go of all; switches keep what they were told."""
        self._ended.set()
        self._door.close()
        for database in self._databases:
            database.close()

    def believe(self, cables: Collection[Cable]) -> None:
        """Take these for there, until they are not heard."""
        if self._cables is None:
            self._discovery.believe(cables)

    def view(self) -> FabricView:
        """The network as it is now."""
        names = {number: name for database in self._databases for number, name in database.names().items()}
        switches = {
            number: Switch(names.get(number, f"{number:016x}"), dict(session.ports), session.connection)
            for number, session in sorted(self._door.sessions.items())
        }
        view = FabricView(switches, (), self._interfaces())
        found = self._discovery.cables(view.is_up) if self._cables is None else _named(self._cables, switches)
        return FabricView(switches, found, view.interfaces)

    def wait(self, seconds: float) -> bool:
        """Wait until something comes or goes."""
        found = self._changed.wait(seconds)
        self._changed.clear()
        return found

    def rules(self, switch: int) -> Rules:
        """What a switch does for us."""
        return self._session(switch).rules()

    def change(self, changes: Mapping[int, Sequence[Change]]) -> None:
        """Change rules of all these switches at once."""
        failed, sent = [], []
        for switch, of_switch in changes.items():
            try:
                session = self._session(switch)
                sent.append((session, session.send(of_switch)))
            except FabricError as error:
                failed.append(error)
        for session, waiting in sent:
            try:
                session.sent(waiting)
            except FabricError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def flow_counts(self, switch: int, table: int) -> Mapping[Flow, FlowCount]:
        """What our flows have applied to."""
        return self._session(switch).flow_counts(table)

    def port_counts(self, switch: int) -> Mapping[int, PortCount]:
        """What went through ports."""
        return self._session(switch).port_counts()

    def queues(self) -> Mapping[Place, PortQueues]:
        """Queues of ours."""
        return {place: queues for database in self._databases for place, queues in database.queues().items()}

    def set_queues(self, place: Place, queues: PortQueues | None) -> None:
        """Let a port send so."""
        if not any(database.set_queues(place, queues) for database in self._databases):
            raise FabricError(f"no database knows port {place.port} of switch {place.switch:016x}")

    def _session(self, switch: int) -> Session:
        session = self._door.sessions.get(switch)
        if session is None:
            raise FabricError(f"switch {switch:016x} is not connected")
        return session

    def _interfaces(self) -> tuple[Interface, ...]:
        return tuple(sorted(found for database in self._databases for found in database.interfaces()))

    def _heard(self, session: Session, port: int, data: bytes) -> None:
        if self._discovery.hear(Place(session.number, port), data):
            self._changed.set()

    def _send_packets(self) -> None:
        said = ""
        while not self._ended.wait(EVERY_SECONDS):
            try:
                self._send_round()
                said = ""
            except Exception as error:  # whatever it is: links would seem dead if nobody sent any more
                if (now := in_one_line(error)) != said:
                    self._note(f"neighbours are not looked for: {now}")
                said = now

    def _send_round(self) -> None:
        taken = {interface.place for interface in self._interfaces()}
        for number, session in list(self._door.sessions.items()):
            for port, found in list(session.ports.items()):
                if found.up and (place := Place(number, port)) not in taken:
                    with suppress(OSError):  # the switch is just going
                        session.send_out(port, self._discovery.packet(place))


def _named(cables: Sequence[NamedCable], switches: Mapping[int, Switch]) -> tuple[Cable, ...]:
    """Cables of which both ends are there."""
    place_of = {
        (switch.name, port.name): Place(number, at)
        for number, switch in switches.items()
        for at, port in switch.ports.items()
    }
    found = []
    for one, one_port, other, other_port in cables:
        ends = place_of.get((one, one_port)), place_of.get((other, other_port))
        if ends[0] is not None and ends[1] is not None:
            found.append(Cable(*sorted((ends[0], ends[1]))))
    return tuple(sorted(found))
