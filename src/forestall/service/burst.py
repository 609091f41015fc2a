"""The process of the burst loop: a tick each beat, whatever the daemon beside it is busy with.

It is a process of its own because the daemon learns for seconds at a time. Ticks are due at fixed instants: one that is
late does not push the others on, and those that were slept through are not made up for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from forestall.burst.driver import BurstDriver
from forestall.burst.place import Place
from forestall.model.errors import ForestallError, in_one_line
from forestall.ports.clock import Clock
from forestall.service.burst_messages import Roster, roster_of, status_line
from forestall.service.pipes import Pipes


class BurstService:
    """Runs a driver between two pipes.

    Parameters
    ----------
    driver
        The loop.
    clock
        The clock.
    rosters, statuses
        File descriptors: rosters come from one, statuses go to the other.
    cpu_seconds
        CPU time of this process so far.
    sleep
        Sleeps for so many seconds, whatever the host's clock is set to meanwhile.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        driver: BurstDriver,
        clock: Clock,
        rosters: int,
        statuses: int,
        cpu_seconds: Callable[[], float],
        sleep: Callable[[float], None],
        note: Callable[[str], None],
    ) -> None:
        self._driver, self._clock, self._note = driver, clock, note
        self._pipes = Pipes(rosters, statuses, clock.monotonic())
        self._cpu_seconds, self._sleep = cpu_seconds, sleep
        self._began = (clock.monotonic(), cpu_seconds())
        self._known: tuple[tuple[Place, ...], float] = ((), 0.0)

    def run(self, stopping: Callable[[], bool]) -> int:
        """Tick until told to stop or the pipe of rosters ends, then put everything back.

        Returns
        -------
        int
            0: every VM is as it was. 1: some are not; each was named in a note, and their originals are kept.
        """
        beat = self._driver.settings.beat_us / 1e6
        first, ticks = self._clock.monotonic(), 0
        try:
            with self._pipes.speaking():
                while not stopping() and self._hear():
                    due = first + (ticks + 1) * beat
                    if (left := due - self._clock.monotonic()) > 0:
                        self._sleep(left)
                    late = self._clock.monotonic() - due
                    ticks += 1 + math.floor(late / beat)
                    self._driver.tick(late)
                    self._tell()
        finally:
            left_over = self._driver.stop()
            for vm_id, reason in left_over.items():
                self._note(f"{vm_id} is not as it was: {reason}")
        return 1 if left_over else 0

    def _hear(self) -> bool:
        """Take up the newest roster; whether the pipe is open still."""
        if (newest := self._pipes.newest()) is not None:
            try:
                self._take_up(roster_of(newest))
            except ForestallError as error:
                self._note(in_one_line(error))
        return self._pipes.open

    def _take_up(self, roster: Roster) -> None:
        lease_seconds = math.inf if roster.lease_seconds is None else roster.lease_seconds
        known = (roster.places, roster.elsewhere_cores)
        if known == self._known and not self._driver.lapsed:
            self._driver.renew(lease_seconds)
            return
        self._driver.attach(roster.places, roster.elsewhere_cores, lease_seconds)
        self._known = known

    def _tell(self) -> None:
        """Say once a second what is so."""
        now = self._clock.monotonic()
        if self._pipes.is_due(now):
            began, spent = self._began
            self._pipes.tell(status_line(self._driver.status((self._cpu_seconds() - spent) / (now - began))))
