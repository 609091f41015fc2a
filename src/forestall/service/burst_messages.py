"""What the daemon and the process of the burst loop say to each other through service/pipes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from forestall.burst.driver import BurstStatus
from forestall.burst.place import Place
from forestall.model.errors import BadInput


@dataclass(frozen=True)
class Roster:
    """VMs whose cores are watched.

    Attributes
    ----------
    places
        The VMs.
    elsewhere_cores
        Reserved for VMs that are not among them.
    lease_seconds
        Unless a roster comes again within so long, everybody is put back; None: it holds for ever.
    """

    places: tuple[Place, ...]
    elsewhere_cores: float = 0.0
    lease_seconds: float | None = None


def roster_line(roster: Roster) -> bytes:
    """A roster as a line."""
    return msgspec.json.encode(roster) + b"\n"


def roster_of(line: bytes) -> Roster:
    """A roster from its line.

    Raises
    ------
    BadInput
        It is none, or says what cannot be.
    """
    try:
        roster = msgspec.json.decode(line, type=Roster)
    except msgspec.MsgspecError as error:
        raise BadInput(f"is not a roster: {error}") from error
    for place in roster.places:
        if not (place.frame_cores > 0 and place.weight > 0 and place.guest.pid > 0):
            raise BadInput(f"is not a roster: {place.guest.vm_id!r} has no frame, no weight or no process")
    if not roster.elsewhere_cores >= 0 or not (roster.lease_seconds is None or roster.lease_seconds > 0):
        raise BadInput("is not a roster: it has less than nothing elsewhere, or no lease")
    names = [place.guest.vm_id for place in roster.places]
    if len(set(names)) < len(names):
        raise BadInput("is not a roster: a VM is there twice")
    return roster


def status_line(status: BurstStatus) -> bytes:
    """A status as a line; numbers that are not known are null."""
    return msgspec.json.encode(status) + b"\n"
