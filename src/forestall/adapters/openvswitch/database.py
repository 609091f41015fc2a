"""The database of Open vSwitch on a host: whose interfaces its ports are, and queues of ports.

Queues are rows of QoS and Queue (``linux-htb``) that carry our mark. Which packets wait in which says the DSCP that
they carry; the kernel is told so (:mod:`forestall.adapters.openvswitch.dscp`), for ``set_queue`` does nothing where
Open vSwitch forwards by itself. Source: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forestall.adapters.openvswitch import dscp
from forestall.model.errors import FabricError
from forestall.ports.fabric import Interface, Place, PortQueues, Queue

PATIENCE_SECONDS = 10.0
MARK = "forestall"
_TABLES = ("Open_vSwitch", "Bridge", "Port", "Interface", "QoS", "Queue")
_BITS = 8
BROKEN = PortQueues(0, ())
"""Stands for queues that are written down and not in force."""


class Database:
    """One host's.

    Parameters
    ----------
    remote
        Where it listens: ``unix:/run/openvswitch/db.sock`` or ``tcp:ADDRESS:PORT``.
    namespace
        Of the network that the ports are in; None: ours.
    name_of
        Name of a VM by what ports call it: libvirt writes down its UUID.
    note
        Takes one line for the operator.

    Raises
    ------
    FabricError
        It does not answer.
    """

    def __init__(
        self,
        remote: str,
        namespace: Path | None = None,
        name_of: Callable[[str], str] = lambda vm_id: vm_id,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ovs looks whether eventlet is in use, which says that it is deprecated
            from ovsdbapp.backend.ovs_idl.connection import Connection, OvsdbIdl
            from ovsdbapp.schema.open_vswitch import impl_idl

        logging.getLogger("ovsdbapp").setLevel(logging.CRITICAL)  # errors are raised, and told by who catches them
        self._remote, self._namespace = remote, namespace
        self._name_of, self._note = name_of, note
        self._passed_over: set[str] = set()
        with self._translated():
            idl = OvsdbIdl.from_server(remote, "Open_vSwitch", helper_tables=_TABLES)
            self._connection = Connection(idl, PATIENCE_SECONDS)
            self._api = impl_idl.OvsdbIdl(self._connection)

    def tell(self, changed: Callable[[], None]) -> None:
        """Call this whenever ports or their interfaces become others."""

        def notify(event: str, row: Any, updates: Any = None) -> None:
            if row._table.name == "Interface" and (
                updates is None or hasattr(updates, "external_ids") or hasattr(updates, "ofport")
            ):
                changed()

        self._api.idl.notify = notify

    def close(self) -> None:
        """Let go of it."""
        self._connection.stop(PATIENCE_SECONDS)

    def names(self) -> dict[int, str]:
        """Names of bridges by datapath id."""
        with self._connection.lock:
            return {int(bridge.datapath_id[0], 16): bridge.name for bridge in self._bridges()}

    def interfaces(self) -> list[Interface]:
        """Interfaces of VMs: what libvirt, or whoever connects VMs, has written down at their ports."""
        rows = []
        with self._connection.lock:
            for place, row, port in self._ports():
                if address := row.external_ids.get("attached-mac"):
                    why = _refusal(address.lower(), port)
                    vm_id = row.external_ids.get("vm-id") or row.external_ids.get("vm-uuid") or row.name
                    rows.append((address.lower(), vm_id, place, row.name, why))
        for *_, name, why in rows:
            if why and name not in self._passed_over:
                self._note(f"port {name} is passed over: {why}")
        self._passed_over = {name for *_, name, why in rows if why}
        return [Interface(address, self._name_of(vm_id), place) for address, vm_id, place, _, why in rows if not why]

    def queues(self) -> dict[Place, PortQueues]:
        """Queues of ours; of a port whose packets are not led to them none, so that they are set again."""
        with self._connection.lock:
            stated = {
                place: (row.name, _stated(port.qos[0]))
                for place, row, port in self._ports()
                if port.qos and _is_ours(port.qos)
            }
        return {place: queues if self._leads(device, queues) else BROKEN for place, (device, queues) in stated.items()}

    def _leads(self, device: str, queues: PortQueues) -> bool:
        try:
            return dscp.leads(device, self._namespace) == [number for _, number in sorted(_leads(queues).items())]
        except FabricError:  # the device is gone, and what is written down about it is not
            return False

    def set_queues(self, place: Place, queues: PortQueues | None) -> bool:
        """Let a port send so; whether it is one of this host's.

        Raises
        ------
        FabricError
            The port has queues of somebody else, or that failed.
        """
        with self._connection.lock:
            at = {where: (row.name, port) for where, row, port in self._ports()}
            if place not in at:
                return False
            device, port = at[place]
            before = list(port.qos)
            if before and not _is_ours(before):
                raise FabricError(f"port {device} has queues of somebody else")
            gone = [("QoS", qos.uuid) for qos in before]
            gone += [("Queue", queue.uuid) for qos in before for queue in qos.queues.values()]
            name = port.name
        with self._translated(), self._api.transaction(check_error=True) as transaction:
            if queues is None:
                transaction.add(self._api.db_clear("Port", name, "qos"))
            else:
                transaction.add(self._api.db_set("Port", name, ("qos", self._created(transaction, queues))))
            for table, uuid in gone:
                transaction.add(self._api.db_destroy(table, uuid))
        if queues is not None:
            dscp.lead(device, _leads(queues), len(queues.queues), queues.bytes_per_s, self._namespace)
        return True

    def _created(self, transaction: Any, queues: PortQueues) -> Any:
        rows = {
            number: transaction.add(
                self._api.db_create(
                    "Queue",
                    other_config={
                        "min-rate": str(queue.least_bytes_per_s * _BITS),
                        "max-rate": str(queue.most_bytes_per_s * _BITS),
                        "burst": str(dscp.burst_bytes(queue.least_bytes_per_s) * _BITS),
                    },
                    external_ids={MARK: " ".join(map(str, queue.dscp))},
                )
            )
            for number, queue in enumerate(queues.queues)
        }
        return transaction.add(
            self._api.db_create(
                "QoS",
                type="linux-htb",
                other_config={"max-rate": str(queues.bytes_per_s * _BITS)},
                external_ids={MARK: "fabric"},
                queues=rows,
            )
        )

    def _bridges(self) -> Iterator[Any]:
        for bridge in self._api.idl.tables["Bridge"].rows.values():
            if bridge.datapath_id:
                yield bridge

    def _ports(self) -> Iterator[tuple[Place, Any, Any]]:
        for bridge in self._bridges():
            switch = int(bridge.datapath_id[0], 16)
            for port in bridge.ports:
                for row in port.interfaces:
                    if row.ofport and row.ofport[0] > 0:
                        yield Place(switch, row.ofport[0]), row, port

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FabricError:
            raise
        except Exception as error:  # of ovs and ovsdbapp, which have no tree of their own
            raise FabricError(f"{self._remote}: {error or type(error).__name__}") from error


def _refusal(address: str, port: Any) -> str:
    """Why an interface cannot be served; empty if it can."""
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", address) or int(address[:2], 16) & 1:
        return f"attached-mac {address!r} is no address of an interface"
    if port.tag or port.trunks:
        return "it belongs to VLANs, which Forestall knows nothing of"
    return ""


def _is_ours(qos: list[Any]) -> bool:
    return all(MARK in row.external_ids for row in qos)


def _stated(qos: Any) -> PortQueues:
    queues = tuple(
        Queue(
            tuple(int(word) for word in row.external_ids.get(MARK, "").split()),
            int(row.other_config.get("min-rate", 0)) // _BITS,
            int(row.other_config.get("max-rate", 0)) // _BITS,
        )
        for _, row in sorted(qos.queues.items())
    )
    return PortQueues(int(qos.other_config.get("max-rate", 0)) // _BITS, queues)


def _leads(queues: PortQueues) -> Mapping[int, int]:
    """Number of the queue of each DSCP that does not wait in the first."""
    return {value: number for number, queue in enumerate(queues.queues) if number for value in queue.dscp}
