"""The daemon: turns the loop at a fixed cadence, answers on the control socket, and puts everything back at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from forestall.demand.driver import Driver
from forestall.demand.policy import PolicySet
from forestall.model.errors import ForestallError, StoreError, in_one_line
from forestall.ports.clock import Clock
from forestall.ports.journal import Journal
from forestall.ports.store import BehaviourStore
from forestall.service.liveness import Heart, Restorations
from forestall.service.retraining import Retraining
from forestall.service.stopping import Signals
from forestall.service.tracing import span

Note = Callable[[str], None]
LONGEST_WAIT_SECONDS = 0.5
"""The longest sleep without looking whether to stop, in the host's seconds, as the following."""
MAINTAIN_SECONDS, AGAIN_SECONDS = 3600, 30
"""How often is tidied up, and where more was left."""
STOP_WITHIN_SECONDS = 45.0


class Beside(Protocol):
    """A help beside the loop, not a need: without it the loop goes on."""

    def turn(self) -> None:
        """After a cycle."""
        ...


class Kept(Protocol):
    """What grows, and is tidied up."""

    def maintain(self, now: int) -> bool | None:
        """Tidy up; True: more is left for another call, soon."""
        ...


class Daemon:
    """Runs a driver.

    Parameters
    ----------
    driver
        The loop.
    clock
        The clock.
    heart
        Says that this process lives.
    store, journal
        Tidied up once an hour.
    restorations
        Word that the watchdog leaves; the journal has it with the next cycle.
    turn
        Held during a cycle; whoever else uses the driver holds it meanwhile.
    reload
        Reads the policies anew; an error keeps those in force.
    note
        Takes one line for the operator.
    retraining
        Trains models beside the loop; None: they stay as they are.
    beside
        What has its turn after each cycle, by name.
    also_kept
        Tidied up once an hour, too, by name.
    """

    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        heart: Heart,
        store: BehaviourStore,
        journal: Journal,
        restorations: Restorations,
        turn: threading.RLock,
        reload: Callable[[], PolicySet | None],
        note: Note,
        retraining: Retraining | None = None,
        beside: Mapping[str, Beside] | None = None,
        also_kept: Mapping[str, Kept] | None = None,
    ) -> None:
        self._retraining, self._beside = retraining, dict(beside or {})
        self._driver, self._clock, self._heart = driver, clock, heart
        self._journal, self._restorations = journal, restorations
        self._kept: dict[str, Kept] = {"store": store, "journal": journal, **(also_kept or {})}
        self._turn, self._reload, self._note = turn, reload, note
        self._step = driver.settings.demand.step_seconds
        self._due_at = dict.fromkeys(self._kept, clock.monotonic() + MAINTAIN_SECONDS * clock.pace)

    def run(self, signals: Signals, cycles: int | None = None) -> int:
        """Turn the loop until told to stop, or for so many cycles, and put everything back.

        Returns
        -------
        int
            0: every VM is as it was. 1: some are not; each was named in a note, and their originals are kept.
        """
        self._beat()
        try:
            with self._turn:
                learned = self._driver.start()
            self._note(f"learned from {learned} intervals of history")
            done = 0
            while not signals.stopping and (cycles is None or done < cycles):
                self._wait(signals)
                if signals.stopping:
                    break
                self._one(signals)
                done += 1
        finally:
            try:
                with self._turn:
                    left = self._driver.stop(STOP_WITHIN_SECONDS * self._clock.pace).left
            finally:
                if self._retraining:
                    self._retraining.stop()
        for vm_id, reason in left:
            self._note(f"{vm_id} is not as it was: {reason}; forestall restore tries again")
        self._note("every VM is as it was" if not left else f"{len(left)} VMs are not as they were")
        return 1 if left else 0

    def _wait(self, signals: Signals) -> None:
        """Sleep to the next multiple of the step on the clock: late cycles do not push later ones on.

        Counted on the monotonic clock, so that a clock that is set back meanwhile does not stop the loop.
        """
        now = self._clock.now()
        until = self._clock.monotonic() + self._step - now % self._step
        while not signals.stopping and (left := until - self._clock.monotonic()) > 1e-6:
            self._clock.sleep_until(self._clock.now() + min(left, LONGEST_WAIT_SECONDS * self._clock.pace))

    def _one(self, signals: Signals) -> None:
        with self._turn:
            if signals.reload:
                signals.reload = False
                self._take_up_policies()
            self._hear()
            seen = self._beat()
            if not seen and self._driver.altered:
                # Nobody would notice if this process died now.
                self._driver.put_back(why="the heartbeat could not be written")
            with span("cycle") as told:
                self._driver.cycle()
                if told.is_recording():
                    view = self._driver.view()
                    told.set_attributes({"forestall.mode": view.mode.value, "forestall.vms": view.vms})
            self._turn_aside()
            if self._retraining:
                self._retraining.look()
            self._beat()
            self._maintain()

    def _beat(self) -> bool:
        try:
            self._heart.beat(self._driver.view().mode)
        except StoreError as error:
            self._note(str(error))
            return False
        return True

    def _hear(self) -> None:
        """Take what the watchdog has put back into the journal."""
        try:
            self._restorations.hand_over(self._journal)
        except StoreError as error:
            self._note(f"not recorded: {error}")

    def _take_up_policies(self) -> None:
        try:
            policies = self._reload()
        except ForestallError as error:
            self._note(f"policies stay as they were: {error}")
            return
        self._driver.set_policies(policies)
        self._note("policies were read anew")

    def _turn_aside(self) -> None:
        for name, beside in self._beside.items():
            try:
                with span(name):
                    beside.turn()
            except Exception as error:  # whatever it is: the loop goes on
                self._note(f"{name} are not followed: {in_one_line(error)}")

    def _maintain(self) -> None:
        now = self._clock.monotonic()
        for name, kept in self._kept.items():
            if now < self._due_at[name]:
                continue
            more: bool | None = False
            try:
                more = kept.maintain(int(self._clock.now()))
            except StoreError as error:
                self._note(f"the {name} could not be tidied up: {error}")
            self._due_at[name] = now + (AGAIN_SECONDS if more else MAINTAIN_SECONDS) * self._clock.pace


class Notes:
    """Says each line at most once in a while: what goes on for an hour is not said at every cycle. From any thread.

    Parameters
    ----------
    say
        Prints a line.
    clock
        The clock.
    again_seconds
        The same line is said again after so long, in the host's seconds.
    """

    def __init__(self, say: Note, clock: Clock, again_seconds: float = 300.0) -> None:
        self._say, self._clock, self._again_seconds = say, clock, again_seconds
        self._said: dict[str, float] = {}
        self._turn = threading.Lock()

    def __call__(self, line: str) -> None:
        """Say ``line``, unless it was said not long ago."""
        now = self._clock.monotonic()
        with self._turn:
            again = self._again_seconds * self._clock.pace
            self._said = {old: at for old, at in self._said.items() if now - at < again}
            if line in self._said:
                return
            self._said[line] = now
        self._say(line)
