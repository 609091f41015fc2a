"""Recording what running VMs demand, on a regular grid of instants that does not drift.

The recorder looks at the hypervisor at every instant that is a multiple of the step. What it could not see, or saw too
late, is a gap. What becomes of the rows is the business of a :class:`Spool`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forestall.model.errors import HypervisorError
from forestall.model.samples import Observation
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import Hypervisor
from forestall.ports.store import SampleBatch

LONGEST_SPAN_STEPS = 1.5
"""A measurement over a longer time than this is not that of one interval, and is a gap."""
_TOO_MANY = 10
"""So many measurements in a row over too long a time: the step is too short."""


class Spool(Protocol):
    """Takes rows, interval by interval; what :meth:`append` has returned from outlives the process."""

    def append(self, batch: SampleBatch) -> None:
        """Keep the rows of one interval, later than all before."""
        ...


@dataclass
class Recorded:
    """What was recorded: ``intervals`` with rows in them, ``rows`` in all, and intervals that were ``lost``."""

    intervals: int = 0
    rows: int = 0
    lost: int = 0


class Recorder:
    """Takes the demand of every VM down, step by step.

    Parameters
    ----------
    hypervisor, clock, spool
        Whom to ask, when, and where the rows go.
    step_seconds
        Length of an interval, whole seconds.
    say
        Takes one line for each thing that an operator should know: contact lost and found, a clock that was set.
    """

    def __init__(
        self, hypervisor: Hypervisor, clock: Clock, spool: Spool, step_seconds: int, say: Callable[[str], None]
    ) -> None:
        self._hypervisor, self._clock, self._spool = hypervisor, clock, spool
        self._step, self._say = step_seconds, say
        self._seen_at = math.nan
        self._last_slot = -1
        self._lost_contact = self._set_back = False
        self._too_long = 0
        self.recorded = Recorded()

    def run(self, duration_seconds: float = math.inf) -> Recorded:
        """Record for ``duration_seconds``, to the nearest interval, or for ever; the first look only sets the counters.

        Raises
        ------
        StoreError
            What was seen cannot be kept.
        """
        tick = self._tick_after(self._clock.now())
        self._clock.sleep_until(tick)
        last_look = self._clock.monotonic() + duration_seconds - self._step / 2
        self._look()
        while self._clock.monotonic() < last_look:
            tick = self._next_tick(tick)
            self._clock.sleep_until(tick)
            self._look()
        return self.recorded

    def _tick_after(self, instant: float) -> float:
        return (instant // self._step + 1) * self._step

    def _next_tick(self, tick: float) -> float:
        """One step on; what was missed altogether is left out, and a clock that was set is followed."""
        now, due = self._clock.now(), tick + self._step
        if now >= due + self._step:
            return now // self._step * self._step
        return min(due, self._tick_after(now))

    def _look(self) -> None:
        """Observe, and keep what was observed if it is the measurement of one interval."""
        before, self._seen_at = self._seen_at, self._clock.monotonic()
        observation = self._observed()
        if observation is None:
            self._seen_at = math.nan
            return
        slot = observation.at // self._step
        if slot <= self._last_slot:
            self._note_repetition(slot)
        elif self._seen_at - before <= LONGEST_SPAN_STEPS * self._step:
            self._set_back, self._too_long = False, 0
            self._keep(observation, slot)
        elif not math.isnan(before):  # a mean over a silence, not that of an interval
            self._note_slowness()

    def _observed(self) -> Observation | None:
        """What the hypervisor says; None while contact is lost."""
        try:
            observation = self._hypervisor.observe()
        except HypervisorError as error:
            if not self._lost_contact:
                self._say(f"gap: {error}")
            self._lost_contact = True
            return None
        if self._lost_contact:
            self._say("contact is back")
        self._lost_contact = False
        return observation

    def _keep(self, observation: Observation, slot: int) -> None:
        if self._last_slot >= 0:
            self.recorded.lost += slot - self._last_slot - 1
        self._last_slot = slot
        seen = ~np.isnan(observation.demand).all(axis=1)
        if seen.any():
            vm_ids = [observation.vm_ids[row] for row in np.flatnonzero(seen)]
            resources = self._hypervisor.resources()
            demand, limit = observation.demand[seen], observation.limit[seen]
            self._spool.append(SampleBatch(slot * self._step, vm_ids, resources, demand, limit))
            self.recorded.intervals += 1
            self.recorded.rows += len(vm_ids)

    def _note_repetition(self, slot: int) -> None:
        """Say once that the clock went back; a look that finds nothing new since the last one says nothing."""
        if slot < self._last_slot and not self._set_back:
            seconds = (self._last_slot - slot) * self._step
            self._say(f"gap: the clock was set back by {seconds} s; recording goes on when that time has passed")
            self._set_back = True

    def _note_slowness(self) -> None:
        """Say once that the host answers too slowly for the step."""
        self._too_long += 1
        if self._too_long == _TOO_MANY:
            self._say(f"gap: every look takes longer than a step of {self._step} s; take a longer one")
