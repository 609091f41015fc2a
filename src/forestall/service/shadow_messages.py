"""What the daemon and the processes that stage say to each other through service/pipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from forestall.model.errors import BadInput
from forestall.staging.watched import Place


@dataclass(frozen=True)
class ShadowRoster:
    """VMs that are shadowed; unless it comes again within ``lease_seconds``, none is (None: for ever)."""

    places: tuple[Place, ...]
    lease_seconds: float | None = None


def roster_line(roster: ShadowRoster) -> bytes:
    """A roster as a line."""
    return msgspec.json.encode(roster) + b"\n"


def roster_of(line: bytes) -> ShadowRoster:
    """A roster from its line.

    Raises
    ------
    BadInput
        It is none, or says what cannot be.
    """
    try:
        roster = msgspec.json.decode(line, type=ShadowRoster)
    except msgspec.MsgspecError as error:
        raise BadInput(f"is not a roster: {error}") from error
    for place in roster.places:
        if not (place.horizon_seconds > 0 and place.pid > 0):
            raise BadInput(f"is not a roster: {place.vm_id!r} has no horizon or no process")
    if not (roster.lease_seconds is None or roster.lease_seconds > 0):
        raise BadInput("is not a roster: it has no lease")
    if len({place.vm_id for place in roster.places}) < len(roster.places):
        raise BadInput("is not a roster: a VM is there twice")
    return roster


def status_line(status: Any) -> bytes:
    """A status as a line."""
    return msgspec.json.encode(status) + b"\n"
