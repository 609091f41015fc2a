"""One switch that is connected: it is asked, and told, and answers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from os_ken.ofproto import ofproto_v1_3 as ofp
from os_ken.ofproto import ofproto_v1_3_parser as parser

from forestall.adapters.openvswitch import messages
from forestall.model.errors import FabricError
from forestall.model.switching import FIRST_GROUP, FIRST_METER, LAST_GROUP, LAST_METER, Change, Flow, Rules
from forestall.ports.fabric import FlowCount, Port, PortCount

PATIENCE_SECONDS = 10.0
_BYTES_PER_KILOBIT = 125
_CONNECTIONS = itertools.count(1)


class _Waiting:
    """Replies to the last of some messages, and errors of any of them."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = frozenset(numbers)
        self.last = numbers[-1]
        self.parts: list[Any] = []
        self.errors: list[Any] = []
        self.done = threading.Event()


class Session:
    """A switch.

    Parameters
    ----------
    datapath
        os-ken's, of which the features are known.
    """

    def __init__(self, datapath: Any) -> None:
        self._datapath = datapath
        self._waiting: dict[int, _Waiting] = {}
        self._turn = threading.Lock()
        self.number: int = datapath.id
        self.connection = next(_CONNECTIONS)
        self.ports: dict[int, Port] = {}
        for port in datapath.ports.values():
            self.port_is(port)
        self.gone = False

    def rules(self) -> Rules:
        """What is ours among its rules."""
        with self._understanding():
            return self._rules()

    def _rules(self) -> Rules:
        flows = [messages.flow_of(entry) for entry in self._flows(ofp.OFPTT_ALL)]
        groups = [
            messages.group_of(entry)
            for entry in self._ask(parser.OFPGroupDescStatsRequest(self._datapath, 0))
            if FIRST_GROUP <= entry.group_id <= LAST_GROUP
        ]
        meters = [
            messages.meter_of(entry)
            for entry in self._ask(parser.OFPMeterConfigStatsRequest(self._datapath, 0, ofp.OFPM_ALL))
            if FIRST_METER <= entry.meter_id <= LAST_METER
        ]
        return Rules(
            {flow.key: flow for flow in flows}, {each.number: each for each in groups}, {m.number: m for m in meters}
        )

    def change(self, changes: Sequence[Change]) -> None:
        """Have changes made, in order."""
        self.sent(self.send(changes))

    def send(self, changes: Sequence[Change]) -> _Waiting:
        """Send changes; :meth:`sent` waits for them."""
        with self._understanding():
            return self._send([messages.message_of(self._datapath, change) for change in changes])

    def sent(self, waiting: _Waiting) -> None:
        """Wait until changes are made.

        Raises
        ------
        FabricError
            It refused one, does not answer, or is gone.
        """
        self._answer(waiting)

    def flow_counts(self, table: int) -> Mapping[Flow, FlowCount]:
        """What our flows of a table have applied to."""
        with self._understanding():
            found = self._flows(table)
            return {messages.flow_of(each): FlowCount(each.packet_count, each.byte_count) for each in found}

    def port_counts(self) -> Mapping[int, PortCount]:
        """What went through its ports."""
        with self._understanding():
            return self._port_counts()

    def _port_counts(self) -> dict[int, PortCount]:
        found = self._ask(parser.OFPPortStatsRequest(self._datapath, 0, ofp.OFPP_ANY))
        return {
            each.port_no: PortCount(
                each.rx_bytes, each.tx_bytes, each.rx_packets, each.tx_packets, each.rx_dropped + each.tx_dropped
            )
            for each in found
            if each.port_no <= ofp.OFPP_MAX
        }

    def send_out(self, port: int, packet: bytes) -> None:
        """Let a packet of ours go out of a port."""
        out = parser.OFPActionOutput(port)
        self._datapath.send_msg(
            parser.OFPPacketOut(self._datapath, ofp.OFP_NO_BUFFER, ofp.OFPP_CONTROLLER, [out], packet)
        )

    def _flows(self, table: int) -> list[Any]:
        request = parser.OFPFlowStatsRequest(
            self._datapath,
            0,
            table,
            ofp.OFPP_ANY,
            ofp.OFPG_ANY,
            messages.COOKIE,
            messages.COOKIE_MASK,
            parser.OFPMatch(),
        )
        return self._ask(request)

    def _ask(self, request: Any) -> list[Any]:
        """All that a switch answers to one question."""
        self._datapath.set_xid(request)
        waiting = _Waiting([request.xid])
        self._await(waiting)
        self._datapath.send_msg(request)
        return self._answer(waiting)

    def _send(self, told: Sequence[Any]) -> _Waiting:
        barrier = parser.OFPBarrierRequest(self._datapath)
        buffers, numbers = [], []
        for message in [*told, barrier]:
            numbers.append(self._datapath.set_xid(message))
            message.serialize()
            buffers.append(bytes(message.buf))
        waiting = _Waiting(numbers)
        self._await(waiting)
        self._datapath.send(b"".join(buffers))
        return waiting

    def _await(self, waiting: _Waiting) -> None:
        with self._turn:
            if self.gone:
                raise FabricError(f"switch {self.number:016x} is gone")
            self._waiting[waiting.last] = waiting

    def _answer(self, waiting: _Waiting) -> list[Any]:
        answered = waiting.done.wait(PATIENCE_SECONDS)
        with self._turn:
            self._waiting.pop(waiting.last, None)
        if self.gone:
            raise FabricError(f"switch {self.number:016x} is gone")
        if not answered:
            raise FabricError(f"switch {self.number:016x} has not answered for {PATIENCE_SECONDS:g} s")
        if waiting.errors:
            raise self._refused(len(waiting.errors), waiting.errors[0])
        return waiting.parts

    def _refused(self, many: int, error: Any) -> FabricError:
        what = "what it was told" if many == 1 else f"{many} of what it was told"
        return FabricError(f"switch {self.number:016x} refused {what}: error {error.type}, {error.code}")

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        """Whatever a switch answers, or what it is told cannot be written down as: that is an error of this switch."""
        try:
            yield
        except FabricError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise FabricError(f"switch {self.number:016x} cannot be understood: {what}") from error

    # What os-ken's thread calls:

    def hear(self, message: Any) -> None:
        """Take an answer."""
        with self._turn:
            if isinstance(message, parser.OFPErrorMsg):
                for each in self._waiting.values():
                    if message.xid in each.numbers:
                        each.errors.append(message)
                        if message.xid == each.last:
                            each.done.set()
                return
            waiting = self._waiting.get(message.xid)
            if waiting is None:
                return
            waiting.parts += getattr(message, "body", [])
            if not getattr(message, "flags", 0) & ofp.OFPMPF_REPLY_MORE:
                waiting.done.set()

    def port_is(self, port: Any) -> None:
        """Take what a port is like."""
        if port.port_no <= ofp.OFPP_MAX:
            down = port.state & ofp.OFPPS_LINK_DOWN or port.config & ofp.OFPPC_PORT_DOWN
            name = port.name.decode(errors="replace").rstrip("\0")
            self.ports[port.port_no] = Port(name, not down, float(port.curr_speed * _BYTES_PER_KILOBIT))

    def port_is_gone(self, number: int) -> None:
        """A port was taken away."""
        self.ports.pop(number, None)

    def end(self) -> None:
        """It is gone: nobody waits for it any longer."""
        with self._turn:
            self.gone = True
            for waiting in self._waiting.values():
                waiting.done.set()

    def close(self) -> None:
        """End the connection."""
        self._datapath.close()
