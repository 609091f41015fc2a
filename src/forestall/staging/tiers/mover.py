"""Moves of disks, step by step, so that whatever dies at any moment, the VM has all that it has written.

QEMU mirrors the image while the VM runs; once both are equal it writes to both before it tells the VM that it has
written. From then on both hold everything, and only then, before the VM is switched over, is it written into its
definition that it starts on the new image: the other way round, a VM that ends at the wrong moment would be started on
the old image later, and would have lost what it wrote since. Each step is written down before it is begun, so that
whoever comes next, the daemon, the watchdog or ``forestall restore``, can go on or go back.

Source: libvirt's virDomainBlockCopy with ``VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES``; QEMU's copy-mode write-blocking.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from forestall.model.errors import HypervisorError, StoreError
from forestall.ports.tiers import DiskTiers, Move, Standing, State

TRIES = 10
"""So often a switch is tried; after that the disk stays where it is."""


class MoveBook(Protocol):
    """Every move, and how far it is. Errors are :class:`~forestall.model.errors.StoreError`."""

    def write(self, move: Move) -> None:
        """Write down how far a move is; durable on return."""
        ...

    def moves(self) -> tuple[Move, ...]:
        """Every move as it was last written down, by when they began."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """While it is held no other process takes a step; one that does is waited for, for a while."""
        ...


class Mover:
    """Does moves.

    Parameters
    ----------
    tiers
        The disks.
    book
        Where moves are written down.
    now
        Instant, seconds UTC.
    removes_old
        Whether the old image is removed when nothing uses it any more.
    """

    def __init__(self, tiers: DiskTiers, book: MoveBook, now: Callable[[], float], *, removes_old: bool) -> None:
        self._tiers, self._book, self._now, self._removes_old = tiers, book, now, removes_old
        self._tries = 0
        self._seen_copying: tuple[str, str, float] | None = None

    def begin(self, move: Move) -> Move:
        """Begin a move.

        Raises
        ------
        HypervisorError, StoreError
            It was not begun; or it was, and the book still says so: then it is open, and to be gone on with.
        """
        self._tries = 0
        with self._book.alone():
            self._book.write(move)
            try:
                self._tiers.begin(move)
            except HypervisorError as error:
                self._tiers.end_copy(move)  # an answer may have been lost, and not what was asked for
                self._end(move, State.FAILED, str(error))
                raise
            self._seen_copying = move.key
            return self._to(move, State.COPYING)

    def turn(self, move: Move) -> Move:
        """Bring a move one step further, by how things stand.

        Raises
        ------
        HypervisorError, StoreError
            It is to be tried again.
        """
        with self._book.alone():
            move = self._newest(move)
            return self._turn(move, self._tiers.standing(move)) if move.state.is_open else move

    def give_up(self, move: Move, why: str) -> Move:
        """Leave the disk where it is, unless it is too late for that: then one step further."""
        with self._book.alone():
            move = self._newest(move)
            if not move.state.is_open:
                return move
            stands = self._tiers.standing(move)
            if stands.copy is None or stands.runs_on != move.source:
                return self._turn(move, stands)
            return self._back(move, stands, why)

    def _newest(self, move: Move) -> Move:
        """How far a move is, which another process may have ended; what is only counted is kept."""
        written = next((other for other in self._book.moves() if other.key == move.key), None)
        if written is None:
            raise StoreError(f"the move of disk {move.target} of {move.vm_id} is not in the book any more")
        return move if written.state is move.state else written

    def _turn(self, move: Move, stands: Standing) -> Move:
        if move.state is State.BEGINNING:
            if stands.copy is None:
                return self._end(move, State.FAILED, f"was not begun; {move.destination} is kept, if it is there")
            move = self._to(move, State.COPYING)
        if move.state is State.COPYING:
            return self._copying(move, stands)
        if move.state is State.SWITCHING:
            return self._switching(move, stands)
        return self._switched(move, stands)

    def _copying(self, move: Move, stands: Standing) -> Move:
        if stands.runs_on == move.destination:
            return self._to(move, State.SWITCHED)
        if stands.copy is None:
            ended = "the copying ended early: is there room?" if stands.runs_on else "its VM ended"
            if self._seen_copying == move.key:  # a moment ago, and not in step: nothing but the old image has it all
                return self._fail(move, ended)
            return self._keep_both(move, ended)
        self._seen_copying = None if stands.copy.in_step else move.key
        move = replace(move, copied_bytes=stands.copy.done_bytes, size_bytes=stands.copy.all_bytes)
        return self._switch(self._to(move, State.SWITCHING)) if stands.copy.in_step else move

    def _switching(self, move: Move, stands: Standing) -> Move:
        if stands.runs_on == move.destination:
            return self._to(move, State.SWITCHED)
        if stands.runs_on == move.source:
            if stands.copy is None:
                if stands.starts_on == move.destination:
                    self._tiers.settle(move, move.source)
                return self._keep_both(move, "the copying ended early, or somebody has started its VM on the old image")
            if self._tries >= TRIES:
                return self._back(move, stands, "it could not be switched over")
            return self._switch(move) if stands.copy.in_step else move
        if stands.starts_on == move.destination and not stands.runs_on:
            return self._end(move, State.DONE, f"its VM ended as it was switched over; {move.source} is kept")
        return self._keep_both(move, "its VM ended as it was switched over, or its definition was changed")

    def _switch(self, move: Move) -> Move:
        self._tries += 1
        self._tiers.settle(move, move.destination)
        self._tiers.switch(move)
        return self._to(move, State.SWITCHED)

    def _switched(self, move: Move, stands: Standing) -> Move:
        if stands.starts_on == move.source and stands.runs_on == move.destination:
            self._tiers.settle(move, move.destination)
        elif stands.runs_on not in ("", move.destination) or stands.starts_on not in ("", move.destination):
            return self._keep_both(move, "somebody has its VM use another image since")
        kept = self._tiers.remove(move, move.source) if self._removes_old else f"{move.source} is kept"
        return self._end(replace(move, copied_bytes=move.size_bytes), State.DONE, kept)

    def _back(self, move: Move, stands: Standing, why: str) -> Move:
        """While the VM runs on its old image: have it start there too, and only then copy no more."""
        if stands.starts_on == move.destination:
            self._tiers.settle(move, move.source)
        self._tiers.end_copy(move)
        return self._fail(move, why)

    def _keep_both(self, move: Move, why: str) -> Move:
        """Nobody here can say which image has everything."""
        return self._end(move, State.FAILED, f"{why}; {move.source} and {move.destination} are kept")

    def _fail(self, move: Move, why: str) -> Move:
        kept = self._tiers.remove(move, move.destination)
        return self._end(move, State.FAILED, "; ".join(filter(None, (why, kept))))

    def _end(self, move: Move, state: State, said: str) -> Move:
        return self._to(replace(move, ended_at=self._now(), said=said), state)

    def _to(self, move: Move, state: State) -> Move:
        move = replace(move, state=state)
        self._book.write(move)
        return move
