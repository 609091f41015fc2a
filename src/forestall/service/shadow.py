"""A process that stages: a beat as often as there is something to see, whatever the daemon is busy with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forestall.model.errors import ForestallError, in_one_line
from forestall.ports.clock import Clock
from forestall.service.pipes import Pipes
from forestall.service.shadow_messages import roster_of, status_line
from forestall.staging.watched import Place


class Driver(Protocol):
    """A loop that stages, for VMs of trust groups."""

    def attach(self, places: Sequence[Place]) -> None:
        """Stage for these VMs and no others."""
        ...

    def beat(self) -> float:
        """Look, decide, act; how long to wait for the next beat."""
        ...

    def status(self) -> Any:
        """What is so now: a dataclass."""
        ...

    def stop(self) -> None:
        """Let go of all VMs."""
        ...


class ShadowService:
    """Runs a driver between two pipes.

    Parameters
    ----------
    driver
        The loop.
    clock
        The clock.
    rosters, statuses
        File descriptors: rosters come from one, statuses go to the other.
    note
        Takes one line for the operator.
    """

    def __init__(self, driver: Driver, clock: Clock, rosters: int, statuses: int, note: Callable[[str], None]) -> None:
        self._driver, self._clock, self._note = driver, clock, note
        self._pipes = Pipes(rosters, statuses, clock.monotonic())
        self._expires_at = math.inf

    def run(self, stopping: Callable[[], bool]) -> int:
        """Beat until told to stop or the pipe of rosters ends, then let go of all VMs."""
        wait_seconds = 0.0
        try:
            with self._pipes.speaking():
                while not stopping() and self._hear(wait_seconds):
                    if self._clock.monotonic() >= self._expires_at:
                        self._driver.attach(())
                        self._expires_at = math.inf
                    wait_seconds = self._driver.beat()
                    if self._pipes.is_due(self._clock.monotonic()):
                        self._pipes.tell(status_line(self._driver.status()))
        finally:
            self._driver.stop()
        return 0

    def _hear(self, wait_seconds: float) -> bool:
        """Wait for the next beat, or a roster; whether the pipe is open still."""
        try:
            newest = self._pipes.newest(wait_seconds)
            if newest is not None:
                roster = roster_of(newest)
                lease_seconds = math.inf if roster.lease_seconds is None else roster.lease_seconds
                self._expires_at = self._clock.monotonic() + lease_seconds
                self._driver.attach(roster.places)
        except ForestallError as error:
            self._note(in_one_line(error))
        return self._pipes.open
