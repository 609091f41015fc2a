"""The burst loop on a live host: read, learn, reserve, lend; and give back.

It speaks to ports only. A tick is one beat. Whatever goes wrong, less is lent, never more: a loop that is late, a guard
that is gone, a lender that waits, a roster that is old.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from forestall.burst.borrowers import Borrowers
from forestall.burst.core import BurstCycle, BurstLoop
from forestall.burst.lenders import Lenders
from forestall.burst.lending import Lending, LendingSettings, Loan
from forestall.burst.place import Place
from forestall.burst.settings import BurstSettings
from forestall.burst.watch import Timing, Watch
from forestall.learning.peaks.model import PeakModel
from forestall.model.errors import HypervisorError
from forestall.model.samples import FloatArray
from forestall.ports.clock import Clock
from forestall.ports.cores import CoreGuard, CoreHost, Part
from forestall.ports.originals import Originals

WAITED_CORES, WAKE_SECONDS = 0.1, 0.001
"""Lenders were short that together waited for so many cores on average in a beat, and each time for so long: what is
less was not for a borrower, who gives way at once."""
PULSE_SECONDS = 0.2
RATES_AT = 1
"""The beat of a window in which all counters are read: not the one that decides."""
SHORT_CORES = 0.05
"""Lenders that used so much more than was reserved were short: counters move at the kernel's ticks only."""
AT_ITS_LIMIT = 0.95
"""A lender that uses so much of its frame is held back by that."""


@dataclass(frozen=True)
class BurstStatus:
    """What the loop did in its last window, and how it keeps time; cores, VMs by name.

    ``wake_us`` is the mean time that lenders waited for a core after waking up, since the last status; ``rates`` what
    each lender will at most do within the next window, in 99 of 100 cases: faults and operations per second.
    """

    loan: Loan
    reserved: Mapping[str, float]
    limits: Mapping[str, float]
    misses: int
    decisions: int
    wake_us: float
    timing: Timing
    rates: Mapping[str, Mapping[str, float]]
    refusals: Mapping[str, str] = field(default_factory=dict)


class BurstDriver:
    """Drives one host's loop.

    Parameters
    ----------
    host
        The cores.
    guard
        Puts borrowers back if this process ends.
    originals
        Durable memory of how borrowers were set.
    clock
        The clock.
    settings, lending
        How to decide, and how lending follows.
    model
        The recurrent expert.
    """

    def __init__(
        self,
        host: CoreHost,
        guard: CoreGuard,
        originals: Originals,
        clock: Clock,
        settings: BurstSettings,
        lending: LendingSettings,
        model: PeakModel | None,
    ) -> None:
        self._host, self._guard, self._clock = host, guard, clock
        self.settings = settings
        self.loop = BurstLoop(settings, model)
        self.lending = Lending(lending)
        self.watch = Watch(settings.beat_us / 1e6)
        self._borrowers = Borrowers(host, guard, originals, whole_cores=lending.whole_cores)
        self._lenders = Lenders()
        # All that are to be watched, and those that are.
        self._wanted: dict[str, Place] = {}
        self._places: dict[str, Place] = {}
        self._frame: FloatArray = np.zeros(0)
        self._beat = 0
        self._pulse_at = -math.inf
        self._expires_at, self.lapsed = math.inf, False
        self._elsewhere_told = self._elsewhere = 0.0
        self._cycle: BurstCycle | None = None
        self._loan = Loan(settings.cores, 0.0, 0.0, "nothing was decided yet")
        self._waited, self._runs = 0.0, 0.0
        self.decisions = 0

    def attach(self, places: Sequence[Place], elsewhere_cores: float = 0.0, lease_seconds: float = math.inf) -> None:
        """Watch these VMs; borrowers that are no longer named, or no longer to be touched, are put back first.

        Parameters
        ----------
        places
            The VMs.
        elsewhere_cores
            Reserved for VMs that are not among them.
        lease_seconds
            Unless this is said again within so long, everybody is put back and nobody is watched.
        """
        self._expires_at, self.lapsed = self._clock.monotonic() + lease_seconds, False
        wanted = {place.guest.vm_id: place for place in places}
        self._borrowers.refusals.clear()
        self._borrowers.leave_only(wanted, self._places)
        self._wanted, self._elsewhere_told = wanted, elsewhere_cores
        self._watch_all()

    def _watch_all(self) -> None:
        """Have the host watch all VMs that are wanted."""
        wanted = self._wanted
        refused = {r.vm_id: r.reason for r in self._host.attach([place.guest for place in wanted.values()])}
        self._borrowers.refusals |= refused
        self._places = {vm_id: place for vm_id, place in wanted.items() if vm_id not in refused}
        # Who cannot be watched may use all of its frame.
        unseen = [wanted[vm_id] for vm_id in refused if wanted[vm_id].guest.part is Part.LENDER]
        self._elsewhere = self._elsewhere_told + sum(place.frame_cores for place in unseen)
        self._follow()

    def renew(self, lease_seconds: float) -> None:
        """What was said at the last :meth:`attach` holds for so long from now on."""
        self._expires_at = self._clock.monotonic() + lease_seconds

    def _follow(self) -> None:
        """Let the core know who lends: those that stay keep what is known of them."""
        guests = self._host.guests()
        lenders = [g.vm_id for g in guests if g.part is Part.LENDER and g.vm_id in self._places]
        before = self._lenders.vm_ids
        staying = self._lenders.follow(lenders, [g.vm_id for g in guests])
        if self._lenders.vm_ids != before:
            self._cycle = None
        if len(staying) < len(before):
            self.loop.keep(np.array(staying, np.int64))
        if len(lenders) > self.loop.vms:
            self.loop.grow(len(lenders))
        self._frame = np.array([self._places[vm_id].frame_cores for vm_id in self._lenders.vm_ids])

    def tick(self, late_seconds: float) -> None:
        """One beat; it should have begun ``late_seconds`` ago."""
        began = self._clock.monotonic()
        self.watch.begins(late_seconds)
        if began >= self._expires_at:
            self.attach(())
            self.lapsed = True
        if began - self._pulse_at >= PULSE_SECONDS:
            self._guard.beat()
            self._pulse_at = began
        all_counters = self._beat == min(RATES_AT, self.settings.window_beats - 1)
        use = self._host.read(all_counters=all_counters)
        if (grown := self._lenders.beat(use)) is not None:
            self._take_in(*grown)
            self._beat = (self._beat + 1) % self.settings.window_beats
            if self._beat == 0:
                self._decide()
                self.loop.learn()
            if all_counters:
                self._lenders.window(use)
        self.watch.took(self._clock.monotonic() - began)

    def _take_in(self, seconds: float, grown: FloatArray) -> None:
        """Learn what the last beat used, and give back at once if a lender was short."""
        ran, waits, runs = grown
        used = ran / seconds
        self._waited += float(waits.sum())
        # Who runs into its own limit waits too, and nobody can help.
        waited = float(waits[used < AT_ITS_LIMIT * self._frame].sum())
        woken = float(runs.sum())
        self._runs += woken
        self.loop.take_in(used, used, float(used.sum()))
        if self.lending.lent == 0:
            return
        if self._cycle is not None and self.loop.missed(SHORT_CORES)[0]:
            self._give_back("lenders wanted more than was reserved")
        elif waited > WAITED_CORES * seconds and waited > WAKE_SECONDS * woken:
            self._give_back("lenders waited for cores")

    def _give_back(self, why: str) -> None:
        self.lending.miss(why)
        self._limit(0.0)

    def _decide(self) -> None:
        began = self._clock.monotonic()
        places = [self._places[vm_id] for vm_id in self._lenders.vm_ids]
        weight = np.array([place.weight for place in places])
        self._cycle = self.loop.decide(self._frame, weight)
        self.watch.decided(self._clock.monotonic() - began)
        self.decisions += 1
        taken, unsafe = float(self._cycle.total[0]) + self._elsewhere, self._unsafe()
        reserved = self.settings.cores if unsafe else min(taken, self.settings.cores)
        self._loan = self.lending.settle(reserved, self.settings.cores)
        if unsafe:
            self._loan = Loan(reserved, self._loan.lent, self._loan.free, unsafe)
        self._limit(self._loan.lent)
        self._borrowers.try_again(self._places)

    def _unsafe(self) -> str:
        """Why nothing may be lent now; empty if it may."""
        if not self._guard.alive():
            self._begin_anew()
            try:
                self._guard.begin()
            except HypervisorError as error:
                return f"nobody is touched without a guard: {error}"
        return "nothing is lent while ticks are late" if self.watch.late_now else ""

    def _begin_anew(self) -> None:
        """Touch every borrower as if for the first time: a guard that has ended may have put some of them back."""
        self._borrowers.put_back_all()
        # The host, too, must not believe that what it has set is so.
        self._host.attach(())
        self._watch_all()

    def _limit(self, lent: float) -> None:
        borrowers = [place for place in self._places.values() if place.guest.part is Part.BORROWER]
        self._borrowers.share_out(lent, borrowers)

    def stop(self) -> dict[str, str]:
        """Put every borrower back; those that could not be, and why."""
        return self._borrowers.put_back_all()

    def status(self, cpu_share: float) -> BurstStatus:
        """What is so now."""
        reserved: FloatArray = self._cycle.reserved[0] if self._cycle else np.full(len(self._lenders.vm_ids), math.nan)
        wake = self._waited / self._runs * 1e6 if self._runs else float("nan")
        self._waited = self._runs = 0.0
        return BurstStatus(
            loan=self._loan,
            reserved=dict(zip(self._lenders.vm_ids, map(float, reserved), strict=True)),
            limits=dict(self._borrowers.limits),
            misses=self.lending.misses,
            decisions=self.decisions,
            wake_us=wake,
            timing=self.watch.timing(cpu_share),
            rates=self._lenders.rates(),
            refusals=dict(self._borrowers.refusals),
        )
