"""Which ports are connected with each other: each switch sends packets of LLDP, and others say where they arrive.

A packet carries a signature under a key that nobody else has, and is believed for a few seconds only: what a VM makes
up, or sends again, makes no cable. Ports that a VM is known to be connected to are not listened at.

Sources: IEEE 802.1AB; Hong et al., Poisoning network visibility in software-defined networks, NDSS 2015.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Iterable

from os_ken.lib.packet import ethernet, lldp, packet
from os_ken.lib.packet.ether_types import ETH_TYPE_LLDP

from forestall.ports.fabric import Cable, Place

EVERY_SECONDS, VALID_SECONDS, MOST_UNHEARD = 1.0, 5.0, 5
"""So often packets are sent, so long each is believed, and so many are lost until a link is taken for dead. That is
counted in packets: while we, or a switch, cannot send any, nothing is known to be dead.
"""
LONGEST_BYTES = 512
_OUI, _SUBTYPE = b"\xf0\xca\x57", 1
_SOURCE = "0e:f0:ca:57:00:00"
_SOURCE_BYTES = bytes.fromhex(_SOURCE.replace(":", ""))
_SEPARATOR = b"\0"


class Discovery:
    """What has been heard of late.

    Parameters
    ----------
    monotonic
        Seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._heard: dict[Place, Place] = {}
        self._unheard: dict[Place, int] = {}
        self._turn = threading.Lock()

    def believe(self, cables: Iterable[Cable]) -> None:
        """Take cables for there that were before, until they are not heard."""
        with self._turn:
            for one, other in cables:
                self._heard.setdefault(one, other)
                self._heard.setdefault(other, one)

    def packet(self, place: Place) -> bytes:
        """What is sent out of a port now."""
        with self._turn:
            self._unheard[place] = self._unheard.get(place, 0) + 1
        chassis, port = f"{place.switch:016x}".encode(), f"{place.port:x}".encode()
        at = f"{self._monotonic():.3f}".encode()
        sent = packet.Packet()
        sent.add_protocol(ethernet.ethernet(lldp.LLDP_MAC_NEAREST_BRIDGE, _SOURCE, ETH_TYPE_LLDP))
        sent.add_protocol(
            lldp.lldp(
                [
                    lldp.ChassisID(subtype=lldp.ChassisID.SUB_LOCALLY_ASSIGNED, chassis_id=chassis),
                    lldp.PortID(subtype=lldp.PortID.SUB_LOCALLY_ASSIGNED, port_id=port),
                    lldp.TTL(ttl=int(VALID_SECONDS)),
                    lldp.OrganizationallySpecific(
                        oui=_OUI, subtype=_SUBTYPE, info=at + _SEPARATOR + self._signature(chassis, port, at)
                    ),
                    lldp.End(),
                ]
            )
        )
        sent.serialize()
        return bytes(sent.data)

    def hear(self, place: Place, data: bytes) -> bool:
        """Take a packet that arrived at a port; whether it says something new."""
        if len(data) > LONGEST_BYTES or data[6:12] != _SOURCE_BYTES:
            return False
        source = self._source_of(data)
        if source is None or source == place:
            return False
        with self._turn:
            before, self._heard[place] = self._heard.get(place), source
            was_dead = self._unheard.get(source, 0) > MOST_UNHEARD
            self._unheard[source] = 0
        return was_dead or before != source

    def cables(self, is_up: Callable[[Place], bool]) -> tuple[Cable, ...]:
        """Cables of which both ports are up and what was sent through one of them has been heard of late."""
        with self._turn:
            dead = {place for place, unheard in self._unheard.items() if unheard > MOST_UNHEARD}
            heard = {place: source for place, source in self._heard.items() if source not in dead}
        found = set()
        for place, source in heard.items():
            # what arrives at two ports was sent again by somebody: who answers is believed
            if heard.get(source, place) == place and is_up(place) and is_up(source):
                found.add(Cable(*sorted((place, source))))
        return tuple(sorted(found))

    def _signature(self, *parts: bytes) -> bytes:
        return hmac.digest(self._key, _SEPARATOR.join(parts), hashlib.sha256)

    def _source_of(self, data: bytes) -> Place | None:
        try:
            found = packet.Packet(data).get_protocol(lldp.lldp)
            chassis, port, _, ours = found.tlvs[:4]
            at, _, signature = ours.info.partition(_SEPARATOR)
            if not hmac.compare_digest(signature, self._signature(chassis.chassis_id, port.port_id, at)):
                return None
            if self._monotonic() - float(at) > VALID_SECONDS:
                return None
            return Place(int(chassis.chassis_id, 16), int(port.port_id, 16))
        except Exception:  # it is anybody's packet, and os-ken's parser raises whatever it meets
            return None
