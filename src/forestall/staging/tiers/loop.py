"""The loop that looks after disks on tiers: counts what each is asked, plans, and moves one disk at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from forestall.model.errors import ForestallError, HypervisorError, StoreError, WrongUse
from forestall.ports.tiers import DiskName, DiskTiers, Move, State, Tier, TierDisk
from forestall.staging.tiers.frequency import Frequency
from forestall.staging.tiers.mover import MoveBook, Mover
from forestall.staging.tiers.plan import Outlook, Plan, Proposal, TierSettings, plan, proposal

LOOK_SECONDS, MOVING_SECONDS = 60.0, 1.0
"""From one look to the next, while nothing is moved and while something is."""
AGAIN_SECONDS = 24 * 3600.0
"""For so long a disk is left alone that has been moved, or could not be."""
FORGET_SECONDS = 30 * 86_400.0
"""A disk that nobody has used for so long is forgotten."""


class UseStore(Protocol):
    """Where it is kept how often disks were asked; errors are :class:`~forestall.model.errors.StoreError`."""

    def read(self) -> Any:
        """What was kept; None if nothing was."""
        ...

    def write(self, value: Any) -> None:
        """Keep plain values in place of those before."""
        ...


@dataclass(frozen=True)
class TierView:
    """A tier as an operator sees it: where it is, how quick, what is left, how many disks lie there, how large."""

    name: str
    folder: str
    request_ms: float
    free_bytes: int
    disks: int
    disks_bytes: int


@dataclass(frozen=True)
class DiskView:
    """A disk as an operator sees it: where it lies, how often it will be asked, and what is to become of it."""

    vm_id: str
    target: str
    tier: str
    path: str
    size_bytes: int
    requests_per_s: float
    wait_ms: float
    seen_hours: int
    to_tier: str
    lead_seconds: float
    gain_seconds: float
    cost_seconds: float
    why: str


class TierLoop:
    """Everything about tiers; one caller at a time.

    Parameters
    ----------
    tiers
        The host's.
    book, uses
        Where moves, and what disks were asked, are written down.
    settings
        How disks are moved.
    now
        Instant, seconds UTC.
    may_move
        Whether a VM may be changed now.
    note
        Takes one line for the operator.
    moves
        Whether disks are moved, or only looked at and moved by order.
    """

    def __init__(
        self,
        tiers: DiskTiers,
        book: MoveBook,
        uses: UseStore,
        settings: TierSettings,
        now: Callable[[], float],
        may_move: Callable[[str], bool],
        note: Callable[[str], None],
        *,
        moves: bool,
    ) -> None:
        self._port, self._book, self._uses, self._settings = tiers, book, uses, settings
        self._now, self._may_move, self._note, self._moves = now, may_move, note, moves
        self._mover = Mover(tiers, book, now, removes_old=settings.removes_old)
        self._frequency = _read(uses, note)
        self._open = self._first_open()
        self._rest_until = {
            DiskName(move.vm_id, move.target): move.ended_at + AGAIN_SECONDS for move in book.moves() if move.ended_at
        }
        self._tiers: tuple[Tier, ...] = ()
        self._disks: tuple[TierDisk, ...] = ()
        self._plan = Plan((), {})
        self._look_at = -math.inf
        self._said, self._told = "", set[str]()

    def beat(self) -> float:
        """Look, decide, act; how long to wait for the next beat."""
        try:
            self._step()
        except ForestallError as error:
            if (said := str(error)) != self._said:
                self._note(f"disks on tiers: {said}")
                self._said = said
        moving = self._open is not None or self._look_at == -math.inf
        return MOVING_SECONDS if moving else LOOK_SECONDS

    def _step(self) -> None:
        now = self._now()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look(now)
            self._said = ""
        if self._open is not None:
            self._take(self._mover.turn(self._open))
        if self._open is None and self._moves and now < self._look_at:
            for move in self._plan.moves:
                if self._may_move(move.name.vm_id):
                    self._begin(move, self._settings.bytes_per_s)
                    break

    def _look(self, now: float) -> None:
        """Count, and plan anew."""
        self._tiers, self._disks = self._port.tiers(), self._port.disks()
        if kept := sorted({tier.why_kept for tier in self._tiers if tier.why_kept} - self._told):
            self._told |= set(kept)
            self._note(f"disks on tiers: old images are kept: {'; '.join(kept)}")
        if self._frequency.observe(self._disks, now):
            self._frequency.forget_before(now - FORGET_SECONDS)
            self._uses.write(self._frequency.kept())
        self._replan(now)

    def _replan(self, now: float) -> None:
        self._plan = plan([self._outlook(disk, now) for disk in self._disks], self._tiers, self._settings)

    def _outlook(self, disk: TierDisk, now: float) -> Outlook:
        name, hours = disk.name, self._settings.look_ahead_hours
        asked = self._frequency.forecast(name, now, hours)
        free = now >= self._rest_until.get(name, -math.inf) and (self._open is None or name != _name(self._open))
        return Outlook(disk, asked, self._frequency.wait_ms(name), self._frequency.seen_hours(name), free)

    def _begin(self, wanted: Proposal, bytes_per_s: int) -> Move:
        disk = next((disk for disk in self._disks if disk.name == wanted.name), None)
        there = next((tier for tier in self._tiers if tier.name == wanted.to_tier), None)
        if disk is None or there is None:
            raise HypervisorError(f"disk {wanted.name} is gone, or {wanted.to_tier}")
        now = self._now()
        move = Move(
            vm_id=disk.name.vm_id,
            target=disk.name.target,
            uuid=disk.uuid,
            source=disk.path,
            destination=os.path.join(there.folder, os.path.basename(disk.path)),
            from_tier=disk.tier,
            to_tier=there.name,
            size_bytes=disk.size_bytes,
            bytes_per_s=bytes_per_s,
            why=wanted.why,
            state=State.BEGINNING,
            began_at=now,
        )
        self._rest_until[disk.name] = now + AGAIN_SECONDS
        self._plan = Plan(tuple(m for m in self._plan.moves if m.name != disk.name), self._plan.stays)
        try:
            self._open = self._mover.begin(move)
        except ForestallError:
            self._open = self._first_open()  # what was begun nevertheless is gone on with
            raise
        self._note(
            f"disk {disk.name} is moved from {disk.tier or disk.path} to {there.name}, "
            f"{wanted.lead_seconds:.0f} s: {wanted.why}"
        )
        return self._open

    def _take(self, move: Move) -> None:
        """Take note of how far the open move is."""
        if move.state.is_open:
            self._open = move
            return
        self._open = self._first_open()
        self._rest_until[_name(move)] = self._now() + AGAIN_SECONDS
        self._note(outcome(move))
        self._look_at = -math.inf

    def order(self, vm_id: str, target: str, tier: str, bytes_per_s: int | None = None) -> Move:
        """Move a disk because somebody wants it; whether that pays is theirs to know.

        Raises
        ------
        WrongUse
            There is no such disk or tier, it cannot be moved, or another is.
        HypervisorError, StoreError
            It could not be begun.
        """
        self._tiers, self._disks = self._port.tiers(), self._port.disks()
        disk = next((disk for disk in self._disks if disk.name == (vm_id, target)), None)
        there = next((found for found in self._tiers if found.name == tier), None)
        if disk is None:
            raise WrongUse(f"no VM named {vm_id!r} runs here with a disk {target!r}")
        if there is None:
            raise WrongUse(f"{tier!r} is none of the tiers {', '.join(found.name for found in self._tiers)}")
        if disk.refusal or disk.tier == tier:
            raise WrongUse(f"disk {disk.name} {disk.refusal or f'lies on {tier} already'}")
        if self._open is not None:
            raise WrongUse(f"disk {_name(self._open)} is being moved; one is moved at a time")
        if (room := there.free_bytes - self._settings.keep_free_bytes) < disk.size_bytes:
            raise WrongUse(f"{tier} has {max(room, 0)} bytes left, and the disk takes {disk.size_bytes}")
        rate = bytes_per_s or self._settings.bytes_per_s
        here = next((found for found in self._tiers if found.name == disk.tier), there)
        outlook = self._outlook(disk, self._now())
        return self._begin(proposal(outlook, here, there, replace(self._settings, bytes_per_s=rate), "by order"), rate)

    def _first_open(self) -> Move | None:
        return next((move for move in self._book.moves() if move.state.is_open), None)

    def give_up(self, why: str, vm_ids: Collection[str] | None = None) -> Move | None:
        """End what is being moved, of these VMs or of any; what is switched over already is brought to its end."""
        if self._open is None or (vm_ids is not None and self._open.vm_id not in vm_ids):
            return None
        move = self._mover.give_up(self._open, why)
        self._take(move)
        return move

    def tier_views(self) -> list[TierView]:
        """Every tier."""
        views = []
        for tier in self._tiers:
            sizes = [disk.size_bytes for disk in self._disks if disk.tier == tier.name]
            views.append(TierView(tier.name, tier.folder, tier.request_ms, tier.free_bytes, len(sizes), sum(sizes)))
        return views

    def disk_views(self) -> list[DiskView]:
        """Every disk of a running VM, and what is planned for it."""
        now, planned = self._now(), {move.name: move for move in self._plan.moves}
        return [self._view(self._outlook(disk, now), planned.get(disk.name)) for disk in self._disks]

    def _view(self, outlook: Outlook, planned: Proposal | None) -> DiskView:
        disk, asked, moving = outlook.disk, outlook.requests_per_s, self._open
        to_tier, why = "", self._plan.stays.get(disk.name, "")
        if moving is not None and _name(moving) == disk.name:
            to_tier, why = moving.to_tier, f"is being moved: {moving.why}"
        elif planned is not None:
            to_tier, why = planned.to_tier, planned.why
        return DiskView(
            *disk.name,
            tier=disk.tier,
            path=disk.path,
            size_bytes=disk.size_bytes,
            requests_per_s=float(asked.mean()) if len(asked) else 0.0,
            wait_ms=outlook.wait_ms,
            seen_hours=outlook.seen_hours,
            to_tier=to_tier,
            lead_seconds=planned.lead_seconds if planned else 0.0,
            gain_seconds=planned.gain_seconds if planned else 0.0,
            cost_seconds=planned.cost_seconds if planned else 0.0,
            why=why,
        )

    def moves(self, most: int) -> list[Move]:
        """The newest moves, the newest last."""
        found = [move for move in self._book.moves() if self._open is None or move.began_at != self._open.began_at]
        return [*found, *([self._open] if self._open else [])][-most:]


def finish(
    tiers: DiskTiers,
    book: MoveBook,
    now: Callable[[], float],
    *,
    removes_old: bool,
    vm_ids: Collection[str] | None = None,
) -> Iterator[Move]:
    """Bring to an end what a process that is gone has left open (of these VMs, or of any): back if it can be, else on.

    Raises
    ------
    HypervisorError, StoreError
        Something stays open.
    """
    mover = Mover(tiers, book, now, removes_old=removes_old)
    for move in book.moves():
        if not move.state.is_open or (vm_ids is not None and move.vm_id not in vm_ids):
            continue
        while move.state.is_open:
            before = move.state
            move = mover.give_up(move, "what moved it has ended")
            if move.state is before:
                raise HypervisorError(f"disk {_name(move)} is {before} still, to {move.destination}")
        yield move


def outcome(move: Move) -> str:
    """What has become of a move that is over, in a line."""
    how = f"is on {move.to_tier} now" if move.state is State.DONE else f"was not moved to {move.to_tier}"
    return f"disk {_name(move)} {how}{': ' if move.said else ''}{move.said}"


def _read(uses: UseStore, note: Callable[[str], None]) -> Frequency:
    """What is known of disks; where that is damaged, it is learned anew."""
    try:
        return Frequency.of(uses.read() or ())
    except (StoreError, ValueError, KeyError, TypeError) as error:
        note(f"how often disks were asked is learned anew: {error}")
        return Frequency()


def _name(move: Move) -> DiskName:
    return DiskName(move.vm_id, move.target)
