"""Moves that a guest follows in its own time: looked after, without waiting, until they are complete or too late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forestall.adapters.libvirt.actuator import Effect, Vm, Watch
from forestall.adapters.libvirt.connection import NotRunning
from forestall.adapters.libvirt.lead_times import LeadTimes
from forestall.model.decision import Action, Outcome, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource


@dataclass(frozen=True)
class _Move:
    action: Action
    means: str
    watch: Watch
    started_at: float
    give_up_at: float


class PendingMoves:
    """At most one for each VM and resource: the newest.

    Parameters
    ----------
    monotonic
        Clock that never goes back, seconds.
    lead_times
        Where the time of a complete move is noted.
    patience_seconds
        How long a guest has.
    """

    def __init__(self, monotonic: Callable[[], float], lead_times: LeadTimes, patience_seconds: float) -> None:
        self._monotonic, self._lead_times, self._patience_seconds = monotonic, lead_times, patience_seconds
        self._moves: dict[tuple[str, Resource], _Move] = {}
        self._changed_at: dict[str, float] = {}

    def begin(self, action: Action, effect: Effect, started_at: float) -> None:
        """Look after a slow move. One that asks for the same again goes on, with the time that it had left."""
        key = (action.vm_id, action.resource)
        if effect.watch is None:
            self._moves.pop(key, None)
        elif key not in self._moves or self._moves[key].action != action:
            give_up_at = started_at + self._patience_seconds
            self._moves[key] = _Move(action, effect.means, effect.watch, started_at, give_up_at)

    def changed(self, vm_id: str) -> None:
        """A VM said that something moved; may be called from any thread."""
        self._changed_at[vm_id] = self._monotonic()

    def target(self, vm_id: str, resource: Resource) -> float | None:
        """Amount that a VM is on its way to; None if it is on none."""
        move = self._moves.get((vm_id, resource))
        return move.action.amount if move else None

    def forget(self, vm_id: str) -> None:
        """Stop looking after a VM's moves."""
        for key in [key for key in self._moves if key[0] == vm_id]:
            del self._moves[key]
        self._changed_at.pop(vm_id, None)

    def ended(self, find: Callable[[str], Vm]) -> list[Outcome]:
        """Outcomes of the moves that have ended, one way or the other; ``find`` gives a VM as it is now."""
        outcomes = []
        for key, move in list(self._moves.items()):
            outcome = self._look(move, find)
            if outcome is not None:
                outcomes.append(outcome)
                del self._moves[key]
        moving = {vm_id for vm_id, _ in self._moves}
        for vm_id in list(self._changed_at):  # another thread may add to it
            if vm_id not in moving:
                self._changed_at.pop(vm_id, None)
        return outcomes

    def _look(self, move: _Move, find: Callable[[str], Vm]) -> Outcome | None:
        late = self._monotonic() >= move.give_up_at
        try:
            progress = move.watch(find(move.action.vm_id))
        except HypervisorError as error:
            if late or isinstance(error, NotRunning):
                return Outcome(move.action, Result.FAILED, None, str(error))
            return None
        if not progress.shortfall:
            changed_at = self._changed_at.get(move.action.vm_id, -1.0)
            ended_at = changed_at if changed_at > move.started_at else self._monotonic()
            self._lead_times.note(move.means, ended_at - move.started_at)
            return Outcome(move.action, Result.DONE, progress.in_force)
        if late:
            reason = f"{progress.shortfall} within {self._patience_seconds:g} s"
            return Outcome(move.action, Result.FAILED, progress.in_force, reason)
        return None
