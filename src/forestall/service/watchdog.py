"""The watchdog: a small process of its own that puts VMs back when the daemon that changed them is gone or hangs.

It needs the originals and the hypervisor, nothing else: no store, no journal, no learning. It is safe to run beside a
daemon that starts at the same moment: both put the same VMs back to the same settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forestall.demand.safekeeping import PutBack, Restorer, put_back_each
from forestall.model.decision import Restoration
from forestall.model.errors import HypervisorError, StoreError
from forestall.ports.clock import Clock
from forestall.ports.hypervisor import VmSettings
from forestall.ports.originals import Originals
from forestall.service.liveness import Pulse, Restorations

Note = Callable[[str], None]
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 15.0


class Watchdog:
    """Watches one state folder.

    Parameters
    ----------
    pulse
        Tells whether the daemon lives.
    originals
        What was kept before VMs were changed.
    connect
        Opens the hypervisor; tried again and again while it is away.
    restorations
        Where it leaves word of what it has put back; the next daemon takes it into the journal.
    clock
        The clock.
    note
        Takes one line for the operator.
    look_seconds
        How often to look.
    put_back_last
        Puts back what other loops have left: borrowers of cores, and disks that are being moved; those VMs that could
        not be, and why.
    """

    def __init__(
        self,
        pulse: Pulse,
        originals: Originals,
        connect: Callable[[], Restorer],
        restorations: Restorations,
        clock: Clock,
        note: Note,
        *,
        look_seconds: float = 2.0,
        put_back_last: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._pulse, self._originals, self._connect = pulse, originals, connect
        self._restorations = restorations
        self._clock, self._note, self._look_seconds = clock, note, look_seconds
        self._put_back_last = put_back_last
        self._last_note = ""

    def run(self, stopping: Callable[[], bool]) -> None:
        """Look until told to stop; what cannot be put back is tried again, at growing intervals."""
        wait = self._look_seconds
        while not stopping():
            left = self.look()
            wait = min(max(2 * wait, FIRST_RETRY_SECONDS), LONGEST_RETRY_SECONDS) if left else self._look_seconds
            self._sleep(wait, stopping)

    def look(self) -> tuple[tuple[str, str], ...]:
        """Look once, and put back if need be; the VMs that are not as they were yet, with the reason."""
        try:
            why = self._pulse.why_dead()
            kept = self._originals.kept() if why else ()
        except StoreError as error:
            self._say(str(error))
            return (("", str(error)),)
        if not why:
            return ()
        result = self._put_back(kept) if kept else PutBack()
        if result.done:
            self._leave_word(result.done, why)
            self._say(f"{why}: put back {', '.join(result.done)}")
        # Last: what the burst loop has kept is how cores were limited before it.
        left = (*result.left, *self._put_back_last().items())
        if left:
            self._say("not put back yet: " + "; ".join(f"{vm_id}: {reason}" for vm_id, reason in left))
        return left

    def _put_back(self, kept: Sequence[VmSettings]) -> PutBack:
        try:
            host = self._connect()
        except HypervisorError as error:
            return PutBack(left=tuple((settings.vm_id, str(error)) for settings in kept))
        try:
            return put_back_each(host, self._originals, kept)
        finally:
            host.close()

    def _leave_word(self, vm_ids: Sequence[str], why: str) -> None:
        now = int(self._clock.now())
        try:
            self._restorations.append([Restoration(vm_id, now, f"by the watchdog: {why}") for vm_id in vm_ids])
        except StoreError as error:
            self._say(f"{error}; what was put back stays so")

    def _sleep(self, seconds: float, stopping: Callable[[], bool]) -> None:
        """Sleep for so many of the host's seconds."""
        until = self._clock.monotonic() + seconds * self._clock.pace
        while not stopping() and (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep_until(self._clock.now() + min(left, 0.5 * self._clock.pace))

    def _say(self, line: str) -> None:
        """Say something, but not the same thing at every look."""
        if line != self._last_note:
            self._note(line)
        self._last_note = line
