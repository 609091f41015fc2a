"""The burst loop on a live host: read, learn, reserve, lend; and give back.

It speaks to ports only. A tick is one beat. Before a borrower is touched for the first time, how it was set is on the
disk, and the guard knows it. Whatever goes wrong, less is lent, never more: a loop that is late, a guard that is gone,
a lender that waits, a roster that is old.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from forestall.burst.core import BurstCycle, BurstLoop
from forestall.burst.lending import Lending, LendingSettings, Loan, among, whole
from forestall.burst.settings import BurstSettings
from forestall.burst.watch import Timing, Watch
from forestall.learning.peaks.model import LEVELS, PeakModel
from forestall.learning.peaks.rates import Rates
from forestall.model.errors import HypervisorError, StoreError
from forestall.model.samples import FloatArray
from forestall.ports.clock import Clock
from forestall.ports.cores import CoreGuard, CoreHost, CoreUse, Guest, Part
from forestall.ports.hypervisor import VmSettings
from forestall.ports.originals import Originals

WAITED_CORES, WAKE_SECONDS = 0.1, 0.001
"""Lenders were short that together waited for so many cores on average in a beat, and each time for so long: what is
less was not for a borrower, who gives way at once."""
SIGNALS = ("faults_per_s", "operations_per_s")
RATE_WINDOWS = (1,)
PULSE_SECONDS = 0.2
RATES_AT = 1
"""The beat of a window in which these are read: not the one that decides."""
EXPECTED_LEVEL = 0.99
SHORT_CORES = 0.05
"""Lenders that used so much more than was reserved were short: counters move at the kernel's ticks only."""
AT_ITS_LIMIT = 0.95
"""A lender that uses so much of its frame is held back by that."""


@dataclass(frozen=True)
class Place:
    """What the demand loop and the policy say of a VM.

    Attributes
    ----------
    guest
        The VM and its part.
    frame_cores
        The most that it may have.
    weight
        Its weight among lenders, or among borrowers.
    acting
        Whether a borrower may be touched; else what would be done is only shown.
    """

    guest: Guest
    frame_cores: float
    weight: float = 1.0
    acting: bool = True


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
        self._host, self._guard, self._originals, self._clock = host, guard, originals, clock
        self.settings = settings
        self.loop = BurstLoop(settings, model)
        self.lending = Lending(lending)
        self._whole_cores = lending.whole_cores
        self.watch = Watch(settings.beat_us / 1e6)
        self._places: dict[str, Place] = {}
        self._lenders: list[str] = []
        self._frame: FloatArray = np.zeros(0)
        self._refusals: dict[str, str] = {}
        # How borrowers were that are limited now; those of which the entry on the disk is to be dropped still.
        self._set: dict[str, VmSettings] = {}
        self._entries_left: set[str] = set()
        self._limits: dict[str, float] = {}
        self._before: CoreUse | None = None
        self._before_window: CoreUse | None = None
        self._rates = Rates(RATE_WINDOWS)
        self._expected: FloatArray = np.zeros((len(SIGNALS), 0))
        self._beat = 0
        self._pulse_at = -math.inf
        self._expires_at, self.lapsed = math.inf, False
        self._elsewhere = 0.0
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
        self._refusals = {}
        for vm_id in sorted(self._set):
            place, before = wanted.get(vm_id), self._places.get(vm_id)
            if place is None or before is None or not place.acting or place.guest != before.guest:
                self._put_back(vm_id)
        refused = {refusal.vm_id: refusal.reason for refusal in self._host.attach([p.guest for p in places])}
        self._refusals |= refused
        self._places = {vm_id: place for vm_id, place in wanted.items() if vm_id not in refused}
        # Who cannot be watched may use all of its frame.
        unseen = [wanted[vm_id] for vm_id in refused if wanted[vm_id].guest.part is Part.LENDER]
        self._elsewhere = elsewhere_cores + sum(place.frame_cores for place in unseen)
        guests = self._host.guests()
        self._follow([g.vm_id for g in guests if g.part is Part.LENDER and g.vm_id in self._places])
        self._before = self._before_window = None

    def renew(self, lease_seconds: float) -> None:
        """What was said at the last :meth:`attach` holds for so long from now on."""
        self._expires_at = self._clock.monotonic() + lease_seconds

    def _follow(self, lenders: list[str]) -> None:
        """Let the core know who lends: those that stay keep what is known of them."""
        staying = [k for k, vm_id in enumerate(self._lenders) if vm_id in lenders]
        known = [self._lenders[k] for k in staying]
        ordered = known + [vm_id for vm_id in lenders if vm_id not in known]
        if ordered != self._lenders:
            self._cycle = None
            self._rates = Rates(RATE_WINDOWS)
            self._rates.grow(len(SIGNALS) * len(ordered))
            self._expected = np.zeros((len(SIGNALS), len(ordered)))
        if len(staying) < len(self._lenders):
            self.loop.keep(np.array(staying, np.int64))
        self._lenders = ordered
        if len(ordered) > self.loop.vms:
            self.loop.grow(len(ordered))
        self._frame = np.array([self._places[vm_id].frame_cores for vm_id in self._lenders])

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
        before, self._before = self._before, use
        if before is not None and use.at > before.at:
            self._take_in(before, use)
            self._beat = (self._beat + 1) % self.settings.window_beats
            if self._beat == 0:
                self._decide()
                self.loop.learn()
            if all_counters:
                self._see_rates(use)
        self.watch.took(self._clock.monotonic() - began)

    def _take_in(self, before: CoreUse, use: CoreUse) -> None:
        """Learn what the last beat used, and give back at once if a lender was short."""
        seconds = use.at - before.at
        used = self._of_lenders(_grown(before.run_seconds, use.run_seconds)) / seconds
        waits = self._of_lenders(_grown(before.wait_seconds, use.wait_seconds))
        used, waits = np.nan_to_num(used), np.nan_to_num(waits)
        self._waited += float(waits.sum())
        # Who runs into its own limit waits too, and nobody can help.
        waited = float(waits[used < AT_ITS_LIMIT * self._frame].sum())
        runs = float(np.nansum(self._of_lenders(_grown(before.runs, use.runs))))
        self._runs += runs
        self.loop.take_in(used, used, float(used.sum()))
        if self.lending.lent == 0:
            return
        if self._cycle is not None and self.loop.missed(SHORT_CORES)[0]:
            self._give_back("lenders wanted more than was reserved")
        elif waited > WAITED_CORES * seconds and waited > WAKE_SECONDS * runs:
            self._give_back("lenders waited for cores")

    def _give_back(self, why: str) -> None:
        self.lending.miss(why)
        self._limit(0.0)

    def _of_lenders(self, counter: FloatArray) -> FloatArray:
        """A counter of the host's (guest,) for each lender (lender,); NaN for one that is not watched any more."""
        place = {guest.vm_id: k for k, guest in enumerate(self._host.guests())}
        rows = [place.get(vm_id, len(place)) for vm_id in self._lenders]
        return np.append(counter, np.nan)[np.array(rows, np.int64)]

    def _see_rates(self, use: CoreUse) -> None:
        """Learn what lenders did beside computing in the last window, and expect what they will do."""
        before, self._before_window = self._before_window, use
        if before is None:
            return
        pairs = (before.faults, use.faults), (before.operations, use.operations)
        counted = np.concatenate([self._of_lenders(_grown(*pair)) for pair in pairs])
        said = self._rates.step(counted / (use.at - before.at))
        self._expected = said[0, :, LEVELS.index(EXPECTED_LEVEL)].reshape(len(SIGNALS), -1)

    def _decide(self) -> None:
        began = self._clock.monotonic()
        places = [self._places[vm_id] for vm_id in self._lenders]
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
        self._try_again()

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
        for vm_id in sorted(self._set):
            self._put_back(vm_id)
        # The host, too, must not believe that what it has set is so.
        guests = self._host.guests()
        self._host.attach(())
        self._host.attach(guests)
        self._before = self._before_window = None

    def _limit(self, lent: float) -> None:
        """Share out what is lent."""
        borrowers = [p for p in self._places.values() if p.guest.part is Part.BORROWER]
        if not borrowers:
            return
        weight = np.array([place.weight for place in borrowers])
        most = np.array([place.frame_cores for place in borrowers])
        least = self._host.least_cores()
        cores = np.maximum(among(lent, weight, most), least)
        cores = whole(cores) if self._whole_cores else cores
        self._limits = {place.guest.vm_id: float(c) for place, c in zip(borrowers, cores, strict=True)}
        acting = {p.guest.vm_id: self._limits[p.guest.vm_id] for p in borrowers if self._ready(p)}
        for refusal in self._host.limit(acting) if acting else ():
            self._refusals[refusal.vm_id] = refusal.reason

    def _ready(self, place: Place) -> bool:
        """Whether a borrower can be limited: there is a guard, how it was is safe, and it gives way."""
        vm_id = place.guest.vm_id
        if not place.acting or not self._guard.alive():
            return False
        if vm_id in self._set:
            return True
        try:
            kept = self._originals.keep(self._host.settings(vm_id))
        except (StoreError, HypervisorError) as error:
            self._refusals[vm_id] = str(error)
            return False
        self._guard.cover(kept)
        if not self._guard.alive():
            return False
        self._set[vm_id] = kept
        if refusal := self._host.make_way(vm_id):
            self._put_back(vm_id)
            self._refusals[vm_id] = f"it does not give way: {refusal}"
            return False
        self._refusals.pop(vm_id, None)
        return True

    def _put_back(self, vm_id: str) -> str:
        """Set a borrower as it was; why not, if not: it is tried again."""
        if refusal := self._host.put_back(self._set[vm_id]):
            self._refusals[vm_id] = f"not as it was: {refusal}"
            return refusal
        del self._set[vm_id]
        self._limits.pop(vm_id, None)
        self._guard.release(vm_id)
        self._entries_left.add(vm_id)
        self._drop_entries()
        return ""

    def _drop_entries(self) -> None:
        """Drop the entries of those that were put back; one that cannot be dropped now is tried again."""
        for vm_id in sorted(self._entries_left - self._set.keys()):
            try:
                self._originals.forget(vm_id)
                self._entries_left.discard(vm_id)
            except StoreError as error:
                self._refusals[vm_id] = str(error)

    def _try_again(self) -> None:
        """Put back who should be and is not, and drop entries that could not be dropped."""
        for vm_id in sorted(self._set):
            place = self._places.get(vm_id)
            if place is None or not place.acting:
                self._put_back(vm_id)
        if self._entries_left:
            self._drop_entries()

    def stop(self) -> dict[str, str]:
        """Put every borrower back; those that could not be, and why."""
        left = {vm_id: self._put_back(vm_id) for vm_id in sorted(self._set)}
        return {vm_id: reason for vm_id, reason in left.items() if reason}

    def status(self, cpu_share: float) -> BurstStatus:
        """What is so now."""
        reserved: FloatArray = self._cycle.reserved[0] if self._cycle else np.full(len(self._lenders), math.nan)
        wake = self._waited / self._runs * 1e6 if self._runs else float("nan")
        self._waited = self._runs = 0.0
        return BurstStatus(
            loan=self._loan,
            reserved=dict(zip(self._lenders, map(float, reserved), strict=True)),
            limits=dict(self._limits),
            misses=self.lending.misses,
            decisions=self.decisions,
            wake_us=wake,
            timing=self.watch.timing(cpu_share),
            rates={
                vm_id: dict(zip(SIGNALS, map(float, expected), strict=True))
                for vm_id, expected in zip(self._lenders, self._expected.T, strict=True)
            },
            refusals=dict(self._refusals),
        )


def _grown(before: FloatArray, now: FloatArray) -> FloatArray:
    """By how much counters (vm,) have grown; nothing where one is not known."""
    more = now - before
    return np.where(more > 0, more, 0.0)  # NaN is not
